"""``halotui bench SUITE.toml``: the course through a suite, from the file to the published table."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui import exits
from halotui.exits import UsageError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.benching.suite_course import Item, Pace
    from halotui.benching.suite_file import Suite
    from halotui.benching.suite_order import Clerk
    from halotui.benching.suite_place import Place
    from halotui.commands import places
    from halotui.config import Settings
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands
    from halotui.runs import Run, Store
    from halotui.servers.profile import Profile

Said = Mapping[str, Any]
_HINT = "halotui bench {file} --resume goes on"


@dataclass
class _Stage:
    """Where a suite plays: this box, a far one, or a demo's."""

    file: Path
    where: places.Place
    profiles: Mapping[str, Profile]
    stays: bool = True  # what is stored is there afterwards
    again: str = ""  # how it is said once more

    @property
    def said(self) -> Said:
        return self.where.said


async def run(said: Said, settings: Settings) -> int:
    """The exit code. Raises UsageError."""
    from halotui.runs import StoreError

    async with _stage(said, settings) as stage:
        try:
            return await _course(stage, settings)
        except StoreError as error:
            _talk(f"{error.reason} ({error.hint})" if error.hint else error.reason)
            return exits.FAILURE


@asynccontextmanager
async def _stage(said: Said, settings: Settings) -> AsyncIterator[_Stage]:
    words: Sequence[str] = said.get("what", ())
    if len(words) > 1:
        raise UsageError(f"one suite at a time, not {len(words)}")
    if not said.get("demo"):
        from halotui.commands.places import place
        from halotui.servers.profile import merged

        file, where = Path(words[0]), place(settings, said)
        if where.target is not None and where.settings.readonly and not said.get("dry_run"):
            raise UsageError(f"read-only: nothing is run on {where.name}")
        there = f"--ssh {shlex.quote(where.name)} " if where.target is not None else ""
        again = _HINT.format(file=f"{there}{shlex.quote(str(file))}")
        yield _Stage(file, where, merged(settings.profiles), again=again)
        return
    if "ssh" in said:
        raise UsageError("--demo is a box of its own: without --ssh")
    async with _demo(said, settings, words) as stage:
        yield stage


@asynccontextmanager
async def _demo(said: Said, settings: Settings, words: Sequence[str]) -> AsyncIterator[_Stage]:
    import msgspec

    from halotui.commands.places import Place
    from halotui.demo.box import BoxError, start_box
    from halotui.servers.profile import Profile

    try:
        box = await start_box(seed=said.get("seed", 0), serve=False, progress=_talk)
    except BoxError as error:
        raise UsageError(str(error)) from None
    try:
        there = {**said, "sysfs": box.sysfs, "procfs": box.procfs}
        there.setdefault("store", box.state / "store.sqlite")
        file = Path(words[0]) if words else box.suite
        profiles = msgspec.convert(box.profiles, dict[str, Profile])
        where = Place(name="", settings=settings, said=there, state=box.state)
        yield _Stage(file, where, profiles, stays="store" in said)
    finally:
        await box.stop()


async def _course(stage: _Stage, settings: Settings) -> int:
    """Raises UsageError, StoreError, UnreachableError."""
    from halotui.benching.suite_file import TomlError, read
    from halotui.benching.tables import check_output
    from halotui.commands.places import opened

    said = stage.said
    _check(said)
    check_output(said)
    try:
        suite = await asyncio.to_thread(read, stage.file, stage.profiles)
    except TomlError as error:
        raise UsageError(str(error)) from None
    suite = _told(suite, said)
    async with opened(stage.where) as (host, hands):
        return await _on(stage, suite, host, hands, stage.where.settings)


async def _on(stage: _Stage, suite: Suite, host: Host, hands: Hands, settings: Settings) -> int:
    """Raises UsageError, StoreError."""
    from halotui.actions import ActionError
    from halotui.benching import suite_course as course
    from halotui.benching.suite_order import Clerk
    from halotui.benching.suite_place import Place
    from halotui.commands.keeping import open_store, try_store

    said = stage.said
    place = Place(stage.where.state / "bench")
    clerk = Clerk(suite, stage.file.parent, hands, stage.profiles, place.mark, host)
    everything = course.items(suite)
    wanted = course.matching(everything, said.get("only", ()))
    if not wanted:
        raise UsageError(f"--only: no item matches; there are {', '.join(i.name for i in everything)}")
    with ExitStack() as stack:
        if said.get("dry_run"):
            store = await asyncio.to_thread(_looked_up, said, settings)
            if store is not None:
                stack.callback(store.close)
            return await _listed(_Scene(stage, suite, host, hands, clerk, store, place, everything, wanted))
        try:
            stack.enter_context(place.alone())
        except ActionError as error:
            _talk(f"{error.reason} ({error.hint})")
            return exits.FAILURE
        except OSError as error:
            _talk(f"{error.filename}: {error.strerror}: the output of the items will not be kept")
        opened = open_store if said.get("resume") else try_store
        store = await asyncio.to_thread(opened, said, settings)
        if store is not None:
            stack.callback(store.close)
        return await _run(_Scene(stage, suite, host, hands, clerk, store, place, everything, wanted))


def _check(said: Said) -> None:
    if said.get("retry") and not said.get("resume"):
        raise UsageError("--retry goes with --resume")
    if said.get("resume") and (clash := next((key for key in ("no_store", "seed") if said.get(key)), None)):
        raise UsageError(f"--resume does not go with --{clash.replace('_', '-')}")
    if "label" in said:
        raise UsageError("--label: the labels of a suite stand in its rows")


def _told(suite: Suite, said: Said) -> Suite:
    """Flags over the file. Raises UsageError."""
    from msgspec.structs import replace

    over = {
        name: said[flag]
        for name, flag in (("seed", "seed"), ("hz", "hz"), ("timeout", "timeout"))
        if flag in said
    }
    try:
        return replace(suite, **over) if over else suite
    except ValueError as error:
        raise UsageError(f"--{str(error).replace('`', '')}") from None


@dataclass
class _Scene:
    stage: _Stage
    suite: Suite
    host: Host
    hands: Hands
    clerk: Clerk
    store: Store | None
    place: Place
    everything: Sequence[Item]  # as written
    wanted: Sequence[Item]


async def _run(scene: _Scene) -> int:
    """The course, and its table."""
    from halotui.benching import suite_course as course
    from halotui.benching.suite_bar import Bar
    from halotui.benching.suite_item import Bench
    from halotui.benching.suite_run import Course

    suite, said = scene.suite, scene.stage.said
    series, done = await _taken_up(scene)
    order = course.ordered(scene.wanted, suite, course.seed_of(series))
    left = course.left(order, done, retry=bool(said.get("retry")))
    bench = Bench(
        suite=suite,
        series=series,
        host=scene.host,
        hands=scene.hands,
        store=scene.store,
        place=scene.place,
        clerk=scene.clerk,
        tell=lambda line: bar.say(line),
        doing=lambda words: bar.doing(words),
    )
    going = Course(bench, left, await asyncio.to_thread(_pace, scene.store, suite, scene.everything))
    bar = Bar(len(order), len(order) - len(left), sys.stderr, eta=going.eta, quiet=bool(said.get("quiet")))
    bar.look = lambda: bench.look()
    bar.say(_headline(suite, series, len(order), len(left)))
    await asyncio.to_thread(_warn_of_servers, scene, bench.pids())
    bar.start()
    try:
        await going.go(bar)
        await bench.stop()
    finally:
        await bar.stop()
        await bench.close()
    runs = {**done, **going.runs}
    _publish(scene, runs)
    return _closing(scene, going, runs, series)


async def _taken_up(scene: _Scene) -> tuple[str, dict[str, Run]]:
    """The series, and of each item that was run in it the run that counts. Raises UsageError, StoreError.

    A dry run looks at them without settling any.
    """
    from halotui.benching import suite_course as course
    from halotui.benching.suite_run import settle
    from halotui.runs import Status

    suite, store = scene.suite, scene.store
    if not scene.stage.said.get("resume"):
        return course.fresh_series(suite.seed), {}
    newest = await asyncio.to_thread(lambda: store.runs(suite=suite.name, limit=1)) if store else []
    if not store or not newest or not newest[0].series:
        raise UsageError(f"--resume: suite {suite.name} was not begun yet")
    series = newest[0].series
    runs = await asyncio.to_thread(lambda: store.runs(suite=suite.name, series=series))
    if any(run.status is Status.RUNNING for run in runs):
        raise UsageError(f"--resume: another halotui is at suite {suite.name}")
    keep = None if scene.stage.said.get("dry_run") else store
    runs = await settle(runs, scene.everything, scene.hands, keep, _talk, scene.host.ahead)
    known = {item.key for item in scene.everything}
    if gone := {run.item for run in runs} - known:
        more = "1 item is" if len(gone) == 1 else f"{len(gone)} items are"
        _talk(f"{scene.stage.file} has changed: {more} no longer in it; what is still the same counts")
    return series, course.latest([run for run in runs if run.item in known])


def _looked_up(said: Said, settings: Settings) -> Store | None:
    """The store, for a look without a trace."""
    from halotui.commands.keeping import open_store
    from halotui.runs import StoreError

    try:
        return None if said.get("no_store") else open_store(said, settings, readonly=True)
    except StoreError:
        return None


def _pace(store: Store | None, suite: Suite, items: Sequence[Item]) -> Pace:
    """By what earlier courses took for the same items."""
    from halotui.benching import suite_course as course
    from halotui.runs import Status, StoreError

    pace = course.Pace()
    known = {item.key: item for item in items}
    try:
        runs = store.runs(suite=suite.name, statuses=(Status.OK,), limit=200) if store is not None else []
    except StoreError:  # an estimate less
        return pace
    for run in runs:
        if run.item in known and run.seconds:
            pace.took(known[run.item], run.seconds * course.again(known[run.item], suite, run))
    return pace


def _headline(suite: Suite, series: str, total: int, left: int) -> str:
    done = f", {left} of them left" if left != total else ""
    how = f"{suite.order}, seed {suite.seed}" if suite.order == "shuffled" else suite.order
    return f"{suite.name}: {_many(total)}{done}, {how}, series {series}"


def _many(items: int) -> str:
    return "1 item" if items == 1 else f"{items} items"


def _warn_of_servers(scene: _Scene, ours: Sequence[int]) -> None:
    """What else holds memory and takes time on this box; a demo always has one, and ours will be stopped."""
    if scene.stage.said.get("demo"):
        return
    found = [one.pid for one in scene.host.processes(("llama-server",), ()) if one.pid not in ours]
    if found:
        pids = ", ".join(map(str, found))
        _talk(f"a llama-server runs beside it (pid {pids}): what is measured pays for that")


def _publish(scene: _Scene, runs: Mapping[str, Run]) -> None:
    """The table, its rows as written."""
    from halotui.benching import tables
    from halotui.benching.account import as_object

    said = scene.stage.said
    shown = [runs[item.key] for item in scene.everything if item.key in runs]
    if not shown:
        return
    format_ = tables.format_of(said)
    objects = [as_object(run) for run in shown] if format_ == "json" else None
    tables.put(tables.render(tables.published(shown), format_, objects), said)
    if note := tables.note(shown):
        _talk(note, head="")


def _closing(scene: _Scene, going: Any, runs: Mapping[str, Run], series: str) -> int:
    from halotui.benching.suite_run import MOST_HANGS
    from halotui.runs import Status

    stage = scene.stage
    wrong = [
        runs[item.key] for item in scene.wanted if item.key in runs and runs[item.key].status is not Status.OK
    ]
    missing = sum(item.key not in runs for item in scene.wanted)
    for run in wrong:
        if run.status is not Status.INTERRUPTED:
            _evidence(run)
    if stage.stays and scene.store is not None:
        _talk(f"halotui compare {scene.suite.name} shows it again (series {series})", head="")
    if going.interrupted:
        _talk(f"interrupted: {stage.again}" if stage.again else "interrupted")
        return exits.INTERRUPTED
    if going.gave_up:
        more = f"; then {stage.again}" if stage.again else ""
        _talk(f"{MOST_HANGS} hangs in a row: that is the box; a reboot may help{more}")
    if wrong and stage.again:
        retry = stage.again.replace("goes on", "--retry runs them again")
        _talk(f"{len(wrong)} of {len(scene.wanted)} went wrong; {retry}")
    return exits.FAILURE if wrong or missing else exits.OK


def _evidence(run: Run) -> None:
    """Why, and the last lines that tell."""
    _talk(f"{run.label}: {run.status}: {run.reason}", head="")
    for line in run.evidence[-6:]:
        _talk(f"  | {line}", head="")


async def _listed(scene: _Scene) -> int:
    """What would be run, in what order, and about how long. Nothing is written. Raises UsageError."""
    from halotui.actions import ActionError
    from halotui.benching import suite_course as course
    from halotui.benching.suite_argv import Unsayable
    from halotui.benching.suite_order import shown
    from halotui.format import duration
    from halotui.runs import Kind

    suite, clerk = scene.suite, scene.clerk
    series, done = await _taken_up(scene)
    order = course.left(
        course.ordered(scene.wanted, suite, course.seed_of(series)),
        done,
        retry=bool(scene.stage.said.get("retry")),
    )
    pace = await asyncio.to_thread(_pace, scene.store, suite, scene.everything)
    bad = 0
    for number, item in enumerate(order, 1):
        seconds = pace.seconds([item])
        print(f"{number}. {clean(item.name)}" + (f", about {duration(seconds)}" if seconds else ""))
        if item.kind is Kind.SERVER:
            times = suite.server.repeats if suite.server else 1
            print(f"   launches profile {clean(item.row.profile)}: {item.title}, {times} times each")
            continue
        try:
            made = await clerk.order(item)
        except (ActionError, Unsayable) as error:
            bad += 1
            print(f"   cannot be run: {clean(str(error))}")
            continue
        print(f"   {clean(shlex.join(shown(made)), 4000)}")
        for note in made.notes:
            print(f"   ! {clean(note)}")
    many = _many(len(order))
    whole = pace.seconds(order)
    _talk(f"{many}, about {duration(whole)}" if whole is not None else f"{many}; none was timed yet")
    return exits.FAILURE if bad else exits.OK


def _talk(line: str, head: str = "halotui: ") -> None:
    print(f"{head}{clean(line)}", file=sys.stderr, flush=True)
