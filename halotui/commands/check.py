"""``halotui check``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halotui.config import Settings


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """The exit code. Raises UsageError."""
    raise NotImplementedError
