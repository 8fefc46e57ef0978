"""Several boxes at a glance: a row each, and llama.cpp's RPC clusters as one job over their hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from halotui.fleet.order import Order
from halotui.fleet.peers import RPC, lacks, loops, whose
from halotui.fleet.shape import WORST, Box, Figures, Kind, Row, Totals
from halotui.model import Finding, Frame, Server, ServerState

__all__ = ["Box", "Figures", "Kind", "Order", "Row", "Totals", "rows", "totals", "worst"]

_N = TypeVar("_N", int, float)


class _Job(NamedTuple):
    head: int
    servers: tuple[Server, ...]
    peers: tuple[str, ...]  # as --rpc names them


def rows(boxes: Sequence[Box], order: Order | None = None) -> list[Row]:
    """In order, with a heading a group where there are groups."""
    order = order or Order()
    units = [(group, unit) for group, unit in _units(boxes) if order.shows(unit, boxes)]
    if not any(box.groups for box in boxes):
        return [row for unit in order.sorted([unit for _, unit in units]) for row in unit]
    out: list[Row] = []
    for name in dict.fromkeys(group for group, _ in units):
        here = order.sorted([unit for group, unit in units if group == name])
        out.append(_heading(name, here))
        out += [row for unit in here for row in unit]
    return out


def totals(boxes: Sequence[Box]) -> Totals:
    """Of those whose numbers are of now."""
    live = [box for box in boxes if box.live]
    told = [_of_box(box) for box in live]
    return Totals(
        boxes=len(boxes),
        up=len(live),
        findings=Counter(finding.severity for box in live for finding in box.findings),
        decode=_sum(one.decode for one in told),
        watts=_sum(one.watts for one in told),
    )


def worst(boxes: Sequence[Box]) -> list[tuple[int, Finding]]:
    """What fires now, of which box; the worst first."""
    all_ = ((at, finding) for at, box in enumerate(boxes) for finding in box.findings)
    return sorted(all_, key=lambda pair: WORST.index(pair[1].severity))


def _units(boxes: Sequence[Box]) -> Iterator[tuple[str, list[Row]]]:
    """By group: a box alone, or a job with its hosts, where its head was named."""
    jobs = {job.head: job for job in _jobs(boxes)}
    taken: dict[int, int] = {}  # a box -> the head of the job that it works for
    for job in jobs.values():
        for peer in job.peers:
            found = whose(peer, boxes)
            if found is not None and found not in jobs:
                taken.setdefault(found, job.head)
    for at, box in enumerate(boxes):
        group = box.groups[0] if box.groups else ""
        if at in jobs:
            yield group, _tree(jobs[at], boxes, taken)
        elif at not in taken:
            yield group, [_row(at, box)]


def _row(at: int, box: Box, stem: str = "", note: str = "") -> Row:
    return Row(Kind.BOX, box.title, at, _of_box(box), stem=stem, note=note, live=box.live)


def _heading(group: str, units: Sequence[Sequence[Row]]) -> Row:
    here = [row for unit in units for row in unit if row.kind is Kind.BOX]
    return Row(Kind.GROUP, group or "no group", note=f"{sum(row.live for row in here)} of {len(here)} up")


def _of_box(box: Box) -> Figures:
    frame = box.frame
    if frame is None:
        return Figures()
    findings = sorted(frame.findings, key=lambda finding: WORST.index(finding.severity))
    return _figures([one for one in frame.servers if one.engine != RPC] or frame.servers, [frame], findings)


def _figures(servers: Sequence[Server], frames: Sequence[Frame], findings: Iterable[Finding] = ()) -> Figures:
    """Speeds and slots of these servers; memory and power of these boxes."""
    named = [one for one in servers if one.model]
    chief = max(named or servers, key=_work, default=None)
    name = (chief.model or "").rpartition("/")[2].removesuffix(".gguf") if chief is not None else ""
    backend = (chief.backend or ("rpc" if chief.engine == RPC else None)) if chief is not None else None
    gpus = [frame.gpus[0] for frame in frames if frame.gpus]  # the one that the cockpit shows
    heats = [gpu.temperature_celsius for gpu in gpus if gpu.temperature_celsius is not None]
    return Figures(
        model=name or None,
        models=len(named),
        backend=backend,
        decode=_sum(one.generation_tokens_per_second for one in servers),
        prefill=_sum(one.prompt_tokens_per_second for one in servers),
        slots_busy=_sum(one.slots_busy for one in servers),
        slots_total=_sum(one.slots_total for one in servers),
        gtt_used=_sum(gpu.gtt_used_bytes for gpu in gpus),
        gtt_total=_sum(gpu.gtt_total_bytes for gpu in gpus),
        vram_used=_sum(gpu.vram_used_bytes for gpu in gpus),
        vram_total=_sum(gpu.vram_total_bytes for gpu in gpus),
        watts=_sum(gpu.socket_power_watts for gpu in gpus),
        celsius=max(heats, default=None),
        findings=tuple(findings),
    )


def _work(server: Server) -> tuple[bool, float]:
    return server.state is ServerState.BUSY, server.generation_tokens_per_second or 0.0


def _sum(values: Iterable[_N | None]) -> _N | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _jobs(boxes: Sequence[Box]) -> Iterator[_Job]:
    """A box whose servers were launched with ``--rpc`` of others; its own rpc-servers make no cluster."""
    for at, box in enumerate(boxes):
        served = box.frame.servers if box.frame is not None else ()
        heads = [one for one in served if one.engine != RPC and one.facts and one.facts.rpc_peers]
        all_ = dict.fromkeys(peer for one in heads if one.facts for peer in one.facts.rpc_peers)
        peers = tuple(peer for peer in all_ if not loops(peer) and whose(peer, boxes) != at)
        if peers:
            yield _Job(at, tuple(heads), peers)


def _tree(job: _Job, boxes: Sequence[Box], taken: dict[int, int]) -> list[Row]:
    """The job, then its head and whom that calls, in the order of its command line."""
    hosts: dict[int | str, str] = {job.head: ""}  # a box, or a peer that is none -> how --rpc names it
    for peer in job.peers:
        found = whose(peer, boxes)
        hosts.setdefault(peer if found is None else found, peer)
    members: list[Row] = []
    missing: list[str] = []
    for number, (host, peer) in enumerate(hosts.items(), 1):
        stem = "└ " if number == len(hosts) else "├ "
        part = f"{number} of {len(hosts)} · {'head' if host == job.head else 'rpc'}"
        if isinstance(host, str):
            members.append(Row(Kind.PEER, peer, stem=stem, note=f"{part} · not watched", live=False))
            continue
        box = boxes[host]
        if lack := lacks(box, peer):
            missing.append(f"{box.title}: {lack}")
        if host == job.head:  # what its job does is told by the job
            own = (
                [one for one in box.frame.servers if one not in job.servers] if box.frame is not None else []
            )
            alone = _figures(own, [box.frame] if box.frame is not None else [], _of_box(box).findings)
            members.append(_row(host, box, stem, part)._replace(figures=alone))
        elif taken.get(host) == job.head:
            members.append(_row(host, box, stem, part))
        else:
            members.append(Row(Kind.PEER, box.title, stem=stem, note=f"{part} · of another job", live=False))
    watched = [boxes[host] for host in hosts if isinstance(host, int)]
    figures = _figures(job.servers, [box.frame for box in watched if box.frame is not None])
    first = Row(
        Kind.JOB,
        figures.model or boxes[job.head].title,
        job.head,
        figures,
        note=f"{len(hosts)} boxes · rpc",
        trouble="; ".join(missing),
        live=boxes[job.head].live,
        whole=all(box.live for box in watched),
    )
    return [first, *members]
