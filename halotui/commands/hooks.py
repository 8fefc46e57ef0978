"""``halotui hooks test``: a message through each hook, and what came of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from halotui import exits
from halotui.exits import UsageError
from halotui.hooks.news import trial
from halotui.hooks.ways import ways
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings


async def run(said: Mapping[str, Any], settings: Settings) -> int:
    """Sends; the exit code. Raises UsageError."""
    if not settings.hooks.wanted:
        raise UsageError("[hooks] of the config sets none; see halotui hooks --help")
    news = trial(clean(os.uname().nodename), time.time())
    found = ways(settings.hooks)
    answers = dict(zip(found, await asyncio.gather(*(way(news) for way in found.values())), strict=True))
    if said.get("json"):
        print(msgspec.json.encode(answers).decode())
    else:
        for name, trouble in answers.items():
            print(f"{name:8} {'ok' if trouble is None else trouble}")
    return exits.OK if not any(answers.values()) else exits.FAILURE
