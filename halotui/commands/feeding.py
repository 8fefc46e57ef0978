"""Opens the live feed: for the screen, for the looks, for ``record``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halotui.config import Settings
    from halotui.feed import LiveFeed


def live_feed(settings: Settings, said: Mapping[str, Any], one_shot: bool) -> LiveFeed:
    """A sampler of this machine, or of the one that ``said`` roots in sysfs and procfs. Blocks to import."""
    from halotui.feed import LiveFeed
    from halotui.hosts.local import LocalHost
    from halotui.rules.engine import Engine
    from halotui.sampler.core import Options, Sampler

    host = LocalHost(said.get("sysfs", Path("/sys")), said.get("procfs", Path("/proc")))
    options = Options(
        urls=settings.urls,
        gpu_source=settings.gpu_source,
        log=said.get("log"),
        stdin=said.get("stdin", 0),
        api_key=os.environ.get(settings.api_key_env) if settings.api_key_env else None,
        fallback_key=os.environ.get("LLAMA_API_KEY"),
        interval=settings.interval,
    )
    return LiveFeed(Sampler(host, options), Engine(hold=not one_shot))
