"""``halotui usual``, on a real ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from halotui.cli import main
from halotui.ledger import Key, Metric, Observation, Setup, Software
from halotui.store.ledger import open_ledger

SETUP = Setup(model="qwen.gguf", backend="vulkan", build="b1", flags="np=1", speculation="ngram-mod")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "store.sqlite"
    ledger = open_ledger(path)
    decode = Key(setup=SETUP, metric=Metric.DECODE, depth="0-2K", streams="1")
    seen = [(decode, Observation(time=1000.0 + 60 * n, value=40.0 + n)) for n in range(5)]
    other = Key(setup=Setup(model="glm.gguf"), metric=Metric.LOAD)
    ledger.learn([*seen, (other, Observation(time=900.0, value=61.0))], Software(kernel="6.18.9"))
    ledger.close()
    return path


def told(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main(["usual", *map(str, argv)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_it_lists(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "--store", kept)
    assert code == 0
    line = next(line for line in out.splitlines() if "qwen" in line)
    for words in ("vulkan, b1, ngram-mod, np=1", "decode t/s", "0-2K", "42.0", "1.48", "  5  "):
        assert words in line
    assert "1 min" in out


def test_as_json(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(capsys, "qwen*", "--json", "--store", kept)
    (one,) = json.loads(out)
    assert code == 0 and one["median"] == 42.0 and one["count"] == 5 and one["software"]["kernel"] == "6.18.9"
    assert one["key"]["setup"]["model"] == "qwen.gguf" and one["key"]["metric"] == "decode"


def test_it_forgets_what_was_named(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--forget", "--store", kept)[0] == 2
    assert told(capsys, "nobody", "--forget", "--store", kept)[0] == 1
    code, _, err = told(capsys, "qwen*", "--forget", "--store", kept)
    assert code == 0 and "1 baselines are forgotten" in err
    assert "qwen" not in told(capsys, "--store", kept)[1]


def test_nothing_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "--store", tmp_path / "none.sqlite")
    assert (code, out) == (0, "") and "nothing is known yet" in err
    assert not (tmp_path / "none.sqlite").exists()
