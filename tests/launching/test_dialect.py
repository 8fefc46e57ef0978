"""Two real binaries, half a year apart: both --help are understood, and each is told things in its words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binaries import binary
from halotui.actions import ActionError, Value
from halotui.hosts.hands import Done
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.servers.dialect import Dialect, Flag, UnknownFlags, parse_help, read_dialect, render
from halotui.servers.vocabulary import BY_NAME, parse, patched, spoken, values

# b4748, as its source prints them.
OLDEST = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
-fa,   --flash-attn                     enable Flash Attention (default: disabled)
                                        (env: LLAMA_ARG_FLASH_ATTN)
--no-mmap                               do not memory-map model (slower load but may reduce pageouts if not
                                        using mlock)
                                        (env: LLAMA_ARG_NO_MMAP)
--lora-scaled FNAME SCALE               path to LoRA adapter with user defined scaling (can be repeated to use
                                        multiple adapters)
-m,    --model FNAME                    model path (default: `models/$filename` with filename from `--hf-file`
                                        or `--model-url` if set, otherwise models/7B/ggml-model-f16.gguf)
                                        (env: LLAMA_ARG_MODEL)


----- example-specific params -----

--draft-max, --draft, --draft-n N       number of tokens to draft for speculative decoding (default: 16)
                                        (env: LLAMA_ARG_DRAFT_MAX)
-md,   --model-draft FNAME              draft model for speculative decoding (default: unused)
                                        (env: LLAMA_ARG_MODEL_DRAFT)
--slots                                 enable slots monitoring endpoint (default: disabled)
--port PORT                             port to listen (default: 8080)
                                        (env: LLAMA_ARG_PORT)
"""


class Counting(LocalHands):
    """Real hands that tell how often they ran something."""

    runs = 0

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        seconds: float = 10.0,
    ) -> Done:
        self.runs += 1
        return await super().run(argv, env=env, cwd=cwd, seconds=seconds)


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory, old_wheel: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("builds")
    return {"new": binary(root / "new"), "old": binary(root / "old", old_wheel)}


@pytest.fixture(scope="module")
def dialects(binaries: dict[str, Path]) -> dict[str, Dialect]:
    helps = {name: subprocess.check_output([path, "--help"], text=True) for name, path in binaries.items()}
    return {name: parse_help(text) for name, text in helps.items()}


def accepted(path: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """It parses all before ``--version``, and loads nothing."""
    return subprocess.run([path, *arguments, "--version"], capture_output=True, text=True, timeout=20)


def test_both_helps_are_understood(dialects: dict[str, Dialect]) -> None:
    new, old = dialects["new"].flags, dialects["old"].flags
    assert len(new) > 350 and len(old) > 300
    assert new["-np"] == new["--parallel"] == Flag(1, (), ("LLAMA_ARG_N_PARALLEL",))
    assert new["-fa"].choices == old["--flash-attn"].choices == ("on", "off", "auto")
    assert new["--load-mode"].choices == ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")
    assert new["--rope-scaling"].choices == ("none", "linear", "yarn")
    assert "iq4_nl" in new["-ctkd"].choices and "draft-simple" in new["--spec-type"].choices
    assert [new[flag].arity for flag in ("--metrics", "-ot", "--control-vector-layer-range")] == [0, 1, 2]
    assert old["--spec-replace"].arity == 2 and old["-ndio"].arity == 0 and old["--no-mmap"].arity == 0
    assert "--no-mmap" not in new and "-lm" not in old
    assert "--draft-max" not in new and "--draft-max" in old
    assert dialects["new"].removed["--draft-max"] == "use --spec-draft-n-max or --spec-ngram-mod-n-max"
    assert not dialects["old"].removed


def test_every_listed_flag_is_taken_with_its_arity(
    binaries: dict[str, Path], dialects: dict[str, Dialect]
) -> None:
    """One bare flag more or less would shift all that follows: the binaries themselves say so."""
    harmful = {
        "-h",
        "--help",
        "--usage",
        "--version",
        "--license",
        "-cl",
        "--cache-list",
        "--completion-bash",
    }
    harmful |= {"--list-devices"}  # print and exit
    for name, dialect in dialects.items():
        bare = [flag for flag, known in dialect.flags.items() if not known.arity and flag not in harmful]
        bare = [flag for flag in bare if not flag.endswith(("-default", "-spec"))]  # fetch a model
        done = accepted(binaries[name], bare)
        assert done.returncode == 0 and "version:" in done.stderr + done.stdout, done.stderr[-300:]


def test_the_settings_are_known_to_a_real_build(dialects: dict[str, Dialect]) -> None:
    for row in BY_NAME.values():
        known = [name for name, dialect in dialects.items() if set(row.spellings) & set(dialect.flags)]
        assert known, row.name


BOTH = (
    "-ngl 99 --parallel 2 --ctx_size 4096 -fa 1 -ctk q8_0 -ctv q8_0 -b 256 -ub 128 -cram 512 -no-kvu "
    "--metrics --no-slots --top-k 40 -lv 4 --swa-full -t 1 -td 1 --jinja --temp 0.5 --host 127.0.0.1 --port 1"
)
OLD_LINE = (
    "-m {tiny} -md {tiny} --draft-max 8 --draft-min 1 --draft-p-min 0.5 -ngld 99 -ctkd f16 --no-mmap --mlock "
    f"{BOTH}"
)
NEW_LINE = (
    "-m {tiny} --spec-draft-model {tiny} --spec-type draft-simple --spec-draft-n-max 8 --spec-draft-n-min 1 "
    f"--spec-draft-p-min 0.5 --spec-draft-ngl 99 --spec-draft-type-k f16 -lm mlock {BOTH}"
)


@pytest.mark.parametrize(("line", "own", "other"), [(OLD_LINE, "old", "new"), (NEW_LINE, "new", "old")])
def test_a_whole_command_line_is_translated(
    line: str, own: str, other: str, binaries: dict[str, Path], dialects: dict[str, Dialect], models: Path
) -> None:
    arguments = tuple(line.format(tiny=models / "tiny.gguf").split())
    words = parse(arguments, dialects[own])
    assert accepted(binaries[own], arguments).returncode == 0
    assert accepted(binaries[other], arguments).returncode == 1
    assert render(words, dialects[own])[: len(arguments)] == arguments  # nothing is reworded without need

    there = render(words, dialects[other])
    done = accepted(binaries[other], there)
    assert done.returncode == 0, done.stderr
    back = render(parse(there, dialects[other]), dialects[own])
    done = accepted(binaries[own], back)
    assert done.returncode == 0, done.stderr
    meant = [values(parse(each)) for each in (arguments, there, back)]
    assert meant[0] | {"spec": None} == meant[1] | {"spec": None} == meant[2] | {"spec": None}
    assert ("--spec-type", "draft-simple") in pairwise(there) or other == "old"


@pytest.mark.parametrize(
    ("arguments", "build", "expected"),
    [
        ("--no-mmap", "new", "-lm none"),
        ("--no-mmap --mlock", "new", "-lm mlock"),
        ("-c 8 --mlock", "new", "-c 8 -lm mmap+mlock"),
        ("--mmap", "new", "-lm mmap"),
        ("-dio", "new", "-lm dio"),
        ("-lm none", "old", "--no-mmap"),
        ("-lm mmap+mlock", "old", "--mmap --mlock"),
        ("-lm dio", "old", "-dio"),
        ("-lm auto", "old", ""),
        ("--no-mmap -ndio", "new", "-lm none"),
        ("-fa -np 2", "new", "-fa on -np 2"),
        ("-fa on -md d", "oldest", "-fa -md d"),
        ("-fa off", "oldest", ""),
        ("-fa auto -lm none", "oldest", "--no-mmap"),
        ("--mmap --slots", "oldest", "--slots"),
        ("-md d", "new", "-md d --spec-type draft-simple"),
        ("-md d --spec-type none", "new", "-md d --spec-type none"),
        ("-hfd a/b", "new", "-hfd a/b --spec-type draft-simple"),
        ("-md d --spec-type draft-simple", "old", "-md d"),
        ("--spec-draft-model d --spec-type draft-simple,ngram-mod", "old", "-md d --spec-type ngram-mod"),
        ("--spec-type none", "oldest", ""),
        ("--spec-default", "old", "--spec-type ngram-mod"),
        ("--draft 8", "new", "--spec-draft-n-max 8"),
        ("--spec-draft-n-max 8", "oldest", "--draft-max 8"),
        ("--sleep-idle-seconds 60", "new", "--sleep-idle-seconds 60"),
    ],
)
def test_rendered(arguments: str, build: str, expected: str, dialects: dict[str, Dialect]) -> None:
    dialect = {**dialects, "oldest": parse_help(OLDEST)}[build]
    assert " ".join(render(parse(arguments.split()), dialect)) == expected


@pytest.mark.parametrize(
    ("patch", "build", "expected"),
    [
        ({"mmap": False}, "new", "-lm none"),
        ({"mmap": False, "mlock": True}, "new", "-lm mlock"),
        ({"mmap": True, "mlock": False}, "new", "-lm mmap"),
        ({"mlock": False}, "new", ""),
        ({"mmap": False, "mlock": True}, "old", "--no-mmap --mlock"),
        ({"fa": "on", "kvu": False, "slots": False}, "new", "-fa on -no-kvu --no-slots"),
        ({"fa": "off", "kvu": False, "slots": True, "metrics": False}, "oldest", "--slots"),
        (
            {"draft": "d", "draft-max": 8, "draft-p-min": 0.5},
            "new",
            "-md d --spec-draft-n-max 8 --draft-p-min 0.5",
        ),
    ],
)
def test_a_patch_is_rendered(
    patch: dict[str, Value | None], build: str, expected: str, dialects: dict[str, Dialect]
) -> None:
    dialect = {**dialects, "oldest": parse_help(OLDEST)}[build]
    said = " ".join(render(patched((), patch), dialect))
    assert said.removesuffix(" --spec-type draft-simple") == expected


def test_all_that_is_unknown_is_said_at_once(dialects: dict[str, Dialect]) -> None:
    line = "--draft-max 8 --paralel 2 -c 8 --spec-ngram-size-n 4 -ctk q9_9 stray --ctx-size=8 --top-k --zzz 1"
    with pytest.raises(UnknownFlags) as caught:
        render(parse(line.split()), dialects["new"])
    assert caught.value.flags == (
        ("--paralel", "did you mean --parallel?"),
        (
            "--spec-ngram-size-n",
            "removed: use the respective --spec-ngram-*-size-n or --spec-ngram-mod-n-match",
        ),
        ("-ctk q9_9", "takes f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1"),
        ("stray", "it is no flag"),
        ("--ctx-size=8", "flag and value are two words"),
        ("--top-k", "takes 1 value"),
        ("--zzz", "not in its --help"),
    )
    with pytest.raises(UnknownFlags) as caught:
        render(patched((), {"spec": "draft-mtp", "cd": 1}), dialects["old"])
    assert [flag for flag, _ in caught.value.flags] == ["--spec-type draft-mtp"]


def test_a_key_is_not_in_the_complaint(dialects: dict[str, Dialect]) -> None:
    with pytest.raises(UnknownFlags) as caught:
        render(parse(["--api-key=hunter2"]), dialects["new"])
    assert "hunter2" not in f"{caught.value} {caught.value.flags} {caught.value.hint}"


@given(st.data())
def test_what_a_build_knows_is_not_reworded(dialects: dict[str, Dialect], data: st.DataObject) -> None:
    dialect = data.draw(st.sampled_from(list(dialects.values())))
    free = sorted(flag for flag, known in dialect.flags.items() if not known.choices and known.arity < 3)
    arguments: list[str] = []
    for flag in data.draw(st.lists(st.sampled_from(free))):
        arguments += [flag, *("7" for _ in range(dialect.flags[flag].arity))]
    words = parse(arguments, dialect)
    said = render(words, dialect)
    assert spoken(words) == tuple(arguments)
    assert said == tuple(arguments) or said == (*arguments, "--spec-type", "draft-simple")


@given(st.text("-, \nabc<>[]{}|N()", max_size=400))
def test_any_text_is_survived(text: str) -> None:
    parse_help(text)


async def test_read_once_and_again_when_the_file_is_another(
    tmp_path: Path, binaries: dict[str, Path], old_wheel: Path
) -> None:
    hands, cache = Counting(), tmp_path / "state" / "dialects.json"
    program = binary(tmp_path / "build")
    new = await read_dialect(LocalHost(), hands, (str(program),), cache)
    assert (new.version, new.build, hands.runs) == ("0.6.0-dev", 11549, 2)
    assert await read_dialect(LocalHost(), hands, (str(program),), cache) == new
    assert hands.runs == 2
    assert cache.stat().st_mode & 0o777 == 0o600

    here = await read_dialect(LocalHost(), hands, ("./build/llama-server",), cache, cwd=str(tmp_path))
    assert here == new and hands.runs == 4
    hands.runs = 2

    binary(tmp_path / "build", old_wheel)  # a new build in the same place
    old = await read_dialect(LocalHost(), hands, (str(program),), cache)
    assert (old.version, old.build, hands.runs) == ("8672", 8672, 4)
    cache.write_text("{")  # a broken cache costs a reading, no more
    assert await read_dialect(LocalHost(), hands, (str(program),), cache) == old
    assert hands.runs == 6


async def test_a_stamp_of_the_caller_decides(tmp_path: Path) -> None:
    hands, cache, probe = Counting(), tmp_path / "dialects.json", (str(binary(tmp_path / "build")),)
    await read_dialect(LocalHost(), hands, probe, cache, stamp="image 1")
    await read_dialect(LocalHost(), hands, probe, cache, stamp="image 1")
    assert hands.runs == 2
    await read_dialect(LocalHost(), hands, probe, cache, stamp="image 2")
    assert hands.runs == 4
    await read_dialect(LocalHost(), hands, probe, cache, stamp="")  # unknown: asked each time
    await read_dialect(LocalHost(), hands, probe, cache, stamp="")
    assert hands.runs == 8


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_text("#!/bin/sh\nexit 0\n"), "Permission denied"),
        (lambda path: (path.write_text("#!/bin/sh\necho a tool\n"), path.chmod(0o755)), "is no llama-server"),
        (
            lambda path: (
                path.write_text("#!/bin/sh\necho error: \x1b[2Jx >&2; exit 3\n"),
                path.chmod(0o755),
            ),
            "x",
        ),
    ],
)
async def test_a_binary_that_does_not_run(
    make: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "llama-server"
    make(path)
    with pytest.raises(ActionError) as caught:
        await read_dialect(LocalHost(), LocalHands(), (str(path),), tmp_path / "cache.json")
    assert reason in caught.value.reason and "\x1b" not in caught.value.reason
    assert not (tmp_path / "cache.json").exists()


async def test_a_bad_environment_is_told(tmp_path: Path) -> None:
    probe = (str(binary(tmp_path / "build")),)
    environ = {**os.environ, "LLAMA_ARG_CTX_SIZE": "lots"}
    with pytest.raises(ActionError, match="LLAMA_ARG_CTX_SIZE"):
        await read_dialect(LocalHost(), LocalHands(), probe, tmp_path / "cache.json", env=environ)
