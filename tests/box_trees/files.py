"""Writing a tree: text with its newline, bytes as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write(place: Path, files: Mapping[str, str | bytes]) -> None:
    """``files``: path below ``place`` -> content."""
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())


def link(path: Path, target: str | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(target)
