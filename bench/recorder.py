"""What recording costs: size of an hour, CPU of a frame, and how fast a day of it opens.

Frames are those of a demo box at 1 Hz (``--seconds``), or of a file as ``halotui stream`` writes it;
beside them the same with twice the slots, requests and log lines: a busy box.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from halotui.demo.box import start_box
from halotui.feed import LiveFeed
from halotui.history import LENGTH, History
from halotui.hosts.local import LocalHost
from halotui.model import Frame
from halotui.recording.file import Writer
from halotui.recording.index import Recording
from halotui.recording.recorder import FlightRecorder
from halotui.sampler.core import Options, Sampler

HOUR, DAY = 3600, 86_400


async def demo(seconds: int) -> list[Frame]:
    box = await start_box()
    options = Options(urls=(box.url,))
    feed = LiveFeed(await asyncio.to_thread(Sampler, LocalHost(box.sysfs, box.procfs), options))
    frames: list[Frame] = []
    try:
        async for frame in feed.frames():
            frames.append(frame)
            if len(frames) >= seconds:
                break
    finally:
        await feed.close()
        await box.stop()
    return frames


def busier(frames: list[Frame]) -> list[Frame]:
    """Each with the slots, requests and log lines of another one beside its own."""
    return [
        replace(frame, servers=tuple(map(_both, frame.servers, frames[(n + 37) % len(frames)].servers)))
        for n, frame in enumerate(frames)
    ]


def _both(one, other):  # type: ignore[no-untyped-def]
    more = tuple(replace(slot, id=slot.id + len(one.slots)) for slot in other.slots)
    return replace(
        one,
        slots_total=len(one.slots) + len(more),
        slots=one.slots + more,
        requests=one.requests + other.requests,
        log=one.log + other.log,
    )


def looped(frames: list[Frame], count: int) -> list[Frame]:
    """So many of them, a second apart."""
    return [replace(frames[n % len(frames)], time=frames[0].time + n) for n in range(count)]


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def size_of_an_hour(directory: Path, frames: list[Frame]) -> tuple[int, float]:
    """Bytes, and microseconds of CPU a frame in the writer alone, with an fsync each."""
    writer = Writer(directory / "hour.halo")

    def write() -> None:
        for frame in looped(frames, HOUR):
            writer.frame(frame)
            writer.flush()

    took = cpu(write)
    writer.close()
    size = writer.path.stat().st_size
    writer.path.unlink()
    return size, took / HOUR * 1e6


def always_on(directory: Path, frames: list[Frame], count: int) -> tuple[float, float]:
    """Microseconds of CPU a frame at 4 Hz, all of it: the hop, encoding, deflate, fsync; and of ``take``."""
    recorder = FlightRecorder(directory / "flight", 64)
    given = looped(frames, count)
    time.sleep(0.5)
    began = resource.getrusage(resource.RUSAGE_SELF)
    idle_threads = threading.active_count()
    taken = 0.0
    for frame in given:
        at = time.perf_counter()
        recorder.take(frame)
        taken += time.perf_counter() - at
        time.sleep(0.25)
    ended = resource.getrusage(resource.RUSAGE_SELF)
    assert threading.active_count() == idle_threads
    recorder.close()
    spent = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    return spent / count * 1e6, taken / count * 1e6


def a_day(directory: Path, frames: list[Frame]) -> dict[str, float]:
    path = directory / "day.halo"
    writer = Writer(path)
    for n in range(DAY):
        writer.frame(replace(frames[n % len(frames)], time=frames[0].time + n))
        writer._piece(zlib.Z_SYNC_FLUSH)  # a chunk a second, as if it had been recorded live
        if n % 60 == 59:
            writer.flush()
    writer.close()
    began, began_cpu = time.perf_counter(), time.process_time()
    recording = Recording([path])
    opened, opened_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    seeks = []
    for part in range(1, 10):
        began, began_cpu = time.perf_counter(), time.process_time()
        number = recording.at(recording.begin + DAY * part / 10 + 0.5)
        history = History()
        for frame in recording.run(number + 1 - LENGTH, number + 1):
            history.push(frame)
        seeks.append((time.perf_counter() - began, time.process_time() - began_cpu))
    told = {
        "MB": path.stat().st_size / 1e6,
        "open s": opened,
        "of CPU": opened_cpu,
        "longest seek s": max(seeks)[0],
        "of CPU ": max(cpu for _, cpu in seeks),
    }
    recording.close()
    path.unlink()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=Path, help="JSON lines of `halotui stream`; default: a demo box")
    parser.add_argument("--seconds", type=int, default=120, help="of the demo box (120)")
    parser.add_argument("--dir", type=Path, help="where to write: the disk that is to be measured")
    said = parser.parse_args()
    decoder = msgspec.json.Decoder(Frame)
    frames = (
        [decoder.decode(line) for line in said.frames.read_bytes().splitlines()]
        if said.frames
        else asyncio.run(demo(said.seconds))
    )
    with tempfile.TemporaryDirectory(dir=said.dir) as name:
        directory = Path(name)
        for words, given in (("demo box", frames), ("busy box", busier(frames))):
            size, micros = size_of_an_hour(directory, given)
            json_size = sum(len(msgspec.json.encode(frame)) for frame in given) / len(given)
            print(
                f"{words}: frame {json_size:.0f} B, hour {size / 1e6:.2f} MB, writer {micros:.0f} µs a frame"
            )
        spent, taken = always_on(directory, busier(frames), 80)
        print(
            f"always on, busy: {spent:.0f} µs of CPU a frame ({spent / 1e4:.3f} % of a core at 1 Hz),",
            end=" ",
        )
        print(f"of which take() {taken:.1f} µs")
        print(
            "a day, busy:",
            ", ".join(f"{key} {value:.3g}" for key, value in a_day(directory, busier(frames)).items()),
        )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
