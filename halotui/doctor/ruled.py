"""What the live rules judge is not judged again: each has a line here, by the state of its alarm."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from halotui.actions import Verdict
from halotui.doctor.lines import Line, Section, Sighted
from halotui.doctor.parameters import booted, wants_rocm
from halotui.doctor.standing import Standing
from halotui.model import Finding, Frame, Patch, Server, ServerFacts, Severity

_NO_FACTS = ServerFacts()


class _Row(Struct, frozen=True, kw_only=True):
    """The line of a rule. ``tell`` of a kind gives what a rule that found nothing had read; None where the
    rule does not apply, and has no line."""

    id: str
    section: Section = Section.SERVER
    title: str
    keys: tuple[str, ...] = ()  # whose provenance is told
    read: str = ""  # the place, where there is no provenance
    must: bool = False  # its warning must be fixed
    missing: str = ""  # how it can be judged; empty: no line where its data is missing
    asking: tuple[str, ...] = ()  # the commands that tell what is missing


class Boxed(_Row, frozen=True, kw_only=True):
    """A rule about the box."""

    tell: Callable[[Sighted], str | None]
    of_rocm: bool = False  # where that is not in use, nothing must be fixed
    commands: Callable[[Sighted], Sequence[str]] = lambda seen: ()


class Served(_Row, frozen=True, kw_only=True):
    """A rule about a server."""

    tell: Callable[[Server, ServerFacts], str | None] = lambda server, facts: None
    backends: tuple[str, ...] = ()  # that it is about; empty: all
    boot: tuple[str, ...] = ()  # the kernel parameters that cure it


def of_box(rows: Iterable[Boxed], seen: Sighted, stand: Standing) -> Iterator[Line]:
    """In the order of the rows."""
    urls = {server.url for server in seen.frame.servers}
    platform = seen.frame.platform
    provenance = platform.provenance if platform is not None else {}
    for row in rows:
        fired = [one for one in stand.findings if one.id == row.id and one.subject not in urls]
        unknown = any(rule == row.id and about not in urls for rule, about in stand.undefined)
        told = row.tell(seen) if not fired else None
        strict = replace(row, must=row.must and (not row.of_rocm or wants_rocm(seen)))
        for line in _judged(strict, fired, unknown, told, _source(row, provenance)):
            more = tuple(row.commands(seen)) if fired else ()
            yield replace(line, commands=(*line.commands, *more))


def of_server(rows: Iterable[Served], seen: Sighted, server: Server, stand: Standing) -> Iterator[Line]:
    """In the order of the rows."""
    for row in rows:
        fired = [one for one in stand.findings if one.id == row.id and one.subject == server.url]
        concerns = not row.backends or server.backend in row.backends
        unknown = concerns and (row.id, server.url) in stand.undefined
        told = row.tell(server, server.facts or _NO_FACTS) if not fired else None
        more = (booted(seen, row.boot),) if fired and row.boot else ()
        for line in _judged(row, fired, unknown, told, _source(row, server.provenance), server.url):
            yield replace(line, commands=(*line.commands, *more))


def others(known: Sequence[_Row], frame: Frame, stand: Standing) -> Iterator[Line]:
    """What else fires now, and is more than worth knowing."""
    ids = {row.id for row in known}
    urls = {server.url for server in frame.servers}
    for finding in stand.findings:
        if finding.id not in ids and finding.severity is not Severity.INFO:
            about = finding.subject if finding.subject in urls else ""
            section = Section.SERVER if about else Section.BOX
            row = _Row(id=finding.id, section=section, title=finding.id)
            yield _fired(row, finding, "the rules of halotui, now", about)


def relaunch(url: str, patch: Patch) -> str:
    """The command that changes these settings, and puts back what ran when it does not serve."""
    words = []
    for name, value in patch.items():
        said = str(value).lower() if isinstance(value, bool) else str(value)
        words += ["--unset", name] if value is None else ["--set", f"{name}={said}"]
    return shlex.join(["halotui", "relaunch", "--server", url, *words])


def _source(row: _Row, provenance: dict[str, str]) -> str:
    told = dict.fromkeys(provenance[key] for key in row.keys if key in provenance)
    return ", ".join(told) or row.read


def _judged(
    row: _Row, fired: Sequence[Finding], unknown: bool, told: str | None, source: str, subject: str = ""
) -> Iterator[Line]:
    if fired:
        yield from (_fired(row, finding, source, subject) for finding in fired)
    elif unknown and row.missing:
        yield _line(
            row, Verdict.UNKNOWN, told or "not known", source, subject, fix=row.missing, commands=row.asking
        )
    elif told and not unknown:
        yield _line(row, Verdict.OK, told, source, subject)


def _fired(row: _Row, finding: Finding, source: str, subject: str) -> Line:
    verdict = Verdict.WARN
    if finding.severity is Severity.CRITICAL or (row.must and finding.severity is Severity.WARNING):
        verdict = Verdict.FAIL
    return _line(
        row,
        verdict,
        f"{finding.title}: {finding.evidence}",
        source,
        subject,
        fix=" ".join(filter(None, (finding.fix, finding.reference))),
        commands=(relaunch(subject, finding.patch),) if finding.patch and subject else (),
    )


def _line(
    row: _Row,
    verdict: Verdict,
    detail: str,
    source: str,
    subject: str,
    *,
    fix: str = "",
    commands: tuple[str, ...] = (),
) -> Line:
    return Line(
        section=row.section,
        id=row.id,
        title=row.title,
        verdict=verdict,
        subject=subject,
        detail=detail,
        read=source,
        fix=fix,
        commands=commands,
    )
