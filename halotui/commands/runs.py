"""``halotui runs``: what was measured. Data on stdout, talk on stderr."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from halotui import exits
from halotui.benching.account import as_object
from halotui.benching.tables import format_of, put, render
from halotui.commands import importing, keeping, run_tables
from halotui.commands.following import confirm, terminal
from halotui.exits import UsageError
from halotui.runs import Kind, Run, Status, StoreError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings

Said = Mapping[str, Any]
_LIMIT = 20
_FILTERS = ("label", "suite", "kind", "status", "since", "until")
_BEGIN = "nothing has been measured yet; begin with: halotui bench -- llama-bench -m MODEL.gguf"


async def run(said: Said, settings: Settings) -> int:
    """One of its words; the exit code. Raises UsageError."""
    word, *words = said.get("what") or ["list"]
    if word not in _WORDS:
        near = f": halotui runs show {word}?" if word.isdecimal() else f", but {', '.join(_WORDS)}"
        raise UsageError(f"runs: there is no '{clean(word, 40)}'{near}")
    if settings.readonly and word in ("delete", "import"):
        raise UsageError("read-only: nothing is written")
    try:
        return int(await _WORDS[word](words, said, settings))
    except StoreError as error:
        _talk(keeping.told(error))
        return exits.FAILURE


async def _list(words: Sequence[str], said: Said, settings: Settings) -> int:
    if words:
        raise UsageError(f"runs list takes no '{clean(words[0], 40)}'; --label PATTERN filters")
    limit = None if "all" in said else _limit(said)
    store = keeping.open_store(said, settings, readonly=True)
    try:
        runs = store.runs(**_filters(said), limit=None if limit is None else limit + 1)
        some = bool(runs) or bool(store.runs(limit=1))
    finally:
        store.close()
    _answer(runs[:limit], said)
    if not runs:
        _talk("none of the runs match" if some else _BEGIN)
    elif limit is not None and len(runs) > limit:
        _talk(f"there are older ones: --all, or -n above {limit}")
    return exits.OK


async def _show(words: Sequence[str], said: Said, settings: Settings) -> int:
    ids = _ids(words)
    store = keeping.open_store(said, settings, readonly=True)
    try:
        found = {id_: store.run(id_) for id_ in ids}
    finally:
        store.close()
    runs = [run for run in found.values() if run]
    form = format_of(said)
    if form == "json":
        objects = [as_object(run) for run in runs]
        if runs:
            put(render(run_tables.listing(runs, None), form, objects if len(ids) > 1 else objects[0]), said)
    elif runs:
        put("\n\n".join(_whole(run, form) for run in runs), said)
    return _missing([id_ for id_, run in found.items() if run is None])


def _whole(run: Run, form: str) -> str:
    """CSV is one table: the results."""
    parts = run_tables.whole(run) if form != "csv" else [run_tables.results(run.results)]
    return "\n\n".join(render(part, form) for part in parts)


async def _delete(words: Sequence[str], said: Said, settings: Settings) -> int:
    filters = [name for name in _FILTERS if name in said]
    if words and ("all" in said or filters):
        raise UsageError("runs delete: ids, or --all with what they match")
    if not words and "all" not in said:
        raise UsageError("runs delete: which? ids, or --all with --label, --since ...")
    if "yes" not in said and not terminal():
        raise UsageError("needs --yes where there is no terminal to ask on")
    store = keeping.open_store(said, settings, readonly=True)
    try:
        if words:
            found = {id_: store.run(id_) for id_ in _ids(words)}
            if missing := [id_ for id_, run in found.items() if run is None]:
                return _missing(missing, "; nothing was deleted")
            runs = [run for run in found.values() if run]
        else:
            runs = store.runs(**_filters(said), limit=_limit(said, None))
    finally:
        store.close()
    running = [run for run in runs if run.status is Status.RUNNING]
    runs = [run for run in runs if run.status is not Status.RUNNING]
    for one in running:
        _talk(f"run {one.id} still runs: it stays")
    if not runs:
        _talk("nothing to delete")
        return exits.FAILURE if running else exits.OK
    what = "this run and its timeline" if len(runs) == 1 else f"these {len(runs)} runs and their timelines"
    if "yes" not in said:
        print(render(run_tables.listing(runs, _columns(sys.stderr)), "table"), file=sys.stderr)
        if not await confirm(f"Delete {what}, for good?"):
            _talk("nothing was deleted")
            return exits.FAILURE
    store = keeping.open_store(said, settings)
    try:
        gone = store.delete(tuple(run.id for run in runs))
    finally:
        store.close()
    if format_of(said) == "json":
        put(render(run_tables.listing(runs, None), "json", {"deleted": [run.id for run in runs]}), said)
    _talk(f"{gone} deleted" if gone != 1 else f"run {runs[0].id} deleted" if len(runs) == 1 else "1 deleted")
    return exits.FAILURE if running else exits.OK


async def _import(words: Sequence[str], said: Said, settings: Settings) -> int:
    if not words:
        raise UsageError("runs import: which files? - is standard input")
    store = keeping.open_store(said, settings)
    added: list[Run] = []
    code = exits.OK
    try:
        for file in dict.fromkeys(words):
            try:
                data, when = importing.read(file)
                runs = importing.runs_of(file, data, when, said.get("label", ""))
            except importing.NotImported as error:
                _talk(f"{file}: {error}")
                code = exits.FAILURE
                continue
            there = {run.item: run.id for run in store.runs(series=runs[0].series)}
            new = [store.add(run) for run in runs if run.item not in there]
            added.extend(run for id_ in new if (run := store.run(id_)))
            if not new:
                ids = ", ".join(map(str, sorted(there.values())))
                _talk(f"{file}: has been imported already, as run {ids}")
    finally:
        store.close()
    if added or format_of(said) == "json":
        _answer(added, said)
    return code


_WORDS: dict[str, Callable[[Sequence[str], Said, Settings], Any]] = {
    "list": _list,
    "show": _show,
    "delete": _delete,
    "import": _import,
}


def _filters(said: Said) -> dict[str, Any]:
    now = time.time()
    times = {name: keeping.moment(said[name], now) for name in ("since", "until") if name in said}
    return {
        "label": said.get("label", ""),
        "suite": said.get("suite", ""),
        "kinds": tuple(map(Kind, said.get("kind", ()))),
        "statuses": tuple(map(Status, said.get("status", ()))),
        **times,
    }


def _limit(said: Said, default: int | None = _LIMIT) -> int | None:
    limit: int | None = said.get("limit", default)
    if limit is not None and limit < 1:
        raise UsageError("--limit: at least 1")
    return limit


def _ids(words: Sequence[str]) -> list[int]:
    if not words:
        raise UsageError("which? see: halotui runs")
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) < 19):
            raise UsageError(f"'{clean(word, 40)}' is no id of a run; see: halotui runs")
    return [*dict.fromkeys(map(int, words))]


def _missing(ids: Sequence[int], more: str = "") -> int:
    for id_ in ids:
        _talk(f"there is no run {id_}{more}")
    return exits.FAILURE if ids else exits.OK


def _answer(runs: Sequence[Run], said: Said) -> None:
    form = format_of(said)
    if not runs and form == "table":
        return
    columns = _columns(sys.stdout) if form == "table" and "output" not in said else None
    put(render(run_tables.listing(runs, columns), form, [as_object(run) for run in runs]), said)


def _columns(stream: Any) -> int | None:
    """Of the terminal it is; what goes into a pipe or file is not cut."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def _talk(text: str) -> None:
    print(f"halotui: {clean(text)}", file=sys.stderr, flush=True)
