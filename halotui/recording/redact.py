"""What of a frame may be written down: no prompt and no key, whatever the server's log holds.

A log line is kept only when it has, from its first to its last character, one of the shapes below, and
none of them has room for free text. Any other becomes :data:`LEFT_OUT`; debug lines, where a server told
to be verbose prints whole requests, go without a word.
"""

from __future__ import annotations

import re
from functools import cache

from msgspec.structs import replace

from halotui.collectors.log_follow import GAP
from halotui.model import Frame, LogLine, Server, ServerEvent
from halotui.recording.redact_words import (
    is_ours,
    told_build,
    told_facts,
    told_model,
    told_path,
    told_request,
    told_spec_type,
)
from halotui.recording.shapes import PATHS, SHAPES, TROUBLES

LEFT_OUT = "… (left out of the recording)"


# A line is matched with its runs of spaces squeezed, and every part is greedy once and for all where it can
# be: a prompt made to be slow must not hold the interpreter, and with it the keys.
LONGEST = 600  # characters: longer ones are no line of a server's own
_SPACES = re.compile(r" {2,}")
_NUMBER = r"(?> ?(?:0x[0-9A-Fa-f]{1,16}|[+-]?\d{1,20}(?:\.\d{1,12})?(?:e[+-]?\d{1,4})?|-?nan|-?inf))"
_NAME = r"[\w./+@:~\[\]<>*=-]{1,300}"
_QUOTED = rf"'(?:{_NAME}|[\w ./+@:~()-]{{1,300}}\.gguf)'"
_DEVICE = r"[\w ().,/+:|=@\[\]-]{1,240}"
_PARTS = {
    "#": _NUMBER,
    "~": _NAME,
    "'~'": _QUOTED,
    "@": _DEVICE,
    "&": r"(?:[\d ,.=()#/:]|calls|b,g,a|gen|acc|drafts|tokens|mean|len|rate|pos|dur|ms){1,300}",
    "§": r"(?:->|[ ?]|logits?|penalties|dry|top-n-sigma|top-[kp]|typical|min-p|xtc|temp(?:-ext)?|dist|greedy"
    r"|mirostat(?:-v2)?|adaptive-p|infill|bias|-){1,200}",
    "%": "(?:" + "|".join(map(re.escape, TROUBLES.strip().split("\n"))) + ")",
    "¤": r"(?:GET|POST|HEAD|OPTIONS) (?:" + "|".join(map(re.escape, PATHS.split())) + r") [\da-fA-F.:]{2,45}",
}
_PART = re.compile(r"'~'|.", re.S)

# What stands before: a journal's own prefix, a router's [port], the time and level, the function.
_BEFORE = re.compile(
    r"(?:\w{3} \d{1,2} \d\d:\d\d:\d\d [\w.-]{1,64} [\w.@-]{1,64}(?:\[\d{1,10}\])?: )?"
    r"(?:\[\d{1,5}\] )?(?:\d+\.\d\d\.\d{3}\.\d{3} )?(?:[IWE] )?"
    r"(?:(?:srv|slot|que|cmn|spec|res|mtmd) [\w()~]{1,16}: )?"
    r"(?:(?:(?:llama|common|load|sched|print|create|alloc|graph|init|send|server|update|process|params)\w{0,40}"
    r"|main|start|decode|encode|operator\(\)|~Server|~llama_context): )?"
    r" ?(?:id \d{1,6} \| task -?\d{1,15} \| )? ?",
    re.A,
)
_WORD = re.compile(r"[a-zA-Z_]+")


def _pattern(shape: str) -> str:
    # "#" also begins words of llama.cpp's own: #calls, #gen, #acc, #mean
    shape = re.sub(r"#(?=[a-z]{2})", "\0", shape)
    parts = (_PARTS.get(part) or re.escape(part) for part in _PART.findall(_SPACES.sub(" ", shape)))
    return "".join(parts).replace(re.escape("\0"), "#")


@cache
def _table() -> dict[str, re.Pattern[str]]:
    """By first word; those that begin with none under the empty one. 0.1 s: for the thread that writes."""
    shapes: dict[str, list[str]] = {}
    for shape in SHAPES.strip().split("\n"):
        word = _WORD.match(shape)
        shapes.setdefault(word[0] if word else "", []).append(_pattern(shape))
    return {word: re.compile("|".join(group), re.A) for word, group in shapes.items()}


def known(text: str) -> bool:
    """Whether a line has a shape that leaves no room for a prompt or a key."""
    if text == LEFT_OUT or (text.startswith(_GAP) and text[len(_GAP) :].removesuffix(" bytes").isdecimal()):
        return True
    text = _SPACES.sub(" ", text)
    if len(text) > LONGEST:
        return False
    before = _BEFORE.match(text)
    body = text[before.end() if before else 0 :].rstrip()
    word = _WORD.match(body)
    pattern = _table().get(word[0]) if word else None
    return (
        not body.strip(".")  # the dots of a load
        or (pattern is not None and pattern.fullmatch(body) is not None)
        or _table()[""].fullmatch(body) is not None
    )


_GAP = GAP.decode()


def redacted(frame: Frame) -> Frame:
    """The frame as it may be kept: the same one where nothing has to go."""
    servers = tuple(map(_server, frame.servers))
    same = all(kept is server for kept, server in zip(servers, frame.servers, strict=True))
    return frame if same else replace(frame, servers=servers)


def _server(server: Server) -> Server:
    told = {
        "build": told_build(server.build),
        "draft_model": told_path(server.draft_model),
        "spec_type": told_spec_type(server.spec_type),
        "facts": told_facts(server.facts) if server.facts is not None else None,
        "models": tuple(map(told_model, server.models)),
        "requests": tuple(map(told_request, server.requests)),
        "events": tuple(map(_event, server.events)),
        "log": _log(server.log),
    }
    changed = {key: value for key, value in told.items() if value != getattr(server, key)}
    return replace(server, **changed) if changed else server


def _event(event: ServerEvent) -> ServerEvent:
    detail = event.detail if event.detail is not None and known(event.detail) else None
    text = event.text if is_ours(event.text) else LEFT_OUT
    if detail == event.detail and text == event.text:
        return event
    return replace(event, text=text, detail=detail)


def _log(lines: tuple[LogLine, ...]) -> tuple[LogLine, ...]:
    kept: list[LogLine] = []
    for line in lines:
        if line.level == "debug":
            continue
        if not known(line.text):
            line = replace(line, text=LEFT_OUT)
            if kept and kept[-1].text == LEFT_OUT and line.level == "info":
                continue  # one word for a whole dump
        kept.append(line)
    return tuple(kept)
