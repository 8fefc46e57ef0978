"""Whoever relaunches a far box's server may be gone between stop and start: so a shell stays there meanwhile.

It holds how the old server was started, hears from us every few seconds, and starts that one again where it
has heard nothing for so long, the old one is gone, no new one lives and the port is free. Words are signals
(USR1: here we are; TERM: done), so that no channel has to last. It is marked, like what it starts, for who
takes the undertaking up. Nothing of it is in a file, nor in a command line.
"""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from halotui.hosts import LinkDown, shell
from halotui.hosts.hands import MARK, Identity
from halotui.hosts.ssh_hands import SshHands
from halotui.servers import stopping
from halotui.servers.launch import Launch, Plan

GUARD = "-guard"  # ends its mark
BACK = "-back"  # ends the mark of what was put back
PORT_SECONDS = 60  # longer, and the port is somebody else's
LEAST_WATCH_SECONDS = 120  # over what lives, before it is left alone
LEAVES_SECONDS = 15.0  # it starts a server at that very moment

_SCRIPT = """\
unset {mark}
{prelude}
left={heart} told= tries=0
trap 'left={heart}' USR1
trap 'told=1' TERM
tick() {{ sleep 1 & wait $!; [ -z "$told" ] || exit 0; left=$((left-1)); }}
marked() {{
{marked}}}
other() {{ p=$({other}) && [ "${{p:-0}}" -gt 0 ] && [ "$p" != {old} ]; }} 2>/dev/null
lives() {{ [ "$(started {old})" = {ticks} ] || [ -n "$(marked)" ] || other; }}
busy() {{ grep -qs ": [0-9A-F]*:{port} [0-9A-F]*:0000 0A" "$P/net/tcp" "$P/net/tcp6"; }}
start={start}
while :; do
while [ $left -gt 0 ]; do tick; done
n=0
while lives; do
[ $n -lt {watch} ] || exit 0
n=$((n+1)); tick
[ $left -le 0 ] || continue 2
done
n=0
while busy; do
[ $n -lt {wait} ] || exit 0
n=$((n+1)); tick
[ $left -le 0 ] || continue 2
done
tries=$((tries+1))
case $tries in
1) ;;
[23]) n=0; while [ $n -lt $((tries*30-50)) ]; do n=$((n+1)); tick; done; lives && continue;;
*) exit 1;;
esac
[ -z "$told" ] || exit 0
printf %s "$start" | env -i PATH="$PATH" sh >/dev/null 2>&1
{once}
n=0
until [ -n "$(marked)" ] || [ $n -ge 5 ]; do n=$((n+1)); sleep 1; done
done
"""


def script(plan: Plan, heart: float, procfs: str) -> str:
    """What it does, where what runs now is to be replaced."""
    before, after = plan.before, plan.after
    assert before is not None
    there = stopping.place(before.launch.url)
    find = _quiet(after.find_pid) if after is not None and after.find_pid else "echo 0"
    watch = after.load_seconds if after is not None else 0
    return _SCRIPT.format(
        mark=MARK,
        prelude=shell.prelude(procfs),
        heart=max(1, round(heart)),
        marked=shell.marked(plan.id, plan.id + BACK),
        other=find,
        old=before.who.pid,
        ticks=before.who.ticks,
        port=f"{there[1]:04X}" if there else "none",
        start=shlex.quote(_start(before.launch, plan.id + BACK, procfs)),
        watch=round(max(watch, before.launch.load_seconds if watch else 0, LEAST_WATCH_SECONDS)),
        wait=PORT_SECONDS,
        once="exit 0" if before.launch.hands_over else ":",
    )


def _start(launch: Launch, mark: str, procfs: str) -> str:
    """As ``Steps`` would: detached, or by the command that hands it over."""
    if launch.hands_over:
        return shell.ran(launch.argv, launch.env, None, stopping.Patience().command)
    return shell.launched(launch.argv, marked(launch.env, mark), launch.cwd, launch.log, procfs)


def marked(env: Mapping[str, str], mark: str) -> dict[str, str]:
    return {**env, MARK: mark}


def _quiet(argv: Sequence[str]) -> str:
    return f"{shlex.join(argv)} 2>/dev/null </dev/null"


class Guard:
    """Its side here. Blocking, from any thread; ``hands`` are those that raise LinkDown."""

    def __init__(self, hands: SshHands, plan: Plan, heart: float, procfs: Path) -> None:
        self.heart = heart
        self._hands = hands
        self._plan = plan
        self._procfs = str(procfs)
        self._lock = threading.Lock()
        self._who: Identity | None = None

    def stand(self) -> None:
        """One is there, and hears us, from now on. Raises OSError."""
        with self._lock:
            if self._who is None:
                self._end()
                self._stand()

    def renew(self) -> None:
        """After a time without a link: the one that may have begun to act is ended, another one stands.
        What it has put back is found by its mark. Raises OSError."""
        with self._lock:
            if self._who is not None:
                self._end()
                self._stand()

    def beat(self) -> None:
        """Here we are. Raises OSError."""
        with self._lock:
            if self._who is None or self._hands.signal(self._who, signal.SIGUSR1):
                return
            self._end()
            self._stand()  # it was killed, or has acted

    def dismiss(self) -> None:
        """Done, or somebody else's from an earlier time ended. Raises OSError."""
        with self._lock:
            self._end()
            self._who = None

    def _stand(self) -> None:
        self._who = self._hands.stay(script(self._plan, self.heart, self._procfs), self._plan.id + GUARD)

    def _end(self) -> None:
        """TERM is heard between its steps: a server that it is about to start has its mark afterwards."""
        deadline = time.monotonic() + LEAVES_SECONDS
        number = signal.SIGTERM
        while left := self._hands.marked(self._plan.id + GUARD):
            self._hands.signal(left[0], number)  # the oldest: the others are of its own making
            if time.monotonic() > deadline:
                number = signal.SIGKILL
            if time.monotonic() > 2 * LEAVES_SECONDS + deadline:
                raise LinkDown("the guard there does not end")
            time.sleep(0.05)
