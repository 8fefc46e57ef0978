"""What must not be shown or handed on in a command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

MASK = "***"

_WORDS = frozenset(
    ("auth", "bearer", "cookie", "credentials", "hft", "key", "keys", "pass", "passphrase", "pat")
)
_ENDINGS = ("apikey", "password", "passwd", "secret", "secrets", "token")  # PGPASSWORD
_PLACES = frozenset(("dir", "file", "path", "sock"))  # where a secret lies, not the secret
_WHOLE = ("mcp servers json", "mcp servers config json")  # inline, with the keys of other services
_SPLIT = re.compile(r"[^a-z0-9]+")
# In the midst of a text: a login or a key in a URL, a header.
_WITHIN = (
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),
    re.compile(r"(?i)(?<=[?&])((?:[\w-]*(?:key|token|secret|password|signature))=)[^&\s]+"),
    re.compile(r"(?i)\b(bearer\s+)\S+"),
)

# The flags that can be said by environment instead, in every build.
_BY_ENVIRONMENT = {"--api-key": "LLAMA_API_KEY", "-hft": "HF_TOKEN", "--hf-token": "HF_TOKEN"}


def is_secret(name: str) -> bool:
    """Whether what an environment variable or a flag of that name holds is to be kept."""
    parts = _SPLIT.sub(" ", name.lower()).split()
    if " ".join(parts).removeprefix("llama arg ") in _WHOLE:
        return True
    if not parts or parts[-1] in _PLACES:
        return False
    return any(part in _WORDS or part.endswith(_ENDINGS) for part in parts)


def withdraw(arguments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The server's arguments without keys, and the environment that says them instead.

    Several ``--api-key`` become one list, as newer builds want it.
    """
    kept: list[str] = []
    environment: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        variable = _BY_ENVIRONMENT.get(plain(word))
        value = next(words, None) if variable else None
        if variable is None or value is None:
            kept.append(word)
        elif variable in environment and variable == "LLAMA_API_KEY":
            environment[variable] += f",{value}"
        else:
            environment[variable] = value
    return tuple(kept), environment


def masked(words: Sequence[str]) -> tuple[str, ...]:
    """A command line that may be shown: the value of each secret flag or variable is hidden."""
    return tuple(_masked(words))


def masked_env(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that may be shown."""
    return {name: _value(name, value) for name, value in environment.items()}


def plain(flag: str) -> str:
    """As llama.cpp reads it: ``--api_key`` is ``--api-key``."""
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _masked(words: Sequence[str]) -> Iterator[str]:
    hidden = False  # the value of a secret flag may itself look like a flag
    for word in words:
        yield MASK if hidden else _assigned(word)
        hidden = not hidden and word.startswith("-") and "=" not in word and is_secret(word)


def _assigned(word: str) -> str:
    """``NAME=value``, ``--flag=value`` and ``--env=NAME=value`` are one word."""
    name, sign, value = word.partition("=")
    if not sign:
        return _within(word)
    if re.fullmatch(r"[\w-]+", name):
        return f"{name}={MASK if is_secret(name) else _assigned(value)}"
    return _within(word)


def _value(name: str, value: str) -> str:
    return MASK if is_secret(name) else _within(value)


def _within(text: str) -> str:
    for pattern in _WITHIN:
        text = pattern.sub(lambda match: (match[1] if match.re.groups else "") + MASK, text)
    return text
