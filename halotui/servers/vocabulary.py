"""A server's arguments in halotui's own words: read, changed, and told apart by setting."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from msgspec import Struct

from halotui.actions import ActionError, Patch, Value
from halotui.servers.secret import masked, plain
from halotui.servers.settings import BY_NAME, FORM, OFF, ON, SETTINGS, UNSAID, Form, Setting, text_of

if TYPE_CHECKING:
    from halotui.servers.dialect import Dialect

__all__ = [
    "BY_NAME",
    "FORM",
    "Setting",
    "Word",
    "convert",
    "from_environment",
    "parse",
    "patched",
    "spelt",
    "spoken",
    "text_of",
    "values",
]

BY_SPELLING: dict[str, list[tuple[Setting, Form]]] = {}
for _row in SETTINGS:
    for _form in _row.forms:
        for _flag in _form.flags:
            BY_SPELLING.setdefault(_flag, []).append((_row, _form))

# Without a draft model they say nothing.
_OF_DRAFT = (
    "draft",
    "draft-hf",
    "draft-max",
    "draft-min",
    "draft-p-min",
    "ngld",
    "devd",
    "ctkd",
    "ctvd",
    "cd",
    "td",
)
# One flag in newer builds: (mmap, mlock) of its modes.
LOADING = ("mmap", "mlock", "dio", "lm")
LOAD_MODES = {
    "none": (False, False),
    "mmap": (True, False),
    "mlock": (False, True),
    "mmap+mlock": (True, True),
}
PORTS = range(1, 65536)  # 0 would let the server choose, and nobody would find it
_NUMBER = re.compile(r"-\d|-\.\d")


class Word(Struct, frozen=True):
    """A flag with its values. ``setting`` None: one that no setting stands for. ``text`` is how it stands
    on the command line; () means that it need not be said."""

    setting: str | None
    value: Value | None
    text: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Word({self.setting!r}, {' '.join(masked(self.text))!r})"


def is_flag(word: str) -> bool:
    """-1 is a number."""
    return word.startswith("-") and len(word) > 1 and not _NUMBER.match(word)


def parse(arguments: Sequence[str], dialect: Dialect | None = None) -> tuple[Word, ...]:
    """A server's arguments as words; nothing is lost: their texts in a row are the arguments again."""
    words = []
    at = 0
    while at < len(arguments):
        end = at + 1 + _values_after(arguments, at, dialect)
        words.append(_word(tuple(arguments[at:end])))
        at = end
    return tuple(words)


def _values_after(arguments: Sequence[str], at: int, dialect: Dialect | None) -> int:
    flag, left = plain(arguments[at]), len(arguments) - at - 1
    if not is_flag(flag) or not left:
        return 0
    if dialect and flag in dialect.flags:
        return min(dialect.flags[flag].arity, left)
    following = arguments[at + 1]
    if known := BY_SPELLING.get(flag):
        bare = {form.bare is not None for _, form in known}
        if len(bare) == 1:
            return 0 if bare.pop() else 1
        return int(any(form.bare is None and setting.read(following) is not None for setting, form in known))
    return int(not is_flag(following))


def _word(text: tuple[str, ...]) -> Word:
    for setting, form in BY_SPELLING.get(plain(text[0]), ()):
        if len(text) == 1 and form.bare is not None:
            return Word(setting.name, form.bare, text)
        if len(text) == 2 and form.bare is None:
            value = form.texts.get(text[1]) if form.texts is not None else setting.read(text[1])
            if value is not None:
                return Word(setting.name, value, text)
    return Word(None, None, text)


def values(words: Iterable[Word]) -> dict[str, Value]:
    """Settings by name; the last of several wins. A load mode is told as ``mmap`` and ``mlock``."""
    found: dict[str, Value] = {}
    for word in words:
        if word.setting in LOADING and word.setting is not None:
            loading = {name: found.pop(name) for name in LOADING if name in found}
            found |= _loading(loading, word.setting, word.value)
        elif word.setting is not None and word.value is not None:
            found[word.setting] = word.value
    return found


def _loading(before: dict[str, Value], name: str, value: Value | None) -> dict[str, Value]:
    """What is said about loading once ``name`` is said too: a load mode says all of it, and mapped and
    direct reading exclude each other."""
    if name == "lm":
        mmap, mlock = LOAD_MODES.get(str(value), (None, None))
        modes = {"mmap": mmap, "mlock": mlock or None, "dio": True if value == "dio" else None}
        known: dict[str, Value] = {key: said for key, said in modes.items() if said is not None}
        return known or ({} if value is None else {"lm": value})
    gone = {"lm", name, "dio" if name == "mmap" else "mmap" if name == "dio" and value else ""}
    after = {key: said for key, said in before.items() if key not in gone}
    return after if value is None else {**after, name: value}


def from_environment(environ: Mapping[str, str]) -> dict[str, Value]:
    """Settings that are said by environment; the command line wins over them."""
    said = (
        (row, form, name) for row in SETTINGS for form in row.forms for name in form.env if name in environ
    )
    return values(
        Word(row.name, _by_variable(row, form, name, environ[name]), ()) for row, form, name in said
    )


def _by_variable(setting: Setting, form: Form, name: str, text: str) -> Value | None:
    if "_NO_" in name:  # that it is there is enough
        return False
    if form.texts is not None:
        return form.texts.get(text)
    if form.bare is not None and setting.kind is not bool:
        return form.bare if text.lower() in ON else None
    return setting.read(text)


def convert(name: str, text: str) -> tuple[str, Value | None]:
    """``name=text`` of a user: the setting's name and value, None to take it away. Any spelling of the flag
    does, without its dashes. Raises ActionError."""
    candidates = _named(name)
    first, low = candidates[0][0], text.lower()
    text = low if low in first.choices else text
    if low in UNSAID and not any(low in setting.choices for setting, _ in candidates):
        return first.name, None
    for setting, form in candidates:
        if (value := _meant(setting, form, text)) is not None:
            if setting.name == "port" and value not in PORTS:
                raise ActionError(f"port={text}: not from {PORTS[0]} to {PORTS[-1]}")
            return setting.name, value
    raise ActionError(f"{first.name}={text}: not {_wanted(first)}")


def _named(name: str) -> Sequence[tuple[Setting, Form | None]]:
    word = plain(f"--{name.lstrip('-')}").removeprefix("--")
    if word in BY_NAME:
        return [(BY_NAME[word], None)]
    if found := BY_SPELLING.get(f"--{word}") or BY_SPELLING.get(f"-{word}"):
        return found
    near = get_close_matches(word, [*BY_NAME, *(flag.lstrip("-") for flag in BY_SPELLING)], 1, 0.75)
    raise ActionError(
        f"no setting {name}", f"did you mean {near[0]}?" if near else "other flags go into extra"
    )


def _meant(setting: Setting, form: Form | None, text: str) -> Value | None:
    if form is None or (form.bare is None and form.texts is None):
        return setting.read(text)
    if form.texts is not None:
        return form.texts.get(text)
    on = {**ON, **OFF}.get(text.lower())
    if setting.kind is bool:
        return None if on is None else on == form.bare
    return form.bare if on else None


def _wanted(setting: Setting) -> str:
    if setting.closed:
        return "one of " + ", ".join(setting.choices)
    kinds = {bool: "on or off", int: "a whole number", float: "a number", str: "a text"}
    words = [choice for choice in setting.choices if not choice.isdecimal()]
    return " or ".join([kinds[setting.kind], *words])


def spelt(name: str, value: Value, like: Sequence[str] = ()) -> tuple[str, ...]:
    """A setting as flag and value, in the spelling of ``like`` where that can say it; () when no flag can."""
    setting = BY_NAME[name]
    forms = [(flag, form) for form in setting.forms for flag in form.flags]
    forms.sort(key=lambda pair: (pair[0] not in like[:1], len(like) == 1 and pair[1].bare is None))
    for flag, form in forms:
        text = form.write(value)
        if text is not None:
            return (flag, text) if text else (flag,)
    return ()


def patched(words: Sequence[Word], patch: Patch) -> tuple[Word, ...]:
    """With other values: in place where a setting stands already, else at the end. None takes it away;
    taking ``draft`` away takes all along that is about drafting with a model.
    """
    if not patch:
        return tuple(words)
    wanted = dict(patch)
    if "draft" in wanted and wanted["draft"] is None:
        wanted = {**dict.fromkeys(_OF_DRAFT), **_spec_without_draft(words), **wanted}
    if set(wanted) & set(LOADING):
        words, wanted = _loaded(words, wanted)
    left = list(words)
    for name, value in wanted.items():
        if name not in BY_NAME:
            raise ActionError(f"no setting {name}")
        places = [at for at, word in enumerate(left) if word.setting == name]
        if value is None:
            left = [word for word in left if word.setting != name]
        elif not places:
            left.append(Word(name, value, spelt(name, value)))
        elif left[places[-1]].value != value:
            left[places[-1]] = Word(name, value, spelt(name, value, left[places[-1]].text))
            left = [word for at, word in enumerate(left) if at not in places[:-1]]
    return tuple(left)


def _spec_without_draft(words: Iterable[Word]) -> dict[str, Value | None]:
    said = values(words).get("spec")
    if said is None:
        return {}
    rest = [kind for kind in str(said).split(",") if not kind.startswith("draft-")]
    return {"spec": ",".join(rest) or None}


def _loaded(
    words: Sequence[Word], wanted: dict[str, Value | None]
) -> tuple[list[Word], dict[str, Value | None]]:
    """Where one flag says several settings, all of them are said anew."""
    now = {name: value for name, value in values(words).items() if name in LOADING}
    then: dict[str, Value] = dict(now)
    for name in LOADING:
        if name in wanted:
            then.pop(name, None)
            then = _loading(then, name, wanted[name])
    others = {name: value for name, value in wanted.items() if name not in LOADING}
    if then == now:
        return list(words), others
    kept = [word for word in words if word.setting not in LOADING]
    return kept, {**others, **then}


def spoken(words: Iterable[Word]) -> tuple[str, ...]:
    """The arguments as they stand."""
    return tuple(text for word in words for text in word.text)
