"""The clients of amdgpu behind one process's descriptors: which descriptors, dear; what they hold, cheap."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress

from halotui.collectors import fdinfo
from halotui.collectors.fdinfo import Client, Share
from halotui.collectors.process_stat import once

MOST = 2048  # descriptors of one process, looked at

_DEVICES = ("/dev/dri/renderD", "/dev/dri/card")
_KFD = "/dev/kfd"
_NOBODY: Client = (b"", b"")  # behind a descriptor of another driver


class Clients:
    """Of one process. All is forgotten and found anew by ``find``."""

    __slots__ = ("_at", "_cut", "_kfd", "_once", "behind", "hidden")

    def __init__(self, at: str, read: Callable[[str], bytes] = once) -> None:
        self._at = at  # /proc/PID
        self._once = read
        self.behind: dict[str, Client | None] = {}  # descriptor -> its client, once it was read
        self._kfd = False
        self._cut = False
        self.hidden = False  # not ours to see

    @property
    def silent(self) -> bool:
        """It may hold what nobody told us of: it is at ROCm's device without a client, or has descriptors
        that we did not look at."""
        return self._cut or (self._kfd and not any(client and client[1] for client in self.behind.values()))

    def forget(self) -> None:
        self.behind, self._kfd, self._cut, self.hidden = {}, False, False, False

    def find(self) -> None:
        """Look through its descriptors."""
        self.forget()
        try:
            names = os.listdir(f"{self._at}/fd")  # noqa: PTH208 - plain, and ten times cheaper than a Path
            self._cut = len(names) > MOST
            for name in names[:MOST]:
                with suppress(FileNotFoundError, ProcessLookupError):
                    target = os.readlink(f"{self._at}/fd/{name}")  # noqa: PTH115
                    if target.startswith(_DEVICES):
                        self.behind[name] = None
                    elif target == _KFD:
                        self._kfd = True
        except PermissionError:
            self.hidden = True
        except OSError:  # gone
            self.forget()

    def take(self, names: Collection[str], kfd: bool) -> None:
        """What somebody else found: descriptors of ``_DEVICES``, and whether it is at ROCm's device."""
        self.behind = {name: self.behind.get(name) for name in names}
        self._kfd, self._cut, self.hidden = kfd, False, False

    def tally(self, shares: dict[Client, Share]) -> Counter[Client]:
        """Its descriptors by client. What is not yet in ``shares`` is read and put there."""
        found: Counter[Client] = Counter()
        for name, client in list(self.behind.items()):
            if client is None or (client != _NOBODY and client not in shares):
                try:
                    client = self._read(name, shares)
                except PermissionError:
                    self.hidden = True
                    continue
                except (FileNotFoundError, ProcessLookupError):  # closed, or gone
                    del self.behind[name]
                    continue
                except OSError:
                    continue
                self.behind[name] = client
            if client != _NOBODY:
                found[client] += 1
        return found

    def _read(self, name: str, shares: dict[Client, Share]) -> Client:
        share = fdinfo.read(self._once(f"{self._at}/fdinfo/{name}"))
        if share is None:
            return _NOBODY
        slot, number = share.client  # without a number each descriptor is taken for one of its own
        client = (slot, number or f"{self._at}/{name}".encode())
        shares[client] = Share(client, share.held, share.engines)
        return client
