"""One login: an OpenSSH master of ours, and what it carries.

Its own session, an ``sh`` that mostly waits, tells how far the box's clock is off and whether the link lives.
When we are gone, however that came, its stdin ends, and all ends with it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from halotui.hosts.ssh_errors import LinkError, diagnose
from halotui.hosts.ssh_lane import END, Lane
from halotui.hosts.ssh_terminal import lent
from halotui.safe import clean

MOST = 4 * 1024 * 1024  # bytes of a file that is read whole; one more tells that there is more

_LOGIN_SECONDS = 25.0
_ASKING_SECONDS = 180.0  # sshd itself gives 120
_PING_SECONDS = 5.0
_AWAKE_SECONDS = 2.0  # the same, after we slept
_CLOCK_SECONDS = 60.0
_GRACE_SECONDS = 0.3
_WORDS = 16 * 1024  # of what ssh says, the last bytes
# What a user's configuration may say otherwise, and would break this. Of host keys: nothing, ever.
_OPTIONS = (
    "ControlMaster=yes",
    "ControlPersist=no",
    "ServerAliveInterval=4",
    "ServerAliveCountMax=2",
    "ConnectTimeout=10",
    "Compression=yes",  # tables of text, once a second
    "RequestTTY=no",
    "RemoteCommand=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "Tunnel=no",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "StreamLocalBindMask=0177",
    "VisualHostKey=no",
    "LogLevel=ERROR",
)
# Of 8.7 and newer. IgnoreUnknown would let older ones have them as well, and would take away the user's own.
_NEWER = (
    "ForkAfterAuthentication=no",
    "StdinNull=no",
    "SessionType=default",
    "LogVerbose=channels.c:channel_input_open_failure():*",  # why a connection was not forwarded
)
_SINCE = (8, 7)
_FORBIDDEN = b"open failed: administratively prohibited"
_SAID_MOST = 256 * 1024  # bytes: each connection that is refused there leaves a line
_TIME = re.compile(rb"(\d{1,11})(?:\.(\d+))?\Z")
# A client of the master reads no configuration, and never connects by itself.
_CLIENT = (
    "-F",
    "none",
    "-T",
    "-a",
    "-x",
    "-o",
    "ControlMaster=no",
    "-o",
    "ProxyCommand=false",
    "-o",
    "LogLevel=ERROR",
)
_FACTS = (
    f"date +%s.%N; cat /proc/uptime; {END}"
    f"uname -n; {END}"
    f"cat /proc/$$/environ; {END}"
    f"id -u; {END}"
    f"getconf CLK_TCK; {END}"
    f"readlink -z -- /proc/self/exe /proc/self/exe; {END}"
)
_NOW = f"date +%s.%N; {END}"


class Far(Struct, frozen=True, kw_only=True):
    """Which box, and how it is reached. ``target`` goes to ssh as it is: an alias, user@host, ssh://..."""

    target: str
    ssh_config: Path | None = None  # ssh -F
    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")


class Login:
    """Blocking, from any thread. ``start`` first; over once ``alive`` is False."""

    def __init__(self, far: Far, place: Path, number: int) -> None:
        self.number = number
        self.name = ""
        self.environ: dict[str, str] = {}
        self.ticks = 100
        self.uid = -1
        self.gnu = False  # its readlink takes many
        self.boot: tuple[float, float] | None = None  # Unix seconds of its clock, seconds up: at one moment
        self.ahead = 0.0
        self.round_trip: float | None = None  # seconds, of the last one
        self.dead: str = ""  # why we ended it
        self.crowded = False  # sshd there opens no more sessions: who has none shares ours
        self._far = far
        self._control = place / f"c{number}"
        self._said = place / f"e{number}"
        self._master: subprocess.Popen[bytes] | None = None
        self._keeper: Lane | None = None
        self._turn = threading.Lock()  # of the keeper
        self._children: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._over = False
        self._clock_at = 0.0
        self.best = float("inf")  # seconds of the shortest round trip of the clock
        self._slept = _slept()

    @property
    def target(self) -> str:
        return self._far.target

    @property
    def interrupted(self) -> bool:
        """By Ctrl-C, while it had the terminal."""
        return self._master is not None and self._master.returncode in (-signal.SIGINT, 130)

    @property
    def alive(self) -> bool:
        if self._over or self.dead:
            return False
        return self._master is not None and self._master.poll() is None

    def start(self, *, ask: bool = False) -> None:
        """Connect, and learn what every login is told. Raises LinkError; it is closed then."""
        try:
            argv = self._argv(ask)
            with open(self._said, "wb", opener=_private) as said, lent(ask) as bring_to_front:
                with self._guard:
                    if self._over:
                        raise LinkError("closed")
                    self._master = subprocess.Popen(
                        argv,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=said,
                        start_new_session=not ask,  # no Ctrl-C of our terminal, and no terminal to ask on
                        process_group=0 if ask else None,
                    )
                bring_to_front(self._master.pid)
                self._learn(_ASKING_SECONDS if ask else _LOGIN_SECONDS)
        except FileNotFoundError:
            raise LinkError("there is no ssh here", "install the OpenSSH client", refused=True) from None
        except OSError as error:
            self.close()
            raise LinkError(f"ssh: {clean(error.strerror or str(error))}") from None
        except BaseException:
            self.close()
            raise

    def _argv(self, ask: bool) -> list[str]:
        far = self._far
        config = ["-F", os.fspath(far.ssh_config)] if far.ssh_config else []
        said = (*_OPTIONS, *(_NEWER if _version() >= _SINCE else ()), f"BatchMode={'no' if ask else 'yes'}")
        options = [word for option in said for word in ("-o", option)]
        master = ("-M", "-S", str(self._control), "-T", "-a", "-x")
        return ["ssh", *config, *master, *options, "--", far.target, "exec sh"]

    def _learn(self, seconds: float) -> None:
        assert self._master
        self._keeper = Lane(self._master, MOST + 1)
        try:
            now, name, environ, uid, ticks, gnu = self._keeper.trip(_FACTS, 6, seconds)
        except TimeoutError:
            raise LinkError(f"no answer within {seconds:g} s", "is it on, and reachable from here?") from None
        except EOFError:
            raise self._why() from None
        clock, _, uptime = now.partition(b"\n")
        with suppress(ValueError, IndexError):
            self.boot = _clock(clock), float(uptime.split()[0])
        self.name = clean(name.strip()) or self._far.target
        pairs = (pair.partition("=") for pair in os.fsdecode(environ).split("\0"))
        self.environ = {key: value for key, sign, value in pairs if sign}
        self.uid = int(uid) if uid.strip().isdigit() else -1
        if ticks.strip().isdigit():
            self.ticks = int(ticks)
        self.gnu = gnu.count(b"\0") == 2
        try:
            self.tell_time()
        except (EOFError, TimeoutError):
            raise self._why() from None

    def _why(self) -> LinkError:
        """The master has ended, or is about to."""
        assert self._master
        with suppress(subprocess.TimeoutExpired):
            self._master.wait(1.0)
        return diagnose(self.words(), self._far.target, self._master.returncode)

    def words(self) -> bytes:
        """What ssh has said, the end of it."""
        with suppress(OSError), self._said.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _WORDS))
            return file.read()
        return b""

    def forbidden(self) -> int:
        """How often sshd there would not forward a connection."""
        with suppress(OSError):
            if self._said.stat().st_size > _SAID_MOST:
                os.truncate(self._said, 0)
            return self._said.read_bytes().count(_FORBIDDEN)
        return 0

    def trip(self, text: str, sections: int, seconds: float) -> list[bytes]:
        """As a lane's, in the session that each login has. What hangs there takes the login with it. Raises
        EOFError."""
        assert self._keeper
        with self._turn:
            try:
                return self._keeper.trip(text, sections, seconds)
            except TimeoutError:
                self.end("a file there hangs, and its sshd allows no session beside it (MaxSessions)")
                raise EOFError from None

    @property
    def heard_at(self) -> float:
        """Monotonic seconds of the last byte in its own session."""
        return self._keeper.heard_at if self._keeper else 0.0

    def lost(self) -> LinkError:
        """Why it is over."""
        return LinkError(self.dead) if self.dead else diagnose(self.words(), self._far.target)

    def tell_time(self) -> None:
        """Measure its clock against ours, once a minute. Raises EOFError, TimeoutError."""
        if self._keeper is None or time.monotonic() < self._clock_at + _CLOCK_SECONDS:
            return
        if not self._turn.acquire(blocking=not self._clock_at):
            return
        try:
            start = time.monotonic()
            (told,) = self._keeper.trip(_NOW, 1, _PING_SECONDS)
            took = time.monotonic() - start
            now = time.time()
        except (EOFError, TimeoutError):
            self.end("the link is dead: no answer")
            raise
        finally:
            self._turn.release()
        self._clock_at = time.monotonic()
        self.round_trip = took
        if took <= 2 * self.best:  # a late answer tells less than the last one did
            self.best = min(took, self.best)
            with suppress(ValueError):
                self.ahead = _clock(told) - (now - took / 2)

    def check(self) -> bool:
        """Whether the other end still answers; a dead link is ended. After a sleep of ours, at once."""
        seconds, slept = _PING_SECONDS, _slept()
        if slept > self._slept + 5:
            seconds, self._slept = _AWAKE_SECONDS, slept
        with self._turn:
            if not self.alive or self._keeper is None:
                return False
            try:
                self._keeper.trip(END, 1, seconds)
            except (TimeoutError, EOFError):
                self.end("the link is dead: no answer")
                return False
            return True

    def channel(self, command: str = "exec sh", *, words: bool = False) -> subprocess.Popen[bytes]:
        """A client of the master, in pipes; it is ours to end. Raises OSError."""
        with self._guard:
            if self._over:
                raise ConnectionError("closed")
            self._children = {child for child in self._children if child.poll() is None}
            child = subprocess.Popen(
                self.client("--", self._far.target, command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if words else subprocess.DEVNULL,
                start_new_session=True,
            )
            self._children.add(child)
        return child

    def client(self, *words: str) -> list[str]:
        """The argv of a client of the master."""
        return ["ssh", *_CLIENT, "-S", str(self._control), *words]

    def control(self, command: str, forward: Sequence[str]) -> None:
        """``ssh -O``. Raises OSError."""
        try:
            done = subprocess.run(
                self.client("-O", command, *forward, "--", self._far.target),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                start_new_session=True,
                timeout=_PING_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError("ssh does not answer") from None
        if done.returncode:
            raise OSError(diagnose(done.stderr, self._far.target).reason)

    def end(self, why: str) -> None:
        """At once, without a word to the other end."""
        self.dead = self.dead or why
        if self._master and self._master.poll() is None:
            self._master.kill()

    def close(self) -> None:
        """Nothing of it is left here, and there all ends whose stdin has."""
        with self._guard:
            self._over = True
            children, self._children = self._children, set()
        master = self._master
        if master and master.poll() is None:
            master.terminate()
        for child in children:
            child.kill()
        if master:
            try:
                master.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                master.kill()
                master.wait()
        for child in children:
            child.wait()
        for path in (self._control, self._said):
            path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _clock(told: bytes) -> float:
    """Where ``date`` knows no fractions, the middle of the second."""
    if (time_ := _TIME.match(told.strip())) is None:
        raise ValueError
    return int(time_[1]) + (float(b"0." + time_[2]) if time_[2] else 0.5)


@lru_cache(1)
def _version() -> tuple[int, ...]:
    """Of the ssh here. Raises FileNotFoundError."""
    said = subprocess.run(["ssh", "-V"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PING_SECONDS)
    found = re.match(rb"OpenSSH\D*(\d+)\.(\d+)", said.stderr)
    return tuple(map(int, found.groups())) if found else ()


def _slept() -> float:
    """Seconds that this machine has been suspended since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
