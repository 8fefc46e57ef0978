"""Writes a profile into config.toml, the user's file: only when asked, and nothing else in it changes."""

from __future__ import annotations

import contextlib
import os
import secrets
import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from halotui import private
from halotui.actions import ActionError
from halotui.safe import clean
from halotui.servers.profile import NAME, Profile

TABLE = "profiles"


def save(path: Path, name: str, profile: Profile) -> None:
    """Add the profile, or bring the one of that name up to date key by key; comments and order are kept.

    A link is followed. A new file gets 0600, its directory 0700. Raises ``ActionError``; the file is then
    as it was.
    """
    if not NAME.fullmatch(name):
        raise ActionError(f"{clean(name)}: no name for a profile", "letters, digits, . + - and _")
    file = path.resolve()
    try:
        text = file.read_bytes().decode() if file.exists() else ""
        said = msgspec.json.decode(msgspec.json.encode(profile))  # with lists, as TOML has them
        written = _with(text, name, said)
        _prove(text, written, name, profile)
        _replace(file, written)
    except OSError as error:
        raise ActionError(f"{clean(str(file))}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ActionError(f"{clean(str(file))}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ActionError(f"{clean(str(file))}: {clean(str(error))}", "mend it first") from None
    except _Unsafe as error:
        raise ActionError(
            f"{clean(str(file))}: {error} cannot be written without touching the rest",
            f"write [{TABLE}.{name}]",
        ) from None


class _Unsafe(Exception):
    """What would be written is not what is wanted."""


def _with(text: str, name: str, said: dict[str, Any]) -> str:
    """The text of the file with the profile in it. Raises ``TOMLDecodeError``."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    known = tomllib.loads(text).get(TABLE)
    try:
        if isinstance(known, dict) and name in known:
            document = tomlkit.parse(text)
            table = document[TABLE][name]
            if not isinstance(table, MutableMapping):
                raise _Unsafe(f"profile {name}")
            _update(table, said)
            return tomlkit.dumps(document)
        # A new one goes to the end, as text: whatever stands before it stays as it is.
        new = tomlkit.dumps({TABLE: {name: said}})
    except TOMLKitError as error:
        raise _Unsafe(f"profile {name} ({clean(str(error))})") from None
    gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    new = gap + new
    return text + (new.replace("\n", "\r\n") if "\r\n" in text else new)


def _update(table: MutableMapping[str, Any], said: Mapping[str, Any]) -> None:
    """Only what differs is touched: a line that stays keeps its comment and its way of writing."""
    for key in [key for key in table if key not in said]:
        del table[key]
    for key, value in said.items():
        if isinstance(value, dict) and isinstance(table.get(key), MutableMapping):
            _update(table[key], value)
        elif key not in table or table[key] != value:
            table[key] = value


def _prove(before: str, after: str, name: str, profile: Profile) -> None:
    """That the new text reads as the old one, but for this profile. Raises ``_Unsafe``."""
    try:
        read = tomllib.loads(after)
        ours = msgspec.convert(read[TABLE][name], Profile)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, msgspec.ValidationError):
        raise _Unsafe(f"profile {name}") from None
    if ours != profile or _without(read, name) != _without(tomllib.loads(before), name):
        raise _Unsafe(f"profile {name}")


def _without(settings: dict[str, Any], name: str) -> dict[str, Any]:
    others = {key: value for key, value in settings.get(TABLE, {}).items() if key != name}
    return settings | {TABLE: others}


def _replace(file: Path, text: str) -> None:
    """All of it or nothing, with the rights that the file has. Raises OSError."""
    private.folder(file.parent)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(handle, mode)
            os.fsync(handle)
        fresh.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
