"""The box and its processes, and what the cockpit says of them; on boxes of words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import whole
from boxes import Still
from msgspec.structs import replace
from pilots import Fingers
from textual.widgets import Static

from builders import memory
from halotui.app import HalotuiApp
from halotui.feed import Feed
from halotui.history import History
from halotui.model import Finding, Frame, HeldBy, KernelEvent, ServerFacts, Severity
from halotui.screens.explain import Explain, explain, to_copy
from halotui.widgets import box_view, hardware, holders_view, memory_bar, server_view, speed
from halotui.widgets.rows import EVENT, ORDER, Ref, Row, width_of
from halotui.widgets.view import View

BOXES: dict[str, Callable[[], Frame]] = {
    name: getattr(whole, name) for name in ("box", "two", "bare", "hung", "odd")
}
ALARM = {"warning", "trouble"}

pytestmark = pytest.mark.usefixtures("utc")


def view_of(frame: Frame) -> View:
    view = View(history=History())
    view.history.push(frame)
    view.take(frame)
    return view


def text(rows: list[Row]) -> str:
    return "\n".join("".join(run.text for run in row) for row in rows)


def styles(rows: list[Row]) -> set[str]:
    return {run.style for row in rows for run in row if run.text.strip()}


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("width", [60, 80, 111, 112, 120, 200])
def test_every_row_is_as_wide_as_the_screen(name: str, width: int) -> None:
    view = view_of(BOXES[name]())
    for page in (box_view.page(view, width), holders_view.page(view, width)):
        assert {sum(width_of(run.text) for run in row) for row in page} == {width}


@pytest.mark.parametrize("name", BOXES)
def test_everything_that_the_cursor_can_stop_at_is_explained(name: str) -> None:
    view = view_of(BOXES[name]())
    pages = (box_view.page(view, 120), holders_view.page(view, 120))
    pages += tuple(panel.rows(view, 120, 3) for panel in (hardware, memory_bar, speed))
    refs = {run.ref for page in pages for row in page for run in row if run.ref is not None}
    for ref in refs:
        if ref.field != ORDER:
            told = explain(view, ref, 100).plain
            assert told and to_copy(view, ref, 100)
            if ref.field != EVENT:
                assert "None" not in told and "Struct" not in told


def test_a_value_says_where_it_came_from() -> None:
    view = view_of(whole.box())
    wanted = {
        "gpu.socket_power_watts": "gpu_metrics v3.0",
        "gpu.busy_percent": "gpu_busy_percent",
        "platform.kernel_parameters": "/proc/cmdline",
        "account.headroom_bytes": "min(GTT total - GTT used, MemAvailable)",
        "holder.gtt_bytes": "drm-resident-gtt",
        "server.decode_bandwidth_ratio": "÷ 256 GB/s",
    }
    pages = (box_view.page(view, 120), holders_view.page(view, 120), speed.rows(view, 120, 3))
    refs = {run.ref.field: run.ref for page in pages for row in page for run in row if run.ref is not None}
    assert "another user's" in explain(view, Ref("holder.gtt_bytes", "4411"), 100).plain
    for field, told in wanted.items():
        assert told in explain(view, refs[field], 100).plain


def test_no_gpu_and_little_else() -> None:
    page = box_view.page(view_of(whole.bare()), 80)
    said = text(page)
    assert "no AMD GPU here" in said and "since" not in said
    assert "denied: the kernel's log is root's" in said and "add yourself to group" in said
    assert "carve-out" not in said and "free" in said  # the system's memory is told all the same
    assert "energy" not in said


def test_what_hangs_says_since_when() -> None:
    view = view_of(whole.hung())
    for page in (box_view.page(view, 120), hardware.rows(view, 60, 3), holders_view.page(view, 80)):
        assert "hung since 10:03:07" in text(page)
    assert "trouble" in styles(hardware.rows(view, 60, 3))
    figures = hardware.rows(view, 80, 3)[1:]
    assert styles(figures) <= {"dim", "late"}


def test_two_gpus() -> None:
    view = view_of(whole.two())
    note = text(hardware.rows(view, 120, 3))
    assert "+1 GPU" in note and "NPU 2 W" in note
    said = text(box_view.page(view, 120))
    assert whole.CARD in said and "RX 7900 XTX" in said and "22.0 GiB" in said


@pytest.mark.parametrize(
    ("more", "said", "alarm"),
    [
        ({}, "held by power (sPPT)", True),
        ({"held_by": HeldBy.HEAT, "throttle": {"thm_gfx": 9.0}}, "held by heat (gfx)", True),
        ({"held_by": HeldBy.PROCHOT, "throttle": {"prochot": 1.0}}, "held by prochot", True),
        ({"held_by": HeldBy.POWER, "throttle": {}}, "held by power", True),
        ({"held_by": HeldBy.CPU}, "CPU takes the watts", False),
        ({"held_by": None, "busy_doubtful": True}, "100 % is doubtful", True),
        ({"held_by": None, "asleep": True}, "asleep", False),
        ({"held_by": None}, "dpm auto", False),
    ],
)
def test_what_holds_the_gpu_back(more: dict[str, Any], said: str, alarm: bool) -> None:
    view = view_of(whole.box(gpus=(whole.chip(**more),)))
    rows = hardware.rows(view, 80, 3)
    assert said in text(rows) and bool(styles(rows) & ALARM) is alarm
    assert said.removeprefix("held by ") in text(box_view.page(view, 120)) or said == "dpm auto"


@pytest.mark.parametrize(("watts", "said"), [(0.04, ""), (0.3, "NPU <1 W"), (2.4, "NPU 2 W"), (None, "")])
def test_the_npu_is_named_when_it_works(watts: float | None, said: str) -> None:
    assert hardware.npu_words(whole.chip(npu_power_watts=watts)) == said


def test_limiters_by_name() -> None:
    said = text(box_view.page(view_of(whole.box()), 80))
    assert "power limits    SPL      0  fPPT  3.20  sPPT   412 /s" in said
    assert "heat limits     core     0  gfx      0  soc      0 /s" in said and "prochot" not in said
    idle = text(box_view.page(view_of(whole.box(gpus=(whole.chip(held_by=None, throttle={}),))), 80))
    assert "SPL      0  fPPT     0  sPPT     0 /s" in idle and "touched" not in idle
    assert len(idle.splitlines()) == len(said.splitlines())  # limits that come and go move nothing
    boost = whole.box(gpus=(whole.chip(held_by=None, throttle={"fppt": 13.0}),))
    assert "nothing  limits touched" in text(box_view.page(view_of(boost), 80))
    hot = whole.box(gpus=(whole.chip(held_by=HeldBy.PROCHOT, throttle={"prochot": 2.0}),))
    assert "prochot          2.00 /s" in text(box_view.page(view_of(hot), 80))
    older = whole.box(gpus=(whole.chip(held_by=None, throttle={}, throttle_known=False),))
    assert "no residency counters" in text(box_view.page(view_of(older), 80))


def test_the_kernel_log_is_what_matters() -> None:
    ready = KernelEvent(kind="memory-pool", severity=Severity.INFO, text="GTT: 122880 MiB ready", time=1.0)
    quiet = text(box_view.page(view_of(whole.box(kernel=(ready,))), 80))
    assert "122880 MiB" not in quiet and "nothing to report since boot" in quiet
    back = replace(ready, kind="recovered", text="the GPU was reset and is back")
    assert "and is back" in text(box_view.page(view_of(whole.box(kernel=(ready, back))), 80))


def test_the_account_of_a_gpu_that_hangs_is_dim() -> None:
    page = box_view.page(view_of(replace(whole.hung(), account=whole.account())), 80)
    style = {run.ref.field: run.style for row in page for run in row if run.ref is not None}
    assert style["account.headroom_bytes"] == style["account.owned_gtt_bytes"] == "late"
    assert style["account.installed_bytes"] != "late"


def test_what_a_finding_marks_is_marked_in_the_account() -> None:
    found = Finding(
        id="gtt-pressure",
        severity=Severity.CRITICAL,
        title="",
        evidence="",
        why="",
        fix="",
        subject="0000:c5:00.0",
        fields=("gpu.gtt_used_bytes", "memory.available_bytes"),
    )
    page = box_view.page(view_of(whole.box(findings=(found,))), 80)
    marked = {run.ref.field for row in page for run in row if run.ref is not None and run.style == "trouble"}
    assert {"account.gtt_bytes", "account.free_bytes"} <= marked


def test_the_limits_of_the_chip_on_the_server_view() -> None:
    frame = whole.box()
    served = replace(
        frame.servers[0],
        facts=replace(
            frame.servers[0].facts or ServerFacts(), active_parameters=8_212_316_160, token_bytes=6 << 30
        ),
        decode_ceiling_tokens_per_second=39.7,
        prefill_ceiling_tokens_per_second=3616.0,
        decode_bandwidth_ratio=None,
    )
    view = view_of(replace(frame, servers=(served, *frame.servers[1:])))
    said = text(server_view.page(view, 120))
    assert "8.21 billion parameters" in said and "39.7 t/s · – of bandwidth" in said
    assert "3616 t/s · 48 % of compute" in said


def test_a_full_carve_out_is_no_alarm() -> None:
    full = whole.box(gpus=(whole.chip(vram_used_bytes=512 * whole.MIB, held_by=None),))
    assert not styles(memory_bar.rows(view_of(full), 80, 3)) & ALARM


def test_what_leaked_is_seen() -> None:
    view = view_of(whole.odd())
    rule, _, bar = memory_bar.rows(view, 80, 3)
    assert "72.9 GiB of GTT leaked" in text([rule])
    assert "warning" in styles([rule]) and "warning" in styles([bar])
    assert "no living process owns it" in text(box_view.page(view, 80))


def test_a_recording_without_an_account_has_a_bar() -> None:
    old = whole.box(account=None, memory=memory(30, 125))
    said = text(memory_bar.rows(view_of(old), 80, 3))
    assert "in all" in said and "headroom 30.0 GiB" in said and "█" in said


@pytest.mark.parametrize("width", [80, 120])
def test_how_near_the_limits(width: int) -> None:
    said = text(speed.rows(view_of(whole.box()), width, 5)[:1])
    assert "71 % of bandwidth · 48 % of compute" in said and "charts: last" in said
    assert ("2.94 J a token" in said) is (width == 120)


async def test_keys_and_clicks() -> None:
    async def open_feed() -> Feed:
        return Still([whole.box()])

    app = HalotuiApp(open_feed)
    async with app.run_test(size=(120, 40)) as pilot:
        hand = Fingers(app, pilot)
        await hand.until(lambda: app.view.frame)
        await hand.press("8", "o")
        assert app.view.holders.sort != "gpu memory" and "o order" in app.canvas.text()
        heading = next(hit for hit in app.canvas.hits() if hit.ref == (ORDER, "rss"))
        await pilot.click(app.canvas, offset=(heading.x + heading.width - 1, heading.y))
        await pilot.pause()
        rows = app.canvas.text().splitlines()
        assert "comfyui" in rows[3] and app.view.requests.sort == "time"
        await hand.press("O", "p")
        assert "gnome-shell" in app.canvas.text().splitlines()[3] and app.view.requests.window == 0
        await hand.press("7")
        event = next(
            hit for hit in app.canvas.hits() if hit.ref.field == EVENT and "page fault" in hit.ref.subject
        )
        await pilot.click(app.canvas, offset=(event.x, event.y))
        await hand.press("e")
        assert isinstance(app.screen, Explain)
        assert "gfxhub" in str(app.screen.query_one(Static).render())


async def test_a_short_screen_can_be_paged_to_its_end() -> None:
    async def open_feed() -> Feed:
        return Still([whole.box()])

    app = HalotuiApp(open_feed)
    async with app.run_test(size=(80, 24)) as pilot:
        hand = Fingers(app, pilot)
        await hand.until(lambda: app.view.frame)
        await hand.press("7")
        assert "socket" in app.canvas.text() and "more lines" in app.canvas.text()
        await hand.press("end")
        assert "rocm-7.1" in app.canvas.text()


def test_the_views_are_read_on_their_keys() -> None:
    late = "[m for m in sys.modules if 'widgets.box_' in m or 'holders_view' in m]"
    code = f"import sys, halotui.app; print({late})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_late_figures_are_dim() -> None:
    frame = whole.box()
    gone = tuple(replace(source, state="stale", age_seconds=9.0) for source in frame.sources)
    page = box_view.page(view_of(replace(frame, sources=gone)), 80)
    values = {
        run.style for row in page for run in row if run.ref is not None and run.ref.field.startswith("gpu.")
    }
    assert values <= {"late", "dim"}


async def test_the_cursor_begins_at_a_figure_and_not_at_a_note() -> None:
    async def open_feed() -> Feed:
        return Still([whole.box()])

    app = HalotuiApp(open_feed)
    async with app.run_test(size=(80, 24)) as pilot:
        hand = Fingers(app, pilot)
        await hand.until(lambda: app.view.frame)
        await hand.press("down")
        assert app.canvas.cursor is not None
        assert app.canvas.cursor.field == "server.generation_tokens_per_second"
        await hand.press("tab")
        assert app.canvas.cursor.field == "gpu.vram_used_bytes"
