"""The small parts: probe, ration, weaver, notes."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sysfs_tree
from halotui.capture.notes import MOST, Notes
from halotui.capture.probe import RETRY_SECONDS, Probe, kernel
from halotui.capture.ration import LEAST_HERTZ, SHARE, Ration
from halotui.capture.source import Source
from halotui.capture.table import FIELDS, pick
from halotui.capture.weave import Weaver, joined
from halotui.collectors.gpu_metrics import decode
from halotui.hosts.local import LocalHost
from halotui.runs import Samples

HERE = LocalHost()


def test_a_file_is_read_anew_wherever_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("1\n")
    probe = Probe(str(path))
    assert probe.read(0.0) == b"1\n"
    path.write_text("2\n")  # in place
    assert probe.read(0.1) == b"2\n"
    (tmp_path / "spare").write_text("3\n")
    (tmp_path / "spare").replace(path)
    assert probe.read(0.2) == b"3\n"
    path.unlink()
    assert probe.read(0.3) is None
    assert isinstance(probe.error, FileNotFoundError)
    path.write_text("4\n")
    assert probe.read(0.3 + RETRY_SECONDS / 2) is None  # not at every beat
    assert probe.read(0.4 + RETRY_SECONDS) == b"4\n"
    assert probe.error is None
    probe.close()


def test_kernel_files_are_known(tmp_path: Path) -> None:
    assert kernel(HERE, "/proc/meminfo") and kernel(HERE, "/proc/self/statm")
    assert not kernel(HERE, str(tmp_path)) and not kernel(HERE, "/no/such/file")


def test_a_file_of_the_kernel_stays_live_on_one_descriptor() -> None:
    probe = Probe("/proc/uptime", watch=False)
    first = probe.read(0.0)
    time.sleep(0.05)
    assert first is not None and probe.read(0.0) != first
    probe.close()


@pytest.mark.parametrize("blob", [sysfs_tree.v3_0(), *(sysfs_tree.v2(minor) for minor in (1, 2, 3, 4))])
def test_what_is_picked_is_what_the_collector_decodes(blob: bytes) -> None:
    whole, picked = decode(blob), pick(blob)
    assert picked is not None
    for field, value in zip(FIELDS, picked, strict=True):
        known = getattr(whole, field)
        assert known == value or (known is None and math.isnan(value)), field


@given(
    st.one_of(
        st.binary(max_size=300), st.binary(min_size=260, max_size=260).map(lambda b: b"\x08\x01\x03\0" + b)
    )
)
def test_any_bytes_are_a_table_or_none(blob: bytes) -> None:
    picked = pick(blob)
    assert picked is None or len(picked) == len(FIELDS)


@pytest.mark.parametrize("hertz", [1.0, 10.0, 20.0, 100.0])
@pytest.mark.parametrize("cost", [1e-6, 1e-5, 4e-4, 5e-3, 1.0])
def test_the_firmware_is_asked_no_more_often_than_it_pays(hertz: float, cost: float) -> None:
    ration, reads, seconds = Ration(hertz), 0, 500
    for _ in range(int(hertz * seconds)):
        if ration.due():
            reads += 1
            if ration.measures():
                ration.cost(cost)
    rate = reads / seconds
    assert min(LEAST_HERTZ, hertz) * 0.99 <= rate <= hertz
    if cost * hertz < SHARE:
        assert rate == hertz  # cheap: at every beat
    else:
        assert cost * rate <= SHARE * 1.1 or rate <= LEAST_HERTZ * 1.1


def source(name: str, rows: list[tuple[int, float, float]], beat: int) -> Source:
    it = Source(name, ((name, ""),), lambda now: None)
    it.rows.extend((beat, seconds, (value,)) for beat, seconds, value in rows)
    it.beat = beat
    return it


def test_weaving_by_beat() -> None:
    weaver = Weaver()
    a = source("a", [(0, 0.0, 1.0), (1, 0.05, 2.0), (2, 0.1, 3.0)], beat=2)
    b = source("b", [(0, 0.001, 10.0), (2, 0.101, 30.0)], beat=2)
    c = source("c", [(0, 0.002, 7.0)], beat=0)
    c.every = 10
    samples = weaver.weave([a, b, c], 0.0)
    assert samples is not None
    assert samples.columns == (("a", ""), ("b", ""), ("c", ""))
    assert samples.seconds == (0.0, 0.05, 0.1)
    assert samples.values[0] == (1, 2, 3)
    assert [value if value == value else None for value in samples.values[1]] == [10, None, 30]
    assert weaver.weave([a, b, c], 0.0) is None


def test_nothing_waits_for_one_that_is_stuck_and_late_rows_are_not_lost() -> None:
    weaver = Weaver()
    a = source("a", [(0, 0.0, 1.0), (1, 0.05, 2.0)], beat=1)
    b = source("b", [], beat=-1)
    assert weaver.weave([a, b], 100.0) is None  # it may come yet
    b.reading = 99.0
    samples = weaver.weave([a, b], 100.0)
    assert samples is not None and len(samples.seconds) == 2
    b.rows.append((1, 0.06, (50.0,)))
    a.rows.append((2, 0.1, (3.0,)))
    last = weaver.weave([a, b], 100.0, all_=True)
    assert last is not None and last.seconds == (0.1,)
    assert last.values == ((3,), (50,))


def test_time_never_runs_backwards() -> None:
    weaver = Weaver()
    a = source("a", [(4, 0.21, 1.0)], beat=4)
    b = source("b", [(1, 0.05, 2.0)], beat=1)
    first = weaver.weave([a], 0.0)
    second = weaver.weave([b], 0.0, all_=True)
    assert first is not None and second is not None and second.seconds == (0.21,)


def test_joining_keeps_the_rows_and_the_columns_apart() -> None:
    one, two = (("a", ""),), (("a", ""), ("b", ""))
    parts = [
        Samples(columns=one, seconds=(0.0,), values=((1.0,),)),
        Samples(columns=one, seconds=(0.1, 0.2), values=((2.0, 3.0),)),
        Samples(columns=two, seconds=(0.3,), values=((4.0,), (9.0,))),
    ]
    assert joined(parts) == [
        Samples(columns=one, seconds=(0.0, 0.1, 0.2), values=((1.0, 2.0, 3.0),)),
        parts[2],
    ]
    assert joined([]) == []


def test_notes_are_few_and_harmless() -> None:
    notes = Notes()
    notes.begin("a", "it \x1b[31mhangs", timed=True)
    notes.begin("a", "it hangs", timed=True)
    notes.say("once")
    notes.say("once")
    assert [line.split(" since")[0] for line in notes.lines()] == ["it hangs", "once"]
    notes.end("a")
    assert " to " in notes.lines()[0]
    for number in range(100):
        notes.say(f"trouble {number}")
    assert len(notes.lines()) == MOST + 1
    assert notes.lines()[-1] == f"and {100 + 2 - MOST} more"
