"""/dev/kmsg and its stand-ins: whole records only, of the kernel only, whatever the bytes are."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors.kernel_follow import LONGEST_RECORD, KmsgReader, Line
from halotui.collectors.kernel_lines import events
from halotui.model import SourceState, Unavailable

RESET = (
    b"3,7,5678901,-;amdgpu 0000:c5:00.0: amdgpu: GPU reset begin!\n SUBSYSTEM=pci\n DEVICE=+pci:GPU reset\n"
)
TOLD = Line(5.678901, "amdgpu 0000:c5:00.0: amdgpu: GPU reset begin!")


def drain(reader: KmsgReader) -> list[Line]:
    lines = []
    while True:
        lines += reader.read()
        if reader.caught_up:
            return lines


@pytest.fixture
def kmsg(tmp_path: Path) -> Path:
    return tmp_path / "kmsg"


def test_a_file_that_grows_in_torn_records(kmsg: Path) -> None:
    kmsg.write_bytes(RESET)
    reader = KmsgReader(kmsg)
    assert drain(reader) == [TOLD] and drain(reader) == []
    with kmsg.open("ab", buffering=0) as file:
        told = []
        for at in range(len(RESET)):
            file.write(RESET[at : at + 1])
            told += drain(reader)
            assert told == ([TOLD] if b"!\n" in RESET[: at + 1] else [])
    reader.close()
    reader.close()


def test_a_file_cut_or_replaced_is_read_from_its_start(kmsg: Path, tmp_path: Path) -> None:
    kmsg.write_bytes(RESET * 3 + b"3,7,")
    reader = KmsgReader(kmsg)
    assert len(drain(reader)) == 3
    kmsg.write_bytes(RESET)
    assert drain(reader) == [] and drain(reader) == [TOLD]
    (tmp_path / "new").write_bytes(RESET * 2)
    (tmp_path / "new").rename(kmsg)
    assert drain(reader) == [] and drain(reader) == [TOLD, TOLD]
    kmsg.unlink()
    with pytest.raises(Unavailable) as trouble:
        reader.read()
    assert trouble.value.state is SourceState.ABSENT
    reader.close()


def test_a_fifo_does_not_block(kmsg: Path) -> None:
    os.mkfifo(kmsg)
    reader = KmsgReader(kmsg)
    assert drain(reader) == []
    writer = os.open(kmsg, os.O_WRONLY)
    assert drain(reader) == []
    os.write(writer, RESET[:20])
    assert drain(reader) == []
    os.write(writer, RESET[20:])
    assert drain(reader) == [TOLD]
    os.close(writer)
    reader.close()


@pytest.mark.parametrize(
    "record",
    [
        b"12,7,5678901,-;amdgpu: GPU reset begin!\n",  # facility 1: somebody wrote it into /dev/kmsg
        b"30,7,5678901,-;kernel: amdgpu: GPU reset begin!\n",
        b" 3,7,5678901,-;amdgpu: GPU reset begin!\n",
        b"3,7,-;amdgpu: GPU reset begin!\n",
        b"amdgpu: GPU reset begin!\n",
        b"6,7,1,-;DEVICE\n 3,7,5,-;amdgpu: GPU reset begin!\n",
    ],
)
def test_what_the_kernel_did_not_say_does_not_count(kmsg: Path, record: bytes) -> None:
    kmsg.write_bytes(record + RESET)
    assert drain(KmsgReader(kmsg)) == [TOLD]


def test_a_newer_header_is_read(kmsg: Path) -> None:
    kmsg.write_bytes(RESET.replace(b",-;", b",c,caller=T12;"))
    assert drain(KmsgReader(kmsg)) == [TOLD]


def test_a_line_without_end_is_not_kept(kmsg: Path) -> None:
    kmsg.write_bytes(b"3,1,1,-;GPU reset begin!" * LONGEST_RECORD + b"\n" + RESET)
    assert drain(KmsgReader(kmsg))[-1] == TOLD


def test_what_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    cases = [(tmp_path / "none", "ABSENT"), (tmp_path, "ABSENT"), (Path("/dev/null"), "ABSENT")]
    if os.geteuid():
        cases.append((tmp_path / "secret", "DENIED"))
    for path, state in cases:
        with pytest.raises(Unavailable) as trouble:
            KmsgReader(path)
        assert trouble.value.state is SourceState[state]


def test_the_real_one_raises_nothing_else() -> None:
    try:
        reader = KmsgReader(Path("/dev/kmsg"))
    except Unavailable:
        return
    for line in drain(reader)[:100]:
        assert line.time >= 0
    assert reader.caught_up
    reader.close()


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([RESET, b"\n", RESET[:30]])), max_size=12))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes]) -> None:
    kmsg = tmp_path_factory.mktemp("any") / "kmsg"
    kmsg.touch()
    reader = KmsgReader(kmsg)
    lines = []
    for block in blocks:
        with kmsg.open("ab") as file:
            file.write(block)
        lines += drain(reader)
    reader.close()
    assert all(event.text.isprintable() for event in events(lines))


@pytest.mark.parametrize(
    ("record", "lines", "most"),
    [
        (b"6,%d,%d,-;usb 1-1: new high-speed USB device number 5 using xhci_hcd\n", 200_000, 1.0),
        (b"3,%d,%d,-;[gfxhub] page fault (src_id:0 ring:24 vmid:8 pasid:32770)\n", 40_000, 2.0),
    ],
)
def test_a_flood_costs_little(kmsg: Path, record: bytes, lines: int, most: float) -> None:
    kmsg.write_bytes(b"".join(record % (number, number * 100) for number in range(lines)))
    reader, began = KmsgReader(kmsg), time.process_time()
    found = events(drain(reader))
    took = time.process_time() - began
    assert took < most and len(found) in (0, 4), took  # of 4 s
    reader.close()
