"""Bytes that a process has caused to be read from disk, since it started."""

from __future__ import annotations

from halotui.hosts import Host


def read_bytes(host: Host, pid: int) -> int | None:
    """What came out of the page cache is not in it. None: gone, of another user, or a kernel without."""
    try:
        text = host.read(host.procfs / str(pid) / "io")
        return int(text.partition(b"\nread_bytes: ")[2].split(None, 1)[0])
    except (OSError, ValueError, IndexError):
        return None
