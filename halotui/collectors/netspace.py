"""A network namespace seen from outside: what listens in it, its addresses, and whether we reach them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from weakref import WeakKeyDictionary

from msgspec import Struct

from halotui.hosts import Host, Process

_LISTEN = b"0A"
_UP, _GATEWAY = 1, 2  # flags of a route
Address = IPv4Address | IPv6Address
Bound = dict[int, set[Address]]  # TCP port that is listened on -> the addresses it is bound to


class View(Struct, frozen=True):
    """What one process's namespace looks like; of ours, what its user listens on. ``bridge`` is its address
    that this box reaches."""

    bound: Bound = {}
    bridge: str | None = None


_Views = dict[tuple[int, float | None], View]
_SEEN: WeakKeyDictionary[Host, _Views] = WeakKeyDictionary()


def view(host: Host, process: Process, wanted: Collection[int]) -> View:
    """A look costs the kernel milliseconds, so it is kept for as long as the process lives; but another one
    is taken while none of the ``wanted`` ports, or of any ports, is listened on."""
    seen = _SEEN.setdefault(host, {})
    known = seen.get(key := (process.pid, process.started_time))
    if known is None or (known.bound.keys().isdisjoint(wanted) if wanted else not known.bound):
        uid = None if process.foreign_net else process.uid
        known = seen[key] = View(listening(host, process.pid, uid), reachable(host, process.pid))
    return known


def forget_others(host: Host, processes: Collection[Process]) -> None:
    seen = _SEEN.setdefault(host, {})
    for gone in seen.keys() - {(one.pid, one.started_time) for one in processes}:
        del seen[gone]


def listening(host: Host, pid: int | None = None, uid: int | None = None) -> Bound:
    """Of all processes in a process's namespace, or of one user's; ``pid`` None: in ours."""
    found: Bound = {}
    for table in ("tcp", "tcp6"):
        for row in _rows(host, _net(host, pid) / table):
            with suppress(ValueError, IndexError):
                if row[3] == _LISTEN and uid in (None, int(row[7])):
                    digits, _, port = row[1].partition(b":")
                    address = _address(digits)
                    found.setdefault(int(port, 16), set()).add(address)
    return found


def addresses(host: Host, pid: int | None = None) -> Iterator[IPv4Address]:
    """Of a process's namespace, loopback too; None: of ours. In ``fib_trie`` an address stands above the
    line that calls it local."""
    last = b""
    with suppress(OSError):
        for line in host.read(_net(host, pid) / "fib_trie").splitlines():
            word = line.strip()
            if word.startswith(b"|-- "):
                last = word[4:]
            elif word == b"/32 host LOCAL":
                with suppress(ValueError):
                    yield IPv4Address(last.decode(errors="replace"))


def reachable(host: Host, pid: int) -> str | None:
    """An IPv4 address of a process's namespace that this box has a direct route to: a bridge's, not ours."""
    ours = set(addresses(host))
    nets = list(_direct(host))
    for address in addresses(host, pid):
        if address not in ours and not address.is_loopback and any(address in net for net in nets):
            return str(address)
    return None


def here(address: str, port: int) -> str:
    """Where on this box one asks for what is bound there, as in a URL. Raises ValueError."""
    if not 0 < port < 65536:
        raise ValueError(port)
    known = ip_address(address.partition("%")[0].strip("[]") or "0.0.0.0")
    known = IPv4Address("127.0.0.1") if known.is_unspecified else known
    return f"[{known}]:{port}" if known.version == 6 else f"{known}:{port}"


def loopback_only(addresses: set[Address]) -> bool:
    return bool(addresses) and all(_plain(address).is_loopback for address in addresses)


def _plain(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _net(host: Host, pid: int | None) -> Path:
    return host.procfs / str(pid) / "net" if pid else host.procfs / "net"


def _rows(host: Host, path: Path) -> Iterator[list[bytes]]:
    with suppress(OSError):
        for row in host.read(path).splitlines()[1:]:
            yield row.split()


def _address(digits: bytes) -> Address:
    """As the kernel prints it: 32-bit words in its own byte order, which is little-endian here."""
    raw = bytes.fromhex(digits.decode())
    return ip_address(b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4)))


def _direct(host: Host) -> Iterator[IPv4Network]:
    """Networks that one of our interfaces is in."""
    for row in _rows(host, host.procfs / "net/route"):
        with suppress(ValueError, IndexError):
            mask, flags = _address(row[7]), int(row[3], 16)
            if int(mask) and flags & _UP and not flags & _GATEWAY:
                yield IPv4Network(f"{_address(row[1])}/{mask}")
