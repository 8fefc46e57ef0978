"""The kernel's log, followed: dated, bounded, from kmsg or the journal, and said when it may not be read."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from halotui.collectors.kernel_follow import Line
from halotui.collectors.leash import leash
from halotui.hosts.local import LocalHost
from halotui.model import KERNEL_SOURCE, KernelEvent, SourceState
from halotui.sampler import kernel
from halotui.sampler.clock import Clock
from halotui.sampler.kernel import KernelTap, _dated, _Instant

RESET = "amdgpu 0000:c5:00.0: amdgpu: GPU reset begin!"
ASLEEP, AWAKE = "PM: suspend entry (s2idle)", "PM: suspend exit"


class Hands:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.clock = Clock(monotonic=lambda: self.now, wall=lambda: self.now)


class Tree:
    """A box of files, up for an hour."""

    def __init__(self, root: Path) -> None:
        self.kmsg = root / "dev/kmsg"
        (root / "dev").mkdir()
        (root / "procfs").mkdir()
        (root / "procfs/uptime").write_text("3600.00 1.00\n")
        self.host = LocalHost(root / "sysfs", root / "procfs")

    def say(self, *lines: str, seconds: float = 3600.0) -> None:
        with self.kmsg.open("a") as file:
            file.writelines(f"3,1,{int(seconds * 1e6)},-;{line}\n" for line in lines)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


async def look(tap: KernelTap) -> tuple[KernelEvent, ...]:
    await tap.read()
    return tap.events()


async def test_a_tree_without_one_and_then_with_one(tree: Tree) -> None:
    hands = Hands()
    tap = KernelTap(tree.host, hands.clock)
    assert await look(tap) == () and tap.source().state is SourceState.ABSENT
    assert (tap.source().id, tap.source().name) == (KERNEL_SOURCE, "/dev/kmsg")
    tree.say(RESET)
    assert await look(tap) == ()  # not tried at every frame
    hands.now += kernel.AGAIN
    (event,) = await look(tap)
    assert event.kind == "gpu-reset" and event.time == hands.now
    assert tap.source().state is SourceState.OK and tap.source().reason is None
    assert await look(tap) == ()  # told once
    tree.kmsg.unlink()
    assert await look(tap) == () and tap.source().state is SourceState.ABSENT
    await tap.close()


async def test_a_backlog_is_dated_by_the_kernel_and_bounded(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "BUDGET", 60.0)
    hands = Hands()
    (tree.host.procfs / "uptime").write_text("200000.0 0\n")
    for ago in (25 * 3600, *range(1000, 0, -10)):
        tree.say(RESET, seconds=200000 - ago)
    tap = KernelTap(tree.host, hands.clock)
    found = await look(tap)
    assert [event.time for event in found] == [hands.now - ago for ago in range(500, 0, -10)]
    (tree.host.procfs / "uptime").unlink()  # and without it nothing is later than now
    tree.say(RESET, seconds=1e9)
    assert [event.time for event in await look(tap)] == [hands.now]
    await tap.close()


async def test_what_is_old_is_left_out(tree: Tree) -> None:
    (tree.host.procfs / "uptime").write_text("200000.0 0\n")
    tree.say(RESET, seconds=200000 - 25 * 3600)
    assert await look(KernelTap(tree.host, Hands().clock)) == ()


async def test_a_live_line_is_of_the_time_since_the_last_look(tree: Tree) -> None:
    """Whatever its own clock says: that drifts, and stands still or not while the box sleeps."""
    hands = Hands()
    tree.kmsg.touch()
    tap = KernelTap(tree.host, hands.clock)
    await tap.read()
    hands.now += 10
    for seconds, ago in ((3595.0, 5), (10.0, 10), (9e9, 0)):
        tree.say(RESET, seconds=seconds)
        (event,) = await look(tap)
        assert event.time == hands.now - ago
        hands.now += 10
    await tap.close()


def test_a_backlog_from_before_the_box_slept() -> None:
    lines = [Line(100, "a"), Line(200, ASLEEP), Line(203, AWAKE), Line(300, "b")]
    now = _Instant(wall=10_000, awake=400, asleep=5000)
    # the kernel's clock stood still: 203 - 200 is what waking up took
    assert [line.time for line in _dated(lines, None, now)] == [4700, 4800, 9803, 9900]
    # it went on
    went = [Line(100, "a"), Line(200, ASLEEP), Line(5203, AWAKE), Line(5300, "b")]
    assert [line.time for line in _dated(went, None, now)] == [4700, 4800, 9803, 9900]
    # nobody knows: too early rather than too late
    assert [line.time for line in _dated([Line(300, "b")], None, now)] == [4900]
    # live, over a sleep: what was before it is of before it
    before = _Instant(wall=4750, awake=150, asleep=0)
    assert [line.time for line in _dated(lines[1:], before, now)] == [4800, 9803, 9900]


async def test_one_read_is_bounded_and_loses_nothing(tree: Tree) -> None:
    line = "usb 1-1: new high-speed USB device number 5 using xhci_hcd"
    fault = "[gfxhub] page fault (src_id:0 ring:24 vmid:8 pasid:32770)"
    tree.say(RESET, *[line] * 80_000, *[fault] * 20_000)
    tap = KernelTap(tree.host, Hands().clock)
    found: list[KernelEvent] = []
    slowest = 0.0
    for _ in range(300):
        began = time.thread_time()
        found += await look(tap)
        slowest = max(slowest, time.thread_time() - began)
    faults = [event for event in found if event.kind == "page-fault"]
    counts = [int(event.text.rpartition("(")[2].split()[0]) for event in faults]
    assert found[0].kind == "gpu-reset" and sum(counts) == 20_000
    assert slowest < 0.25  # of a machine that is shared: about 20 ms here
    await tap.close()


async def test_lines_made_to_be_slow_hold_nothing_up(tree: Tree) -> None:
    """Each has many a keyword, and is none: half a second a read, before."""
    words = (
        "queue GPU reset page fault PM: reset failed unknown parameter timeout pid amdxdna MES FW version "
    )
    tree.say(*[words + "x" * 300] * 4000)
    tap = KernelTap(tree.host, Hands().clock)
    slowest = 0.0
    for _ in range(20):
        began = time.thread_time()
        assert await look(tap) == ()
        slowest = max(slowest, time.thread_time() - began)
    assert slowest < 0.4
    await tap.close()


# --- the journal


class Box(LocalHost):
    """This box, but for its /dev/kmsg."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root


class Journal:
    """A stand-in journalctl: what it prints comes from a file, as it grows."""

    def __init__(self, root: Path) -> None:
        self.host = Box(root)
        self.program = root / "bin/journalctl"
        self.program.parent.mkdir()
        self.lines = root / "journal"
        self.lines.touch()
        self.does(f'echo "$@" >> {root}/asked; exec tail -n +1 -f {self.lines}')
        self.asked = root / "asked"

    def does(self, text: str) -> None:
        self.program.write_text(f"#!/bin/sh\n{text}\n")
        self.program.chmod(0o755)

    def say(self, line: str, when: float | None = None, who: str = "kernel:") -> None:
        with self.lines.open("a") as file:
            file.write(f"{time.time() if when is None else when:.6f} halo {who} {line}\n")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return Journal(tmp_path)


@pytest.fixture
async def taps() -> AsyncIterator[list[KernelTap]]:
    made: list[KernelTap] = []
    yield made
    for tap in made:
        await tap.close()


async def until(tap: KernelTap, state: SourceState, events: int = 0) -> list[KernelEvent]:
    found: list[KernelEvent] = []
    deadline = time.monotonic() + 10
    while tap.source().state is not state or len(found) < events:
        assert time.monotonic() < deadline, tap.source()
        await tap.read()
        found += tap.events()
        await asyncio.sleep(0.01)
    return found


async def test_the_journal_is_followed_where_kmsg_is_not_to_be_had(
    journal: Journal, taps: list[KernelTap]
) -> None:
    hands = Hands()
    hands.now = time.time()
    taps.append(tap := KernelTap(journal.host, hands.clock))
    await tap.read()
    assert tap.source().state is SourceState.NO_DATA and tap.source().name == "journalctl -k"
    journal.say("usb 1-1: new device")
    await until(tap, SourceState.OK)
    journal.say(RESET, who="systemd[1]:")
    journal.say("kernel: " + RESET, who="bash[7]:")
    journal.say(RESET, when=hands.now - 7)
    (event,) = await until(tap, SourceState.OK, events=1)
    assert event.kind == "gpu-reset" and event.time == pytest.approx(hands.now - 7, abs=0.01)
    assert "SYSLOG_FACILITY=0" in journal.asked.read_text() and "--dmesg" in journal.asked.read_text()


async def test_a_journalctl_that_ends_is_started_again_and_repeats_nothing(
    journal: Journal, taps: list[KernelTap]
) -> None:
    hands = Hands()
    hands.now = time.time()
    journal.does(f"echo x >> {journal.asked}; cat {journal.lines}")
    journal.say(RESET, when=hands.now - 3)
    taps.append(tap := KernelTap(journal.host, hands.clock))
    assert len(await until(tap, SourceState.FAILED, events=1)) == 1
    assert tap.source().reason == "journalctl ended"
    for _ in range(20):
        await tap.read()
        await asyncio.sleep(0.01)
    assert journal.asked.read_text() == "x\n"  # not at once
    journal.say(RESET, when=hands.now - 2)
    hands.now += kernel.AGAIN
    found: list[KernelEvent] = []
    while not found:
        found += await look(tap)
        await asyncio.sleep(0.01)
    assert [round(hands.now - kernel.AGAIN - (event.time or 0)) for event in found] == [2]


@pytest.mark.parametrize(
    "does",
    [
        'echo "Hint: You are currently not seeing messages from other users." >&2; exec sleep 60',
        'echo "No journal files were opened due to insufficient permissions." >&2; exit 1',
    ],
)
async def test_denied_is_said_with_a_way_out(journal: Journal, taps: list[KernelTap], does: str) -> None:
    journal.does(does)
    taps.append(tap := KernelTap(journal.host, Clock()))
    await until(tap, SourceState.DENIED)
    assert "usermod -aG systemd-journal" in (tap.source().hint or "")


async def test_no_journal_at_all(
    journal: Journal, taps: list[KernelTap], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    taps.append(tap := KernelTap(journal.host, Clock()))
    await until(tap, SourceState.ABSENT)
    assert tap.source().reason == "there is no journalctl"


async def test_a_flood_in_the_journal_waits_in_its_pipe(journal: Journal, taps: list[KernelTap]) -> None:
    journal.does(f"yes '{time.time():.6f} halo kernel: usb 1-1: new device'")
    taps.append(tap := KernelTap(journal.host, Clock()))
    await until(tap, SourceState.OK)
    began = time.process_time()
    for _ in range(20):
        await tap.read()
        await asyncio.sleep(0.05)
    assert time.process_time() - began < 1.8  # 40,000 lines at most


async def test_a_clock_that_was_ahead_is_now_and_hides_nothing_later(
    journal: Journal, taps: list[KernelTap]
) -> None:
    hands = Hands()
    hands.now = time.time()
    journal.does(f"cat {journal.lines}")
    journal.say(RESET, when=hands.now + 7200)  # the RTC in local time, until the network told better
    taps.append(tap := KernelTap(journal.host, hands.clock))
    (event,) = await until(tap, SourceState.FAILED, events=1)
    assert event.time == hands.now
    journal.lines.write_text("")
    journal.say(RESET, when=time.time() + 1)
    hands.now += kernel.AGAIN
    deadline = time.monotonic() + 10
    while not await look(tap):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


KILLED = """
import asyncio, sys
from pathlib import Path
from halotui.hosts.local import LocalHost
from halotui.sampler.clock import Clock
from halotui.sampler.kernel import KernelTap
async def main():
    host = LocalHost()
    host.root = Path(sys.argv[1])
    tap = KernelTap(host, Clock())
    await tap.read()
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(not leash(LocalHost()), reason="no setpriv")
def test_a_silent_child_ends_even_when_we_are_killed(journal: Journal) -> None:
    journal.does(f"echo $$ > {journal.asked}; exec sleep 60")
    deadline = time.monotonic() + 20
    with subprocess.Popen([sys.executable, "-c", KILLED, os.fspath(journal.host.root)]) as ours:
        while not (journal.asked.exists() and journal.asked.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ours.kill()
    stat = Path(f"/proc/{int(journal.asked.read_text())}/stat")
    while stat.exists() and " Z " not in stat.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_closing_ends_the_child(journal: Journal) -> None:
    journal.does(f"echo $$ > {journal.asked}; echo '1795000000.1 halo kernel: x'; exec sleep 60")
    tap = KernelTap(journal.host, Clock())
    await until(tap, SourceState.OK)
    pid = int(journal.asked.read_text())
    await tap.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
