"""What would change, as a list of differences, masked. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from halotui.actions import Change
from halotui.safe import clean
from halotui.servers.as_profile import for_a_server
from halotui.servers.launch import Launch, Runner
from halotui.servers.secret import masked, masked_env
from halotui.servers.settings import text_of
from halotui.servers.vocabulary import Word, parse, values

if TYPE_CHECKING:
    from halotui.servers.running import Running
    from halotui.servers.wish import Wish

_MARK = "HALOTUI_"  # ours: who launched it


class Side(Struct, frozen=True, kw_only=True):
    """One way to run a server, laid open. What a side cannot tell is not compared."""

    how: dict[str, str]  # in the order it is shown; empty: none
    words: tuple[Word, ...] | None
    env: dict[str, str] | None
    whole: bool  # ``env`` is all of it

    def __repr__(self) -> str:
        """Without command line and environment: a traceback may print it."""
        return f"Side({self.how.get('runner')!r})"


def of_running(running: Running) -> Side:
    how = {
        "runner": running.runner.value,
        "binary": shlex.join(running.binary),
        "image": running.image,
        "container": running.container,
        "unit": running.unit,
        "backend": running.facts.backend or "",
    }
    plain = running.runner is Runner.PLAIN
    return Side(how=how, words=parse(running.arguments, None), env=running.env, whole=plain)


def of_wish(wish: Wish, arguments: Sequence[str], launch: Launch) -> Side:
    """``arguments`` as rendered. A unit's flags and environment are its own business."""
    how = {
        "runner": wish.runner.value,
        "binary": shlex.join(wish.binary),
        "image": wish.image,
        "container": wish.container,
        "unit": wish.unit,
        "backend": wish.backend or "",
    }
    if wish.runner is Runner.SYSTEMD:
        return Side(how={"runner": how["runner"], "unit": how["unit"]}, words=None, env=None, whole=False)
    plain = wish.runner is Runner.PLAIN
    env = launch.env if plain else wish.env
    return Side(how=how, words=parse(arguments, None), env=env, whole=plain)


def of_launch(launch: Launch) -> Side:
    """Of one out of the books: what its command line tells."""
    if launch.runner is not Runner.PLAIN:
        return Side(how={"runner": launch.runner.value}, words=None, env=None, whole=False)
    first = next((at for at, word in enumerate(launch.argv) if word.startswith("-")), len(launch.argv))
    how = {"runner": launch.runner.value, "binary": shlex.join(launch.argv[:first])}
    return Side(how=how, words=parse(launch.argv[first:], None), env=launch.env, whole=True)


def changes(before: Side | None, after: Side | None) -> tuple[Change, ...]:
    """From the one to the other: how it is run, its flags, its environment, in this order.

    Where one of the two is not there, there is nothing to compare.
    """
    if before is None or after is None:
        return ()
    shared = [name for name in before.how if name in after.how]
    how = _changed(
        "how", *({name: side.how[name] for name in shared if side.how[name]} for side in (before, after))
    )
    flags: Iterable[Change] = ()
    if before.words is not None and after.words is not None:
        flags = _changed("flag", flag_texts(before.words), flag_texts(after.words))
    return (*how, *flags, *_environment(before, after))


def flag_texts(words: Iterable[Word]) -> dict[str, str]:
    """By setting, or by flag where no setting stands for it: the value as text, masked."""
    words = tuple(words)
    texts = {name: masked((text_of(value),))[0] for name, value in values(words).items()}
    for word in words:
        if word.setting is None and word.text:
            flag, *rest = masked(word.text)
            said = " ".join(rest) or "on"
            texts[flag] = f"{texts[flag]}, {said}" if flag in texts else said
    return texts


def shown(command: Sequence[str]) -> tuple[str, ...]:
    """A command line that may be shown: masked and harmless."""
    return tuple(map(clean, masked(command)))


def _changed(part: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield Change(part=part, name=clean(name), before=_shown(old), after=_shown(new))


def _environment(before: Side, after: Side) -> Iterator[Change]:
    """Compared as it is, shown masked. Where one of the two is not whole, only what is set for a server."""
    if before.env is None or after.env is None:
        return
    whole = before.whole and after.whole
    old, new = masked_env(before.env), masked_env(after.env)
    for name in sorted({*before.env, *after.env}):
        if name.startswith(_MARK) or before.env.get(name) == after.env.get(name):
            continue
        if whole or for_a_server(name) or (not after.whole and name in after.env):
            pair = (_shown(old.get(name)), _shown(new.get(name)))
            yield Change(part="env", name=clean(name), before=pair[0], after=pair[1])


def _shown(text: str | None) -> str | None:
    return None if text is None else clean(text)
