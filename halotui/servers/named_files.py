"""The files and directories that a server's flags name: one table for who looks and who mounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import NamedTuple

from halotui.servers.secret import plain
from halotui.servers.settings import BY_NAME

WEIGHTS = BY_NAME["model"].spellings + BY_NAME["draft"].spellings


class Named(NamedTuple):
    """One of them."""

    flag: str
    path: PurePath
    directory: bool
    written: bool


class _Use(NamedTuple):
    """Flags whose value is used alike; llama.cpp's common/arg.cpp."""

    flags: tuple[str, ...]
    directory: bool = False
    written: bool = False
    several: bool = False  # with commas
    scaled: bool = False  # FILE:SCALE; FILE SCALE in older builds


_USES = (
    _Use(WEIGHTS),
    _Use(("-mm", "--mmproj", "-mv", "--model-vocoder", "-lcs", "--lookup-cache-static")),
    _Use(("--grammar-file", "--chat-template-file", "--json-schema-file", "-jf")),
    _Use(("--ssl-key-file", "--ssl-cert-file", "--api-key-file", "--models-preset")),
    _Use(("--lora", "--control-vector"), several=True),
    _Use(("--lora-scaled", "--control-vector-scaled"), several=True, scaled=True),
    _Use(("--models-dir", "--media-path", "--path"), directory=True),
    _Use((*BY_NAME["log-file"].spellings, "-lcd", "--lookup-cache-dynamic"), written=True),
    _Use(("--slot-save-path",), directory=True, written=True),
)
_BY_FLAG = {flag: use for use in _USES for flag in use.flags}


def named_files(arguments: Sequence[str], cwd: str) -> Iterator[Named]:
    """In the order of the command line, each seen from ``cwd``."""
    for word, value in pairwise(arguments):
        flag = plain(word)
        use = _BY_FLAG.get(flag)
        if use is None:
            continue
        for part in value.split(",") if use.several else [value]:
            name = part.rpartition(":")[0] or part if use.scaled else part
            yield Named(flag, PurePath(cwd, name), use.directory, use.written)
