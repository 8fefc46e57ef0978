"""The pictures of the README: ``python -m halotui.shots [--out DIR] [--png]``.

The cockpit on scripted scenes: SVGs that are the same on every machine, and PNGs of them through
rsvg-convert, made small by pngquant where that is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from html import escape, unescape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from halotui.actions import Desk
from halotui.app import HalotuiApp
from halotui.demo.desk import ScriptedDesk
from halotui.demo.scene import START, Scene
from halotui.feed import Feed
from halotui.history import History
from halotui.model import Finding, Frame, Link, LinkState, Server, ServerFacts, ServerState, Severity
from halotui.recording.file import Writer
from halotui.recording.past import RecordedPast
from halotui.recording.player import ReplayFeed
from halotui.recording.segments import SUFFIX
from halotui.runs import Mark, Past
from halotui.stations import Station
from halotui.themes import DEFAULT

SETTLED = 0.5  # seconds until a key has had its whole effect
MARKED = 60  # seconds into a recorded scene
CELL = 12.2, 24.4  # pixels, as Rich draws them
BASELINE = 18.5  # from the top of a cell
SHADES = {"█": 1.0, "▓": 0.75, "▒": 0.5, "░": 0.25}
DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))  # column and row, by bit of a braille
FIT = "20.3333px"  # the font size at which a letter of Fira Code is as wide as a cell

CLUSTER = ("strix-1", "strix-2", "desk", "loft")
MODELS = ("Qwen3.5-122B-A10B-Q6_K", "gpt-oss-120b", "GLM-4.7-Air-Q4_K_M", "Devstral-2-24B-Q8_0")
FULL = Finding(
    id="gtt-pressure",
    severity=Severity.WARNING,
    title="GTT is nearly full",
    evidence="119 of 120 GiB",
    why="",
    fix="",
)

_TEXT = re.compile(r'<text class="([\w-]+)" x="([\d.]+)" y="([\d.]+)" [^>]*>([^<]*)</text>')


class Shot(NamedTuple):
    name: str
    width: int
    height: int
    theme: str = DEFAULT
    fault: str | None = None
    keys: tuple[str, ...] = ()  # pressed before
    replay: bool = False  # the scene as a recording, which stands at its end
    boxes: int = 0  # so many of them instead of the scene's one


SHOTS = (
    Shot("cockpit-80x24", 80, 24),
    Shot("cockpit-120x40", 120, 40),
    Shot("cockpit-200x60", 200, 60),
    Shot("cockpit-light", 120, 40, theme="halo-light"),
    Shot("finding", 120, 40, fault="spec-decay"),
    Shot("explain", 120, 40, fault="spec-decay", keys=("e",)),
    Shot("requests", 120, 40, keys=("5", "p")),
    Shot("server", 120, 40, keys=("6",)),
    Shot("box", 120, 40, keys=("7",)),
    Shot("processes", 120, 40, keys=("8",)),
    Shot("check", 120, 40, keys=("b",)),
    Shot("result", 120, 40, keys=("b", "enter")),
    Shot("replay", 120, 40, fault="spec-decay", replay=True),
    Shot("fleet", 120, 24, boxes=4, keys=("down", "down")),
    Shot("fleet-16", 120, 40, boxes=16),
    Shot("history", 120, 40, fault="spec-decay", keys=("4", "]", "]", "]", "]"), replay=True),
)


def stage(scene: Scene, theme: str = DEFAULT) -> HalotuiApp:
    """The application before a scene."""

    async def open_feed() -> Feed:
        return scene

    async def open_desk() -> Desk:
        return ScriptedDesk()

    return HalotuiApp(open_feed, desk=open_desk, theme=theme)


async def svg(shot: Shot) -> str:
    """One picture, of the scene's last frame."""
    with tempfile.TemporaryDirectory() as directory:
        scene = Scene(shot.fault)
        if shot.boxes:
            return await picture(shot, await several(scene, shot.boxes), scene)
        app = await tape(scene, Path(directory)) if shot.replay else stage(scene, shot.theme)
        return await picture(shot, app, scene)


async def tape(scene: Scene, directory: Path) -> HalotuiApp:
    """The application before a recording of a scene, with a mark in it."""
    frames = await scene.take()
    file = directory / time.strftime(f"%Y%m%dT%H%M%S.000Z-1{SUFFIX}", time.gmtime(START))
    writer = Writer(file)
    for number, frame in enumerate(frames):
        writer.frame(frame)
        if number == MARKED:
            writer.mark(Mark(time=frame.time, label="long prompts begin"))
    writer.close()
    os.utime(file, (frames[-1].time, frames[-1].time))
    player = ReplayFeed(file)
    player.seek(player.end)
    player.pause()
    scene.shown.set()

    async def open_feed() -> Feed:
        return player

    async def open_past() -> Past:
        return RecordedPast(directory)

    return HalotuiApp(open_feed, past=open_past)


class Held:
    """A feed of one frame that stays."""

    interval = 1.0

    def __init__(self, frame: Frame | None) -> None:
        self.history, self._frame = History(), frame

    async def frames(self) -> AsyncIterator[Frame]:
        if self._frame is not None:
            yield self._frame
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


async def several(scene: Scene, count: int) -> HalotuiApp:
    """The application before boxes like the scene's: four with a cluster, or many in two groups."""
    frame = (await scene.take())[-1]
    scene.shown.set()
    now = time.time()
    up = Link(state=LinkState.UP, since_time=now, round_trip_seconds=0.012)
    if count > len(CLUSTER):
        return HalotuiApp(
            fleet=[
                _station(f"rack-{at:02}", _like(frame, at), up, "lab" if at < 7 else "office")
                for at in range(1, count + 1)
            ]
        )
    lost = Link(state=LinkState.LOST, since_time=now - 200, reason="Connection timed out")
    like = _like(frame, 0)
    calls = ServerFacts(rpc_peers=(CLUSTER[1],))
    head = replace(like.servers[0], model="Qwen3-235B-A22B-Q4_K_M", facts=calls)
    part = Server(url="rpc://0.0.0.0:50052", state=ServerState.BUSY, engine="rpc-server")
    cluster = (replace(like, servers=(head,)), replace(like, servers=(part,)))
    frames = (*cluster, _like(frame, 3), _like(frame, 5))
    links = (up, up, None, lost)
    return HalotuiApp(fleet=[_station(*one) for one in zip(CLUSTER, frames, links, strict=True)])


def _like(frame: Frame, at: int) -> Frame:
    """That of another box: at work with another model, and not as fast."""
    server, gpu = frame.servers[0], frame.gpus[0]
    speed = (server.generation_tokens_per_second or 20.0) * (1 + at * 5 % 7 / 7)
    chip = replace(
        gpu,
        gtt_used_bytes=(gpu.gtt_used_bytes or 0) * (8 - at % 5) // 8,
        socket_power_watts=(gpu.socket_power_watts or 0.0) - 3 * (at % 6),
    )
    return replace(
        frame,
        servers=(replace(server, model=MODELS[at % len(MODELS)], generation_tokens_per_second=speed),),
        gpus=(chip,),
        findings=(FULL,) if at % 9 == 5 else (),
    )


def _station(name: str, frame: Frame, link: Link | None, group: str = "") -> Station:
    async def open_feed() -> Feed:
        return Held(frame)

    told = (lambda: link) if link is not None else None
    return Station(open_feed=open_feed, name=name, link=told, groups=(group,) if group else ())


async def picture(shot: Shot, app: HalotuiApp, scene: Scene) -> str:
    async with app.run_test(size=(shot.width, shot.height)) as pilot:
        await scene.shown.wait()
        await pilot.pause(SETTLED + bool(shot.boxes))  # all boxes are drawn once a second
        for key in shot.keys:
            await pilot.press(key)
            await pilot.pause(SETTLED)
        await pilot.pause()
        drawn = app.export_screenshot(simplify=True)
    await app.close_feed()
    await scene.close()
    named = re.sub(r"\bterminal-\d+", shot.name, drawn)  # not by content: a change is seen where it is
    colors = dict(re.findall(r"\.([\w-]+) \{ fill: (#\w+)", named))
    return _TEXT.sub(lambda run: _with_shapes(run, colors[run[1]]), named)


def png(drawn: str) -> bytes:
    """An SVG as PNG, letter by letter: librsvg knows no textLength."""
    exact = _TEXT.sub(_by_letter, drawn).replace("font-size: 20px", f"font-size: {FIT}")
    picture = subprocess.run(
        ["rsvg-convert"], input=exact.encode(), stdout=subprocess.PIPE, check=True
    ).stdout
    if shutil.which("pngquant") is None:
        return picture
    smaller = ["pngquant", "--strip", "--nofs", "64", "-"]
    return subprocess.run(smaller, input=picture, stdout=subprocess.PIPE, check=True).stdout


def _with_shapes(run: re.Match[str], color: str) -> str:
    """Charts and bars as shapes, for no two fonts draw them alike; everything else stays text."""
    text, x, top = unescape(run[4]), float(run[2]), float(run[3]) - BASELINE
    dots = "".join(f"M{x_:.5g} {y:.5g}h0" for x_, y in _dots(text, x, top))
    shapes = (
        [f'<path stroke="{color}" stroke-width="3.2" stroke-linecap="round" d="{dots}"/>'] if dots else []
    )
    at = x
    for letter, same in groupby(text):
        width = len(list(same)) * CELL[0]
        if letter in SHADES:
            where = f'x="{at:.5g}" y="{top:.5g}" width="{width:.5g}" height="{CELL[1]}"'
            shapes.append(f'<rect {where} fill="{color}" fill-opacity="{SHADES[letter]}"/>')
        at += width
    rest = "".join("\xa0" if _is_braille(letter) or letter in SHADES else letter for letter in text)
    if not shapes:
        return run[0]
    return "".join(shapes) + (run[0].replace(run[4], escape(rest)) if rest.strip() else "")


def _dots(text: str, x: float, top: float) -> Iterator[tuple[float, float]]:
    for at, letter in enumerate(text):
        bits = ord(letter) - 0x2800 if _is_braille(letter) else 0
        for bit, (column, row) in enumerate(DOTS):
            if bits >> bit & 1:
                yield x + (at + 0.25 + column / 2) * CELL[0], top + (row + 0.5) * CELL[1] / 4


def _is_braille(letter: str) -> bool:
    return "\u2800" <= letter <= "\u28ff"


def _by_letter(run: re.Match[str]) -> str:
    letters = enumerate(unescape(run[4]))
    return "".join(
        f'<text class="{run[1]}" x="{float(run[2]) + at * CELL[0]:.6g}" y="{run[3]}">{escape(letter)}</text>'
        for at, letter in letters
        if letter.strip()
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="halotui.shots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("screenshots"), metavar="DIR")
    parser.add_argument("--png", action="store_true", help="insist on PNGs; made anyway if they can be")
    options = parser.parse_args(argv)
    able = shutil.which("rsvg-convert") is not None
    if options.png and not able:
        print("shots: no rsvg-convert: apt install librsvg2-bin fonts-firacode", file=sys.stderr)
        return 1
    os.environ.pop("NO_COLOR", None)
    os.environ["TZ"] = "UTC"
    time.tzset()
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
