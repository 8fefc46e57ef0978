"""llama.cpp's rpc-server: no HTTP and no API. Its process, its command line, and who is connected.

Seen of b11549. A llama-server that uses it holds one connection for as long as it runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from itertools import pairwise

from halotui.collectors import process_use
from halotui.collectors.engine_reading import Reading
from halotui.collectors.process_use import Use
from halotui.hosts import Host
from halotui.model import Buffer, Device, ServerFacts
from halotui.safe import clean

PEERS = 16  # shown at most
DEVICES = 16
_ESTABLISHED = b"01"
_THREADS = ("-t", "--threads")
_DEVICE = ("-d", "--device")


def read(host: Host, pid: int, port: int | None) -> tuple[Reading, Use]:
    """Raises Unavailable (absent)."""
    use = process_use.read(host, pid)
    peers = connected(host, pid, port) if port is not None else None
    argv: Sequence[str] = ()
    with suppress(OSError):
        argv = os.fsdecode(host.read(host.procfs / str(pid) / "cmdline")).split("\0")[:256]
    threads = _value(argv, _THREADS) or ""
    facts = ServerFacts(
        devices=tuple(_devices(_value(argv, _DEVICE) or "")),
        buffers=tuple(_buffers(use)),
        threads=int(threads) if threads.isdecimal() and len(threads) < 6 else None,
        rpc_peers=peers[:PEERS] if peers else (),
    )
    return Reading(facts=facts, reason=_words(peers)), use


def connected(host: Host, pid: int, port: int) -> tuple[str, ...] | None:
    """The addresses of its clients, each once; None where the tables cannot be read."""
    found: dict[str, None] = {}
    seen = False
    ours = b":%04X " % port
    for table in ("tcp", "tcp6"):  # of its own network namespace
        with suppress(OSError):
            rows = host.read(host.procfs / str(pid) / "net" / table).splitlines()[1:]
            seen = True
            peers = (_peer(row, port) for row in rows if ours in row)
            found |= dict.fromkeys(peer for peer in peers if peer is not None)
    return tuple(found) if seen else None


def _peer(row: bytes, port: int) -> str | None:
    field = row.split()
    try:
        if field[3] != _ESTABLISHED or int(field[1].rpartition(b":")[2], 16) != port:
            return None
        return _address(field[2].partition(b":")[0])
    except (ValueError, IndexError):
        return None


def _address(digits: bytes) -> str:
    """The kernel writes 32-bit words in the machine's order: little-endian here. Raises ValueError."""
    raw = bytes.fromhex(digits.decode("ascii"))
    address = ip_address(b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4)))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _words(peers: Sequence[str] | None) -> str | None:
    if peers is None:
        return None
    if not peers:
        return "no client connected"
    others = f" and {len(peers) - 1} more" if len(peers) > 1 else ""
    return f"connected: {peers[0]}{others}"


def _buffers(use: Use) -> Iterator[Buffer]:
    for device, held in (("RAM", use.resident_bytes), ("GTT", use.gtt_bytes), ("VRAM", use.vram_bytes)):
        if held is not None:
            yield Buffer(device=device, kind="process", bytes=held)


def _value(argv: Sequence[str], names: Sequence[str]) -> str | None:
    return next((value for flag, value in pairwise(argv) if flag in names), None)


def _devices(text: str) -> Iterator[Device]:
    for part in text.split(",")[:DEVICES]:
        if id_ := clean(part, 40).strip():
            yield Device(id=id_)
