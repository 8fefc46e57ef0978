"""``--once``: what is known gets its line, what is not takes no room."""

from __future__ import annotations

from msgspec.structs import replace

import builders
from halotui.exporters.text import text
from halotui.model import (
    Account,
    Energy,
    Frame,
    Holder,
    KernelEvent,
    ModelState,
    Platform,
    ServedModel,
    ServerEvent,
    Severity,
)

URL = builders.URL


def test_more_where_there_is_more() -> None:
    server = builders.server(
        ttft_seconds=0.5274,
        draft_mean_tokens=2.139,
        draft_gain_ratio=1.31,
        kv_used_tokens=6144,
        kv_used_ratio=0.75,
        models=(
            ServedModel(id="coder", state=ModelState.LOADED),
            ServedModel(id="chat", state=ModelState.SLEEPING),
        ),
    )
    said = text(builders.frame(servers=[server]))
    assert "    TTFT 527 ms · mean length 2.14 tok · net gain 131 % · KV used 6,144 tok · KV 75 %" in said
    assert "    models coder loaded · chat sleeping" in said


def test_a_pause_is_not_worth_a_word() -> None:
    assert "still" not in text(builders.frame(servers=[builders.server(still_seconds=9.9)]))
    assert "still 10 s" in text(builders.frame(servers=[builders.server(still_seconds=10.0)]))


def test_no_room_for_the_unknown() -> None:
    plain = text(builders.frame(servers=[builders.server()]))
    assert len(plain.splitlines()) == 4 and "TTFT" not in plain and "models" not in plain


def test_a_gpu_that_sleeps_or_is_not_to_be_believed() -> None:
    said = text(builders.frame(gpus=[builders.gpu(busy_percent=100.0, busy_doubtful=True)]))
    assert "    busy is doubtful: nobody on the box is at work" in said.splitlines()
    assert ") asleep" in text(builders.frame(gpus=[builders.gpu(asleep=True)]))
    assert "doubtful" not in text(builders.frame(gpus=[builders.gpu(busy_doubtful=False)]))


def test_the_last_events_of_every_frame() -> None:
    def frame(number: int) -> Frame:
        event = ServerEvent(kind="kv-full", severity=Severity.CRITICAL, text=f"full {number}")
        other = builders.server("http://other:1", events=(event,))
        return builders.frame(servers=[builders.server(events=(event,)), other])

    frames = [frame(number) for number in range(4)]
    block = text(frames[3], *frames[:3]).split("http://other:1")[0].splitlines()
    assert [line for line in block if "full" in line] == [f"    critical full {n}" for n in (1, 2, 3)]


def test_the_box() -> None:
    frame = replace(
        builders.frame(servers=[]),
        account=Account(
            total_bytes=128 << 30,
            other_bytes=88 << 30,
            free_bytes=40 << 30,
            headroom_bytes=40 << 30,
            leaked_gtt_bytes=2 << 30,
        ),
        holders=(
            Holder(pid=7, name="llama-server", gtt_bytes=60 << 30, container="toolbox-rocm"),
            Holder(pid=8, name="other", rss_bytes=2 << 30, hidden=True),
        ),
        energy=Energy(seconds=60, watt_hours=1.234, tokens=0, decode_joules_per_token=2.5),
        platform=Platform(kernel="6.18.9", kernel_parameters=("amd_iommu=off",)),
        kernel=(
            KernelEvent(kind="boot", severity=Severity.INFO, text="memory pools"),
            KernelEvent(kind="gpu-reset", severity=Severity.CRITICAL, text="GPU reset", process="a", pid=3),
        ),
    )
    said = text(frame).splitlines()
    assert "    headroom 40.0 GiB · leaked GTT 2.00 GiB" in said
    assert "process  7 llama-server in toolbox-rocm · GTT 60.0 GiB" in said
    assert "process  8 other · RSS 2.00 GiB · its GPU memory is hidden from us" in said
    assert "energy   energy 1.23 Wh · per token 2.50 J" in said
    assert "platform kernel 6.18.9" in said and "    amd_iommu=off" in said
    assert [line for line in said if line.startswith("kernel ")] == ["kernel   critical GPU reset (a pid 3)"]
