"""What the box is made of: firmware, kernel and its parameters, drivers, modes; with what told each."""

from __future__ import annotations

from collections.abc import Iterable

from halotui import fields
from halotui.model import Platform
from halotui.widgets.rows import Ref, Run
from halotui.widgets.sheet import LABEL, Line, Section, fact, lead, listed, note, source_of, wrapped
from halotui.widgets.view import View

_FIRST = ("product", "bios", "cpu", "distribution", "kernel")
_DRIVERS = ("firmware", "mes", "mesa", "rocm", "power_mode", "power_modes", "governor", "npu")
_LISTS = ("kernel_parameters", "module_parameters", "power_modes", "images")
_ASKED = ("firmware", "mes", "mesa", "rocm", "power_mode")  # shown unknown too


def platform(view: View, width: int) -> Section:
    told = view.frame.platform if view.frame is not None else None
    standing = view.standing("platform")
    said = (standing,) if standing is not None else ()
    if told is None:
        source = view.sources.get("platform")
        why = [text for text in (source.reason, source.hint) if text] if source is not None else []
        lines = [note(line) for text in why or ["not read yet"] for line in wrapped(text, width - 2)]
        return Section("platform", lines, said)
    lines = []
    for key in (*_FIRST, "kernel_parameters", "module_parameters", *_DRIVERS, "images"):
        if key in _LISTS:
            lines += _list(told, key, width)
        elif key in _ASKED and getattr(told, key) is None:
            lines.append(fact(view, told, told, key))
        else:
            lines += _words(told, key, width)
    return Section("platform", lines, said)


def _words(told: Platform, key: str, width: int) -> Iterable[Line]:
    """A name that may be long."""
    field, value = fields.BY_ID[f"platform.{key}"], getattr(told, key)
    for at, line in enumerate(wrapped(value, width - LABEL - 1) if value else ()):
        text = Run(line, "text", Ref(field.id, "platform"))
        yield Line((lead("" if at else field.label), text), "" if at else source_of(told, key))


def _list(told: Platform, key: str, width: int) -> Iterable[Line]:
    """In as many lines as it takes."""
    value = getattr(told, key)
    items = [f"{name}={set_}" for name, set_ in value.items()] if isinstance(value, dict) else value
    items = [item.removeprefix("docker.io/") for item in items]  # of images: nobody says it
    field = fields.BY_ID[f"platform.{key}"]
    for at, line in enumerate(listed(items, width - LABEL - 1) if items else ()):
        text = Run(line, "text", Ref(field.id, "platform"))
        yield Line((lead("" if at else field.label), text), "" if at else source_of(told, key))
