"""Curves of t/s over depth, in a terminal and as files."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sided import bench_file, measured, pp, tg, work

from halotui.benching.compare import compare
from halotui.benching.curves import Panel, PlotError, panels, plot, save
from halotui.benching.sides import Side
from halotui.runs import Result
from running import environment, run

DEPTHS = (0, 1024, 4096, 16384, 65536)


def drawn(**sides: list[Result]) -> list[Panel]:
    of = compare([Side(name, (measured(name, results),)) for name, results in sides.items()])
    return panels(of.names, of.rows)


def falling(top: float) -> list[Result]:
    made = [(pp, top * 20), (tg, top)]
    return [make(most / (1 + depth / 9000), depth) for make, most in made for depth in DEPTHS]


def test_a_panel_for_each_test_and_a_curve_for_each_side() -> None:
    prompt, generation = drawn(old=falling(100), new=falling(120))
    assert (prompt.title, generation.title, prompt.unit, prompt.bars) == ("pp512", "tg128", "t/s", ())
    assert [curve.side for curve in prompt.curves] == ["old", "new"]
    assert prompt.depths == list(DEPTHS)
    assert [round(point.mean, 1) for point in generation.curves[0].points][:2] == [100.0, 89.8]
    assert all(point.spread for curve in prompt.curves for point in curve.points)


def test_what_has_no_depths_is_left_out_of_curves() -> None:
    assert [panel.title for panel in drawn(a=[*falling(100), work("chat", 3)], b=[pp(50)])] == [
        "pp512",
        "tg128",
    ]


def test_bars_where_nothing_has_a_depth() -> None:
    prompt, generation, loads = drawn(a=[pp(100), tg(10), work("chat", 3)], b=[pp(50)])
    assert (prompt.bars, generation.bars, loads.bars) == (("pp512",), ("tg128",), ("chat",))
    assert (loads.title, loads.unit) == ("chat", "s")
    assert [len(curve.points) for curve in generation.curves] == [1, 0]


def test_nothing_to_draw() -> None:
    with pytest.raises(PlotError, match="nothing to plot"):
        drawn(a=[], b=[])


# --- in the terminal


def test_the_plot_of_a_terminal() -> None:
    text = plot(drawn(old=falling(100), new=falling(120)), 80, colour=False)
    assert "\x1b" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "pp512, t/s   A old   B new" in text and "tg128, t/s" in text
    bottom = next(line for line in text.splitlines() if "64K" in line)
    assert bottom.split() == ["0", "1K", "4K", "16K", "64K"]
    assert text.count("A") >= 10 and text.count("B") >= 10  # each point, and the legend
    assert "not linear" in text
    tops = [line.split("┤")[0].strip() for line in text.splitlines() if "┤" in line]
    assert tops[:1] == ["2500"] and tops.count("0") == 2


def test_a_long_legend_goes_over_lines() -> None:
    text = plot(drawn(**{f"side number {n}": falling(100 + n) for n in range(8)}), 80, colour=False)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(f"{letter} side number {n}" in text for n, letter in enumerate("ABCDEFGH"))


def test_near_depths_stand_on_a_linear_axis() -> None:
    text = plot(drawn(a=[tg(10 - depth / 1000, depth) for depth in (0, 1000, 2000, 3000)]), 80, colour=False)
    assert "depth, tokens" in text and "not linear" not in text
    bottom = next(line for line in text.splitlines() if "3000" in line)
    middles = [bottom.index(tick) + len(tick) / 2 for tick in (" 0 ", "1000", "2000", "3000")]
    gaps = [b - a for a, b in pairwise(middles)]
    assert max(gaps) - min(gaps) < 4


def test_colour_only_when_asked() -> None:
    of = drawn(old=falling(100), new=falling(120))
    assert "\x1b[38;5;" in plot(of, 80, colour=True)
    assert "\x1b[48" not in plot(of, 80, colour=True)  # the terminal keeps its background


def test_bars_in_the_terminal() -> None:
    text = plot(drawn(a=[pp(100), tg(10)], bb=[pp(50)]), 80, colour=False)
    first, second = (
        line for line in text.splitlines() if "█" in line and line.split()[-1] in ("100", "50.0")
    )
    assert first.startswith("  a  █") and second.startswith("  bb █")
    assert first.count("█") == 2 * second.count("█")
    assert "tg128, t/s" in text


@settings(max_examples=40)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 10**6), st.floats(1e-3, 1e8)), min_size=1, max_size=12),
        min_size=1,
        max_size=9,
    ),
    st.integers(0, 400),
)
def test_any_numbers_make_a_plot(sides: list[list[tuple[int, float]]], width: int) -> None:
    made = drawn(**{f"s{n}": [tg(mean, depth) for depth, mean in one] for n, one in enumerate(sides)})
    assert "tg128" in plot(made, width, colour=False)


# --- as files


def texts(path: Path) -> str:
    """What an SVG of glyph outlines says: matplotlib leaves it in comments."""
    return " ".join(node.text or "" for node in ET.parse(path, _with_comments()).iter() if callable(node.tag))


def _with_comments() -> ET.XMLParser:
    return ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))


def test_an_svg_is_labelled_and_always_the_same(tmp_path: Path) -> None:
    of = drawn(old=falling(100), new=falling(120))
    for name in ("a", "b"):
        save(of, tmp_path / f"{name}.svg", "svg", "llama 7B Q4_0 · Vulkan")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    said = texts(tmp_path / "a.svg")
    for word in (
        "pp512",
        "tg128",
        "context depth (tokens)",
        "t/s, mean",
        "old",
        "new",
        "64K",
        "llama 7B Q4_0",
    ):
        assert word in said
    assert "<dc:date>" not in (tmp_path / "a.svg").read_text()


def test_a_png(tmp_path: Path) -> None:
    path = tmp_path / "depth.png"
    path.write_bytes(b"old")
    of = drawn(old=falling(100), new=falling(120))
    save(of, path, "png")
    first = path.read_bytes()
    save(of, path, "png")
    assert path.read_bytes() == first and not list(tmp_path.glob(".*"))
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    with Image.open(path) as picture:
        assert picture.size[0] > 1200 and picture.size[1] > 500
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or ()}
    assert {(255, 255, 255), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours  # dark on light, two curves


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("form", ["svg", "png"])
def test_odd_names_and_many_sides(form: str, tmp_path: Path) -> None:
    names = ["_hidden", "$x^{2$", "日本", "a\x1b[2Jb", "x" * 200, *(f"side {n}" for n in range(20))]
    save(drawn(**{name: [pp(100 + n), tg(7)] for n, name in enumerate(names)}), tmp_path / "x", form)
    save(drawn(**{name: falling(100 + n) for n, name in enumerate(names)}), tmp_path / "y", form)
    if form == "svg":
        assert "_hidden" in texts(tmp_path / "x") and "$x^{2$" in texts(tmp_path / "y")


def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PlotError, match="No such file or directory"):
        save(drawn(a=falling(1)), tmp_path / "none" / "x.svg", "svg")
    (tmp_path / "full").mkdir()
    with pytest.raises(PlotError):
        save(drawn(a=falling(1)), tmp_path / "full", "svg")
    assert list(tmp_path.iterdir()) == [tmp_path / "full"]


# --- by the command


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    curve = {("pp512", depth): 1000 / (1 + depth / 9000) for depth in DEPTHS}
    old = bench_file(tmp_path / "old.jsonl", curve)
    return old, bench_file(tmp_path / "new.jsonl", {key: 1.5 * mean for key, mean in curve.items()})


def test_all_three_at_once(files: tuple[Path, Path], tmp_path: Path) -> None:
    svg, png = tmp_path / "c.svg", tmp_path / "c.png"
    done = run("compare", *files, "--plot", "--svg", svg, "--png", png, COLUMNS="100")
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert "+50.0" in done.stdout and "A old.jsonl   B new.jsonl" in done.stdout
    assert done.stderr.split() == [
        "halotui:",
        str(svg),
        "is",
        "written",
        "halotui:",
        str(png),
        "is",
        "written",
    ]
    assert svg.read_bytes().startswith(b"<?xml") and png.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    without = "import sys; sys.modules['matplotlib'] = None"
    code = f"{without}; from halotui.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", *files, "--svg", tmp_path / "c.svg"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1 and "+50.0" in done.stdout
    assert done.stderr == "halotui: pictures need matplotlib: pip install 'halotui[plots]'\n"
    assert not (tmp_path / "c.svg").exists()
