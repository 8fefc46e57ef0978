"""Where the commands keep what they measure, and how they read a time that was said."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halotui import times
from halotui.exits import UsageError
from halotui.safe import clean

if TYPE_CHECKING:
    from halotui.config import Settings
    from halotui.runs import Store


def seconds(text: str) -> float:
    """A length of time that was said. Raises UsageError."""
    return _said(times.seconds, text)


def moment(text: str, now: float) -> float:
    """A moment that was said, in Unix seconds. Raises UsageError."""
    return _said(times.past, text, now)


def _said(parse: Callable[..., float], *given: str | float) -> float:
    try:
        return parse(*given)
    except ValueError as error:
        raise UsageError(str(error)) from None


def store_path(said: Mapping[str, Any], settings: Settings) -> Path:
    """That was named, else of the one box that is meant. Raises UsageError where there are several."""
    from halotui.commands.feeding import STORE
    from halotui.commands.places import place

    state = place(settings, said).state
    return said.get("store") or state / STORE


def open_store(said: Mapping[str, Any], settings: Settings, *, readonly: bool = False) -> Store:
    """The store that was named, or that of the box. Raises StoreError, UsageError."""
    from halotui.store import open_store as open_

    path = store_path(said, settings)
    return open_(path, readonly=readonly, timeline_days=settings.timeline_days)


def try_store(said: Mapping[str, Any], settings: Settings) -> Store | None:
    """The same, where measuring goes on without: None after one warning, or with ``--no-store``."""
    from halotui.runs import StoreError

    if said.get("no_store"):
        return None
    try:
        return open_store(said, settings)
    except StoreError as error:
        print(f"halotui: nothing will be kept: {clean(told(error))}", file=sys.stderr, flush=True)
        return None


def told(error: Any) -> str:
    """A StoreError, or another that has a reason and a hint, in one line."""
    return f"{error.reason} ({error.hint})" if error.hint else str(error.reason)
