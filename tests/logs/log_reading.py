"""What the tests of the log parser share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from halotui.collectors.llama_log import LogParser
from halotui.model import LogFacts, Request, ServerEvent

LOGS = Path(__file__).parents[1] / "fixtures" / "logs"


def bytes_of(name: str) -> bytes:
    whole = (LOGS / f"{name}.log").read_bytes()
    return whole if whole.endswith(b"\n") else whole + b"\n"


def block(lines: Iterable[str | bytes]) -> bytes:
    return b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)


def feed(parser: LogParser, *lines: str | bytes) -> list[Request]:
    return list(parser.feed(block(lines)).requests)


def events(*lines: str | bytes, parser: LogParser | None = None) -> list[ServerEvent]:
    return list((parser or LogParser()).feed(block(lines)).events)


def read(name: str, started: float | None = None) -> tuple[LogParser, list[Request]]:
    parser = LogParser(started)
    return parser, list(parser.feed(bytes_of(name)).requests)


def facts_of(*lines: str | bytes) -> LogFacts:
    parser = LogParser()
    feed(parser, *lines)
    return parser.server.facts
