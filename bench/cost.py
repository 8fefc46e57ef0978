"""What watching costs: halotui beside btop, each in a real terminal, in front of a busy demo box.

Both live the whole time in a pty of 160x48 and are measured over the same windows, so that whatever else the
machine does falls on both. The box runs by itself and is not counted. Medians of windows; BENCHMARKS.md.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, LINES = 160, 48
TICKS = os.sysconf("SC_CLK_TCK")
BURST_SECONDS = 0.15  # writes nearer to each other belong to one update
SYNC_ASKED, SYNC_ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"  # as a modern terminal answers
START_SECONDS = 20.0
MODEL = b"demo-110B"  # in halotui's header once the first frame is there
ESCAPES = re.compile(rb"\x1b(?:[P\]_][^\x07\x1b]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]|[ -/]*[0-~])")


@dataclass(frozen=True)
class Plan:
    """How long to look."""

    windows: int = 6
    seconds: float = 10.0
    warm_up: float = 10.0
    starts: int = 7


QUICK = Plan(windows=3, seconds=5.0, warm_up=5.0, starts=3)


class Moment(NamedTuple):
    """Seconds since the start, and of CPU by then."""

    wall: float
    cpu: float


@dataclass
class Child:
    """A program under measurement. Without a terminal its output goes to /dev/null."""

    name: str
    argv: Sequence[str]
    env: dict[str, str]
    terminal: bool = True
    pid: int = 0
    master: int = -1
    began: float = 0.0
    bytes: int = 0
    updates: int = 0
    seen: dict[bytes, Moment] = field(default_factory=dict)  # when each wanted word came
    wanted: tuple[bytes, ...] = ()
    ended: bool = False
    _tail: bytes = b""
    _last: float = 0.0

    def start(self) -> None:
        self.began = time.monotonic()
        if self.terminal:
            self.pid, self.master = pty.fork()
        else:
            self.pid = os.fork()
        if not self.pid:
            try:
                self._become()
            finally:
                os._exit(127)

    def _become(self) -> None:
        if self.terminal:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        else:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
        os.chdir(ROOT)
        os.execvpe(self.argv[0], list(self.argv), self.env)

    def drain(self) -> None:
        """Take what it has written; answer what a terminal would."""
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # EIO: it has closed its end
            data = b""
        now = time.monotonic()
        if not data:
            self.ended = True
            return
        self.bytes += len(data)
        if now - self._last > BURST_SECONDS:
            self.updates += 1
        self._last = now
        near = self._tail + data
        if SYNC_ASKED in near:
            os.write(self.master, SYNC_ANSWER)
            near = near.replace(SYNC_ASKED, b"")
        missing = [word for word in self.wanted if word not in self.seen]
        if missing:
            plain = ESCAPES.sub(b"", near)
            for word in missing:
                if word in plain:
                    self.seen[word] = Moment(now - self.began, self.cpu())
            self._tail = near
        else:
            self._tail = near[-16:]

    def end(self) -> None:
        """By asking once, then insisting; returns when it is gone."""
        if not self.pid:
            return
        with suppress(OSError):
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if self.terminal and not self.ended and select.select([self.master], [], [], 0)[0]:
                self.drain()
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                break
            time.sleep(0.01)
        else:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.terminal:
            os.close(self.master)
        self.pid = 0

    def cpu(self) -> float:
        """CPU seconds so far, of the process and all its children, waited for or alive."""
        return sum(_cpu(pid) for pid in _tree(self.pid))

    def memory(self) -> tuple[float, float | None]:
        """RSS and PSS in MB (10^6 bytes), children included; PSS None where it cannot be read."""
        pids = _tree(self.pid)
        rss = sum(_kilobytes(f"/proc/{pid}/status", "VmRSS:") or 0 for pid in pids)
        parts = [_kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids]
        pss = sum(part for part in parts if part is not None) if any(parts) else None
        return rss * 1024 / 1e6, pss * 1024 / 1e6 if pss is not None else None


def _tree(pid: int) -> list[int]:
    """The process and its living descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _cpu(pid: int) -> float:
    """utime + stime + cutime + cstime. The first two from the process's CPU clock: the same sum in
    nanoseconds, where /proc/PID/stat has hundredths of a second and a window of btop is four of them."""
    try:
        own = time.clock_gettime((~pid << 3) | 2)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return own + (int(fields[13]) + int(fields[14])) / TICKS


def _kilobytes(path: str, key: str) -> int | None:
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return None


def watch(children: Sequence[Child], seconds: float, enough: Callable[[], bool] = lambda: False) -> float:
    """Drain the terminals for so long, or until it is enough; the seconds that took."""
    began = time.monotonic()
    poll = select.poll()
    open_ = {child.master: child for child in children if child.terminal}
    for master in open_:
        poll.register(master, select.POLLIN)
    while (left := began + seconds - time.monotonic()) > 0 and not enough():
        for master, _ in poll.poll(left * 1000):
            open_[master].drain()
            if open_[master].ended:
                raise SystemExit(f"{open_[master].name} has ended: {open_[master]._tail[-400:]!r}")
    for child in children:
        if os.waitpid(child.pid, os.WNOHANG)[0]:
            child.pid = 0
            raise SystemExit(f"{child.name} has ended")
    return time.monotonic() - began


@dataclass
class Figures:
    """Medians over the windows of one stage."""

    cpu: float  # percent of one core
    spread: tuple[float, float]  # the lowest and the highest window
    bytes_per_second: float | None
    updates: float | None  # a second
    rss: float
    pss: float | None


@dataclass
class Stage:
    """Programs side by side."""

    name: str
    figures: dict[str, Figures]
    ratio: float | None  # median of the windows' ratios, first program over btop
    machine: float  # percent of all cores in use, by everybody


def measure(name: str, children: Sequence[Child], plan: Plan) -> Stage:
    """Start them, warm up, and look through the same windows at all."""
    cpu: dict[str, list[float]] = {child.name: [] for child in children}
    sent: dict[str, list[float]] = {child.name: [] for child in children}
    updates: dict[str, list[float]] = {child.name: [] for child in children}
    busy: list[float] = []
    try:
        for child in children:
            child.start()
        watch(children, plan.warm_up)
        for _ in range(plan.windows):
            used, idle = _machine()
            before = [(child.cpu(), child.bytes, child.updates) for child in children]
            took = watch(children, plan.seconds)
            for child, (seconds, size, count) in zip(children, before, strict=True):
                cpu[child.name].append(100 * (child.cpu() - seconds) / took)
                sent[child.name].append((child.bytes - size) / took)
                updates[child.name].append((child.updates - count) / took)
            used, idle = (b - a for a, b in zip((used, idle), _machine(), strict=True))
            busy.append(100 * used / max(1, used + idle))
        figures = {}
        for child in children:
            rss, pss = child.memory()
            figures[child.name] = Figures(
                cpu=median(cpu[child.name]),
                spread=(min(cpu[child.name]), max(cpu[child.name])),
                bytes_per_second=median(sent[child.name]) if child.terminal else None,
                updates=median(updates[child.name]) if child.terminal else None,
                rss=rss,
                pss=pss,
            )
    finally:
        for child in children:
            child.end()
    ratio = None
    if len(children) > 1:
        first, peer = (cpu[child.name] for child in children[:2])
        ratio = median(a / b for a, b in zip(first, peer, strict=True))
    return Stage(name, figures, ratio, median(busy))


def _machine() -> tuple[int, int]:
    """Ticks used and idle, of all cores."""
    ticks = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


Paints = dict[bytes, Moment]


def first_paints(make: Callable[[], Child], words: tuple[bytes, ...], starts: int) -> Paints:
    """Medians until each word is on the screen. One start more, before, warms the caches."""
    moments: dict[bytes, list[Moment]] = {word: [] for word in words}
    for number in range(starts + 1):
        child = make()
        child.wanted = words
        child.start()
        try:
            watch((child,), START_SECONDS, lambda child=child: len(child.seen) == len(words))
        finally:
            child.end()
        if number:
            for word, moment in child.seen.items():
                moments[word].append(moment)
        time.sleep(0.2)
    return {word: Moment(*map(median, zip(*seen, strict=True))) for word, seen in moments.items() if seen}


@contextmanager
def box(seconds: float, env: dict[str, str]) -> Iterator[list[str]]:
    """A demo box in a process of its own; halotui's arguments to watch it."""
    process = subprocess.Popen(
        (sys.executable, "-m", "halotui.demo.box", "--seconds", str(seconds)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=env,
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the demo box did not start: pip install -e '.[demo]'")
        there = json.loads(line)
        yield [argument for key in ("url", "sysfs", "procfs", "log") for argument in (f"--{key}", there[key])]
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.terminate()


def run(plan: Plan) -> tuple[list[Stage], dict[tuple[str, str], Paints]]:
    """All stages: four minutes, or two with QUICK."""
    with tempfile.TemporaryDirectory(prefix="halotui-bench-") as directory:
        env = _environment(Path(directory))
        peer = shutil.which("btop")

        def btop() -> list[Child]:
            return [Child("btop", (peer, "--utf-force"), env)] if peer else []

        def halotui(where: list[str], *command: str) -> Child:
            argv = (sys.executable, "-m", "halotui", *command, *where)
            return Child("stream" if command else "halotui", argv, env, terminal=not command)

        stages: list[Stage] = []
        paints: dict[tuple[str, str], Paints] = {}

        def starts(server: str, where: list[str]) -> None:
            say(f"{server} server: first paints")
            paints[server, "halotui"] = first_paints(lambda: halotui(where), (b"halotui", MODEL), plan.starts)
            if peer:
                paints[server, "btop"] = first_paints(lambda: btop()[0], (b"cpu",), plan.starts)

        with box(3600, env) as where:
            starts("busy", where)
            say("busy server: screen")
            stages.append(measure("busy", [halotui(where), *btop()], plan))
            say("busy server: stream")
            stages.append(measure("busy", [halotui(where, "stream"), *btop()], plan))
        with box(1, env) as where:
            time.sleep(plan.seconds)  # until the last answer is out
            starts("idle", where)
            say("idle server: screen")
            stages.append(measure("idle", [halotui(where), *btop()], plan))
        return stages, paints


def _environment(directory: Path) -> dict[str, str]:
    """Nobody's settings; byte code kept as an installed package has it."""
    config = directory / "config"
    (config / "btop").mkdir(parents=True)
    (config / "btop" / "btop.conf").write_text("update_ms=1000\n")
    kept = ("PATH", "LANG", "HOME", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "XDG_CONFIG_HOME": str(config),
        "XDG_STATE_HOME": str(directory / "state"),
        "PYTHONPYCACHEPREFIX": str(directory / "bytecode"),
    }


def say(words: str) -> None:
    print(f"… {words}", file=sys.stderr, flush=True)


HEAD = ("server", "program", "CPU %", "lowest–highest", "÷ btop", "bytes/s", "updates/s", "RSS MB", "PSS MB")


def table(stages: Sequence[Stage]) -> list[tuple[str, ...]]:
    rows = [HEAD]
    for stage in stages:
        for name, now in stage.figures.items():
            rows.append(
                (
                    stage.name,
                    "halotui stream" if name == "stream" else name,
                    f"{now.cpu:.2f}",
                    f"{now.spread[0]:.2f}–{now.spread[1]:.2f}",
                    f"{stage.ratio:.1f}" if stage.ratio is not None and name != "btop" else "",
                    f"{now.bytes_per_second:,.0f}" if now.bytes_per_second is not None else "–",
                    f"{now.updates:.1f}" if now.updates is not None else "–",
                    f"{now.rss:.0f}",
                    f"{now.pss:.0f}" if now.pss is not None else "–",
                )
            )
    return rows


def paint_table(paints: dict[tuple[str, str], Paints]) -> list[tuple[str, ...]]:
    rows = [("server", "program", "first paint ms", "CPU ms by then", "first numbers ms", "CPU ms by then")]
    for (server, name), moments in paints.items():
        cells = [f"{1000 * seconds:.0f}" for moment in moments.values() for seconds in moment]
        rows.append((server, name, *cells, *["–"] * (4 - len(cells))))
    return rows


def show(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def facts(plan: Plan, stages: Sequence[Stage]) -> list[str]:
    """Where and when, a line each."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    others = ", ".join(f"{stage.machine:.0f} %" for stage in stages)
    peer = shutil.which("btop")
    named = (
        re.search(r"\d[\d.]*", subprocess.run([peer, "--version"], capture_output=True, text=True).stdout)
        if peer
        else None
    )
    return [
        f"machine: {cpu}, {os.cpu_count()} cores, Linux {platform.release()}",
        f"with: Python {platform.python_version()}, Textual {version('textual')}, "
        + (f"btop {named[0] if named else '?'} at 1 Hz" if peer else "no btop here: no ratio"),
        f"date: {time.strftime('%Y-%m-%d')}",
        f"command: python bench/cost.py {' '.join(sys.argv[1:])}".rstrip(),
        f"terminal: {COLUMNS}x{LINES}; {plan.windows} windows of {plan.seconds:g} s after "
        f"{plan.warm_up:g} s; {plan.starts} starts; medians",
        f"in use of all cores, by everything: {others} (stage by stage)",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short windows, to try it")
    parser.add_argument("--markdown", action="store_true", help="the tables as in BENCHMARKS.md")
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan()
    if not shutil.which("btop"):
        print("btop is not here: its rows and the ratio are left out", file=sys.stderr)
    stages, paints = run(plan)
    print("\n".join(f"- {fact}" if options.markdown else fact for fact in facts(plan, stages)), end="\n\n")
    print(show(table(stages), options.markdown), end="\n\n")
    print(show(paint_table(paints), options.markdown))


if __name__ == "__main__":
    main()
