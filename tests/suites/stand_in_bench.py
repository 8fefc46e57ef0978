"""A stand-in for llama-bench: prints the records of a real one, as its flags ask, and goes wrong on demand.

``binary(directory, ...)`` lays it as ``directory/llama-bench``. It measures nothing: its speeds are made up.
What it does besides, the file ``behaviour`` beside it says, a line each:
``PATTERN WHAT`` where PATTERN is part of its command line and WHAT one of

    fail        exit code 1 and a line on stderr
    crash       ends by SIGSEGV after its first record
    hang        sleeps for ever after its first record
    refuse      prints its help, exit code 0: as some builds do with a flag they do not know
    slow        takes a second over each record
    gpu-hang    writes a ring time-out to the kernel log of the stand-in journalctl, exit code 1
    deaf        as hang, and SIGINT changes nothing
    lost        the words of a driver that lost its device, exit code 1
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures/suites"
RECORD = json.loads((FIXTURES / "bench-v0.5.0.jsonl").read_text().splitlines()[0])
NEW_HELP = (FIXTURES / "llama-bench-help-v0.5.0.txt").read_text()
# In the form of builds before autumn 2025, as far as it matters here.
OLD_HELP = """\
usage: ./llama-bench [options]

options:
  -h, --help
  -m, --model <filename>                    (default: models/7B/ggml-model-q4_0.gguf)
  -p, --n-prompt <n>                        (default: 512)
  -n, --n-gen <n>                           (default: 128)
  -pg <pp,tg>                               (default: )
  -b, --batch-size <n>                      (default: 2048)
  -ub, --ubatch-size <n>                    (default: 512)
  -ctk, --cache-type-k <t>                  (default: f16)
  -ctv, --cache-type-v <t>                  (default: f16)
  -t, --threads <n>                         (default: 8)
  -ngl, --n-gpu-layers <n>                  (default: 99)
  -sm, --split-mode <none|layer|row>        (default: layer)
  -fa, --flash-attn <0|1>                   (default: 0)
  -mmp, --mmap <0|1>                        (default: 1)
  -ts, --tensor-split <ts0/ts1/..>          (default: 0)
  -r, --repetitions <n>                     (default: 5)
  --delay <0...N> (seconds)                 (default: 0)
  -o, --output <csv|json|md|sql>            (default: md)
  -oe, --output-err <csv|json|jsonl|md|sql> (default: none)
  -v, --verbose                             (default: 0)
"""
TIMEOUT_LINE = "amdgpu 0000:c5:00.0: amdgpu: ring comp_1.1.0 timeout, signaled seq=41, emitted seq=43"
SCRIPT = """\
#!{python}
import sys

sys.path[:0] = {path!r}
from stand_in_bench import main

sys.exit(main(sys.argv[1:], old={old!r}))
"""
JOURNAL = """\
#!/bin/sh
# A stand-in for journalctl: the lines of a file, whatever boot and time are asked for.
case " $* " in
*" -k "*) cat "$STAND_IN_JOURNAL" 2>/dev/null ;;
*) cat "$STAND_IN_JOURNAL.before" 2>/dev/null ;;
esac
exit 0
"""


def binary(directory: Path, *, old: bool = False) -> Path:
    """An executable ``directory/llama-bench``; the directory's name is its backend."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "llama-bench"
    path.write_text(SCRIPT.format(python=sys.executable, path=[str(Path(__file__).parent)], old=old))
    path.chmod(0o755)
    return path


def journalctl(directory: Path) -> Path:
    """An executable ``directory/journalctl`` that prints the file of ``STAND_IN_JOURNAL``."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "journalctl"
    path.write_text(JOURNAL)
    path.chmod(0o755)
    return path


def main(argv: list[str], *, old: bool) -> int:
    if "--help" in argv:
        print(OLD_HELP if old else NEW_HELP, end="")
        return 0
    here = Path(sys.argv[0]).absolute().parent
    with (here / "calls").open("a") as calls:  # what was asked of it
        calls.write(
            json.dumps({"argv": argv, "env": os.environ.get("ROW_ENV", ""), "cwd": str(Path.cwd())}) + "\n"
        )
    what = _behaviour(here, " ".join(argv))
    if what == "fail":
        print("error: failed to load model", file=sys.stderr)
        return 1
    if what == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if what == "refuse":
        print(NEW_HELP, end="")
        return 0
    if what == "gpu-hang":
        with Path(os.environ["STAND_IN_JOURNAL"]).open("a") as log:
            log.write(TIMEOUT_LINE + "\n")
        return 1
    if what == "lost":
        print("terminate called: vk::Queue::submit: ErrorDeviceLost", file=sys.stderr)
        return 1
    records = list(_records(argv, here.name.upper()))
    for number, record in enumerate(records, 1):
        if "--progress" in argv:
            print(
                f"llama-bench: benchmark {number}/{len(records)}: prompt run 1/5", file=sys.stderr, flush=True
            )
        time.sleep(1.0 if what == "slow" else 0.02)
        _print(argv, record, first=number == 1, last=number == len(records))
        if what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        while what in ("hang", "deaf"):
            time.sleep(60)
    return 0


def _behaviour(here: Path, line: str) -> str:
    try:
        rules = (here / "behaviour").read_text().splitlines()
    except OSError:
        return ""
    return next((rule.split()[-1] for rule in rules if rule.rsplit(" ", 1)[0] in line), "")


def _records(argv: list[str], backend: str):  # type: ignore[no-untyped-def]
    said = dict(itertools.pairwise(argv))
    for depth in said.get("-d", "0").split(","):
        tests = [(int(n), 0) for n in said["-p"].split(",")] + [(0, int(n)) for n in said["-n"].split(",")]
        tests += [tuple(map(int, said["-pg"].split(",")))] if "-pg" in said else []
        for prompt, generated in tests:
            if prompt or generated:
                speed = 1000.0 if prompt and not generated else 50.0
                yield {
                    **RECORD,
                    "backends": backend,
                    "n_prompt": prompt,
                    "n_gen": generated,
                    "n_depth": int(depth),
                    "type_k": said.get("-ctk", "f16"),
                    "avg_ts": speed,
                    "samples_ts": [speed] * int(said["-r"]),
                }


def _print(argv: list[str], record: dict[str, object], *, first: bool, last: bool) -> None:
    text = json.dumps(record)
    if argv[argv.index("-o") + 1] == "json":
        text = ("[\n" if first else "") + text + ("\n]" if last else ",")
    print(text, flush=True)
