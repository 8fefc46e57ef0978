"""What a measured command is called, and how its command line may be kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from halotui.runs import Result
from halotui.servers import secret

# llama-bench's own -p is a list of numbers and tells what was measured.
_PROMPTS = ("-p", "--prompt", "-sys", "--system-prompt")
_NUMBERS = re.compile(r"[\d,+*\-]*")
_ON = ("1", "on", "true")
_TELLING = (
    *("GGML_", "LLAMA_ARG_", "LD_LIBRARY_PATH", "LD_PRELOAD", "OMP_"),
    *("HIP_", "HSA_", "ROCR_", "ROCBLAS_", "HIPBLASLT_", "TENSILE_", "GPU_MAX_", "AMD_", "CUDA_VISIBLE_"),
    *("RADV_", "MESA_", "VK_"),
)


def program(command: Sequence[str]) -> str:
    return PurePath(command[0]).name or command[0]


def label_of(command: Sequence[str], results: Sequence[Result]) -> str:
    """The row of the table: ``Vulkan + FA`` of a llama-bench, as far as all its results have it in common;
    else the program's name."""
    backends = {result.backend for result in results}
    flash = {result.settings.get("flash_attn", "") in _ON for result in results}
    words = [*(backends if len(backends) == 1 else ()), *(["FA"] if flash == {True} else ())]
    return " + ".join(filter(None, words)) if "" not in backends and backends else program(command)


def masked(command: Sequence[str]) -> tuple[str, ...]:
    """The command line without secrets and prompts."""
    words = secret.masked(command)
    return tuple(_without_prompts(words)) if _is_llama(command) else words


def masked_env(env: Mapping[str, str]) -> dict[str, str]:
    return secret.masked_env(env)


def telling(env: Mapping[str, str]) -> dict[str, str]:
    """Those variables that change what the GPU's drivers and llama.cpp do."""
    return {name: value for name, value in sorted(env.items()) if name.startswith(_TELLING)}


def masked_line(line: str) -> str:
    """A line of a command's output."""
    return " ".join(secret.masked(line.split(" ")))


def _is_llama(command: Sequence[str]) -> bool:
    """Also within a container's or a shell's command."""
    return any(PurePath(word).name.startswith("llama") for word in command)


def _without_prompts(words: Sequence[str]) -> Iterator[str]:
    before = ""
    for word in words:
        yield secret.MASK if before in _PROMPTS and not _NUMBERS.fullmatch(word) else word
        before = word
