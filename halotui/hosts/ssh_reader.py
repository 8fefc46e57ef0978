"""Who asks while another's trip is on its way shares the next one: many threads, one lane."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from halotui.hosts import LinkDown
from halotui.hosts.ssh_ahead import NOTHING, Ahead
from halotui.hosts.ssh_errno import Failed
from halotui.hosts.ssh_lane import Lane
from halotui.hosts.ssh_login import MOST, Login
from halotui.hosts.ssh_reads import AGAIN, Ask, Part, alone, parts

_SECONDS = 3.0  # an answer takes at most, round trip apart
_TURN_SECONDS = 15.0  # to wait for those who came before
_SLOW_SECONDS = 0.4  # a longer trip makes no answer fresh for longer: the next tick is near
_REST_SECONDS = 5.0  # between a lane that hung and the next
_HUNG = 3  # lanes that hang there at one time: sshd allows ten channels in all
_STUCK_SECONDS = 60.0  # a file that hung by itself is left alone
_FAILED = 255  # ssh's own exit code
_UNSURE = Failed(5, "Input/output error")


class _Waiting:
    __slots__ = ("answer", "ask")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.answer: Any = NOTHING


class Reader:
    """Of one kind of file: what hangs there costs no other. ``login`` gives the one there is, or raises."""

    def __init__(self, login: Callable[[], Login], expected: Iterable[str], first: Iterable[Ask]) -> None:
        self.ahead = Ahead()
        self.trips = 0  # for whoever measures
        self.waited_seconds: float | None = None  # for the last of them
        self._login = login
        self._first = (tuple(expected), tuple(first))
        self._number = 0  # of the login that we read through
        self._lane: Lane | None = None
        self._hung: list[Lane] = []
        self._rest_until = 0.0
        self._stuck: dict[Ask, float] = {}  # until when
        self._suspects: set[Ask] = set()  # one of them hung
        self._patterns: dict[str, None] = {}
        self._extra: list[Ask] = []
        self._pending: list[_Waiting] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    @property
    def heard_at(self) -> float:
        """Monotonic seconds of the last byte that came."""
        return self._lane.heard_at if self._lane else 0.0

    def expect(self, patterns: Iterable[str]) -> None:
        """With the next question."""
        with self._guard:
            self._patterns.update(dict.fromkeys(patterns))

    def answer(self, ask: Ask, seconds: float = _SECONDS) -> Any:
        """Raises OSError, LinkDown, TimeoutError."""
        (answer,) = self.answers((ask,), seconds)
        if isinstance(answer, Failed):
            raise answer.error(ask.path)
        return answer

    def answers(self, asks: Sequence[Ask], seconds: float = _SECONDS) -> list[Any]:
        """Of all, in one trip; a question that went wrong there is answered by Failed. Raises LinkDown,
        TimeoutError."""
        self._login()
        now = time.monotonic()
        waiting = [_Waiting(ask) for ask in asks]
        for one in waiting:
            one.answer = self.ahead.take(one.ask, now)
        missing = [one for one in waiting if one.answer is NOTHING]
        if missing:
            self._wait(missing, seconds)
        for one in waiting:
            if isinstance(one.answer, Exception):
                raise type(one.answer)(*one.answer.args)
        return [one.answer for one in waiting]

    def _wait(self, missing: list[_Waiting], seconds: float) -> None:
        with self._guard:
            self._pending += missing
        if not self._turn.acquire(timeout=_TURN_SECONDS + seconds):
            with self._guard:
                self._pending = [one for one in self._pending if one not in missing]
            raise TimeoutError("the far box is slow")
        try:
            if all(one.answer is not NOTHING for one in missing):
                return
            with self._guard:
                batch, self._pending = self._pending, []
            self._serve(batch, seconds)
        finally:
            self._turn.release()

    def _serve(self, batch: list[_Waiting], seconds: float) -> None:
        try:
            login = self._login()
            self._follow(login)
            now = time.monotonic()
            for one in batch:
                if self._stuck.get(one.ask, 0.0) > now:
                    one.answer = TimeoutError(f"{one.ask.path}: it hung")
                elif one.answer is NOTHING:
                    one.answer = self.ahead.take(one.ask, now)  # it came while we waited
            asked = dict.fromkeys(one.ask for one in batch if one.answer is NOTHING)
            together = [ask for ask in asked if ask not in self._suspects]
            answers: dict[Ask, Any] = {}
            if together or self._patterns:
                answers |= self._trip(login, together, seconds)
            for ask in asked:
                if ask in self._suspects:
                    answers |= self._trip(login, [ask], seconds)
            for one in batch:
                if one.answer is NOTHING:
                    one.answer = answers.get(one.ask, _UNSURE)
            with suppress(EOFError, TimeoutError):
                login.tell_time()
        except Exception as error:
            for one in batch:
                if one.answer is NOTHING:
                    one.answer = error

    def _follow(self, login: Login) -> None:
        """What was of another login is no more."""
        if login.number == self._number:
            return
        self._number, self._lane = login.number, None
        self._hung.clear()
        self._suspects.clear()
        self._stuck.clear()
        self._rest_until = 0.0
        self.ahead.forget()
        expected, self._first_asks = self._first
        with self._guard:
            self._patterns.update(dict.fromkeys(expected))
            self._extra = list(self._first_asks)

    def _trip(self, login: Login, asked: list[Ask], seconds: float) -> dict[Ask, Any]:
        by_itself = len(asked) == 1 and asked[0] in self._suspects
        now = time.monotonic()
        with self._guard:
            patterns, extra = ((), []) if by_itself else (tuple(self._patterns), self._extra)
            if not by_itself:
                self._patterns, self._extra = {}, []
        if not by_itself:
            extra = [*extra, *(ask for ask in self.ahead.companions(asked, now) if ask not in self._suspects)]
            extra = [ask for ask in dict.fromkeys(extra) if ask not in self._stuck]
        asks = list(dict.fromkeys((*asked, *extra)))
        script = parts(tuple(asks), gnu=login.gnu)
        if patterns:
            expected = Ask("expect", "", patterns)
            script += parts((expected,), gnu=login.gnu)
        answers = self._run(login, script, asks, seconds)
        if doubtful := [ask for ask, answer in answers.items() if answer is AGAIN]:
            again = self._run(login, [alone(ask, gnu=login.gnu) for ask in doubtful], doubtful, seconds)
            answers |= {ask: _UNSURE if answer is AGAIN else answer for ask, answer in again.items()}
        begun, now = now, time.monotonic()
        if patterns:
            files = answers.pop(expected, AGAIN)
            self.ahead.expected(patterns, {} if files is AGAIN else files, begun, now)
        self.ahead.brought(begun, now, answers, asked)
        self._suspects.difference_update(answers)
        return answers

    def _run(
        self, login: Login, script: Sequence[Part], asks: Sequence[Ask], seconds: float
    ) -> dict[Ask, Any]:
        text = "".join(part.text for part in script)
        count = sum(part.sections for part in script)
        begun = time.monotonic()
        sections = self._exchange(login, text, count, asks, seconds)
        self.trips += 1
        self.waited_seconds = time.monotonic() - begun
        self.ahead.trip_seconds = min(self.waited_seconds, _SLOW_SECONDS)
        if not any(ask.verb == "part" for ask in asks[:1]):  # it tells of their size
            login.round_trip = self.waited_seconds
        answers: dict[Ask, Any] = {}
        at = 0
        for part in script:
            with suppress(ValueError, IndexError):  # a program there that does not say what it should
                answers.update(part.parse(sections[at : at + part.sections]))
            at += part.sections
        return answers

    def _exchange(
        self, login: Login, text: str, count: int, asks: Sequence[Ask], seconds: float
    ) -> list[bytes]:
        for _ in range(2):
            fresh = self._lane is None
            seconds_now = seconds + (3 if fresh else 1) * (login.round_trip or 0.0)
            if fresh and login.crowded:
                with suppress(EOFError):
                    return login.trip(text, count, seconds_now)
                break
            lane = self._lane or self._open(login)
            try:
                return lane.trip(text, count, seconds_now)
            except TimeoutError:
                self._abandon(login, lane, asks)
                raise TimeoutError("a file of the far box hangs") from None
            except EOFError:
                self._lane = None
                lane.close()
                if not login.alive:
                    break
                login.crowded |= fresh and _refused(lane)
        if not login.alive:
            raise LinkDown(login.lost().reason)
        login.check()
        raise LinkDown("its sh ended") if login.alive else LinkDown(login.lost().reason)

    def _open(self, login: Login) -> Lane:
        now = time.monotonic()
        self._hung = [lane for lane in self._hung if lane.child.poll() is None]
        if now < self._rest_until or len(self._hung) >= _HUNG:
            raise TimeoutError("files of the far box hang")
        try:
            self._lane = Lane(login.channel(), MOST + 1)
        except OSError as error:
            raise LinkDown(str(error)) from None
        return self._lane

    def _abandon(self, login: Login, lane: Lane, asks: Sequence[Ask]) -> None:
        """Its sh ends when what hangs does. Which file that is, is found out by asking one by one."""
        self._lane = None
        lane.close()
        if not login.check():
            raise LinkDown(login.lost().reason)
        self._hung.append(lane)
        self.ahead.drop()
        if len(asks) == 1:
            self._stuck = {ask: until for ask, until in self._stuck.items() if until > time.monotonic()}
            self._stuck[asks[0]] = time.monotonic() + _STUCK_SECONDS
            self._suspects.discard(asks[0])
        else:
            self._suspects.update(asks)
            self._rest_until = time.monotonic() + (_REST_SECONDS if self._hung[1:] else 0.0)


def _refused(lane: Lane) -> bool:
    """sshd there has opened no session for it (MaxSessions)."""
    with suppress(subprocess.TimeoutExpired):
        return lane.child.wait(1.0) == _FAILED
    return False
