"""Whatever the screen's size and the frame's content, the picture fits: no cell more, none less."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import frame, gpu, memory, request, server, source
from halotui.history import History
from halotui.model import Finding, LogLine, ServerState, Severity, Slot, SlotPhase, SourceState
from halotui.widgets.layout import PANELS, SMALLEST, places
from halotui.widgets.rows import width_of
from halotui.widgets.sources_pane import rows as sources_rows
from halotui.widgets.view import View

SIZES = [(80, 24), (120, 40), (200, 60), (250, 60), SMALLEST, (149, 25), (150, 16)]


def finding(n: int) -> Finding:
    return Finding(
        id=f"rule-{n}", severity=Severity.WARNING, title="t" * 50, evidence="e" * 200, why="w", fix="f"
    )


def view_of(slots: int, found: int, servers: int = 1, **more: object) -> View:
    rows = tuple(
        Slot(
            id=i,
            phase=SlotPhase.DECODE,
            task=123456789 + i,
            used_tokens=131072,
            context_tokens=131072,
            used_ratio=1.0,
            prompt_processed_tokens=131072,
            prompt_cached_tokens=99999,
            generated_tokens=131072,
            remaining_tokens=999999,
            generation_tokens_per_second=123456.7,
            draft_acceptance_ratio=1.0,
            draft_coverage_ratio=16.0,
            elapsed_seconds=1e6,
        )
        for i in range(slots)
    )
    one = server(
        state=ServerState.BUSY,
        model="模型" * 40,
        slots=rows,
        slots_busy=slots,
        slots_total=slots,
        generation_tokens_per_second=98765.4,
        prompt_tokens_per_second=1e6,
        requests=(request(10, 5),),
        log=tuple(LogLine(text="行" * 200 + str(i)) for i in range(80)),
        **more,
    )
    view = View(label="DEMO")
    shown = frame(
        5,
        servers=[one, *(server(f"http://127.0.0.1:{port}", model="m" * port) for port in range(1, servers))],
        gpus=[gpu(busy_percent=100, sclk_hertz=2_900_000_000, name="R" * 90)],
        memory=memory(),
        sources=[source("gpu"), source("memory"), source("x" * 90, SourceState.HUNG, reason="r" * 300)],
        findings=[finding(i) for i in range(found)],
    )
    view.history = History()
    view.history.push(shown)
    view.take(shown)
    return view


@given(
    size=st.one_of(
        st.sampled_from(SIZES), st.tuples(st.integers(SMALLEST[0], 260), st.integers(SMALLEST[1], 80))
    ),
    slots=st.integers(0, 40),
    found=st.integers(0, 20),
    servers=st.integers(1, 12),
)
@settings(max_examples=150, deadline=None)
def test_panels_tile_the_screen(size: tuple[int, int], slots: int, found: int, servers: int) -> None:
    width, height = size
    view = view_of(slots, found, servers=servers)
    cells = [[0] * width for _ in range(height)]
    for place in places(width, height, found, slots, servers):
        rows = PANELS[place.panel](view, place.width, place.height)
        assert len(rows) <= place.height, place
        for row in rows:
            assert sum(width_of(run.text) for run in row) == place.width, (place, row)
        for y in range(place.y, place.y + place.height):
            for x in range(place.x, place.x + place.width):
                cells[y][x] += 1
    assert all(count == 1 for line in cells for count in line)


def test_smallest_keeps_what_matters() -> None:
    """80x24 keeps findings, speed, memory and slots, with tabs too."""
    for servers in (1, 2):
        shown = {place.panel: place.height for place in places(80, 24, 2, 4, servers)}
        assert {"findings", "speed", "memory", "slots"} <= set(shown)
        assert shown["slots"] == 6 and ("tabs" in shown) == (servers > 1)


@given(st.integers(60, 250))
def test_sources_fit(width: int) -> None:
    for row in sources_rows(view_of(1, 0), width, 20):
        assert sum(width_of(run.text) for run in row) == width
