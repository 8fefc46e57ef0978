"""What ssh says when it fails, and what a person can do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

from halotui.safe import clean

_LONGEST = 300  # characters of a reason


class LinkError(Exception):
    """There is no connection. ``refused``: trying again is of no use before a person has done something."""

    def __init__(self, reason: str, hint: str = "", *, refused: bool = False, ask: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.refused = refused
        self.ask = ask  # ssh could get on by asking a person


class _Row(NamedTuple):
    pattern: str
    hint: str
    reason: str = ""  # "": the line that matched
    refused: bool = False
    ask: bool = False


_LOG_IN = "log in once in a terminal: ssh {target}"
# The first row that matches counts: the cause before its consequence.
_TABLE = (
    _Row(
        "REMOTE HOST IDENTIFICATION HAS CHANGED|[Hh]ost key for .* has changed",
        "another box, or somebody between: check its fingerprint, only then ssh-keygen -R {host}",
        reason="its host key has changed",
        refused=True,
    ),
    _Row("REVOKED HOST KEY|host key .* revoked", "do not connect: ask who runs it", refused=True),
    _Row(
        "Host key verification failed|No .* host key is known for",
        f"check its fingerprint: {_LOG_IN}",
        reason="its host key is not known here",
        refused=True,
        ask=True,
    ),
    _Row(
        "Too many authentication failures", "in ~/.ssh/config: IdentitiesOnly yes, and one key", refused=True
    ),
    _Row(
        "Permission denied",
        f"load a key (ssh-add), put yours there (ssh-copy-id {{target}}), or {_LOG_IN}",
        refused=True,
        ask=True,
    ),
    _Row("[Cc]ould not resolve hostname|Name or service not known", "is the name right? ~/.ssh/config"),
    _Row("Connection refused", "is sshd running there, on that port?"),
    _Row("No route to host|Network is unreachable", "is it on, and the network (VPN) up?"),
    _Row("timed out", "is it on, and reachable from here?"),
    _Row("Bad configuration option|[Bb]ad owner or permissions|terminating, \\d+ bad", "", refused=True),
    _Row("no matching .* found", "the two OpenSSH share no algorithm", refused=True),
    _Row("Can't open user config file", "--ssh-config", refused=True),
    _Row(
        "sh: (command )?not found|sh.*: No such file or directory|This account is currently not available|"
        "This service allows sftp connections only",
        "halotui needs a login with a POSIX sh there",
        refused=True,
    ),
)
_ROWS = tuple((re.compile(row.pattern), row) for row in _TABLE)


def diagnose(said: bytes, target: str, code: int | None = None) -> LinkError:
    """Of ssh's last words. ``code``: what it ended with, 255 where it failed itself."""
    host = target.removeprefix("ssh://").rpartition("@")[2]
    lines = [
        text
        for line in said.splitlines()
        if not line.startswith(b"channels.c:") and (text := clean(line, _LONGEST).strip(" @"))
    ]
    for pattern, row in _ROWS:
        for line in reversed(lines):
            if pattern.search(line):
                hint = row.hint.format(target=target, host=host)
                return LinkError(row.reason or line, hint, refused=row.refused, ask=row.ask)
    if lines:
        return LinkError(lines[-1])
    if code is not None and code < 0:
        return LinkError("ssh was ended")
    if code not in (None, 0, 255):
        return LinkError(
            f"no sh answers there (exit code {code})",
            "halotui needs a login with a POSIX sh there",
            refused=True,
        )
    return LinkError("the connection ended")
