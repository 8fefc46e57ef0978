"""What each process holds on the GPU, from the fdinfo of its DRM files.

The driver takes locks to answer, and a GPU in reset keeps them: this has a thread of its own.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress

from halotui.capture.notes import Notes
from halotui.capture.probe import NAN
from halotui.capture.source import Column
from halotui.capture.tree import Member, Tree
from halotui.collectors.fdinfo import Client, Held, client

_SEARCH = """cd "$1" && ls -ln | sed -n 's|.* \\([0-9]*\\) -> .*/dri/.*|\\1|p'"""
RELIST_SECONDS = 2.0  # to look through all descriptors of a process costs more than to read the known ones


class Clients:
    """GTT and VRAM of all processes of a tree, each client once."""

    columns: tuple[Column, ...] = (("process.gtt_bytes", ""), ("process.vram_bytes", ""))

    def __init__(self, tree: Tree, notes: Notes) -> None:
        self._tree = tree
        self._notes = notes
        self._files: dict[int, tuple[Member, float, list[str]]] = {}
        self._seen = False  # a client, ever

    def read(self, now: float) -> Sequence[float]:
        members = list(self._tree.members.values())
        self._files = {member.pid: self._list(member, now) for member in members}
        every: dict[Client, Held] = {}
        hidden = False
        for member in members:
            try:
                held = self._held(member)
            except PermissionError:
                if self._dead(member):
                    continue
                hidden = True
                self._notes.say(
                    f"GPU memory of {member.name} ({member.pid}): only its own user and root may see it"
                )
                continue
            if held:
                every |= held
                self._seen = True
                gtt, vram = _sum(held.values())
                member.gtt = max(gtt, member.gtt or 0)
                member.vram = max(vram, member.vram or 0)
        if hidden or not self._seen:  # part of a sum is no sum
            return (NAN, NAN)
        return _sum(every.values())

    def _list(self, member: Member, now: float) -> tuple[Member, float, list[str]]:
        known = self._files.get(member.pid)
        if known is not None and known[0] is member and now < known[1]:
            return known
        at, files = f"{member.at}/fd", []
        with suppress(OSError):
            for name in self._names(at):
                with suppress(OSError):
                    if "/dri/" in self._tree.host.readlink(f"{at}/{name}"):
                        files.append(name)
        return (member, now + RELIST_SECONDS, files)

    def _held(self, member: Member) -> dict[Client, Held]:
        """Raises PermissionError where its files are not ours to see."""
        _, _, names = self._files[member.pid]
        if not names and not self._tree.host.access(f"{member.at}/fd", os.R_OK | os.X_OK):
            if self._tree.host.access(member.at, os.F_OK):
                raise PermissionError
            return {}
        held = {}
        for name in names:
            with suppress(FileNotFoundError, ProcessLookupError):
                told = client(self._tree.once(f"{member.at}/fdinfo/{name}"))
                if told is not None:
                    who, sizes = told
                    held[who if who[1] else (b"", f"{member.pid}/{name}".encode())] = sizes
        return held

    def _names(self, at: str) -> list[str]:
        """Of descriptors: all of them, or of a box far away those of the GPU alone."""
        host = self._tree.host
        if host.here:
            return host.listdir(at)
        out = host.run(("sh", "-c", _SEARCH, "sh", at))
        return [name for name in os.fsdecode(out).split() if name.isdecimal()]

    def _dead(self, member: Member) -> bool:
        """And perhaps not yet buried: then its files are nobody's to see."""
        try:
            return self._tree.once(f"{member.at}/statm").startswith(b"0 ")
        except OSError:
            return True


def _sum(held: Collection[Held]) -> Held:
    return sum(gtt for gtt, _ in held), sum(vram for _, vram in held)
