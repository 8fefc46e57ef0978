"""Whom ``--rpc host:port`` means, and whether that one does its part."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from halotui.fleet.shape import Box
from halotui.model import ServerState

RPC = "rpc-server"  # the engine
_GONE = (ServerState.DOWN, ServerState.FAILED)
_OURS = ("localhost", "ip6-localhost")


def whose(peer: str, boxes: Sequence[Box]) -> int | None:
    """The box that is called or addressed so, else the one whose name begins so; None: there is not one."""
    host = split(peer)[0].lower()
    names = [_names(box) for box in boxes]
    exact = [at for at, own in enumerate(names) if host in own]
    short = [at for at, own in enumerate(names) if not _is_address(host) and _short(host) in map(_short, own)]
    called = exact or short
    return called[0] if len(called) == 1 else None


def loops(peer: str) -> bool:
    """Whether it is on the head's own box."""
    host = split(peer)[0].lower()
    return host in _OURS or (_is_address(host) and ip_address(host).is_loopback)


def lacks(box: Box, peer: str) -> str:
    """What its job misses of a box; empty: nothing. ``peer``: as --rpc names it, empty for the head."""
    if box.link is not None and not box.linked:
        return f"link {box.link.state}"
    if box.frame is None or box.trouble:
        return box.trouble or "no frame yet"
    port = split(peer)[1]
    serving = (one for one in box.frame.servers if one.engine == RPC and one.state not in _GONE)
    if not peer or any(port in ("", split(one.url.partition("//")[2])[1]) for one in serving):
        return ""
    return f"no rpc-server on port {port}" if port else "no rpc-server"


def split(peer: str) -> tuple[str, str]:
    """Host and port of ``host:port`` or ``[v6]:port``."""
    if peer.startswith("["):
        host, _, port = peer[1:].partition("]")
        return host, port.removeprefix(":")
    if peer.count(":") > 1:
        return peer, ""
    host, _, port = peer.partition(":")
    return host, port


def _names(box: Box) -> set[str]:
    own = {box.name.rpartition("@")[2].lower(), *(address.lower() for address in box.addresses)}
    if box.frame is not None:
        own.add(box.frame.host.lower())
    return own - {""}


def _short(name: str) -> str:
    return name if _is_address(name) else name.partition(".")[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
