"""One item, from its order to its run in the store: by llama-bench, or by requests to a launched server."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from halotui.actions import ActionError, Proposal
from halotui.benching import kin, live, naming
from halotui.benching.child import KILL_SECONDS, TERM_SECONDS
from halotui.benching.kept import Kept
from halotui.benching.measure import GPU_HANG, kernel_since, measure
from halotui.benching.relay import Relay
from halotui.benching.suite_argv import Unsayable
from halotui.benching.suite_course import Item
from halotui.benching.suite_file import Suite, many
from halotui.benching.suite_order import Clerk
from halotui.benching.suite_place import Place, tail
from halotui.benching.suite_server import Refused, Servant, Serving, patch_of, profile_of
from halotui.benching.workloads import WorkError, work
from halotui.capture.capture import Capture
from halotui.collectors import kernel_log, platform
from halotui.collectors.http_wire import door_of
from halotui.hosts import Host, LinkDown
from halotui.hosts.hands import Hands
from halotui.runs import Kind, Result, Run, Status, Store, StoreError, Summary
from halotui.safe import clean

EVIDENCE_LINES = 8  # of the output; the kernel log has its own measure
_STEP = re.compile(r"llama-bench: benchmark (\d+)/(\d+): (.+)")
_WIDTH = 70  # cells of the memory that is told of an item under way

Tell = Callable[[str], None]


@dataclass
class Bench:
    """All that an item needs to be run. ``tell``: a line that stays; ``doing``: what happens just now."""

    suite: Suite
    series: str
    host: Host
    hands: Hands
    store: Store | None
    place: Place
    clerk: Clerk
    tell: Tell
    doing: Tell
    look: Callable[[], str] = field(default=lambda: "")  # a few words on the item under way
    servant: Servant | None = None  # once one was needed

    async def run(self, item: Item) -> Run:
        """To its end, whatever that is; it is in the store then. Raises CancelledError: the user wants no
        more, and the run is INTERRUPTED."""
        try:
            return await (self._served(item) if item.kind is Kind.SERVER else self._benched(item))
        except (ActionError, Unsayable, OSError) as error:
            return await asyncio.to_thread(self._refused, item, _why(error))
        finally:
            self.look = lambda: ""

    async def stop(self) -> None:
        """What a suite started and is still there: a llama-bench, a server; also of an earlier life, or left
        behind by the client of a container. There is one suite at a time, so it is nobody else's."""
        await self._end_benches()
        if not self._launched():
            return
        try:
            await self._servant().stop()
        except ActionError as error:
            self.tell(f"a server of this suite still runs: {_why(error)}")

    def pids(self) -> list[int]:
        """Of the server of a suite."""
        return self._servant().pids() if self._launched() else []

    def kill(self) -> None:
        if self.servant is not None:
            self.servant.kill()

    async def close(self) -> None:
        if self.servant is not None:
            await self.servant.close()

    # --- by llama-bench

    async def _end_benches(self) -> None:
        for number, seconds in ((signal.SIGTERM, TERM_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            left = await asyncio.to_thread(self.hands.marked, self.clerk.mark)
            if not left:
                return
            self.doing("ending a llama-bench that was left behind")
            await asyncio.to_thread(kin.send, self.hands, left, number)
            await kin.gone(self.hands, left, seconds)
        if left := await asyncio.to_thread(self.hands.marked, self.clerk.mark):
            pids = ", ".join(str(who.pid) for who in left)
            self.tell(f"a llama-bench that was left behind cannot be ended (pid {pids}): numbers suffer")

    async def _benched(self, item: Item) -> Run:
        order = await self.clerk.order(item)
        for note in order.notes:
            self.tell(f"{item.name}: {note}")
        log = self.place.log(self.suite.name, self.series, item.key)
        start = log.stat().st_size
        relay = Relay.quiet(log)
        self.look = lambda: " · ".join(filter(None, (step_of(log, start), _memory(relay.now))))
        run = await measure(
            order.command,
            host=self.host,
            hands=self.hands,
            store=self.store,
            run=replace(self._template(item), env=naming.masked_env(order.said)),
            env=order.env,
            cwd=order.cwd,
            hertz=self.suite.hz,
            timeout=self.suite.timeout_seconds,
            relay=relay,
            tell=self.tell,
        )
        if relay.failure:
            self.tell(f"{item.name}: its output could not be kept: {relay.failure}")
        if run.status is Status.OK and not run.results:  # some builds refuse a flag with exit code 0
            lines = tuple(naming.masked_line(clean(line, 300)) for line in tail(log, EVIDENCE_LINES, start))
            run = replace(run, status=Status.FAILED, reason="it printed no result", evidence=lines)
            await asyncio.to_thread(self._mend, run)
        return run

    # --- by a server

    async def _served(self, item: Item) -> Run:
        """The server is stopped whatever happens."""
        profile = self.clerk.profile(item)
        profile = profile_of(item, profile, self.clerk.model(profile), extra=not self.suite.test)
        servant = self._servant()
        await servant.stop()
        proposal = await servant.prepare(item.row.profile, profile, patch_of(item.speculation))
        run = replace(
            self._template(item),
            command=proposal.command_after,
            env=naming.masked_env(profile.env),
            environment=await platform.read(self.host, self.hands),
            started_time=time.time(),
        )
        kept = await asyncio.to_thread(Kept, self.store, run, self.tell)
        capture = Capture(self.host, hertz=self.suite.hz, sink=kept.sink, pids=servant.pids)
        await asyncio.to_thread(capture.start)
        self.look = lambda: _memory(capture.now)
        try:
            run = await self._worked(item, replace(run, id=kept.id), servant, proposal, kept)
        except asyncio.CancelledError:
            run = replace(run, id=kept.id, status=Status.INTERRUPTED, reason="by the user")
            raise
        finally:
            run = await asyncio.shield(self._ended(run, capture, kept))
        return run

    async def _worked(self, item: Item, run: Run, servant: Servant, proposal: Proposal, kept: Kept) -> Run:
        """Launched, and given its work. Raises nothing for what the server does."""
        assert item.server is not None
        serving: Serving | None = None
        lines: Sequence[str] = ()
        results: list[Result] = []

        def put(result: Result) -> None:
            results.append(result)
            kept.result(result)

        try:
            async with asyncio.timeout(self.suite.timeout_seconds):
                serving = await servant.launch(proposal)
                await work(
                    serving.url,
                    serving.api_key,
                    many(item.server.workloads),
                    repeats=item.server.repeats,
                    tell=self._hear,
                    put=put,
                    door=door_of(self.host),
                )
            status, reason = (Status.OK, "") if results else (Status.FAILED, "no workload fits into a slot")
        except Refused as error:
            status, reason, lines = Status.FAILED, error.reason, error.lines
        except WorkError as error:
            gone = serving is not None and await self._gone(serving.pid)
            status = Status.CRASHED if gone else Status.FAILED
            reason = f"the server ended: {error.reason}" if gone else error.reason
        except TimeoutError:
            status, reason = Status.HUNG, f"longer than {self.suite.timeout_seconds:g} s"
        run = replace(run, status=status, reason=clean(reason), results=tuple(results))
        if status is Status.OK:
            return run
        told = lines or await asyncio.to_thread(servant.log_tail, EVIDENCE_LINES)
        kernel = await kernel_since(self.host, self.hands, run.started_time)
        return with_evidence(run, kernel, [clean(line, 300) for line in told])

    async def _gone(self, pid: int) -> bool:
        with suppress(LinkDown):
            return await asyncio.to_thread(self.hands.identify, pid) is None
        return False

    async def _ended(self, run: Run, capture: Capture, kept: Kept) -> Run:
        """The capture ends with the server still there; then it is stopped, and all of it stored."""
        summary = await asyncio.to_thread(capture.stop)
        status = run.status if run.status is not Status.RUNNING else Status.FAILED
        run = replace(run, status=status, seconds=summary.seconds, summary=summary, marks=capture.marks)
        run = await asyncio.to_thread(kept.finish, run)
        await self.stop()
        return run

    def _hear(self, words: str) -> None:
        """From the workloads; that one is left out is said for good."""
        (self.tell if "left out" in words else self.doing)(words)

    def _launched(self) -> bool:
        """Whether a suite ever launched a server."""
        return (self.place.directory / "launches").is_dir()

    def _servant(self) -> Servant:
        if self.servant is None:
            self.servant = Servant(
                self.host, self.hands, self.place.directory, lambda words: self.doing(words)
            )
        return self.servant

    # --- the store

    def _template(self, item: Item) -> Run:
        return Run(kind=item.kind, label=item.label, suite=self.suite.name, series=self.series, item=item.key)

    def _refused(self, item: Item, reason: str) -> Run:
        """It came to no command: that too is a result."""
        now = time.time()
        run = replace(
            self._template(item), status=Status.FAILED, reason=clean(reason), started_time=now, seconds=0.0
        )
        if self.store is not None:
            try:
                return replace(run, id=self.store.add(run))
            except StoreError as error:
                self.tell(f"not kept: {_why(error)}")
        return run

    def _mend(self, run: Run) -> None:
        """What is stored already, once more is known."""
        if self.store is not None and run.id:
            try:
                self.store.finish(run.id, run)
            except StoreError as error:
                self.tell(f"not kept: {_why(error)}")


def _memory(now: Callable[[], Summary] | None) -> str:
    """The pools, without the time of day."""
    return live.line(now(), _WIDTH).partition("  ")[2] if now is not None else ""


def step_of(log: Path, start: int = 0) -> str:
    """What llama-bench says of its progress: ``test 2/4, prompt run 2/5``."""
    found = next((match for line in reversed(tail(log, 8, start)) if (match := _STEP.search(line))), None)
    return f"test {found[1]}/{found[2]}, {clean(found[3], 40)}" if found else ""


def with_evidence(run: Run, kernel: Sequence[str], output: Sequence[str]) -> Run:
    """The lines that say why; where they tell of a GPU that stood still, it is a GPU hang."""
    lines = (*kernel, *output)
    if found := kernel_log.hang(lines):
        run = replace(run, status=Status.HUNG, reason=f"{GPU_HANG}: {found.what} ({run.reason})")
    return replace(run, evidence=lines)


def _why(error: Exception) -> str:
    if isinstance(error, (ActionError, StoreError)):
        return f"{error.reason} ({error.hint})" if error.hint else error.reason
    if isinstance(error, OSError):
        return f"{error.filename or ''} {error.strerror or error}".strip()
    return str(error)
