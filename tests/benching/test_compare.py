"""Runs side by side: rows and differences, what is said of them, and the command on a real store."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sided import BOX, bench_file, measured, pp, result, summary, tg, work

from halotui.benching import compare as comparing_
from halotui.benching.compare import Comparison, compare, percent, table
from halotui.benching.rows import Row, pooled
from halotui.benching.sides import Side, named_apart
from halotui.benching.significance import Repeats
from halotui.runs import Kind, Result, Run, Status
from halotui.store import open_store
from running import HALOTUI, environment, run

SAMPLES = Path(__file__).parents[1] / "fixtures" / "llama_bench"


def side(name: str, *results: Result, **more: Any) -> Side:
    return Side(name, (measured(name, results, **more),))


def row_of(of: Comparison, name: str) -> Row:
    return next(row for row in of.rows if row.name == name)


def words(of: Comparison) -> dict[str, str]:
    """Test -> what is said of the second side."""
    changes = {row.name: row.changes[1] for row in of.rows}
    return {name: change.verdict.word for name, change in changes.items() if change and change.verdict}


# --- rows


def test_rows_stand_by_kind_then_by_depth() -> None:
    shuffled = [
        tg(9, 4096),
        pp(80, 4096),
        result(40, 512, 128),
        tg(10),
        pp(100),
        tg(8, 16384),
        work("chat", 3),
    ]
    of = compare([side("A", *shuffled), side("B", *shuffled[::-1])])
    assert [row.name for row in of.rows] == [
        "pp512",
        "pp512 @ d4096",
        "tg128",
        "tg128 @ d4096",
        "tg128 @ d16384",
        "pp512+tg128",
        "chat",
    ]


def test_what_one_side_lacks_is_a_dash() -> None:
    of = compare([side("A", pp(100), tg(10)), side("B", pp(110)), side("C", tg(12))])
    assert table(of).head == ("test", "A", "B", "Δ %", "how sure", "C", "Δ %", "how sure")
    assert [(row[0], row[2], row[3], row[5], row[6]) for row in table(of).rows] == [
        ("pp512", "110.00 ± 1.07", "+10.0", "–", "–"),
        ("tg128", "–", "–", "12.00 ± 0.12", "+20.0"),
    ]


def test_several_settings_on_one_side_are_rows_of_their_own() -> None:
    off, on = (pp(100 + n, settings={"flash_attn": str(n), "n_batch": "2048"}) for n in (0, 1))
    of = compare([side("A", off, on), side("B", pp(200, settings={"flash_attn": "1"}))])
    assert [(row.name, row.cells[1] is None) for row in of.rows] == [
        ("pp512, flash_attn 0", True),
        ("pp512, flash_attn 1", False),
    ]


def test_settings_that_differ_only_between_the_sides_do_not_part_them() -> None:
    a, b = pp(100, settings={"type_k": "f16"}), pp(90, settings={"type_k": "q8_0"})
    of = compare([side("A", a), side("B", b)])
    assert [row.name for row in of.rows] == ["pp512"]
    assert of.differ == {"type_k": ("f16", "q8_0")}
    assert "type_k: f16 → q8_0" in of.labels


def test_only_some_tests() -> None:
    of = compare([side("A", pp(1), tg(2), tg(3, 4096)), side("B", pp(1), tg(2))], tests=["TG128*"])
    assert [row.name for row in of.rows] == ["tg128", "tg128 @ d4096"]


def test_suites_are_held_against_each_other_label_by_label() -> None:
    def suite(name: str, factor: float) -> Side:
        return Side(name, tuple(measured(label, [pp(100 * factor)]) for label in ("HIP", "Vulkan")))

    of = compare([suite("old", 1), suite("new", 1.2)], by_label=True)
    assert [row.name for row in of.rows] == ["HIP · pp512", "Vulkan · pp512"]


# --- the difference


def test_the_words_and_the_directions() -> None:
    a = side("A", pp(100), tg(10), work("chat", 41.5, seconds_samples=(41.4, 41.5, 41.6, 41.5)))
    b = side("B", pp(120), tg(10.01), work("chat", 31.9, seconds_samples=(31.8, 31.9, 32.0, 31.9)))
    of = compare([a, b])
    assert words(of) == {"pp512": "clear", "tg128": "≈ noise", "chat": "clear"}
    senses = {row.name: row.changes[1].sense for row in of.rows if row.changes[1]}
    assert senses == {"pp512": 1, "tg128": 0, "chat": 1}  # fewer seconds are better
    assert row_of(of, "chat").title == "chat (s)"
    worse = compare([b, a])
    assert [row.changes[1].sense for row in worse.rows if row.changes[1]] == [-1, 0, -1]


@pytest.mark.parametrize(
    ("value", "said"), [(0.04, "0.0"), (-0.04, "0.0"), (96.11, "+96.1"), (-3.25, "-3.2"), (136.008, "+136.0")]
)
def test_percent(value: float, said: str) -> None:
    assert percent(value) == said


def test_one_run_cannot_be_judged() -> None:
    of = compare([side("A", pp(100)), side("B", pp(150, samples=(150.0,)))])
    assert words(of) == {"pp512": "one run"}
    assert row_of(of, "pp512").changes[1].sense == 0  # type: ignore[union-attr]


def test_repeats_that_are_not_told() -> None:
    """csv and md: of the command line where it is known, else llama-bench's default, which is said."""
    bare = {"samples": (), "spread": 1.0}
    known = side("known", pp(100, **bare), command=("llama-bench", "-r", "20"))
    of = compare([known, side("file", pp(103, **bare))])
    cells = row_of(of, "pp512").cells
    assert [(cell.repeats.times, cell.assumed) for cell in cells if cell] == [(20, False), (5, True)]
    assert [note for note in of.notes if "assumed" in note] == [
        "file does not tell its repeats: 5 are assumed, llama-bench's default"
    ]


def test_several_runs_of_a_test_are_its_repeats() -> None:
    """Three and more on each side: what differs from run to run counts then."""
    drifting = [measured("A", [pp(mean)]) for mean in (100.0, 110.0, 90.0)]
    of = compare([Side("A", tuple(drifting)), Side("B", tuple(drifting[::-1]))])
    cell = row_of(of, "pp512").cells[0]
    assert cell and cell.repeats.times == 3 and cell.repeats.spread == pytest.approx(10)
    few = compare([Side("A", tuple(drifting[:2])), Side("B", tuple(drifting[:2]))])
    cell = row_of(few, "pp512").cells[0]
    assert cell and cell.repeats.times == 10 and cell.repeats.mean == pytest.approx(105)


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(0.01, 10), st.integers(2, 9)), min_size=2, max_size=4))
def testpooled_means_and_spreads_are_those_of_all_repeats(parts: list[tuple[float, float, int]]) -> None:
    sets = [
        Repeats.of([mean + spread * (n - times / 2) for n in range(times)]) for mean, spread, times in parts
    ]
    every = [value for one in sets for value in one.samples]
    told = pooled([one._replace(samples=()) for one in sets])
    assert (told.mean, told.spread) == (pytest.approx(fmean(every)), pytest.approx(stdev(every)))
    assert pooled(sets).spread == pytest.approx(stdev(every))


# --- memory, energy, labels


def test_memory_and_energy_of_the_runs() -> None:
    a = side("A", pp(100), tg(10), summary=summary(7761, 1180, 200, joules=3200))
    b = side("B", pp(90), tg(11), summary=summary(6, 10591, 100, joules=6400))
    of = compare([a, b])
    assert [(row[0], row[1], row[2], row[3]) for row in table(of).rows[2:]] == [
        ("VRAM Δ peak (MiB)", "7761", "6", "-99.9"),
        ("GTT Δ peak (MiB)", "1180", "10591", "+797.5"),
        ("RAM Δ peak (MiB)", "200", "100", "-50.0"),
        ("energy (J/token)", "1.00", "2.00", "+100.0"),  # (512 + 128) tokens, five times
    ]
    assert [row.changes[1].sense for row in of.rows[2:] if row.changes[1]] == [1, -1, 1, -1]


def test_memory_of_other_tests_is_not_compared() -> None:
    """A prompt of 8192 takes more than one of 512: that says nothing of the sides."""
    small, big = [pp(1.0), tg(1.0)], [result(1.0, prompt=8192)]
    full = Side(
        "A",
        (measured("A", small, summary=summary(6, 4218)), measured("A", big, summary=summary(6, 10591))),
    )
    partly = Side("B", (measured("B", small, summary=summary(6, 4300)),))
    assert memory(compare([full, partly]))["pp512, tg128 · GTT Δ peak"] == [4218, 4300]
    assert memory(compare([full, full._replace(name="B")]))["GTT Δ peak"] == [10591, 10591]
    other = Side("B", (measured("B", big, summary=summary(6, 10591)),))
    assert not memory(compare([partly, other]))


def memory(of: Comparison) -> dict[str, list[float]]:
    rows = (row for row in of.rows if row.kind == "memory")
    return {row.name: [cell.repeats.mean for cell in row.cells if cell] for row in rows}


def test_a_few_mib_are_neither_good_nor_bad() -> None:
    sides = [
        Side(name, (measured(name, [pp(1.0)], summary=summary(8, 4000, ram)),))
        for name, ram in (("A", 1.0), ("B", 3.0))
    ]
    (change,) = [row.changes[1] for row in compare(sides).rows if row.name == "RAM Δ peak"]
    assert change and round(change.percent) == 200 and change.sense == 0


def test_energy_of_other_work_is_not_compared() -> None:
    a = side("A", pp(100), summary=summary(1, 1, joules=3200))
    of = compare([a, side("B", pp(90), tg(11), summary=summary(1, 1, joules=6400))])
    assert not [row for row in of.rows if row.kind == "energy"]


def test_no_memory_without_two_captures() -> None:
    of = compare([side("A", pp(100), summary=summary(5, 5)), side("B", pp(90))])
    assert [row.kind for row in of.rows] == ["pp"]


def test_what_is_the_same_and_what_differs() -> None:
    a = side("A", pp(1), env={"RADV_PERFTEST": "nogttspill"})
    b = side("B", pp(2, backend="ROCm", build="b6000 (bbbbbbb)"), environment=replace(BOX, kernel="6.19.1"))
    of = compare([a, b])
    assert of.labels == (
        "llama 7B Q4_0 · firmware 20261018 · mesa 26.1.2 · power mode performance",
        "backend: Vulkan → ROCm",
        "build: b5000 (aaaaaaa) → b6000 (bbbbbbb)",
        "kernel: 6.18.4 → 6.19.1",
        "env RADV_PERFTEST: nogttspill → –",
    )
    assert not of.warnings
    three = compare([a, b, side("C", pp(3))])
    assert "backend: A Vulkan · B ROCm · C Vulkan" in three.labels


def test_what_a_file_does_not_tell_is_no_difference() -> None:
    file = side("file", pp(1, settings={"n_batch": "256"}), kind=Kind.IMPORT, environment=None)
    of = compare([file, side("B", pp(2), env={"X": "1"})])
    assert dict(of.differ) == {}


def test_other_models_and_bad_ends_are_warned_of() -> None:
    of = compare([side("A", pp(1)), side("B", pp(2, model_type="qwen3 8B Q4_K"))])
    assert of.warnings == ("the models differ: llama 7B Q4_0, qwen3 8B Q4_K",)
    sizes = compare([side("A", pp(1, parameters=6_738_415_616)), side("B", pp(2, parameters=8_030_261_248))])
    assert sizes.warnings == ("the models differ: of 6.74 and of 8.03 billion parameters",)
    near = compare([side("A", pp(1, parameters=6_738_415_616)), side("B", pp(2, parameters=6_740_000_000))])
    assert not near.warnings  # md has three digits
    hung = compare(
        [side("A", pp(1)), side("B", pp(2), id=7, status=Status.HUNG, reason="GPU Hang: ring gfx")]
    )
    assert hung.warnings == ("run 7 of B is hung: GPU Hang: ring gfx",)


def test_names_are_told_apart() -> None:
    same = [Side("X", (measured("X", [], id=3),)), Side("X", (measured("X", [], id=4),)), Side("Y", ())]
    assert [one.name for one in named_apart(same)] == ["X #3", "X #4", "Y"]
    twice = [Side("X", (measured("X", [], id=3),))] * 2
    assert [one.name for one in named_apart(twice)] == ["1: X #3", "2: X #3"]


speeds = st.floats(1e-3, 1e8)
results = st.lists(st.builds(pp, speeds, st.sampled_from([0, 512, 4096])) | st.builds(tg, speeds), max_size=5)


@given(st.lists(results, min_size=1, max_size=4))
def test_any_sides_make_a_table(of_sides: list[list[Result]]) -> None:
    of = compare([side(f"side {n}", *each) for n, each in enumerate(of_sides)])
    for form in (table(of), comparing_.sheet(of)):
        assert all(len(line) == len(form.head) for line in form.rows)
    json.dumps(comparing_.objects(of), allow_nan=False)


# --- the command

Compare = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def said(store: Path) -> Iterator[Compare]:
    """``halotui compare`` with this test's store."""

    def call(*args: object, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = run("compare", *args, "--store", store, **env)
        assert done.returncode == code, done.stderr
        return done

    yield call


def keep(path: Path, *runs: Run) -> list[int]:
    store = open_store(path)
    try:
        return [store.add(one) for one in runs]
    finally:
        store.close()


def cells(text: str) -> list[list[str]]:
    """Of the Markdown table in it."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line]


DEPTHS = (0, 1024, 4096, 16384, 65536)
# rocWMMA tuning, Llama-3.2-1B; of the depths between, playbook has no numbers: these only fall, as they must.
OLD = dict(zip(DEPTHS, ((4370, 206.0), (3500, 172.0), (2260, 140.0), (990, 78.0), (360, 27.35)), strict=True))
NEW = dict(
    zip(DEPTHS, ((4390, 207.0), (3960, 184.0), (3000, 161.0), (1690, 121.0), (706, 64.55)), strict=True)
)


def by_depth(speeds: dict[int, tuple[float, float]]) -> dict[tuple[str, int], float]:
    both = (("pp512", 0), ("tg128", 1))
    return {(test, depth): speeds[depth][at] for test, at in both for depth in DEPTHS}


def test_old_against_new_by_depth(said: Compare, tmp_path: Path) -> None:
    """The table of the rocWMMA tuning: +96 % and +136 % at depth 65536."""
    old = bench_file(tmp_path / "old.jsonl", by_depth(OLD), build_number=6500)
    new = bench_file(tmp_path / "new.jsonl", by_depth(NEW), build_number=6700)
    head, *rows = cells(said(old, new, "--format", "markdown").stdout)
    assert head == ["test", "old.jsonl", "new.jsonl", "Δ %", "how sure"]
    names = ["" if not depth else f" @ d{depth}" for depth in DEPTHS]
    assert [row[0] for row in rows] == [f"pp512{n}" for n in names] + [f"tg128{n}" for n in names]
    assert rows[4] == ["pp512 @ d65536", "360.00 ± 3.49", "706.00 ± 6.84", "+96.1", "clear"]
    assert rows[9] == ["tg128 @ d65536", "27.35 ± 0.26", "64.55 ± 0.63", "+136.0", "clear"]
    assert [row[4] for row in rows] == ["≈ noise", *["clear"] * 4] * 2


def test_json_holds_raw_numbers(said: Compare, tmp_path: Path) -> None:
    old = bench_file(tmp_path / "old.jsonl", by_depth(OLD))
    new = bench_file(tmp_path / "new.jsonl", by_depth(NEW))
    told = json.loads(said(old, new, "--json").stdout)
    last = told["rows"][-1]
    assert (last["test"], last["unit"], last["depth_tokens"]) == ("tg128 @ d65536", "t/s", 65536)
    assert last["values"][1]["mean"] == pytest.approx(64.55) and len(last["values"][1]["samples"]) == 5
    change = last["changes"][1]
    assert change["percent"] == pytest.approx(136.0146, abs=1e-3)
    assert change["word"] == "clear" and change["better"] is True
    assert 0 < change["p"] < change["p_holm"] < 0.01 and change["p_exact"] == pytest.approx(2 / 252)
    assert told["same"]["backend"] == "CPU"


def test_csv_has_a_number_in_each_cell(said: Compare, tmp_path: Path) -> None:
    old, new = (bench_file(tmp_path / f"{n}.jsonl", {("pp512", 0): v}) for n, v in (("a", 100), ("b", 150)))
    done = said(old, new, "--format", "csv")
    head, line = csv.reader(done.stdout.splitlines())
    assert head == [
        *("test", "unit", "a.jsonl", "a.jsonl ±", "b.jsonl", "b.jsonl ±", "Δ %", "how sure"),
        "p (Holm)",
    ]
    assert [float(line[at]) for at in (2, 4, 6)] == [100, 150, 50]
    assert "likely: p < 0.05" in done.stderr


@pytest.mark.parametrize("form", ["md", "json", "jsonl", "csv", "sql"])
def test_a_file_of_any_format(form: str, said: Compare) -> None:
    done = said(SAMPLES / f"bench-v0.5.0.{form}", SAMPLES / "bench-v0.5.0.jsonl")
    assert "llama ?B all F32 · CPU · b1 (de3ff81)" in done.stdout
    assert ("pp64" if form == "jsonl" else "pp32") in done.stdout


def test_a_side_on_stdin(tmp_path: Path) -> None:
    file = bench_file(tmp_path / "a.jsonl", {("pp512", 0): 100})
    done = subprocess.run(
        [*HALOTUI, "compare", "-", file, "--json"],
        env=environment(),
        input=file.read_bytes(),
        capture_output=True,
        timeout=30,
    )
    assert json.loads(done.stdout)["sides"] == ["stdin", "a.jsonl"]


FIRST_TABLE = {  # playbook, section 2: pp512, tg128, pp8192, tg8192, VRAM, GTT
    "CPU": (294.64, 28.94, None, None, None, None),
    "Vulkan": (881.71, 52.22, 487.69, 7.54, 7761, 1180),
    "Vulkan + FA": (884.20, 52.73, 490.18, 32.03, 7767, 1180),
    "HIP": (348.96, 48.72, 245.59, 12.43, 6, 10591),
    "HIP + FA": (331.96, 45.78, 190.86, 30.01, 7, 8089),
    "HIP + WMMA": (322.63, 48.40, 230.10, 12.37, 6, 10590),
    "HIP + WMMA + FA": (343.91, 50.88, 368.77, 50.97, 7, 8062),
}


def backends(series: str) -> Iterator[Run]:
    """As a suite stores them: shuffled, a run for each group of tests."""
    for number, (label, (pp512, tg128, pp8192, tg8192, vram, gtt)) in enumerate(FIRST_TABLE.items()):
        common: dict[str, Any] = {"kind": Kind.SUITE, "suite": "backends", "series": series}
        if pp8192 and tg8192 and vram and gtt:
            deep = [result(pp8192, prompt=8192), result(tg8192, generation=8192)]
            many = summary(vram, gtt)
            yield measured(
                label, deep, item=f"{label} 8192", summary=many, started_time=1e9 - number, **common
            )
        small = [pp(pp512), tg(tg128)]
        few = summary(0, 3923)
        yield measured(label, small, item=f"{label} 512", summary=few, started_time=1e9 + number, **common)


def test_the_published_table_comes_out_of_a_stored_suite(said: Compare, store: Path) -> None:
    keep(store, *backends("1"))
    done = said("backends", "--format", "markdown")
    head, *rows = cells(done.stdout)
    assert head[0] == "Run" and {"pp512", "tg128", "pp8192", "tg8192"} < set(head)
    found = {row[0]: row[1:] for row in rows}
    assert found.keys() == FIRST_TABLE.keys()
    assert found["Vulkan + FA"] == ["884.20", "52.73", "0+3923", "490.18", "32.03", "7767+1180"]
    assert found["HIP"][3:] == ["245.59", "12.43", "6+10591"]
    assert found["CPU"][3:] == ["–", "–", "–"]
    assert "llama 7B Q4_0 · Vulkan · b5000 (aaaaaaa) · kernel 6.18.4" in done.stdout


def test_the_newest_series_and_of_each_item_the_last_that_told_something(said: Compare, store: Path) -> None:
    again = {"kind": Kind.SUITE, "suite": "backends", "series": "2", "item": "x"}
    keep(
        store,
        *backends("1"),
        measured("HIP", [pp(700)], started_time=2e9, **again),
        measured("HIP", [], started_time=2e9 + 1, status=Status.CRASHED, **again),
    )
    assert cells(said("backends", "--format", "markdown").stdout)[1][:2] == ["HIP", "700.00"]
    assert len(cells(said("1", "--format", "markdown").stdout)) == 2  # an id is a run, not a series


def test_two_labels_of_a_suite_have_all_their_tests(said: Compare, store: Path) -> None:
    keep(store, *backends("1"))
    rows = cells(said("Vulkan", "HIP + FA", "--format", "markdown").stdout)[1:]
    assert [row[0] for row in rows] == [
        *("pp512", "pp8192", "tg128", "tg8192"),
        *("VRAM Δ peak (MiB)", "GTT Δ peak (MiB)"),
    ]


def test_two_suites_row_by_row(said: Compare, store: Path) -> None:
    def one(suite: str, factor: float) -> Iterator[Run]:
        for label in ("HIP", "Vulkan"):
            kept = {"suite": suite, "series": suite, "item": label, "kind": Kind.SUITE}
            yield measured(label, [pp(100 * factor)], **kept)

    keep(store, *one("before", 1), *one("after", 2))
    rows = cells(said("before", "after", "--format", "markdown").stdout)[1:]
    assert [(row[0], row[3]) for row in rows] == [("HIP · pp512", "+100.0"), ("Vulkan · pp512", "+100.0")]


def test_the_table_of_workloads(said: Compare, store: Path) -> None:
    """Playbook, section 2, production configurations."""
    told = {
        "Vulkan stock": (303, 24.7, 41.5, 118.3, 155.9),
        "Vulkan + draft spec": (302, 35.3, 31.9, 99.1, 153.5),
    }
    for label, (prefill, decode, *seconds) in told.items():
        loads = [work(name, wait) for name, wait in zip(("chat", "code", "summarise"), seconds, strict=True)]
        common = {"suite": "production", "series": "1"}
        keep(store, measured(label, [pp(prefill), tg(decode)], item=f"{label} bench", **common))
        keep(store, measured(label, loads, kind=Kind.SERVER, item=f"{label} server", **common))
    assert cells(said("production", "--format", "markdown").stdout) == [
        ["Config", "pp512", "tg128", "chat", "code", "summarise"],
        ["Vulkan + draft spec", "302.00", "35.30", "31.9 s", "99.1 s", "153.5 s"],
        ["Vulkan stock", "303.00", "24.70", "41.5 s", "118.3 s", "155.9 s"],
    ]


def test_ids_ranges_labels_and_patterns(said: Compare, store: Path) -> None:
    labels = ("Vulkan", "HIP", "Vulkan + FA", "Vulkan", "odd [x]*")
    keep(store, *(measured(label, [pp(100 + n)], started_time=1e9 + n) for n, label in enumerate(labels)))

    def sides(*words: str) -> list[str]:
        found: list[str] = json.loads(said(*words, "--json").stdout)["sides"]
        return found

    assert sides("1", "2") == ["Vulkan", "HIP"]
    assert sides("1", "4") == ["Vulkan #1", "Vulkan #4"]
    assert sides("1-2", "5") == ["Vulkan", "HIP", "odd [x]*"]
    assert sides("HIP", "Vulkan*") == ["HIP", "Vulkan", "Vulkan + FA"]
    assert sides("odd [x]*", "HIP") == ["odd [x]*", "HIP"]
    newest = said("HIP", "Vulkan")
    assert "'Vulkan' is run 4: there is 1 other of that label" in newest.stderr and "103.00" in newest.stdout
    assert len(cells(said("Vulkan*", "--format", "markdown").stdout)) == 3  # alone: the published table


def test_runs_of_one_label_with_other_tests_stand_together(said: Compare, store: Path) -> None:
    """``bench --label Vulkan`` once for each group of tests: one row of the published table."""
    long = result(487.69, prompt=8192)
    keep(
        store,
        measured("Vulkan", [pp(1.0), tg(1.0)], started_time=1e9),
        measured("Vulkan", [pp(881.71), tg(52.22)], started_time=2e9 - 2),
        measured("Vulkan", [long], started_time=2e9 - 1),
        measured("HIP", [pp(348.96)], started_time=2e9 - 2),
        measured("HIP", [result(1.0, prompt=8192, build="b1 (bbbbbbb)")], started_time=1e9),
        measured("HIP", [result(2.0, generation=64)], started_time=1e9, env={"HSA_X": "1"}),
    )
    done = said("*", "--format", "markdown")
    assert [row[:5] for row in cells(done.stdout)][1:] == [
        ["HIP", "348.96", "–", "–", "–"],
        ["Vulkan", "881.71", "52.22", "–", "487.69"],
    ]
    assert "'Vulkan' is run 3, 2: there is 1 other of that label" in done.stderr
    assert "'HIP' is run 4: there are 2 others of that label" in done.stderr


def test_flags_and_variables_label_what_is_compared(said: Compare, store: Path) -> None:
    flags = {"settings": {"n_batch": "2048", "flash_attn": "1"}}
    runs = [measured(name, [pp(100.0, **flags)], env={"RADV_PERFTEST": "x"}) for name in "AB"]
    keep(store, *runs)
    assert "-fa 1 -b 2048 · RADV_PERFTEST=x" in said("1", "2").stdout.splitlines()[0]


def test_one_label_of_two_builds_is_not_averaged(said: Compare, store: Path) -> None:
    older = pp(100, build="b4000 (ccccccc)")
    keep(store, measured("Vulkan", [older]), measured("Vulkan", [pp(300)]), measured("Vulkan", [tg(9)]))
    assert [row[:2] for row in cells(said("1-3", "--format", "markdown").stdout)][1:] == [
        ["Vulkan #1", "100.00"],
        ["Vulkan #2", "300.00"],
        ["Vulkan #3", "–"],
    ]
    assert [row[:4] for row in cells(said("2-3", "--format", "markdown").stdout)][1:] == [
        ["Vulkan", "300.00", "–", "9.00"]
    ]


def test_a_larger_carve_out_is_a_difference() -> None:
    """It decides in which pool a backend's memory lies."""
    small, large = (replace(BOX, vram_total_bytes=gib << 30) for gib in (1, 8))
    of = compare([side("A", pp(1), environment=small), side("B", pp(1), environment=large)])
    assert "VRAM (MiB): 1024 → 8192" in of.labels


def test_a_run_without_results_gives_way(said: Compare, store: Path) -> None:
    crashed = measured("Vulkan", [], status=Status.CRASHED, started_time=2e9)
    keep(store, measured("Vulkan", [pp(100)]), measured("HIP", [pp(90)]), crashed)
    assert "100.00" in said("Vulkan", "HIP").stdout


@pytest.mark.parametrize(
    ("words", "said_"),
    [
        (["Vulcan", "2"], "there is no 'Vulcan', neither run nor file; did you mean 'Vulkan'?; runs 1 to 2"),
        (["zzz"], "there is no 'zzz', neither run nor file; there are HIP, Vulkan; runs 1 to 2"),
        (["77", "1"], "there is no '77', neither run nor file; there are HIP, Vulkan; runs 1 to 2"),
        (["/"], "/ is a directory"),
        (
            [__file__, "1"],
            f"{__file__}: no result of llama-bench in it, neither md, json, jsonl, csv nor sql",
        ),
        (["1", "2", "--test", "tg*"], "no test matches tg*; there are pp512"),
        (["x\x1b[2Jy\0", "1"], None),
    ],
)
def test_what_there_is_not(words: list[str], said_: str | None, said: Compare, store: Path) -> None:
    keep(store, measured("Vulkan", [pp(100)]), measured("HIP", [pp(90)], started_time=2e9))
    done = said(*(word.replace("\0", "") for word in words), code=1)
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1 and "\x1b" not in done.stderr
    if said_ is not None:
        assert done.stderr.strip() == f"halotui: {said_}"


def test_files_need_no_store(tmp_path: Path) -> None:
    file = bench_file(tmp_path / "a.jsonl", {("pp512", 0): 100})
    assert run("compare", file, file, "--store", "/proc/nowhere/store").returncode == 0
    done = run("compare", file, "label", "--store", "/proc/nowhere/store")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_words_that_do_not_go_together(said: Compare) -> None:
    assert "stdin" in said("-", "-", code=2).stderr
    assert "--svg" in said("a", "b", "--plot", "--json", code=2).stderr


def test_into_a_file(said: Compare, tmp_path: Path) -> None:
    file = bench_file(tmp_path / "a.jsonl", {("pp512", 0): 100})
    done = said(file, file, "-o", tmp_path / "table.md", "--format", "markdown")
    assert done.stdout == "" and "| pp512 |" in (tmp_path / "table.md").read_text()


def on_a_terminal(*args: object, **env: str) -> str:
    """What a terminal gets."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "halotui", *map(str, args)],
        env=environment(TERM="xterm-256color", **env),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        told = b""
        try:
            while part := os.read(ours, 65536):
                told += part
        except OSError:  # EIO: the other end is closed
            pass
        assert process.wait(30) == 0
    os.close(ours)
    return told.decode()


def test_colour_is_for_terminals(said: Compare, tmp_path: Path) -> None:
    a = bench_file(tmp_path / "a.jsonl", {("pp512", 0): 100, ("tg128", 0): 10, ("tg64", 0): 10})
    b = bench_file(tmp_path / "b.jsonl", {("pp512", 0): 150, ("tg128", 0): 5, ("tg64", 0): 10})
    shown = on_a_terminal("compare", a, b)
    assert "\x1b[32m+50.0\x1b[0m" in shown and "\x1b[31m-50.0\x1b[0m" in shown
    assert shown.count("\x1b[0m") == 2  # noise has no colour
    assert "\x1b" not in on_a_terminal("compare", a, b, NO_COLOR="1")
    assert "\x1b" not in said(a, b).stdout
    assert "\x1b" not in on_a_terminal("compare", a, b, "--format", "markdown")


def test_it_is_free_of_what_it_does_not_need(tmp_path: Path) -> None:
    file = bench_file(tmp_path / "a.jsonl", {("pp512", 0): 100})
    code = (
        "import sys; from halotui.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", file, file],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "msgspec" in loaded
    assert not loaded & {"textual", "rich", "plotext", "matplotlib", "numpy", "httpx", "psutil"}


def test_many_sides(said: Compare, tmp_path: Path) -> None:
    files: Sequence[Path] = [
        bench_file(tmp_path / f"{n}.jsonl", {("pp512", 0): 100 + 10 * n}) for n in range(3)
    ]
    head, row = cells(said(*files, "--format", "markdown").stdout)
    assert head == ["test", "0.jsonl", *("1.jsonl", "Δ %", "how sure"), *("2.jsonl", "Δ %", "how sure")]
    assert (row[3], row[6]) == ("+10.0", "+20.0")
