"""Questions to a far box, written as one script of few processes, and the answers in what comes back.

What stands in files there is hostile: it may look like the header that ``head`` puts before each of them. So
a header counts where it is the only one for a file that could be read; what is doubtful is asked by itself.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from halotui.hosts import Stat
from halotui.hosts.ssh_errno import Failed, failed, failures
from halotui.hosts.ssh_lane import END
from halotui.hosts.ssh_login import MOST

_ARGUMENTS = 60_000  # bytes of paths for one process: far below what any kernel takes
_PLAIN = re.compile(r"/[\w./:@+,=%{}^#~-]*\Z", re.ASCII)  # what a message quotes as it is
_HEADER = re.compile(rb"\n==> ([^\n]*) <==\n")
_STAT = "%f %s {} %u %g %d %i"
_TOO_LONG = Failed(27, "File too large")
_SMALL, _LARGE = 4096, 65536  # bytes of a block of dd


class Ask(NamedTuple):
    """``verb``: read, stat, readlink, list, glob, access, which, part, sockets, text, search (a text that is
    not asked again), expect."""

    verb: str
    path: str
    more: tuple[Any, ...] = ()


class _Again:
    """Doubtful: to be asked by itself."""


AGAIN: Final = _Again()
Answers = Iterator[tuple[Ask, Any]]  # a value, Failed, or AGAIN


class Part(NamedTuple):
    """Of a script: ends ``sections``, and ``parse`` reads them."""

    text: str
    sections: int
    parse: Callable[[list[bytes]], Answers]


@lru_cache(64)
def parts(asks: tuple[Ask, ...], *, gnu: bool) -> tuple[Part, ...]:
    """The script for all of them; most are asked again and again."""
    many: dict[str, list[Ask]] = {}
    found: list[Part] = []
    for ask in asks:
        if ask.verb in _MANY and (gnu or ask.verb != "readlink") and _PLAIN.match(ask.path):
            many.setdefault(ask.verb, []).append(ask)
        else:
            found.append(_ONE[ask.verb](ask, gnu))
    for verb, alike in many.items():
        found += (_MANY[verb](chunk, gnu) for chunk in _chunks(alike))
    return tuple(found)


def alone(ask: Ask, *, gnu: bool) -> Part:
    """The same question in a way that leaves no doubt."""
    return _ONE[ask.verb](ask, gnu)


def _plain(path: bytes) -> bool:
    return _PLAIN.match(os.fsdecode(path)) is not None


def _chunks(asks: Sequence[Ask]) -> Iterator[list[Ask]]:
    chunk: list[Ask] = []
    size = 0
    for ask in asks:
        size += len(ask.path) + 1
        if size > _ARGUMENTS:
            yield chunk
            chunk, size = [], len(ask.path) + 1
        chunk.append(ask)
    yield chunk


def _quoted(asks: Iterable[Ask]) -> str:
    return " ".join(shlex.quote(ask.path) for ask in asks)


# Many with one process


def _read_many(asks: Sequence[Ask], gnu: bool) -> Part:
    def parse(sections: list[bytes]) -> Answers:
        _, data, errors = sections
        by_path = {os.fsencode(ask.path): ask for ask in asks}
        for path, answer in files(list(by_path), data, errors, gnu=gnu):
            yield by_path[path], answer

    return Part(f'e head -c "$N" -v -- {_quoted(asks)}\n', 3, parse)


def files(paths: Sequence[bytes], data: bytes, errors: bytes, *, gnu: bool) -> Iterator[tuple[bytes, Any]]:
    """What ``head -v`` says of files, each once."""
    wrong = failures(errors)
    expected = set(paths)
    data = b"\n" + data
    found = [header for header in _HEADER.finditer(data) if header[1] in expected]
    times = Counter(header[1] for header in found)
    answers: dict[bytes, Any] = {path: wrong.get(path, AGAIN) for path in paths}
    sure: bytes | None = None  # the file that we certainly are in
    for header, following in zip(found, (*found[1:], None), strict=False):
        name, end = header[1], following.start() if following else len(data)
        if times[name] == 1 and name not in wrong:
            sure = name
            content = data[header.end() : end]
            answers[name] = content if len(content) <= MOST else _TOO_LONG
        elif not (times[name] == 1 and end == header.end()):  # a read that failed leaves its header
            if sure is not None:
                answers[sure] = AGAIN
            if name not in wrong:
                answers[name] = AGAIN
    if not gnu:  # busybox tells no read error from another
        answers = {path: AGAIN if _vague(answer) else answer for path, answer in answers.items()}
    return iter(answers.items())


def _vague(answer: Any) -> bool:
    return isinstance(answer, Failed) and answer.number == 5


def _stat_many(asks: Sequence[Ask], gnu: bool) -> Part:
    text = f"e stat -L -c '{_stat_format(gnu)}' -- {_quoted(asks)}\n"
    return Part(text, 3, partial(_in_line, asks, lambda data: data.splitlines(), stat_of))


def _readlink_many(asks: Sequence[Ask], gnu: bool) -> Part:
    text = f"e readlink -v -z -- {_quoted(asks)}\n"
    return Part(text, 3, partial(_in_line, asks, lambda data: data.split(b"\0")[:-1], os.fsdecode))


def _in_line(
    asks: Sequence[Ask],
    split: Callable[[bytes], list[bytes]],
    read: Callable[[bytes], Any],
    sections: list[bytes],
) -> Answers:
    """One piece for each that did not fail, in order."""
    _, data, errors = sections
    wrong = failures(errors)
    good = [ask for ask in asks if os.fsencode(ask.path) not in wrong]
    pieces = split(data)
    if len(pieces) != len(good):
        yield from ((ask, AGAIN) for ask in asks)
        return
    yield from zip(good, map(read, pieces), strict=True)
    yield from ((ask, wrong[path]) for ask in asks if (path := os.fsencode(ask.path)) in wrong)


def _access_many(asks: Sequence[Ask], gnu: bool) -> Part:
    tests = (_may(ask) for ask in asks)
    text = "".join(f"if {test}; then printf 1; else printf 0; fi\n" for test in tests)

    def parse(sections: list[bytes]) -> Answers:
        yield from ((ask, flag == ord("1")) for ask, flag in zip(asks, sections[0], strict=True))

    return Part(text + END, 1, parse)


def _may(ask: Ask) -> str:
    wanted = [
        "-e",
        *(flag for bit, flag in ((os.R_OK, "-r"), (os.W_OK, "-w"), (os.X_OK, "-x")) if ask.more[0] & bit),
    ]
    return " && ".join(f"[ {flag} {shlex.quote(ask.path)} ]" for flag in wanted)


def _sockets_many(asks: Sequence[Ask], gnu: bool) -> Part:
    def parse(sections: list[bytes]) -> Answers:
        held = sockets(sections[0])
        yield from ((ask, frozenset(held.get(os.fsencode(ask.path), ()))) for ask in asks)

    return Part(f"ls -ln /dev/null {_quoted(asks)}\n{END}", 1, parse)


_LISTED = re.compile(rb"(?m)^(?:(/[^\n]*/fd):|[^\n]* -> socket:\[(\d+)\])$")


def sockets(listing: bytes) -> dict[bytes, set[int]]:
    """Directory of descriptors -> inodes of sockets, of ``ls -l``."""
    held: dict[bytes, set[int]] = {}
    here: set[int] = set()
    for place, inode in _LISTED.findall(listing):
        if place:
            here = held.setdefault(place, set())
        else:
            here.add(int(inode))
    return held


# One by one


def _read(ask: Ask, gnu: bool) -> Part:
    program = 'head -c "$N"' if gnu else "cat"  # which tells the errno in full
    text = f"e {program} -- {shlex.quote(ask.path)}\n"

    def content(data: bytes) -> Any:
        return data if len(data) <= MOST else _TOO_LONG

    return _whole(ask, text, content)


def _stat(ask: Ask, gnu: bool) -> Part:
    return _whole(ask, f"e stat -L -c '{_stat_format(gnu)}' -- {shlex.quote(ask.path)}\n", stat_of)


def _readlink(ask: Ask, gnu: bool) -> Part:
    return _whole(ask, f"e readlink -n -v -- {shlex.quote(ask.path)}\n", os.fsdecode)


def _part(ask: Ask, gnu: bool) -> Part:
    offset, size = ask.more
    block = _SMALL if size <= _LARGE else _LARGE
    first, skip = divmod(offset, block)
    count = -(-(skip + size) // block)
    path = shlex.quote(ask.path)
    text = (
        f'if [ -e {path} ] && ! [ -f {path} ]; then printf %s "$T${{T}}dd: Invalid argument$T"\n'
        f"else e dd if={path} bs={block} skip={first} count={count}; fi\n"
    )
    return _whole(ask, text, lambda data: data[skip : skip + size])


def _whole(ask: Ask, text: str, read: Callable[[bytes], Any]) -> Part:
    def parse(sections: list[bytes]) -> Answers:
        _, data, errors = sections
        wrong = failed(errors)
        try:
            yield ask, wrong or read(data)
        except ValueError:
            yield ask, Failed(5, "Input/output error")

    return Part(text, 3, parse)


def _list(ask: Ask, gnu: bool) -> Part:
    def parse(sections: list[bytes]) -> Answers:
        (said,) = sections
        if not said.startswith(b"0"):
            yield ask, Failed(int(said), os.strerror(int(said)))
            return
        names = dict.fromkeys(os.fsdecode(said[1:]).split("\0")[:-1])
        yield ask, [name for name in names if name not in (".", "..")]

    return Part(f"l {shlex.quote(ask.path)}\n", 1, parse)


def _glob(ask: Ask, gnu: bool) -> Part:
    def parse(sections: list[bytes]) -> Answers:
        yield ask, os.fsdecode(sections[0]).split("\0")[:-1]

    return Part(f"g {pattern(ask.path)}\n", 1, parse)


def _which(ask: Ask, gnu: bool) -> Part:
    def parse(sections: list[bytes]) -> Answers:
        yield ask, os.fsdecode(sections[0]) or None

    return Part(f"w {shlex.quote(ask.path)}\n", 1, parse)


def _text(ask: Ask, gnu: bool) -> Part:
    """A script of its own: as many sections as ``more`` says; the answer is all of them."""

    def parse(sections: list[bytes]) -> Answers:
        yield ask, sections

    return Part(ask.path, ask.more[0], parse)


def _expect(ask: Ask, gnu: bool) -> Part:
    """All files that patterns match: the answer is of each of them, AGAIN among them."""

    def parse(sections: list[bytes]) -> Answers:
        names, data, errors = sections
        unmatched = set(map(os.fsencode, ask.more))
        paths = [
            path for path in dict.fromkeys(names.split(b"\0")[:-1]) if path not in unmatched or _plain(path)
        ]
        told = dict.fromkeys(paths, AGAIN)
        if all(map(_plain, paths)):  # else one's header would be taken for what another holds
            told |= dict(files(paths, data, errors, gnu=gnu))
        yield ask, {os.fsdecode(path): answer for path, answer in told.items()}

    return Part(f"h {' '.join(map(pattern, ask.more))}\n", 3, parse)


_MANY: dict[str, Callable[[Sequence[Ask], bool], Part]] = {
    "read": _read_many,
    "stat": _stat_many,
    "readlink": _readlink_many,
    "access": _access_many,
    "sockets": _sockets_many,
}
_ONE: dict[str, Callable[[Ask, bool], Part]] = {
    "read": _read,
    "stat": _stat,
    "readlink": _readlink,
    "access": lambda ask, gnu: _access_many([ask], gnu),
    "sockets": lambda ask, gnu: _sockets_many([ask], gnu),
    "part": _part,
    "list": _list,
    "glob": _glob,
    "which": _which,
    "text": _text,
    "search": _text,
    "expect": _expect,
}
_WILD = re.compile(r"(\[!?[\w-]+\]|[*?])", re.ASCII)


def pattern(text: str) -> str:
    """For a shell: its wildcards as they are, all else quoted."""
    words = _WILD.split(text)
    return "".join(word if place % 2 else word and shlex.quote(word) for place, word in enumerate(words))


def _stat_format(gnu: bool) -> str:
    return _STAT.format("%.Y" if gnu else "%Y")


def stat_of(line: bytes) -> Stat:
    """Raises ValueError."""
    mode, size, mtime, uid, gid, dev, ino = line.split()
    return Stat(
        mode=int(mode, 16),
        size=int(size),
        mtime=float(mtime),
        uid=int(uid),
        gid=int(gid),
        dev=int(dev),
        ino=int(ino),
    )
