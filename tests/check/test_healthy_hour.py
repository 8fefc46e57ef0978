"""False alarms are bugs: ten healthy minutes raise nothing, live or replayed, whatever rules there
are. ``bench/healthy_hour.py`` is the whole hour."""

from __future__ import annotations

from halotui.commands.judging import Judge
from halotui.demo.scene import Scene
from halotui.recording.redact import redacted

SECONDS = 600


async def test_ten_healthy_minutes_raise_nothing() -> None:
    live: set[str] = set()
    replayed, looked = Judge(), Judge(hold=False)
    scene = Scene(seconds=SECONDS)
    try:
        for second in range(SECONDS + 1):
            frame = await scene._frame(second)
            live |= {f"{found.id}: {found.evidence}" for found in frame.findings}
            replayed.see(redacted(frame))
            if second % 60 < 2:
                looked.see(frame)  # as who looks now and then, and holds nothing back
    finally:
        await scene.close()
    assert live == set()
    assert [(found.id, found.evidence) for found in replayed.verdict().findings] == []
    assert [(found.id, found.evidence) for found in looked.verdict().findings] == []
    assert replayed.frames == SECONDS + 1
