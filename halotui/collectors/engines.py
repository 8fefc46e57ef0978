"""The engines other than llama-server: how each is asked. rpc-server has no API and is not among them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from halotui.collectors import lemonade, llama_swap, lmstudio, ollama, vllm
from halotui.collectors.engine_reading import Ask, Reading

RPC_SERVER = "rpc-server"


class Engine(Struct, frozen=True, kw_only=True):
    title: str
    read: Callable[[Ask], Awaitable[Reading]]
    starts_silent: bool = False  # it listens only when its model is loaded
    runners: tuple[str, ...] = ()  # its children that hold the models, by process name
    parent: bool = False  # its models' servers are known as URL?model=NAME


ENGINES = {
    "ollama": Engine(title="Ollama", read=ollama.read, runners=("ollama", "llama-server")),
    "vllm": Engine(title="vLLM", read=vllm.read, starts_silent=True),
    "lemonade": Engine(title="Lemonade", read=lemonade.read),
    "lmstudio": Engine(title="LM Studio", read=lmstudio.read),
    "llama-swap": Engine(title="llama-swap", read=llama_swap.read, parent=True),
}
