"""The models: the same every time, small, quick to make, and good drafts of each other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halotui.demo.model import SLOW, SLOW_DRAFT, TINY, WORDS, write_model, write_preset


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    files = [write_model(tmp_path / name, seed=3, noise=0.1) for name in ("a.gguf", "b.gguf")]
    assert files[0].read_bytes() == files[1].read_bytes()
    other = write_model(tmp_path / "c.gguf", seed=4, noise=0.1)
    assert other.read_bytes() != files[0].read_bytes()


def test_tiny_is_small(models: Path) -> None:
    assert (models / "tiny.gguf").stat().st_size < 600_000


def test_the_demo_set_is_made_quickly(tmp_path: Path) -> None:
    start = time.process_time()
    write_preset(tmp_path / "slow.gguf", SLOW)
    write_preset(tmp_path / "draft.gguf", SLOW_DRAFT)
    assert time.process_time() - start < 1.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft.gguf", "slow.gguf"]


def test_it_speaks_in_words_until_told_to_stop(server: Any) -> None:
    reply = server.complete("The old oak", 80)
    assert set(re.findall(r"\S+", reply["content"])) <= set(WORDS)
    assert reply["tokens_predicted"] == 80
    assert reply["stop_type"] == "limit"


@pytest.mark.parametrize(
    ("noise", "least", "most"), [(0.0, 1.0, 1.0), (0.02, 0.4, 0.9), (0.2, 0.0, 0.25)], ids=str
)
def test_noise_sets_the_acceptance(
    start_server: Callable[..., Any], tmp_path: Path, noise: float, least: float, most: float
) -> None:
    draft = write_preset(tmp_path / "draft.gguf", TINY, noise=noise)
    flags = ("-np", "1", "-c", "2048", "-md", draft, "--spec-type", "draft-simple")
    with start_server(*flags, "--spec-draft-n-max", "4") as server:
        timings = server.complete("the quiet river", 300)["timings"]
    assert least <= timings["draft_n_accepted"] / timings["draft_n"] <= most
