"""Small files of one sysfs directory: a value, or None and a note of what the kernel said."""

from __future__ import annotations

from halotui.hosts import Host


class Folder:
    """``answered`` once any file has been read; ``errors`` in the order they came."""

    def __init__(self, host: Host, path: str) -> None:
        self.host = host
        self.path = path
        self.answered = False
        self.errors: list[OSError] = []

    @property
    def denied(self) -> bool:
        return any(isinstance(error, PermissionError) for error in self.errors)

    def raw(self, name: str) -> bytes | None:
        try:
            value = self.host.read(f"{self.path}/{name}")
        except OSError as error:
            self.errors.append(error)
            return None
        self.answered = True
        return value

    def text(self, name: str) -> str | None:
        value = self.raw(name)
        return None if value is None else value.decode("utf-8", "replace").strip()

    def number(self, name: str) -> int | None:
        return integer(self.text(name))

    def has(self, name: str) -> bool:
        """Whether there is such a file; it is not opened, so nothing is woken by the question."""
        try:
            self.host.stat(f"{self.path}/{name}")
        except OSError:
            return False
        return True


def integer(text: str | None, base: int = 10) -> int | None:
    try:
        return int(text, base) if text is not None else None
    except ValueError:
        return None
