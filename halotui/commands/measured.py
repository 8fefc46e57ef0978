"""What ``bench`` and ``peak`` have in common: the words they check first, and how they answer."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from halotui.benching import account, tables
from halotui.capture.capture import LEAST_HERTZ, MOST_HERTZ
from halotui.exits import UsageError
from halotui.runs import Run, Status
from halotui.safe import clean

Said = Mapping[str, Any]


def hertz(said: Said) -> float:
    """Samples a second. Raises UsageError."""
    value = float(said.get("hz", 20.0))
    if not LEAST_HERTZ <= value <= MOST_HERTZ:
        raise UsageError(f"--hz: {value:g} is not between {LEAST_HERTZ:g} and {MOST_HERTZ:g}")
    return value


def talk(text: str) -> None:
    """One harmless line on stderr."""
    print(f"halotui: {clean(text)}", file=sys.stderr, flush=True)


def answer(run: Run, said: Said, *, aside: bool = False) -> None:
    """The tables, where they belong. ``aside``: stdout is not ours, it has the data of the command.

    Markdown and CSV have the published table, or the peaks where nothing was published. What the terminal
    would not see of all that then goes to stderr.
    """
    format_ = tables.format_of(said)
    text = account.text(run, evidence=run.status is Status.HUNG)
    data = text if format_ == "table" else _data(run, format_)
    ours = "output" not in said and not aside  # stdout has the data
    if not ours or (format_ != "table" and not sys.stdout.isatty()):
        print(text, file=sys.stderr, flush=True)
    elif format_ in ("markdown", "csv") and run.results:
        print("\n".join(account.lines(run)), file=sys.stderr, flush=True)
    if not aside or "output" in said:
        tables.put(data, said)
    if run.id:
        talk(f"run stored as {run.id}: {shown_by(run.id, said)}")


def shown_by(id_: int, said: Said) -> str:
    """The command that shows a stored run: those of a far box are kept apart."""
    there = "".join(f" --ssh {shlex.quote(name)}" for name in said.get("ssh", ()))
    return f"halotui runs show {id_}{there}"


def _data(run: Run, format_: str) -> str:
    label = note = ""
    if run.results:
        table, label, note = tables.published([run]), account.label(run), tables.note([run])
    elif run.summary is not None:
        table = tables.peaks(run.summary)
    else:
        table = tables.Table((), [])
    text = tables.render(table, format_, account.as_object(run))
    return "\n\n".join(filter(None, (label, text, note))) if format_ == "markdown" else text
