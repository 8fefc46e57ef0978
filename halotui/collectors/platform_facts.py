"""Facts about the box as they are gathered: the first to tell a thing is believed, and named."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halotui.hosts import Host
from halotui.model import Platform


@dataclass(slots=True)
class Facts:
    """``values``: keys of Platform. ``denied``: those that are there and not ours to read."""

    values: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)  # key -> file or command
    denied: set[str] = field(default_factory=set)

    def tell(self, key: str, value: Any, by: str | Path) -> None:
        """Nothing that is empty, and nothing twice."""
        if value and key not in self.values:
            self.values[key], self.provenance[key] = value, str(by)

    def add(self, other: Facts) -> None:
        for key, value in other.values.items():
            self.tell(key, value, other.provenance[key])
        self.denied |= other.denied

    def platform(self, host: Host) -> Platform:
        provenance = {key: _as_named(host, by) for key, by in self.provenance.items()}
        return Platform(**self.values, provenance=provenance)


def text(host: Host, path: Path) -> str:
    """Empty where it cannot be read."""
    with suppress(OSError):
        return host.read(path).decode("utf-8", "replace")
    return ""


def contained(host: Host) -> bool:
    """Whether we see a container's files: its firmware package says nothing of the box."""
    return any(there(host, host.root / name) for name in ("run/.containerenv", ".dockerenv"))


def there(host: Host, path: Path | str) -> bool:
    """It is not opened, so nothing is woken by the question."""
    with suppress(OSError):
        host.stat(path)
        return True
    return False


def _as_named(host: Host, path: str) -> str:
    """As the file is called on the box, of which a tree of files is only a likeness."""
    for place, name in ((host.sysfs, "/sys"), (host.procfs, "/proc"), (host.root, "")):
        if path.startswith(f"{place}/"):
            return name + path.removeprefix(str(place))
    return path
