"""Files that are written again and again: readers see whole ones only, and what is the same is left alone."""

from __future__ import annotations

from pathlib import Path


class Files:
    """``spare``: a place on the same file system, where nobody looks."""

    def __init__(self, spare: Path) -> None:
        self.spare = spare
        self._written: dict[Path, bytes] = {}

    def write(self, path: Path, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        if self._written.get(path) == data:
            return
        if path not in self._written:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.spare.write_bytes(data)
        self.spare.replace(path)
        self._written[path] = data

    def forget(self, place: Path) -> None:
        """It is gone or another one's, and so is what lay below."""
        for path in [path for path in self._written if path == place or place in path.parents]:
            del self._written[path]
