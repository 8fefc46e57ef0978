"""``halotui replay`` without a screen: the list, a frame as text or JSON, and the times it understands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tapes import BEGIN, second, write

from halotui.commands import replay
from halotui.config import Settings
from halotui.exits import UsageError
from halotui.recording.file import RecordingError
from halotui.recording.recorder import FOLDER
from running import environment

NIGHT = [second(n, *(["spec-decay"] if n > 90 else [])) for n in range(100)]


@pytest.fixture
def flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The flight recorder's directory of an empty home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    directory = tmp_path / "halotui" / FOLDER
    directory.mkdir(parents=True)
    return directory


def session(flight: Path, name: str, begin: float, *, cut: bool = False, parts: int = 1) -> list[Path]:
    paths = []
    for part in range(parts):
        frames = [second(n, begin=begin + 100 * part) for n in range(100)]
        stamp = f"20231114T0{name}000{part}.000Z-7{name}.halo"
        paths.append(write(flight / stamp, frames, session=f"session {name}"))
    if cut:
        paths[-1].write_bytes(paths[-1].read_bytes()[:-100])
    return paths


async def say(*args: str, **said: Any) -> int:
    return await replay.run({**said, **dict.fromkeys(args, True)}, Settings())


async def test_the_last_frame_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "night.halo", NIGHT)
    assert await say("once", file=path) == 0
    out, err = capsys.readouterr()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(BEGIN + 99))
    assert out.startswith(f"halo  {stamp}\nWARNING spec-decay")
    assert err == ""


async def test_a_frame_at_a_time_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "night.halo", NIGHT)
    for at, number in (("+50s", 50), ("-10s", 89), ("+1m", 60), ("-0.5s", 98)):
        assert await say("json", file=path, at=at) == 0
        assert json.loads(capsys.readouterr().out)["time"] == BEGIN + number


async def test_a_step_beyond_an_end_stops_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "night.halo", NIGHT)
    for at, number in (("-9h", 0), ("+9h", 99)):
        assert await say("json", file=path, at=at) == 0
        assert json.loads(capsys.readouterr().out)["time"] == BEGIN + number


@pytest.mark.parametrize(("at", "words"), [("tea", "is no time like"), ("1999-01-01", "is not in")])
async def test_a_time_that_is_none(tmp_path: Path, at: str, words: str) -> None:
    path = write(tmp_path / "night.halo", NIGHT)
    with pytest.raises(UsageError, match=f"--at: .*{words}"):
        await say("json", file=path, at=at)
    with pytest.raises(UsageError, match=f"--at: .*{words}"):
        replay.open_player({"file": path, "at": at}, Settings())


async def test_the_list(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await say("list") == 0
    assert "holds nothing yet" in capsys.readouterr().err
    first = session(flight, "1", BEGIN, parts=2)
    then = session(flight, "2", BEGIN + 5000, cut=True)
    assert await say("list") == 0
    out, err = capsys.readouterr()
    head, one, two = out.splitlines()
    assert err == ""
    assert head.split()[:4] == ["BEGAN", "ENDED", "LENGTH", "FRAMES"]
    assert "200" in one.split() and "closed" in one and one.endswith(str(first[0]))
    assert "cut off" in two and two.endswith(str(then[0]))
    assert await say("list", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(s["frames"], s["cut_off"], len(s["segments"])) for s in told] == [
        (200, False, 2),
        (100, True, 1),
    ]


async def test_the_last_session_whole(flight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await say("json", "last") == 1
    assert "holds nothing yet" in capsys.readouterr().err
    first = session(flight, "1", BEGIN, parts=3)
    assert await say("json", "last") == 0
    assert json.loads(capsys.readouterr().out)["time"] == BEGIN + 299
    assert await say("json", file=first[1], at="+0.5s") == 0  # one segment stands for its session
    assert json.loads(capsys.readouterr().out)["time"] == BEGIN
    player = replay.open_player({"last": True}, Settings())
    assert (player.begin, player.position, player.playing) == (BEGIN, BEGIN + 269, True)
    await player.close()


async def test_a_player_at_a_time_and_speed(tmp_path: Path) -> None:
    path = write(tmp_path / "night.halo", NIGHT)
    player = replay.open_player({"file": path, "at": "+20s", "speed": 4.0}, Settings())
    assert (player.position, player.speed) == (BEGIN + 20, 4.0)
    await player.close()
    with pytest.raises(UsageError, match="--speed: 100 is not between"):
        replay.open_player({"file": path, "speed": 100.0}, Settings())
    with pytest.raises(UsageError, match="is not in"):
        replay.open_player({"file": path, "at": "1999-01-01"}, Settings())
    with pytest.raises(RecordingError, match="no such file"):
        replay.open_player({"file": tmp_path / "none.halo"}, Settings())


@pytest.mark.parametrize("said", [{}, {"file": Path("x"), "last": True}])
async def test_either_a_file_or_the_last(said: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="a file or --last"):
        await say("once", **said)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (None, "no such file"),
        (b"", "holds no frame"),
        (b"poem", "is no recording"),
        (b"\x89halotui\r\n\x1a\n\x07\0\0\0", "its format is 7, known is 1 (a newer halotui can read it)"),
    ],
)
async def test_what_cannot_be_played_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: bytes | None, words: str
) -> None:
    path = tmp_path / "odd.halo"
    if raw is not None:
        path.write_bytes(raw)
    assert await say("once", file=path) == 1
    out, err = capsys.readouterr()
    assert out == "" and words in err and len(err.splitlines()) == 1


def test_without_a_screen_it_is_free_of_the_screen(tmp_path: Path) -> None:
    path = write(tmp_path / "night.halo", NIGHT)
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom halotui.commands import replay\n"
        "from halotui.config import Settings\n"
        f"code = asyncio.run(replay.run({{'file': Path({str(path)!r}), 'json': True}}, Settings()))\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert not {"textual", "rich", "plotext", "httpx", "sqlite3"} & set(done.stderr.split())
