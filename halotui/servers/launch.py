"""How a server is started, verified and stopped, with nothing left to look up. Written to disk whole."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from halotui.actions import Change, Check, Kind
from halotui.hosts.hands import Identity


class Runner(StrEnum):
    """What stands between us and the server's process."""

    PLAIN = "plain"
    TOOLBOX = "toolbox"
    DISTROBOX = "distrobox"
    PODMAN = "podman"
    DOCKER = "docker"
    SYSTEMD = "systemd"


class Expect(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the server must show to be kept; None: nothing was asked for."""

    slots: int | None = None
    slot_context_tokens: int | None = None  # at least
    speculative: bool | None = None
    backend: str | None = None


class Launch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to start a server.

    ``argv`` is exec'ed detached with ``env`` as its whole environment, unless ``hands_over``: then it is a
    command that ends and leaves a server behind (``systemctl start``, ``podman start``). ``stop`` is the
    command that ends the server, ``find_pid`` one that prints its pid (0: not there); empty: signals, and the
    pid that was started.
    """

    name: str  # of the profile, or "as it was"
    runner: Runner = Runner.PLAIN
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    cwd: str = "/"
    log: str = ""  # where its output goes; empty: not ours to say (systemd)
    url: str
    api_key: str | None = None
    hands_over: bool = False
    stop: tuple[str, ...] = ()
    find_pid: tuple[str, ...] = ()
    expect: Expect = Expect()
    model: str = ""  # path of the weights, as the server is told
    weights_bytes: int | None = None  # for the progress of loading
    load_seconds: float = 600.0  # longest time to wait until it serves

    def __repr__(self) -> str:
        """Without environment and key: a traceback may print it."""
        return f"Launch({self.name!r}, {self.url!r})"


class Before(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What runs now, and how it is put back."""

    who: Identity
    launch: Launch
    asked: Expect = Expect()  # what it had been asked for
    slots: int | None = None  # what it showed: a deviation that it had too is not held against the new one
    slot_context_tokens: int | None = None
    speculative: bool | None = None
    load_seconds: float | None = None


class Plan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An undertaking, decided."""

    id: str  # also the mark in the environment of what it launches
    kind: Kind
    before: Before | None = None  # None: nothing runs
    after: Launch | None = None  # None: nothing shall run
    measure: bool = False
    gtt_bytes: int | None = None  # that the old one holds, as far as known: waited for to come back
    checks: tuple[Check, ...] = ()
    changes: tuple[Change, ...] = ()
