"""What the keys do that change a server: which pop-up follows which, and what goes on behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol

from textual.app import App
from textual.screen import Screen

from halotui.actions import Ask, Desk, Kind, Outcome, Proposal, Standing
from halotui.model import Finding, Server, ServerState
from halotui.screens.checklist import Checklist, no_profile
from halotui.screens.cut_off import CutOff
from halotui.screens.launcher import Launcher
from halotui.screens.popup import OpenDesk, reason
from halotui.screens.prompt import Prompt
from halotui.screens.result import Result
from halotui.screens.undertaking import Story, Undertaking

LOOK_SECONDS = 2.0  # between two looks at what another halotui does


class Cockpit(Protocol):
    """What is needed of the app."""

    def server(self) -> Server | None: ...

    async def looked(self) -> None:
        """Returns once the box is what is looked at."""

    def note(self, text: str, loud: bool = False) -> None:
        """A few words at the foot; empty: none."""

    async def keep(self, name: str, data: bytes) -> None:
        """Into the state directory."""


class Relaunch:
    """One a box. Each public coroutine is a key, and returns when its pop-ups are gone."""

    def __init__(self, app: App[Any], cockpit: Cockpit, open_desk: OpenDesk) -> None:
        self._app, self._cockpit, self._open_desk = app, cockpit, open_desk
        self._opening: asyncio.Task[Desk] | None = None
        self._story: Story | None = None  # under way
        self._standing: Standing | None = None  # cut off, and put off

    async def desk(self) -> Desk:
        """Opened on first need, once; after a failure anew."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.ensure_future(self._open_desk())
        return await asyncio.shield(self._opening)

    async def close(self) -> None:
        if self._opening is not None and self._opening.done() and self._opening.exception() is None:
            await self._opening.result().close()

    # --- the keys

    async def relaunch(self, finding: Finding | None = None) -> None:
        if not await self._busy():
            await self._carry_out(await self._show(Launcher(self.desk, self._url(), finding)))

    async def swap(self) -> None:
        server = self._url()

        async def asked() -> Ask:
            name = await (await self.desk()).swap_profile(server)
            if name is None:
                return await no_profile()
            return Ask(kind=Kind.RELAUNCH, server=server, profile=name, measure=True)

        await self._confirm(asked)

    async def undo(self) -> None:
        await self._confirm(self._simply(Kind.UNDO))

    async def stop(self) -> None:
        """Or start again what was stopped."""
        server = self._cockpit.server()
        down = server is None or server.state is ServerState.DOWN
        await self._confirm(self._simply(Kind.START if down else Kind.STOP))

    async def save(self) -> None:
        """What runs, as a profile in config.toml."""
        name = await self._show(Prompt("name of the new profile"))
        if name and name.strip():
            path = await (await self.desk()).save(self._url(), name.strip())
            self._app.notify(f"profile {name.strip()}: {path}", timeout=6, markup=False)

    async def look(self) -> None:
        """For what an earlier halotui left unfinished, or does right now."""
        desk = await self.desk()
        standing, seen = await desk.standing(), None
        while standing is not None and standing.running:
            seen = standing
            self._cockpit.note(f"{standing.kind}: {standing.step}")
            await asyncio.sleep(LOOK_SECONDS)
            standing = await desk.standing()
        self._cockpit.note("")
        if standing is not None:
            self._standing = standing
            await self._offer(standing)
        elif seen is not None and (outcome := await desk.last()) is not None and outcome.id == seen.id:
            await self._tell(outcome)

    # --- what they share

    def _url(self) -> str:
        server = self._cockpit.server()
        return server.url if server is not None else ""

    def _simply(self, kind: Kind) -> Callable[[], Awaitable[Ask]]:
        server = self._url()

        async def asked() -> Ask:
            return Ask(kind=kind, server=server)

        return asked

    async def _show(self, screen: Screen[Any]) -> Any:
        await self._cockpit.looked()
        return await self._app.push_screen_wait(screen)

    async def _busy(self) -> bool:
        """One at a time: what is under way or unfinished is shown instead."""
        if self._story is not None:
            await self._show(Undertaking(self.desk, self._story))
        elif self._standing is not None and await self._unfinished():
            await self._offer(self._standing)
        else:
            return False
        return True

    async def _unfinished(self) -> bool:
        """Whether something is: another terminal may have finished it."""
        standing = await (await self.desk()).standing()
        self._standing = standing if standing is not None and not standing.running else None
        if self._standing is None:
            self._cockpit.note("")
        return self._standing is not None

    async def _confirm(self, asked: Callable[[], Awaitable[Ask]]) -> None:
        if not await self._busy():
            await self._carry_out(await self._show(Checklist(self.desk, asked)))

    async def _offer(self, standing: Standing) -> None:
        self._cockpit.note(f"{standing.kind} unfinished", loud=True)
        kind = await self._show(CutOff(standing))
        if kind is None:
            return

        async def asked() -> Ask:
            return Ask(kind=kind, server=standing.url)

        await self._carry_out(await self._show(Checklist(self.desk, asked)))

    async def _carry_out(self, proposal: Proposal | None) -> None:
        """Follow it to its end, looked at or not, and tell how it ended."""
        if proposal is None:
            return
        self._standing = None
        story = self._story = Story(proposal)
        self._app.push_screen(Undertaking(self.desk, story))
        outcome: Outcome | None = None
        try:
            async with aclosing((await self.desk()).carry_out(proposal.id)) as heard:
                async for progress in heard:
                    story.hear(progress)
                    outcome = progress.outcome or outcome
                    self._cockpit.note(f"{proposal.ask.kind}: {story.note}", loud=bool(story.question))
                    for screen in self._open():
                        screen.draw()
        except Exception:  # not when halotui is being closed: nothing is left to draw on
            await self._over()
            raise
        await self._over()
        if outcome is not None:
            await self._tell(outcome)

    async def _over(self) -> None:
        """Nothing goes on any more; what is left unfinished is said."""
        opened, self._story = self._open(), None
        self._cockpit.note("")
        for screen in opened:
            screen.dismiss(None)
        if await self._unfinished() and self._standing is not None:
            self._cockpit.note(f"{self._standing.kind} unfinished", loud=True)

    def _open(self) -> list[Undertaking]:
        """Its own: another box may have one under way too."""
        stack = (screen for screen in self._app.screen_stack if isinstance(screen, Undertaking))
        return [screen for screen in stack if screen.story is self._story]

    async def _tell(self, outcome: Outcome) -> None:
        wanted = await self._show(Result(outcome, self._cockpit.keep))
        if wanted == "undo":
            await self.undo()
        elif wanted == "save":
            await self.save()

    async def guarded(self, doing: Awaitable[None]) -> None:
        """Whatever goes wrong is said: it costs the key, not the cockpit."""
        try:
            await doing
        except Exception as error:
            why = reason(error)
            await self._cockpit.looked()
            said = "\n".join(line for line in (why.reason, why.hint) if line)
            self._app.notify(said, severity="error", timeout=10, markup=False)
