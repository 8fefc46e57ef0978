"""Whose words a profile's are: ``~`` and the environment are those of our user on its box."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from halotui.actions import Patch, Value
from halotui.servers.profile import Profile

PATHS = ("model", "draft", "log-file")  # settings


class Login(NamedTuple):
    """Whose words a profile's are: of our user on that box. Keys are named by, and lie with, us here."""

    environ: Mapping[str, str]
    keys: Mapping[str, str]
    home: str | None  # None: ours, here

    def path(self, text: str) -> str:
        """With ``~`` said in full, here ``~user`` too; nothing else."""
        if self.home is None:
            return os.path.expanduser(text)  # noqa: PTH111 - an unknown user's ~ stays as it is
        return self.home + text[1:] if text == "~" or text.startswith("~/") else text

    @property
    def directory(self) -> str:
        return str(Path.home()) if self.home is None else self.home

    def paths(self, settings: Patch) -> dict[str, Value | None]:
        return {
            name: self.path(value) if name in PATHS and isinstance(value, str) else value
            for name, value in settings.items()
        }

    def full(self, said: Profile) -> Profile:
        """A profile, its paths said in full."""
        flags = {
            name: self.path(value) if name in PATHS and isinstance(value, str) else value
            for name, value in said.flags.items()
        }
        return replace(
            said,
            binary=tuple(map(self.path, said.binary_words)),
            model=self.path(said.model),
            draft=self.path(said.draft),
            log=self.path(said.log),
            cwd=self.path(said.cwd),
            flags=flags,
            extra=tuple(map(self.path, said.extra_words)),
        )
