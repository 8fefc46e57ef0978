"""``[hooks]`` of the config. Imports nothing that a start need not wait for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

SEVERITIES = ("info", "warning", "critical")
FORMATS = ("json", "slack", "discord", "ntfy")
PLACEHOLDERS = (
    "id",
    "severity",
    "title",
    "evidence",
    "why",
    "fix",
    "host",
    "subject",
    "state",
    "time",
    "text",
)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_VARIABLE = re.compile(r"[A-Za-z_]\w*\Z")


class HookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is not said is not told. Raises ValueError."""

    webhook: str = ""  # URL of a POST
    webhook_env: str = ""  # a variable: the URL, where ``webhook`` is empty, else a bearer token for it
    format: str = "json"
    command: tuple[str, ...] = ()  # argv; {title} and its like are filled in
    desktop: bool = False
    severity: str = "warning"  # at least
    debounce: float = 60.0  # seconds that a finding has to be gone to be resolved

    @property
    def wanted(self) -> bool:
        return bool(self.webhook or self.webhook_env or self.command or self.desktop)

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"`format`: '{self.format}' is none of {', '.join(FORMATS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"`severity`: '{self.severity}' is none of {', '.join(SEVERITIES)}")
        if not 0 <= self.debounce <= 86_400:
            raise ValueError(f"`debounce`: {self.debounce:g} s is not between 0 and 86400")
        if self.webhook and not is_url(self.webhook):  # not shown: it may be a secret
            raise ValueError("`webhook`: is no URL like https://host/path")
        if self.webhook_env and not _VARIABLE.match(self.webhook_env):
            raise ValueError("`webhook_env`: names a variable, and holds no secret itself")
        if self.command and not self.command[0]:
            raise ValueError("`command`: begins with a program")
        for name in (name for word in self.command for name in _PLACEHOLDER.findall(word)):
            if name not in PLACEHOLDERS:
                raise ValueError(f"`command`: there is no '{{{name}}}', but {', '.join(PLACEHOLDERS)}")

    def __repr__(self) -> str:
        """Without the URL, which may be a secret: a traceback may print it."""
        return f"HookSettings(format={self.format!r}, severity={self.severity!r})"


def is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def fill(word: str, values: Mapping[str, str]) -> str:
    """An argument with its placeholders filled: it stays one, whatever is in them."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], word)
