"""Which flags a binary takes, as its ``--help`` says, and a command line in them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from halotui import private
from halotui.actions import ActionError
from halotui.hosts import LinkDown
from halotui.safe import clean
from halotui.servers import there
from halotui.servers.secret import masked, plain
from halotui.servers.settings import BY_NAME, text_of
from halotui.servers.vocabulary import LOAD_MODES, LOADING, Word, is_flag, values

if TYPE_CHECKING:
    from halotui.hosts import Host
    from halotui.hosts.hands import Hands

HELP_SECONDS = 30.0  # a big binary on a cold disk
KEPT = 16  # dialects in the cache
# What a stamp of the host's file cannot speak for: the binary is inside.
_CLIENTS = ("toolbox", "distrobox", "podman", "docker", "flatpak-spawn")

_LINE = re.compile(r"((?:-[^\s,]+,\s+)*-[^\s,]+)(?: (\S.*?))?(?:\s{2,}(.*))?$")
_GROUP = re.compile(r"<[^<>]*>|\{[^{}]*\}|\[[^\[\]]*\]")
_LISTED = re.compile(r"[\[{<]?([a-z0-9][\w+-]*(?:[|,][a-z0-9][\w+-]*)+)[\]}>]?")
_ALLOWED = re.compile(r"allowed values: (.*?)(?:\(default|\(env|$)")
_BULLET = re.compile(r"- ([\w+-]+)(?: \(default\))?:")
_ENV = re.compile(r"\(env: (\w+)\)")
_REMOVED = re.compile(r"argument has been removed\.?\s*(.*?)\s*(?:\(env|$)")
_VERSION = re.compile(r"version: (\S+)(?: \(build (\d+))?")
_LOG_VARIABLES = ("LLAMA_ARG_LOG_FILE", "LLAMA_LOG_FILE")


class Flag(Struct, frozen=True, omit_defaults=True):
    """``choices`` are those that the help lists; it need not list all that the build takes."""

    arity: int
    choices: tuple[str, ...] = ()
    env: tuple[str, ...] = ()


class Dialect(Struct, frozen=True, omit_defaults=True):
    """``version`` and ``build`` as ``--version`` says; a shallow clone calls itself build 1."""

    version: str | None = None
    build: int | None = None
    flags: dict[str, Flag] = {}
    removed: dict[str, str] = {}  # flag: what the help says to use instead

    def takes(self, words: Sequence[str]) -> bool:
        """Whether this is a flag of that build with as many values as it wants."""
        flag = self.flags.get(plain(words[0])) if words else None
        return flag is not None and flag.arity == len(words) - 1


class UnknownFlags(ActionError):
    """``flags``: each with what is known about it."""

    def __init__(self, flags: tuple[tuple[str, str], ...]) -> None:
        names = ", ".join(clean(flag) for flag, _ in flags)
        super().__init__(
            f"this llama-server does not know {names}", "; ".join(hint for _, hint in flags if hint)
        )
        self.flags = flags


def parse_help(text: str) -> Dialect:
    """From the output of ``--help``; no flags when it is none."""
    flags: dict[str, Flag] = {}
    removed: dict[str, str] = {}
    for head, description in _entries(text):
        if not (match := _LINE.match(head)):
            continue
        spellings, hint = [word.strip() for word in match[1].split(",")], match[2] or ""
        lines = [match[3] or "", *description]
        whole = " ".join(lines)
        if gone := _REMOVED.search(whole):
            removed |= dict.fromkeys(spellings, gone[1])
            continue
        flag = Flag(_arity(hint), _choices(hint, whole, lines), tuple(_ENV.findall(whole)))
        flags |= dict.fromkeys(spellings, flag)
    return Dialect(flags=flags, removed=removed)


def _entries(text: str) -> Iterator[tuple[str, list[str]]]:
    """A flag's own line and the lines below it, without their margin."""
    head, below = "", list[str]()
    for line in text.splitlines():
        if line.startswith("-") and not line.startswith("---"):
            if head:
                yield head, below
            head, below = line.rstrip(), []
        elif not line.startswith(" "):  # a heading, or a gap before one
            if head and line:
                yield head, below
                head = ""
        else:
            below.append(line[40:] if not line[:40].strip() else line.strip())
    if head:
        yield head, below


def _arity(hint: str) -> int:
    """``START END`` is two, ``<tensor name pattern>=<buffer type>,...`` one."""
    while (plainer := _GROUP.sub("X", hint)) != hint:
        hint = plainer
    return len(hint.split())


def _choices(hint: str, whole: str, lines: Iterable[str]) -> tuple[str, ...]:
    if listed := _LISTED.fullmatch(hint):
        return tuple(re.split(r"[|,]", listed[1]))
    if allowed := _ALLOWED.search(whole):
        return tuple(word.strip() for word in allowed[1].split(",") if word.strip())
    return tuple(match[1] for line in lines if (match := _BULLET.match(line)))


def harmless(env: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, what a question to a binary may have: not our mark, and not a log that the running
    server writes. llama-server empties that file as soon as it reads of it, also for ``--version``.
    """
    return {k: v for k, v in env.items() if k not in _LOG_VARIABLES and not k.startswith("HALOTUI_")}


async def read_dialect(
    host: Host,
    hands: Hands,
    probe: Sequence[str],
    cache: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    stamp: str | None = None,
) -> Dialect:
    """What the binary behind ``probe`` says of itself; ``cache`` is a file that remembers it.

    ``stamp`` tells one build from the next (of an image, its id); without one it is path, time and size of
    the file, and a binary in a container is asked each time. Raises ActionError when it does not run.
    """
    name = clean(PurePath(probe[-1]).name)
    stamp = await asyncio.to_thread(_stamp, host, probe, env, cwd) if stamp is None else stamp
    key = "\0".join([*probe, stamp])
    known = _cached(cache)
    if stamp and key in known:
        return known[key]
    told = await _ask(hands, probe, "--help", env, cwd)
    dialect = parse_help(told)
    if "--model" not in dialect.flags or "--port" not in dialect.flags:
        raise ActionError(f"{name} is no llama-server", "its --help lists neither --model nor --port")
    version = _VERSION.search(await _ask(hands, probe, "--version", env, cwd))
    if version:
        build = version[2] or (version[1] if version[1].isdecimal() else None)
        dialect = replace(dialect, version=clean(version[1]), build=int(build) if build else None)
    if stamp:
        others = {old: kept for old, kept in known.items() if old.split("\0")[:-1] != [*probe]}
        _remember(cache, {**others, key: dialect})
    return dialect


async def _ask(
    hands: Hands, probe: Sequence[str], question: str, env: Mapping[str, str] | None, cwd: str | None
) -> str:
    name = clean(PurePath(probe[-1]).name)
    try:
        done = await hands.run(
            [*probe, question], env=None if env is None else harmless(env), cwd=cwd, seconds=HELP_SECONDS
        )
    except TimeoutError:
        raise ActionError(f"{name} {question} gave no answer in {HELP_SECONDS:.0f} s") from None
    except LinkDown:
        raise
    except OSError as error:
        raise ActionError(f"{name} does not run: {error.strerror or error}", clean(probe[0])) from None
    if done.code:
        lines = [line for line in (done.err + "\n" + done.out).splitlines() if line.strip()]
        said = clean(next((line for line in lines if "error" in line), lines[0] if lines else ""))[:200]
        raise ActionError(
            f"{name} does not run: {said or f'exit {done.code}'}", clean(" ".join(masked(probe)))
        )
    return done.out + "\n" + done.err


def _stamp(host: Host, probe: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> str:
    """Of each file of the command: the program may be a script, or the argument of a loader."""
    if PurePath(probe[0]).name in _CLIENTS:
        return ""
    environ = env or {}
    path = environ.get("PATH", host.environ.get("PATH", ""))
    program = probe[0] if "/" in probe[0] else there.program(host, probe[0], path)
    files = [program, *(word for word in probe[1:] if word.startswith("/"))]
    stats = [there.stat(host, PurePath(cwd or "", file)) for file in files if file]
    marks = [f"{stat.mtime!r}+{stat.size}" for stat in stats if stat is not None]
    if len(marks) != len(stats):
        return ""
    return " ".join([*marks, environ.get("LD_LIBRARY_PATH", "")]) if marks else ""


def _cached(cache: Path) -> dict[str, Dialect]:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=dict[str, Dialect])
    except (OSError, msgspec.DecodeError):
        return {}


def _remember(cache: Path, dialects: dict[str, Dialect]) -> None:
    """A cache that cannot be written is no fault."""
    last = dict(list(dialects.items())[-KEPT:])
    new = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        private.folder(cache.parent)
        new.write_bytes(msgspec.json.encode(last))
        new.chmod(0o600)
        new.replace(cache)
    except OSError:
        pass


def render(words: Sequence[Word], dialect: Dialect) -> tuple[str, ...]:
    """The words as arguments for that build: as they stood where it knows them, else translated.

    A draft model is given the ``--spec-type`` without which newer builds load it in vain. Raises
    :class:`UnknownFlags` with all that cannot be said.
    """
    said: list[str] = []
    unknown: list[tuple[str, str]] = []
    for word in _drafting(_loading(words, dialect), dialect):
        if (text := _rendered(word, dialect)) is not None:
            said += text
        else:
            listed = word.setting and word.text and dialect.takes(word.text)  # then it is its value
            flag = " ".join(masked(word.text if listed else word.text[:1])) or f"{word.setting}"
            unknown.append((flag, _hint(word, dialect)))
    if unknown:
        raise UnknownFlags(tuple(unknown))
    return tuple(said)


def _rendered(word: Word, dialect: Dialect) -> tuple[str, ...] | None:
    if dialect.takes(word.text) and _chosen(word, word.text, dialect):
        return word.text
    if word.setting is None or word.value is None:
        return None
    setting = BY_NAME[word.setting]
    for form in setting.forms:
        if (value := form.write(word.value)) is None:
            continue
        for flag in form.flags:
            text = (flag, value) if value else (flag,)
            if dialect.takes(text) and _chosen(word, text, dialect):
                return text
    return () if word.value in setting.silent else None


def _chosen(word: Word, text: Sequence[str], dialect: Dialect) -> bool:
    """Whether a setting's value is among those listed; ``-fa 1`` is known by what it means."""
    choices = dialect.flags[plain(text[0])].choices
    if word.setting is None or word.value is None or not choices or len(text) != 2:
        return True
    if BY_NAME[word.setting].kind is not str:
        return True
    return text_of(word.value) in choices or set(text[1].split(",")) <= set(choices)


def _loading(words: Sequence[Word], dialect: Dialect) -> list[Word]:
    """Older builds say in three flags what newer ones say in ``--load-mode``."""
    mine = [word for word in words if word.setting in LOADING]
    if all(not word.text or dialect.takes(word.text) for word in mine):
        return list(words)
    now = values(mine)
    said = [Word(name, value, ()) for name, value in now.items()]
    if "--load-mode" in dialect.flags and now.get("dio"):
        said = [Word("dio", True, ())]
    elif "--load-mode" in dialect.flags and now.get("mlock"):
        pair = (now.get("mmap", True), True)
        said = [Word("lm", next(mode for mode, both in LOAD_MODES.items() if both == pair), ())]
    first = words.index(mine[0])
    others = [word for word in words if word.setting not in LOADING]
    return [*others[:first], *said, *others[first:]]


def _drafting(words: Sequence[Word], dialect: Dialect) -> Iterator[Word]:
    spec = dialect.flags.get("--spec-type")
    simple = spec is not None and "draft-simple" in spec.choices
    said = values(words)
    for word in words:
        if word.setting != "spec" or simple:
            yield word
            continue
        # A draft model alone is enough for these builds.
        kinds = [kind for kind in str(word.value).split(",") if kind != "draft-simple"]
        if kinds == str(word.value).split(","):
            yield word
        elif kinds:
            yield Word("spec", ",".join(kinds), ("--spec-type", ",".join(kinds)))
    if simple and "spec" not in said and ("draft" in said or "draft-hf" in said):
        yield Word("spec", "draft-simple", ("--spec-type", "draft-simple"))


def _hint(word: Word, dialect: Dialect) -> str:
    text = word.text or (f"{word.setting}",)
    flag = plain(text[0])
    if not is_flag(flag):
        return "it is no flag" if word.text else "this build has no flag for it"
    if flag in dialect.removed:
        return f"removed: {dialect.removed[flag]}".strip(": ")
    if known := dialect.flags.get(flag):
        if known.arity != len(text) - 1:
            return f"takes {known.arity or 'no'} value" + "s" * (known.arity > 1)
        return "takes " + ", ".join(known.choices)
    if "=" in flag and flag.partition("=")[0] in dialect.flags:
        return "flag and value are two words"
    near = get_close_matches(flag, dialect.flags, 1, 0.75)
    return f"did you mean {near[0]}?" if near and word.setting is None else "not in its --help"
