"""Where logs go, and how each kind of place is followed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from halotui.collectors.log_commands import CommandFollower, Program, Stamp
from halotui.collectors.log_far import FarFollower
from halotui.collectors.log_follow import Follower, LogFollower, StdinFollower
from halotui.hosts import Host
from halotui.model import LogPlace, SourceState, Unavailable
from halotui.safe import clean

NEWEST = "5000"  # lines, where there are more than a first look takes
FAR_NEWEST = "1000"
_BY_FILE = "start llama-server with --log-file, or give its log with --log"
_DENIED, _ABSENT = SourceState.DENIED, SourceState.ABSENT


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of place is called and followed: from a place, its box, the time now and what stdin is."""

    label: Callable[[LogPlace], str]
    name: Callable[[LogPlace], str]
    follow: Callable[[LogPlace, Host, float, int], Follower]


def name(place: LogPlace) -> str:
    """For people: the path, "journal UNIT", "podman logs NAME", "-"."""
    return clean(KINDS[place.kind].name(place))


def label(place: LogPlace) -> str:
    """What tells the log, in a word or two: file, standard input, journal, podman logs."""
    return KINDS[place.kind].label(place)


def follow(place: LogPlace, host: Host, now: float, stdin: int = 0) -> Follower:
    """Follow it: ``now`` in Unix seconds, ``stdin`` the descriptor that "-" is read from: ours."""
    return KINDS[place.kind].follow(place, host, now, stdin)


def nowhere(stderr_to: str) -> Unavailable:
    """Why a server has no log that can be followed: by where its standard error goes."""
    reason, hint = _NOWHERE.get(stderr_to, _NOWHERE[""])
    return Unavailable(SourceState.ABSENT, reason, hint)


def _stamps(pattern: bytes, moment: Callable[[bytes], int], torn: bytes | None = None) -> Stamp:
    lines = re.compile(rb"(?>" + pattern + rb"[^\n]*+\n)*+")
    return Stamp(re.compile(pattern), lines, moment, re.compile(torn) if torn is not None else None)


def _unix(stamp: bytes) -> int:
    seconds, _, micros = stamp.partition(b".")
    return int(seconds) * 10**9 + int(micros) * 1000


def _rfc3339(stamp: bytes) -> int:
    """A date that is none is as old as can be."""
    parts = _DATE.fullmatch(stamp.decode())
    try:
        second, fraction, zone = parts.groups("") if parts else ("", "", "")
        date = datetime.fromisoformat(second + zone.replace("Z", "+00:00"))
        return int(date.timestamp()) * 10**9 + int(fraction[:9].ljust(9, "0"))
    except (ValueError, OverflowError):
        return 0


_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ", re.ASCII)
_JOURNAL = _stamps(rb"\d{1,12}\.\d{6} ", _unix)  # 1763740000.123456 host llama-server[123]: ...
_CONTAINER = _stamps(  # 2026-11-21T15:00:00.123456789Z ..., or +00:00
    _DATE.pattern.encode(),
    _rfc3339,
    # podman puts one before each 8 KiB that it read of a line
    rb"(?<=[^\n])\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d) ",
)


def _journal(place: LogPlace, newest: str = NEWEST) -> Program:
    denied, group = (
        f"the journal of {clean(place.name)} may not be read",
        "sudo usermod -aG systemd-journal $USER, then log in again",
    )
    unit = ("--user", f"--unit={place.name}") if place.user else (f"--unit={place.name}",)
    return Program(
        name="journalctl",
        argv=("journalctl", "--output=short-unix", "--all", *unit),
        since="--since=@{}",
        follow=("--follow", "--no-tail"),
        newest=("--follow", f"--lines={newest}"),
        last=(),
        stamp=_JOURNAL,
        troubles=(
            ("insufficient permissions", _DENIED, denied, group),
            ("not seeing messages from other users", _DENIED, denied, group),
            ("no journal files were found", _ABSENT, "there is no journal here", _BY_FILE),
        ),
        hint=f"journalctl -u {clean(place.name)} has it, if the unit's StandardError is the journal",
        missing=_BY_FILE,
    )


def _container(place: LogPlace, newest: str = NEWEST) -> Program:
    engine = place.engine or "podman"
    unknown = f"{engine} knows no container {clean(place.name)}"
    return Program(
        name=f"{engine} logs",
        argv=(engine, "logs", "--timestamps"),
        since="--since={}",
        follow=("--follow",),
        newest=("--follow", f"--tail={newest}"),
        last=("--", place.name),
        stamp=_CONTAINER,
        troubles=(
            (
                "permission denied",
                _DENIED,
                f"{engine} may not be asked",
                f"sudo usermod -aG {engine} $USER, then log in again",
            ),
            ("no such container", _ABSENT, unknown, _WHOSE),
            ("no container with name", _ABSENT, unknown, _WHOSE),
            (
                "cannot connect to",
                _ABSENT,
                f"{engine} does not answer",
                f"is it running? systemctl status {engine}",
            ),
            ("does not support reading", _ABSENT, "its log driver keeps nothing", _BY_DRIVER),
            ("cannot read logs", _ABSENT, "its log driver keeps nothing", _BY_DRIVER),
        ),
        hint=_BY_DRIVER,
        missing=_BY_FILE,
    )


_WHOSE = "only who started it sees it: run halotui as that user"
_BY_DRIVER = "start the container with another --log-driver, or llama-server with --log-file"
_NOWHERE = {  # where standard error goes: why that cannot be followed, what can
    "pipe": ("its log goes into a pipe", "pipe it here: llama-server ... 2>&1 | halotui --log -"),
    "tty": ("its log goes to a terminal", "start llama-server with --log-file, or with 2> FILE"),
    "journal": ("its log goes to the journal, and to no unit's", _BY_FILE),
    "": ("where its log goes cannot be seen", _BY_FILE),
}


def _file(place: LogPlace, host: Host, *_: object) -> Follower:
    return LogFollower(place.name) if host.here else FarFollower(host, place.name)


def _told(program: Callable[[LogPlace, str], Program]) -> Callable[[LogPlace, Host, float, int], Follower]:
    def follow(place: LogPlace, host: Host, now: float, _: int) -> Follower:
        asked = program(place, NEWEST if host.here else FAR_NEWEST)
        return CommandFollower(asked, place.since_time, now, host)

    return follow


KINDS = {
    "file": Kind(lambda _: "file", lambda place: place.name, _file),
    "stdin": Kind(lambda _: "standard input", lambda _: "-", lambda *at: StdinFollower(at[3])),
    "journal": Kind(lambda _: "journal", lambda place: f"journal {place.name}", _told(_journal)),
    "container": Kind(
        lambda place: _container(place).name,
        lambda place: f"{_container(place).name} {place.name}",
        _told(_container),
    ),
}
