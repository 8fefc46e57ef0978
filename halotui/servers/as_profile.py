"""A running server as a profile for config.toml."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from halotui.servers.launch import Runner
from halotui.servers.profile import BACKENDS, OWN_KEYS, Profile
from halotui.servers.runners import KEY
from halotui.servers.running import Running
from halotui.servers.secret import masked, masked_env
from halotui.servers.vocabulary import BY_NAME, from_environment, parse, values

ENGINES = (Runner.PODMAN, Runner.DOCKER)
BOXES = (Runner.TOOLBOX, Runner.DISTROBOX)

# Where a model comes from, as the environment says it: a profile says it in its own words, to be complete.
_SOURCES = {
    "LLAMA_ARG_HF_REPO": "-hf",
    "LLAMA_ARG_MODEL_URL": "-mu",
    "LLAMA_ARG_DOCKER_REPO": "-dr",
    "LLAMA_ARG_MODELS_DIR": "--models-dir",
    "LLAMA_ARG_MODELS_PRESET": "--models-preset",
}
_SAID_ANEW = {variable for key in OWN_KEYS for variable in BY_NAME[key].env} | _SOURCES.keys()
_FOR_A_SERVER = re.compile(
    r"(LLAMA|GGML|GPU|HIP|HSA|HF|MESA|MIOPEN|OMP|RADV|VK)_|(AMD|CUDA|GOMP|ROC)|LD_(LIBRARY_PATH|PRELOAD)$"
)


def for_a_server(name: str) -> bool:
    """Whether a variable is set for a server; the rest of an environment belongs to a login or an image."""
    return _FOR_A_SERVER.match(name) is not None


def port_of(url: str) -> int | None:
    """None: a Unix socket."""
    return None if url.startswith("unix:") else urlsplit(url).port


def profile_of(running: Running, api_key_file: str = "") -> Profile:
    """For config.toml. No secret goes there: the key to ``api_key_file``, which the caller makes (0600),
    others nowhere: see :func:`withheld`.
    """
    if running.runner is Runner.SYSTEMD:
        address = urlsplit(running.facts.url)
        return Profile(
            runner=running.runner,
            unit=running.unit,
            backend=running.facts.backend or "",
            host=address.hostname or "",
            port=address.port,
            api_key_file=api_key_file,
        )
    words, engine = parse(running.arguments), running.runner in ENGINES
    said = values(words)
    own = from_environment(running.env) | said
    free = [word.text for word in words if word.setting is None and masked(word.text) == word.text]
    sources = [(flag, running.env[name]) for name, flag in _SOURCES.items() if name in running.env]
    return Profile(
        runner=running.runner if running.runner is not Runner.PLAIN else None,
        binary=running.binary[0] if len(running.binary) == 1 else running.binary,
        image=running.image if engine else "",
        container=running.container if running.runner in BOXES else "",
        backend=running.facts.backend if running.facts.backend in BACKENDS else "",
        model=str(own.get("model", "")),
        draft=str(own.get("draft", "")),
        host="" if engine else str(own.get("host", "")),
        port=port_of(running.facts.url),
        cwd="" if engine else running.cwd,
        env={
            name: value
            for name, value in running.env.items()
            if name not in _SAID_ANEW and _ours(running, name) and masked_env({name: value}) == {name: value}
        },
        flags={name: value for name, value in said.items() if name not in OWN_KEYS},
        extra=tuple(text for word in (*free, *sources) for text in word),
        api_key_file=api_key_file,
    )


def withheld(running: Running) -> tuple[str, ...]:
    """Secrets of its command line and environment that a profile would have to leave out, by name."""
    hidden = [word.text[0] for word in parse(running.arguments) if masked(word.text) != word.text]
    env = {name: value for name, value in running.env.items() if name != KEY and _ours(running, name)}
    return (*hidden, *(name for name, value in masked_env(env).items() if env[name] != value))


def _ours(running: Running, name: str) -> bool:
    """Whether somebody set it for this server. Of a container's we have only those."""
    return running.runner is not Runner.PLAIN or for_a_server(name)
