"""Two models together: their vocabularies are compared once, in the background, and never while one loads."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from builders import server
from gguf_files import number, tokens, word, write
from halotui.collectors import model_weights
from halotui.hosts.local import LocalHost
from halotui.model import Server, ServerState
from halotui.sampler.clock import Clock
from halotui.sampler.model_book import ModelBook


def model(path: Path, count: int) -> Path:
    pairs = (word("general.architecture", "llama"), number("llama.expert_count", 0), tokens(count))
    return write(path, *pairs, tensors=("output.weight",), more=4 * 64 * 64)


def serving(target: Path, draft: Path | str | None, **more: Any) -> Server:
    paths = {"model_path": str(target), "draft_model": str(draft) if draft else None}
    return server(**{"state": ServerState.IDLE, "pid": os.getpid(), **paths, **more})


async def told(book: ModelBook, one: Server, *others: Server) -> str | None:
    for _ in range(20):
        await book.read((one, *others), 5)
        await asyncio.sleep(0.01)
    known = book.told(one)
    return known.facts.draft_mismatch if known is not None else None


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The draft models whose vocabulary was read."""
    drafts: list[Path] = []
    real = model_weights.unfit
    monkeypatch.setattr(
        model_weights, "unfit", lambda host, one, two: drafts.append(two) or real(host, one, two)
    )
    return drafts


async def test_once_for_two_files(tmp_path: Path, compared: list[Path]) -> None:
    target, draft, good = (model(tmp_path / name, n) for name, n in (("t", 900), ("d", 500), ("g", 900)))
    book = ModelBook(LocalHost(), Clock())
    assert await told(book, serving(target, draft)) == "900 and 500 tokens"
    known = book.told(serving(target, draft))
    assert (
        known and known.provenance["draft_mismatch"] == "GGUF header" and known.facts.architecture == "llama"
    )
    assert await told(book, serving(target, draft, pid=os.getppid())) == "900 and 500 tokens"
    assert compared == [draft]  # another process, the same files
    assert await told(book, serving(target, good)) is None and compared == [draft, good]


@pytest.mark.parametrize(
    ("kind", "reads"),
    [(None, True), ("draft-simple", True), ("ngram-mod,draft-simple", True), ("draft-mtp", False)],
)
async def test_kinds_that_bring_their_own_are_not_compared(
    tmp_path: Path, compared: list[Path], kind: str | None, reads: bool
) -> None:
    one = serving(model(tmp_path / "t", 900), model(tmp_path / "d", 500), spec_type=kind)
    assert (await told(ModelBook(LocalHost(), Clock()), one) is not None) is reads is bool(compared)


async def test_what_loads_has_the_disk_for_itself(tmp_path: Path, compared: list[Path]) -> None:
    one = serving(model(tmp_path / "t", 900), model(tmp_path / "d", 500))
    other = serving(tmp_path / "t", None, url="http://127.0.0.1:1", pid=1, state=ServerState.LOADING)
    assert await told(ModelBook(LocalHost(), Clock()), one, other) is None and not compared


async def test_a_draft_model_that_cannot_be_read_is_let_be(tmp_path: Path, compared: list[Path]) -> None:
    (tmp_path / "junk").write_bytes(b"no model")
    book, target = ModelBook(LocalHost(), Clock()), model(tmp_path / "t", 900)
    assert await told(book, serving(target, tmp_path / "junk")) is None and len(compared) == 1
    assert await told(book, serving(target, "org/name:Q8_0")) is None and len(compared) == 1


async def test_the_size_of_what_loads_is_that_of_its_files(tmp_path: Path) -> None:
    parts = [model(tmp_path / f"m-0000{n}-of-00002.gguf", 10) for n in (1, 2)]
    one = serving(parts[0], None, state=ServerState.LOADING)
    book = ModelBook(LocalHost(), Clock())
    await book.read((one,), 5)
    known = book.told(one)
    assert known and known.facts.model_bytes == sum(part.stat().st_size for part in parts)
    assert known.provenance["model_bytes"] == "file"
    parts[1].unlink()
    blind = ModelBook(LocalHost(), Clock())
    await blind.read((one,), 5)
    assert blind.told(one) is None
