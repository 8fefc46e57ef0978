"""Directories for nobody else's eyes."""

from __future__ import annotations

from pathlib import Path


def folder(directory: Path) -> None:
    """Make it and what is missing above it, each 0700: ``mkdir(parents=True)`` gives its mode to the last
    one alone. One that is there stays as it is. Raises OSError."""
    for one in reversed([one for one in (directory, *directory.parents) if not one.exists()]):
        one.mkdir(0o700, exist_ok=True)
    if not directory.is_dir():
        directory.mkdir()  # says what is wrong
