"""``halotui runs`` as its user types it."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from store_parts import BOX, opened, speed, template

from halotui.runs import Kind, Mark, ProcessPeak, Run, Status, Summary, Track
from running import HALOTUI, environment, run

SAMPLES = Path(__file__).parents[1] / "fixtures/llama_bench"
FORMATS = ("md", "json", "jsonl", "csv", "sql")
Halotui = Callable[..., subprocess.CompletedProcess[str]]
GIB = 1 << 30


@pytest.fixture
def halotui(tmp_path: Path) -> Halotui:
    def command(*args: object, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = run("runs", *args, XDG_STATE_HOME=str(tmp_path), **env)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return command


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "halotui/store.sqlite"


def whole(label: str = "Vulkan + FA", started: float = 0.0, **changed: object) -> Run:
    tracks = tuple(
        Track(
            field=field,
            subject="0000:c5:00.0",
            baseline=0.0,
            peak=peak,
            last=peak,
            mean=peak / 2,
            least=0.0,
            samples=9,
        )
        for field, peak in (
            ("gpu.vram_used_bytes", 7761.0 * (1 << 20)),
            ("gpu.gtt_used_bytes", 1180.0 * (1 << 20)),
            ("gpu.socket_power_watts", 119.0),
        )
    )
    summary = Summary(
        hertz=20,
        began_time=started,
        seconds=200,
        samples=4000,
        tracks=tracks,
        processes=(ProcessPeak(pid=7, name="llama-bench", rss_bytes=5 * GIB),),
        energy_joules=21234.0,
        throttled={"fppt": 12, "spl": 0},
        notes=("fdinfo: not ours to read",),
    )
    return msgspec.structs.replace(
        Run(
            kind=Kind.COMMAND,
            status=Status.OK,
            label=label,
            command=("llama-bench", "-m", "my model.gguf"),
            env={"GGML_VK_VISIBLE_DEVICES": "0"},
            started_time=started or time.time(),
            seconds=192.0,
            exit_code=0,
            environment=BOX,
            results=(speed(), speed("tg128", 52.73)),
            summary=summary,
            marks=(Mark(time=started + 3, label="warm"),),
        ),
        **changed,
    )


def fill(path: Path, *runs: Run) -> None:
    with opened(path) as store:
        for one in runs:
            store.add(one)


# --- list


def test_an_empty_store_says_how_to_begin(halotui: Halotui, path: Path) -> None:
    done = halotui()
    assert done.stdout == ""
    assert done.stderr == (
        "halotui: nothing has been measured yet; begin with: halotui bench -- llama-bench -m MODEL.gguf\n"
    )
    assert halotui("--json").stdout == "[]\n"
    assert halotui("--format", "csv").stdout.startswith("id,when,label,")
    assert not path.parent.exists()


def test_a_line_for_each(halotui: Halotui, path: Path) -> None:
    fill(path, whole("old", 1_780_000_000.0), whole("HIP", 1_790_000_000.0, status=Status.HUNG, seconds=None))
    lines = halotui(TZ="UTC").stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "id when label kind status tests (t/s) Max MiB took",
        "2 2026-09-21 14:13:20 HIP command hung pp512 884 · tg128 52.7 7761+1180 –",
        "1 2026-05-28 20:26:40 old command ok pp512 884 · tg128 52.7 7761+1180 3 min",
    ]
    assert halotui("list", TZ="UTC").stdout.splitlines() == lines


def test_formats(halotui: Halotui, path: Path) -> None:
    fill(path, whole("a|b"))
    rows = [*csv.DictReader(io.StringIO(halotui("--format", "csv").stdout))]
    assert rows[0]["label"] == "a|b" and rows[0]["Max MiB"] == "7761+1180"
    assert halotui("--format", "markdown").stdout.splitlines()[2].startswith("| 1 |")
    (shown,) = json.loads(halotui("--json").stdout)
    assert shown["status"] == "ok" and shown["id"] == 1
    assert abs(shown["started_time"] - time.time()) < 60
    assert shown["results"][0]["tokens_per_second"] == 884.2
    assert shown["environment"]["kernel"] == "6.18.4"


def test_json_keeps_every_key_of_a_run(halotui: Halotui, path: Path) -> None:
    fill(path, Run(kind=Kind.PEAK, status=Status.OK))
    (shown,) = json.loads(halotui("--json").stdout)
    assert set(shown) == {*Run.__struct_fields__, "max_memory"}


def test_json_of_a_run_is_that_of_bench(halotui: Halotui, path: Path) -> None:
    fill(path, whole("Vulkan"))
    (listed,) = json.loads(halotui("--json").stdout)
    assert listed == json.loads(halotui("show", 1, "--json").stdout)
    assert listed["max_memory"]["vram"]["delta_peak_bytes"] == 7761 << 20
    assert {"delta", "delta_peak"} <= listed["summary"]["tracks"][0].keys()


def test_filters(halotui: Halotui, path: Path) -> None:
    now = time.time()
    fill(
        path,
        whole("Vulkan", now - 10 * 86400, suite="backends", kind=Kind.SUITE),
        whole("Vulkan + FA", now - 3600),
        whole("HIP", now, status=Status.FAILED),
    )

    def labels(*args: object) -> list[str]:
        return [one["label"] for one in json.loads(halotui("--json", *args).stdout)]

    assert labels() == ["HIP", "Vulkan + FA", "Vulkan"]
    assert labels("--label", "Vulkan*") == ["Vulkan + FA", "Vulkan"]
    assert labels("--since", "7d") == ["HIP", "Vulkan + FA"]
    assert labels("--until", "30m") == ["Vulkan + FA", "Vulkan"]
    assert labels("--kind", "suite", "--suite", "back*") == ["Vulkan"]
    assert labels("--status", "failed", "--status", "hung") == ["HIP"]
    assert labels("-n", 1) == ["HIP"]
    done = halotui("--label", "nothing")
    assert done.stdout == "" and done.stderr == "halotui: none of the runs match\n"


def test_the_newest_twenty(halotui: Halotui, path: Path) -> None:
    fill(path, *(whole(f"run {number}", 1e9 + number) for number in range(25)))
    done = halotui()
    assert len(done.stdout.splitlines()) == 21
    assert "run 24" in done.stdout.splitlines()[1]
    assert "--all" in done.stderr
    everything = halotui("--all")
    assert len(everything.stdout.splitlines()) == 26 and everything.stderr == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["7"], "halotui runs show 7"),
        (["erase"], "'erase'"),
        (["--since", "soon"], "no time like 7d"),
        (["-n", "0"], "at least 1"),
        (["show"], "which?"),
        (["show", "x\x1b[2J"], "no id"),
        (["show", "٣"], "no id"),
        (["import"], "which files?"),
        (["delete", "--yes"], "which?"),
        (["delete", "1"], "--yes"),
        (["delete", "1", "--all", "--yes"], "ids, or --all"),
    ],
)
def test_what_makes_no_sense(halotui: Halotui, args: list[str], said: str) -> None:
    done = halotui(*args, code=2)
    assert said in done.stderr and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr
    assert done.stdout == ""


def test_a_store_that_cannot_be_read(halotui: Halotui, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("no database" * 50)
    for words in (["list"], ["show", "1"], ["delete", "1", "--yes"], ["import", SAMPLES / "bench-v0.5.0.md"]):
        done = halotui(*words, "--store", tmp_path / "bad", code=1)
        assert "is not an SQLite file" in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "bad").read_text() == "no database" * 50


# --- on a terminal


def on_terminal(*args: object, columns: int, state: Path, keys: bytes = b"") -> list[str]:
    """Its lines on a terminal of that width."""
    main, side = pty.openpty()
    env = environment(XDG_STATE_HOME=str(state), COLUMNS=str(columns), TERM="xterm")
    process = subprocess.Popen(
        [*HALOTUI, "runs", *map(str, args)], stdin=side, stdout=side, stderr=side, env=env
    )
    os.close(side)
    os.write(main, keys)
    data = b""
    while True:
        try:
            more = os.read(main, 65536)
        except OSError:  # the other end has gone
            break
        if not more:
            break
        data += more
    os.close(main)
    process.wait()
    return data.decode().replace("\r\n", "\n").splitlines()


def cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


@pytest.mark.parametrize("columns", [80, 100, 132])
def test_a_row_fits_the_terminal(path: Path, tmp_path: Path, columns: int) -> None:
    tests = tuple(speed(f"pp{512 << n} @ d{1024 << n}") for n in range(4))
    fill(
        path,
        whole(
            "HIP + WMMA + FA + hipBLASLt, and what else there was to be said",
            status=Status.INTERRUPTED,
            results=tests,
        ),
        whole("模型比较测试模型比较测试模型比较测试", results=tests),
        whole("short"),
    )
    lines = on_terminal(columns=columns, state=tmp_path)
    assert len(lines) == 4
    assert all(cells(line) <= columns for line in lines)
    assert any(cells(line) > columns - 8 for line in lines)  # and uses it
    assert "…" in lines[2] and "…" in lines[3]
    assert "7761+1180" in lines[1] and lines[1].endswith("3 min")


def test_into_a_pipe_nothing_is_cut(halotui: Halotui, path: Path) -> None:
    label = "HIP + WMMA + FA + hipBLASLt, and what else there was to be said " * 2
    fill(path, whole(label))
    assert label.strip() in halotui(COLUMNS="40").stdout


def test_delete_asks_on_a_terminal(path: Path, tmp_path: Path) -> None:
    fill(path, whole("one"), whole("two"))
    lines = on_terminal("delete", 1, columns=80, state=tmp_path, keys=b"n\n")
    assert any("one" in line for line in lines) and not any("two" in line for line in lines)
    assert any("Delete this run and its timeline, for good? [y/N]" in line for line in lines)
    assert lines[-1].endswith("halotui: nothing was deleted")
    lines = on_terminal("delete", 1, columns=80, state=tmp_path, keys=b"y\n")
    assert lines[-1].endswith("halotui: run 1 deleted")
    with opened(path, readonly=True) as store:
        assert [one.label for one in store.runs()] == ["two"]


# --- show


def test_show_tells_everything(halotui: Halotui, path: Path) -> None:
    fill(
        path,
        whole(
            status=Status.HUNG,
            reason="GPU Hang: ring gfx timeout",
            evidence=("amdgpu: ring gfx_0.0.0 \x1b[31mtimeout",),
            suite="backends",
            item="vulkan/pp",
        ),
    )
    shown = halotui("show", 1).stdout
    for words in (
        "run 1 Vulkan + FA",
        "status hung",
        "reason GPU Hang: ring gfx timeout",
        "took 3 min",
        "command llama-bench -m 'my model.gguf'",
        "env GGML_VK_VISIBLE_DEVICES=0",
        "suite backends",
        "item vulkan/pp",
        "box strix",
        "kernel 6.18.4",
        "kernel parameters amd_iommu=off",
        "pp512 884.20 2.31",
        "flash_attn 1",
        "VRAM 0 7761 7761 7761",
        "119 W",
        "llama-bench 7 5120 – –",
        "samples 4000 in 200.0 s, 0 late",
        "energy 21234 J",
        "throttled fppt (+12)",
        "note fdinfo: not ours to read",
        "warm",
        "amdgpu: ring gfx_0.0.0 timeout",
    ):
        assert words in " ".join(shown.split()), words
    assert "\x1b" not in shown and "spl" not in shown
    assert halotui("show", 1, "--format", "markdown").stdout.count("| --- |") >= 3
    rows = [*csv.DictReader(io.StringIO(halotui("show", 1, "--format", "csv").stdout))]
    assert [row["test"] for row in rows] == ["pp512", "tg128"]
    assert json.loads(halotui("show", 1, "--json").stdout)["reason"] == "GPU Hang: ring gfx timeout"


def test_show_of_the_barest(halotui: Halotui, path: Path) -> None:
    fill(path, Run(kind=Kind.PEAK, status=Status.INTERRUPTED))
    assert "interrupted" in halotui("show", 1).stdout
    assert halotui("show", 1, "--format", "csv").stdout == "test,t/s,±,n\n"


def test_show_several_and_one_that_is_not_there(halotui: Halotui, path: Path) -> None:
    fill(path, whole("one"), whole("two"))
    done = halotui("show", 2, 99, 1, code=1)
    assert done.stderr == "halotui: there is no run 99\n"
    assert done.stdout.index("run 2") < done.stdout.index("run 1")
    assert [one["id"] for one in json.loads(halotui("show", 2, 1, "--json").stdout)] == [2, 1]
    assert halotui("show", 99, "--json", code=1).stdout == ""


def test_show_into_a_file(halotui: Halotui, path: Path, tmp_path: Path) -> None:
    fill(path, whole())
    assert halotui("show", 1, "-o", tmp_path / "run.txt").stdout == ""
    assert "7761" in (tmp_path / "run.txt").read_text()


# --- delete


def test_delete(halotui: Halotui, path: Path) -> None:
    fill(path, *(whole(f"run {number}") for number in range(1, 6)))
    done = halotui("delete", 2, 99, "--yes", code=1)
    assert done.stderr == "halotui: there is no run 99; nothing was deleted\n"
    assert halotui("delete", 2, 2, 3, "--yes").stderr == "halotui: 2 deleted\n"
    assert json.loads(halotui("delete", "--all", "--label", "* 5", "--yes", "--json").stdout) == {
        "deleted": [5]
    }
    with opened(path, readonly=True) as store:
        assert [one.label for one in store.runs()] == ["run 4", "run 1"]
    halotui("delete", "--all", "--yes")
    assert halotui().stdout == ""
    assert "nothing to delete" in halotui("delete", "--all", "--yes").stderr


def test_one_that_runs_stays(halotui: Halotui, path: Path) -> None:
    with opened(path) as store:
        id_ = store.begin(template())
        done = halotui("delete", id_, "--yes", code=1)
        assert "still runs" in done.stderr
        assert store.run(id_) is not None


def test_read_only(halotui: Halotui, path: Path) -> None:
    fill(path, whole())
    for words in (["delete", 1, "--yes"], ["import", SAMPLES / "bench-v0.5.0.md"]):
        assert "read-only" in halotui(*words, code=2, HALOTUI_READONLY="1").stderr
    assert "Vulkan" in halotui(HALOTUI_READONLY="1").stdout


# --- import


@pytest.mark.parametrize("form", FORMATS)
def test_import_of_each_format(halotui: Halotui, form: str) -> None:
    file = SAMPLES / f"bench-v0.5.0.{form}"
    (shown,) = json.loads(halotui("import", file, "--json").stdout)
    assert (shown["kind"], shown["status"], shown["label"]) == ("import", "ok", "bench-v0.5.0")
    assert shown["results"][0]["test"].startswith("pp")
    assert shown["results"][0]["backend"] == "CPU"
    when = shown["results"][0].get("tested_time", file.stat().st_mtime)
    assert shown["started_time"] == when


def test_a_file_that_comes_again_is_noticed(halotui: Halotui, path: Path, tmp_path: Path) -> None:
    file = SAMPLES / "bench-v0.5.0.jsonl"
    halotui("import", file)
    copy = tmp_path / "renamed.txt"
    copy.write_bytes(file.read_bytes())
    for words in ([file], [copy, "--label", "another"]):
        done = halotui("import", *words)
        assert done.stdout == "" and "has been imported already, as run 1" in done.stderr
    with opened(path) as store:
        assert len(store.runs()) == 1
        store.delete((1,))
    assert "imported already" not in halotui("import", file).stderr


def test_a_row_for_each_configuration(halotui: Halotui, path: Path, tmp_path: Path) -> None:
    """Two settings of flash attention in one file, as ``llama-bench -fa 0,1`` writes them."""
    records = [json.loads(line) for line in (SAMPLES / "bench-v0.5.0.jsonl").read_text().splitlines()]
    lines = [json.dumps({**one, "flash_attn": fa}) for fa in (0, 1) for one in records]
    file = tmp_path / "both.jsonl"
    file.write_text("\n".join(lines))
    runs = json.loads(halotui("import", file, "--json").stdout)
    assert [one["label"] for one in runs] == ["both, flash_attn 0", "both, flash_attn 1"]
    assert [len(one["results"]) for one in runs] == [4, 4]
    with opened(path) as store:  # killed between the two: the second is made up for
        store.delete((2,))
    again = halotui("import", file, "--label", "FA")
    assert [line.split()[0] for line in again.stdout.splitlines()] == ["id", "3"]
    assert "FA, flash_attn 1" in again.stdout


def test_what_is_no_output_does_not_keep_the_others_out(halotui: Halotui, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("bought milk\n")
    (tmp_path / "binary").write_bytes(os.urandom(100_000))
    (tmp_path / "empty").touch()
    good = [SAMPLES / f"bench-v0.5.0.{form}" for form in ("md", "csv")]
    bad = [tmp_path / name for name in ("notes.txt", "binary", "empty", "absent", "")]
    done = halotui("import", bad[0], good[0], *bad[1:], good[1], code=1)
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr.count("\n") == len(bad)
    assert done.stderr.count("no llama-bench output") == 3
    assert "No such file" in done.stderr and "Is a directory" in done.stderr


def test_a_file_that_is_too_long(halotui: Halotui, tmp_path: Path) -> None:
    with (tmp_path / "model.gguf").open("wb") as file:
        file.truncate(3 * GIB)
    began = time.monotonic()
    assert "more than 64 MiB" in halotui("import", tmp_path / "model.gguf", code=1).stderr
    assert time.monotonic() - began < 20


def test_import_from_a_pipe(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "halotui", "runs", "import", "-", "--label", "piped"],
        input=(SAMPLES / "bench-v0.5.0.md").read_bytes(),
        env=environment(XDG_STATE_HOME=str(tmp_path)),
        capture_output=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "piped" in done.stdout.decode()


def test_hostile_names_are_made_harmless(halotui: Halotui, tmp_path: Path) -> None:
    file = tmp_path / "x\x1b[2J\x1b]0;title\x07.md"
    file.write_bytes((SAMPLES / "bench-v0.5.0.md").read_bytes())
    done = halotui("import", file)
    assert "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout + done.stderr
    bad = tmp_path / "y\x1b[2J"
    assert "\x1b" not in halotui("import", bad, code=1).stderr
