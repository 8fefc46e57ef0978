"""The pictures of the README: ``python -m halotui.screens.shots [--out DIR] [--png]``.

The cockpit on scripted scenes, as SVG, and as PNG through rsvg-convert; the same bytes on every machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from halotui.app import HalotuiApp
from halotui.demo.scene import Scene
from halotui.feed import Feed
from halotui.themes import DEFAULT


class Shot(NamedTuple):
    name: str
    width: int
    height: int
    theme: str = DEFAULT
    fault: str | None = None
    keys: tuple[str, ...] = ()  # pressed before


SHOTS = (
    Shot("cockpit-80x24", 80, 24),
    Shot("cockpit-120x40", 120, 40),
    Shot("cockpit-200x60", 200, 60),
    Shot("cockpit-light", 120, 40, theme="halo-light"),
    Shot("finding", 120, 40, fault="spec-decay"),
    Shot("explain", 120, 40, fault="spec-decay", keys=("e",)),
)


def stage(scene: Scene, theme: str = DEFAULT) -> HalotuiApp:
    """The application before a scene."""

    async def open_feed() -> Feed:
        return scene

    os.environ.pop("NO_COLOR", None)
    return HalotuiApp(open_feed, theme=theme)


async def svg(shot: Shot) -> str:
    """One picture, of the scene's last frame."""
    scene = Scene(shot.fault)
    app = stage(scene, shot.theme)
    async with app.run_test(size=(shot.width, shot.height)) as pilot:
        await scene.shown.wait()
        await pilot.press(*shot.keys)
        await pilot.pause()
        drawn = app.export_screenshot(simplify=True)
    await app.close_feed()
    return re.sub(r"\bterminal-\d+", shot.name, drawn)  # a stable id: a change of text changes its lines only


def png(drawn: str) -> bytes:
    """An SVG as PNG. librsvg knows no textLength: the letters themselves must have the width of a cell."""
    exact = drawn.replace("font-size: 20px", "font-size: 20.3333px").replace(
        "<text ", '<text xml:space="preserve" '
    )
    return subprocess.run(["rsvg-convert"], input=exact.encode(), stdout=subprocess.PIPE, check=True).stdout


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="halotui.screens.shots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("screenshots"), metavar="DIR")
    parser.add_argument("--png", action="store_true", help="insist on PNGs; made anyway if they can be")
    options = parser.parse_args(argv)
    able = shutil.which("rsvg-convert") is not None
    if options.png and not able:
        print("shots: no rsvg-convert: apt install librsvg2-bin fonts-firacode", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for shot in SHOTS:
        drawn = asyncio.run(svg(shot))
        path = options.out / f"{shot.name}.svg"
        path.write_text(drawn, encoding="utf-8")
        if able:
            path.with_suffix(".png").write_bytes(png(drawn))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
