"""The words that several commands share, once. Nothing here may cost: ``--help`` imports it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import _ActionsContainer

GPU_SOURCES = ("auto", "sysfs", "amdgpu_top", "amdsmi")

_WORDS: dict[str, dict[str, Any]] = {
    "--json": {"action": "store_true", "help": "the answer as JSON"},
    "--config": {"type": Path, "metavar": "FILE", "help": "settings instead of the usual config.toml"},
    "--ssh": {
        "action": "append",
        "metavar": "[USER@]HOST",
        "help": "a far box instead of this one, or one of [hosts] in the config",
    },
    "--ssh-config": {"metavar": "FILE", "help": "ssh's own configuration, as ssh -F"},
    "--fleet": {
        "nargs": "?",
        "const": "",
        "metavar": "GROUP",
        "help": "all boxes of [hosts] in the config, or those of a group",
    },
    "--log": {"metavar": "PATH", "help": "log of the first server"},
    "--sysfs": {"type": Path, "metavar": "PATH", "help": "root of sysfs (/sys)"},
    "--procfs": {"type": Path, "metavar": "PATH", "help": "root of procfs (/proc)"},
    "-u --url": {"action": "append", "help": "a llama-server; default: those of the box"},
    "--api-key-env": {"metavar": "NAME", "help": "variable that holds the API key"},
    "-i --interval": {"type": float, "metavar": "S", "help": "seconds between frames (1)"},
    "--gpu-source": {"choices": GPU_SOURCES, "help": "where GPU numbers come from (auto)"},
}
WHICH = ("--ssh", "--ssh-config")  # box
BOX = (*WHICH, "--sysfs", "--procfs")
SERVERS = ("-u --url", "--api-key-env")


def add(parser: _ActionsContainer, *names: str) -> None:
    """As :data:`_WORDS` names them."""
    for name in names:
        parser.add_argument(*name.split(), **_WORDS[name])
