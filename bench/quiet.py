"""Is a healthy box silent? The demo's real server at work, judged by every rule, for ten minutes.

    python bench/quiet.py [MINUTES]

Exit code 1 when anything was found.
"""

from __future__ import annotations

import asyncio
import sys
import time

from halotui.commands.cockpit import Demo
from halotui.commands.places import this_box
from halotui.config import Settings


async def watch(minutes: float) -> int:
    feed = await Demo(this_box(Settings(), {})).look(False)
    frames, requests, found, end = 0, 0, {}, time.monotonic() + minutes * 60
    try:
        async for frame in feed.frames():
            frames += 1
            requests += sum(len(server.requests) for server in frame.servers)
            for finding in frame.findings:
                if finding.id not in found:
                    found[finding.id] = finding.evidence
                    print(f"{finding.id}: {finding.evidence}", flush=True)
            if time.monotonic() > end:
                break
    finally:
        await feed.close()
    print(f"{minutes:g} min, {frames} frames, {requests} requests: {len(found)} findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(asyncio.run(watch(float(sys.argv[1]) if sys.argv[1:] else 10.0)))
