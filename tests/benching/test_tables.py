"""The tables: what people publish, the peaks of one run, and how they are written."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from halotui.benching import account, naming, tables
from halotui.exits import UsageError
from halotui.runs import Kind, Mark, ProcessPeak, Result, Run, Status, Summary, Track

MIB = 1024 * 1024


def pool(field: str, baseline: float, peak: float, subject: str = "") -> Track:
    return Track(
        field=field,
        subject=subject,
        baseline=baseline * MIB,
        peak=peak * MIB,
        last=(baseline + 1) * MIB,
        peak_seconds=1.25,
        samples=20,
    )


def summary(vram: float | None = None, gtt: float | None = None, ram: float = 100, **more: object) -> Summary:
    gpu = [
        pool(field, 500, 500 + grown, "0000:c5:00.0")
        for field, grown in ((tables.VRAM, vram), (tables.GTT, gtt))
        if grown is not None
    ]
    return Summary(
        hertz=20,
        began_time=1000.0,
        seconds=2.0,
        samples=40,
        tracks=(*gpu, pool(tables.RAM, 9000, 9000 + ram)),
        **more,  # type: ignore[arg-type]
    )


def run(label: str, captured: Summary | None, *speeds: tuple[str, float], **more: object) -> Run:
    backend = str(more.pop("backend", "Vulkan"))
    results = tuple(Result(test=test, tokens_per_second=speed, backend=backend) for test, speed in speeds)
    fields = {"kind": Kind.SUITE, "status": Status.OK, "results": results, **more}
    return Run(label=label, summary=captured, **fields)  # type: ignore[arg-type]


SHORT, LONG = (("pp512", 881.71), ("tg128", 52.22)), (("pp8192", 487.69), ("tg8192", 7.54))


def test_the_first_table_of_the_playbook() -> None:
    """Its form: a row a label, a group of columns for what was captured together."""
    runs = [
        run("CPU", summary(0, 0, 3923), ("pp512", 294.64), ("tg128", 28.94), backend="CPU"),
        run("Vulkan", summary(3000, 923), *SHORT),
        run("HIP", summary(6, 4213), ("pp512", 348.96), ("tg128", 48.72)),
        run("HIP", summary(6, 10591), ("pp8192", 245.59), ("tg8192", 12.43)),
        run("Vulkan", summary(7761, 1180), *LONG),
    ]
    assert tables.render(tables.published(runs), "markdown").splitlines() == [
        "| Run | pp512 | tg128 | Max Mem (MiB) | pp8192 | tg8192 | Max Mem (MiB) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| CPU | 294.64 | 28.94 | 3923 RAM | – | – | – |",
        "| Vulkan | 881.71 | 52.22 | 3000+923 | 487.69 | 7.54 | 7761+1180 |",
        "| HIP | 348.96 | 48.72 | 6+4213 | 245.59 | 12.43 | 6+10591 |",
    ]
    assert "VRAM+GTT" in tables.note(runs)


def test_without_a_gpu_the_head_says_so() -> None:
    table = tables.published([run("CPU", summary(ram=312), *SHORT, backend="CPU")])
    assert table.head == ("Run", "pp512", "tg128", "Max Mem (MiB RAM)")
    assert table.rows == [("CPU", "881.71", "52.22", "312")]


def test_what_broke_off() -> None:
    """It stays in the columns that it began; what never came is said once."""
    runs = [
        run("broken", summary(1, 2), SHORT[0], status=Status.HUNG, reason="GPU Hang: ring time-out"),
        run("whole", summary(3, 4), *SHORT),
        run("none", None, status=Status.CRASHED, reason="SIGSEGV"),
        run("long", summary(5, 6), *LONG),
    ]
    assert tables.published(runs).rows == [
        ("broken", "881.71", "GPU Hang", "1+2", "–", "–", "–"),
        ("whole", "881.71", "52.22", "3+4", "–", "–", "–"),
        ("none", "crashed", "–", "–", "crashed", "–", "–"),
        ("long", "–", "–", "–", "487.69", "7.54", "5+6"),
    ]
    assert tables.published([run("none", None, status=Status.LOST)]).rows == [("none", "lost")]


def test_what_never_gave_a_result_is_told_where_every_cell_is_taken() -> None:
    """Its own tests have no column: nothing was measured of them."""
    hung = run("broken", None, status=Status.HUNG, reason="GPU Hang: ring time-out")
    table = tables.published([run("broken", summary(1, 2), *SHORT), hung, run("well", summary(1, 2), *SHORT)])
    assert table.head == ("Run", "pp512", "tg128", "Max Mem (MiB)", "result")
    assert [row[-1] for row in table.rows] == ["GPU Hang", "–"]


def test_workloads_are_told_in_seconds() -> None:
    """As in the playbook's second table."""
    works = tuple(
        Result(test=test, tokens_per_second=24.0, seconds=seconds)
        for test, seconds in (("chat", 41.52), ("code", 118.3))
    )
    of_server = run("Vulkan", summary(1, 2), kind=Kind.SERVER, results=works)
    table = tables.published([of_server])
    assert table.head == ("Run", "chat", "code", "Max Mem (MiB)")
    assert table.rows == [("Vulkan", "41.5 s", "118.3 s", "1+2")]


def test_one_run_with_several_settings_has_several_rows() -> None:
    """Their memory is one: it was captured once."""
    results = tuple(
        Result(
            test=test,
            tokens_per_second=speed,
            backend="Vulkan",
            settings={"flash_attn": fa, "n_batch": "2048"},
        )
        for fa in ("0", "1")
        for test, speed in SHORT
    )
    table = tables.published([Run(kind=Kind.COMMAND, label="A", results=results, summary=summary(1, 2))])
    assert table.rows == [
        ("A, flash_attn 0", "881.71", "52.22", "1+2"),
        ("A, flash_attn 1", "881.71", "52.22", "as above"),
    ]


def test_repeats_of_one_label() -> None:
    runs = [run("A", summary(1, 2), ("pp512", 100.0)), run("A", summary(1, 900), ("pp512", 110.0))]
    assert tables.published(runs).rows == [("A", "105.00", "1+900")]


def test_peaks() -> None:
    captured = summary(7761, 1180)
    assert tables.render(tables.peaks(captured), "table").splitlines() == [
        "MiB   baseline  peak  Δ  Δ peak     at",
        "VRAM       500  8261  1    7761  1.2 s",
        "GTT        500  1680  1    1180  1.2 s",
        "RAM       9000  9100  1     100  1.2 s",
    ]


def test_unknown_is_a_dash_and_never_a_zero() -> None:
    captured = Summary(hertz=20, began_time=0, seconds=0, samples=0, tracks=(Track(field=tables.GTT),))
    assert tables.peaks(captured).rows == [("GTT", "–", "–", "–", "–", "–")]
    assert tables.published([run("A", captured, *SHORT)]).rows == [("A", "881.71", "52.22", "–")]
    half = summary(None, 12)
    assert tables.max_mem(run("A", half, *SHORT)) == "–+12"


@pytest.mark.parametrize("format_", ["table", "markdown", "csv"])
def test_a_hostile_label_stays_one_harmless_cell(format_: str) -> None:
    hostile = 'a|b,"c\x1b[2J\nd'
    text = tables.render(tables.published([run(hostile, summary(1, 2), *SHORT)]), format_)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len(lines) == (3 if format_ == "markdown" else 2)
    if format_ == "csv":
        assert list(csv.reader(io.StringIO(text)))[1] == ['a|b,"cd', "881.71", "52.22", "1+2"]
    if format_ == "markdown":
        assert lines[2].replace("\\|", "").count("|") == 5


def test_wide_letters_keep_the_columns() -> None:
    table = tables.Table(("Run", "x"), [("模型", "1"), ("abcd", "2")])
    assert tables.render(table, "table").splitlines() == ["Run   x", "模型  1", "abcd  2"]


def test_json_is_ascii_and_has_both_readings() -> None:
    one = run("Größe", summary(7761, 1180), *SHORT)
    text = tables.render(tables.published([one]), "json", account.as_object(one))
    assert text.isascii()
    told = json.loads(text)
    assert told["max_memory"]["vram"] == {"peak_bytes": 8261 * MIB, "delta_peak_bytes": 7761 * MIB}
    assert told["summary"]["tracks"][1]["delta_peak"] == 1180 * MIB
    assert told["results"][0]["tokens_per_second"] == 881.71


def test_put_writes_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.md"
    file.write_text("before")
    link = tmp_path / "link.md"
    link.symlink_to(file)
    tables.put("one", {"output": link})
    assert (link.is_symlink(), file.read_text()) == (True, "one\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.md", "out.md"]
    assert capsys.readouterr() == ("", "")


def test_put_where_there_is_no_room_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    tables.put("one", {"output": Path("/dev/full")})
    out, err = capsys.readouterr()
    assert out == "one\n"
    assert "No space left" in err


def test_check_output(tmp_path: Path) -> None:
    tables.check_output({})
    tables.check_output({"output": tmp_path / "new.md"})
    for wrong in (tmp_path, tmp_path / "no/new.md"):
        with pytest.raises(UsageError):
            tables.check_output({"output": wrong})


def test_format_of() -> None:
    assert tables.format_of({}) == "table"
    assert tables.format_of({"format": "csv"}) == "csv"
    assert tables.format_of({"format": "csv", "json": True}) == "json"


def test_a_run_in_words() -> None:
    captured = summary(
        7761,
        1180,
        energy_joules=7200.0,
        gfx_energy_joules=3600.0,
        throttled={"gfx": 12, "SPL": 0},
        processes=(ProcessPeak(pid=7, name="llama-bench\x1b[2J", rss_bytes=5 * MIB, gtt_bytes=1180 * MIB),),
        notes=("GPU: denied",),
        late=3,
        longest_gap_seconds=0.31,
    )
    one = run("A", captured, *SHORT, marks=(Mark(time=1001.5, label="loaded"),), seconds=2.0)
    text = account.text(one)
    for wanted in (
        "A  ok  2.0 s",
        "energy of the package: 7200 J (2.00 Wh), the GPU's share 3600 J (1.00 Wh)",
        "throttled: temperature of the graphics engine, gfx (+12)",
        "llama-bench (7): RSS 5, GTT 1180 MiB at most",
        "40 samples at 20 Hz, 3 late, longest gap 0.31 s",
        "note: GPU: denied",
        "mark: loaded  at 1.5 s",
        "7761+1180",
    ):
        assert wanted in text, wanted
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("backend", "flash", "label"),
    [
        ("Vulkan", "1", "Vulkan + FA"),
        ("Vulkan", "0", "Vulkan"),
        ("ROCm", "-1", "ROCm"),
        ("", "1", "llama-bench"),
    ],
)
def test_label_of_llama_bench(backend: str, flash: str, label: str) -> None:
    results = [
        Result(test=test, backend=backend, settings={"flash_attn": flash}) for test in ("pp512", "tg128")
    ]
    assert naming.label_of(("/opt/llama-bench", "-fa", flash), results) == label
    assert naming.label_of(("/opt/llama-bench",), ()) == "llama-bench"


def test_prompts_and_keys_are_not_kept() -> None:
    command = ("podman", "exec", "x", "llama-cli", "-p", "my secret plans", "--api-key", "sk-1", "-n", "5")
    assert "my secret plans" not in naming.masked(command) and "sk-1" not in naming.masked(command)
    assert naming.masked(("llama-bench", "-p", "512,1024", "-d", "0")) == (
        "llama-bench",
        "-p",
        "512,1024",
        "-d",
        "0",
    )
    assert naming.masked(("ssh", "-p", "host")) == ("ssh", "-p", "host")
    assert "sk-1" not in naming.masked_line("started with --api-key sk-1 on 8080")


def test_permissions_of_a_new_file(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        tables.put("x", {"output": tmp_path / "new"})
    finally:
        os.umask(mask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
