"""A demo box: the real llama.cpp server at work, and the files of the machine it pretends to run on.

``python -m halotui.demo.box`` says on stdout, in one line of JSON, where everything is, and lives until its
stdin ends: so it goes with its parent, however that one dies, and leaves nothing behind. :func:`start_box` is
the parent's side, and imports nothing of what a box needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from halotui.demo import FAULTS, BoxError

__all__ = ["Box", "BoxError", "start_box"]

SECONDS = 30 * 60.0  # of traffic; then the box is idle
START_SECONDS = 30.0
STOP_SECONDS = 5.0  # between asking and insisting; the server's own limit is 3
ROOM_BYTES = 256 << 20  # models and files


@dataclass
class Box:
    """A running box, from outside. ``stop`` it, or close its stdin, or die."""

    process: Process
    url: str
    pid: int  # of its first llama-server; 0: none was started
    sysfs: Path
    procfs: Path
    log: Path
    directory: Path
    profiles: dict[str, dict[str, Any]]  # by backend, as in config.toml
    state: Path  # where launches of this box are written down
    suite: Path  # for ``halotui bench``: its llama-bench with both backends
    _talk: asyncio.Task[None] = field(repr=False)

    async def stop(self) -> None:
        """Returns when it is gone, with its server and its files."""
        await _end(self.process)
        self._talk.cancel()


async def start_box(
    *,
    fault: str | None = None,
    seed: int = 0,
    seconds: float = SECONDS,
    serve: bool = True,
    progress: Callable[[str], None] = lambda words: None,
    patience: float = START_SECONDS,
) -> Box:
    """Start a box of its own process. Unless it shall ``serve`` it has no llama-server and no users, until
    somebody launches one. ``progress`` gets a few words now and then; raises BoxError."""
    argv = [sys.executable, "-m", "halotui.demo.box", "--seed", str(seed), "--seconds", str(seconds)]
    if fault:
        argv += ["--fault", fault]
    if not serve:
        argv += ["--no-serve"]
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is for us, not for the box
    )
    last = ["it did not say why"]
    talk = asyncio.create_task(_listen(process, last, progress))
    assert process.stdout
    line = b""
    try:
        with suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), patience)
        if not line:
            await asyncio.wait({talk}, timeout=1)
            raise BoxError(last[0])
    except BaseException:
        await _end(process)
        talk.cancel()
        raise
    told = json.loads(line)
    return Box(
        process=process,
        url=told["url"],
        pid=told["pid"],
        sysfs=Path(told["sysfs"]),
        procfs=Path(told["procfs"]),
        log=Path(told["log"]),
        directory=Path(told["dir"]),
        profiles=told["profiles"],
        state=Path(told["state"]),
        suite=Path(told["suite"]),
        _talk=talk,
    )


async def _listen(process: Process, last: list[str], progress: Callable[[str], None]) -> None:
    """Hand on what it says on stderr, and keep that pipe from filling up."""
    assert process.stderr
    while line := await process.stderr.readline():
        last[0] = line.decode(errors="replace").strip()
        progress(last[0])


async def _end(process: Process) -> None:
    """By closing stdin, then TERM, TERM, KILL."""
    if process.stdin:
        process.stdin.close()
    elif process.returncode is None:
        process.terminate()
    for insist in (process.terminate, process.terminate, process.kill):
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            insist()
    await process.wait()


# What follows runs in the box's own process.


def say(words: str) -> None:
    """To whoever started us, if still there."""
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)


async def live_and_leave(options: argparse.Namespace) -> None:
    """Live until stdin ends or a signal comes; then clean up."""
    if not find_spec("xllamacpp"):
        raise ImportError(name="xllamacpp")
    from halotui.demo.room import live
    from halotui.demo.tree import scratch

    loop = asyncio.get_running_loop()
    enough = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, enough.set)

    def watch_stdin() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        with suppress(RuntimeError):  # we are leaving already
            loop.call_soon_threadsafe(enough.set)

    threading.Thread(target=watch_stdin, daemon=True).start()
    directory = Path(tempfile.mkdtemp(prefix="halotui-demo-", dir=options.dir or scratch(ROOM_BYTES)))
    try:
        box = asyncio.create_task(
            live(directory, options.fault, options.seed, options.seconds, options.serve)
        )
        waiting = asyncio.create_task(enough.wait())
        await asyncio.wait({box, waiting}, return_when=asyncio.FIRST_COMPLETED)
        box.cancel()
        with suppress(asyncio.CancelledError):
            await box
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="halotui.demo.box", description="A demo box; it ends with its stdin."
    )
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of traffic")
    parser.add_argument("--no-serve", dest="serve", action="store_false", help="no server to begin with")
    parser.add_argument("--dir", type=Path, help="where its temporary directory goes")
    options = parser.parse_args(argv)
    try:
        asyncio.run(live_and_leave(options))
    except ImportError as error:
        say(f"the demo needs {error.name}: pip install halotui[demo]")
        return 2
    except (BoxError, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
