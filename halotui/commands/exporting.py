"""The words of ``export``. Nothing here may cost: ``--help`` imports it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halotui.commands import words

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

NAMES = ("export",)
LISTEN = "127.0.0.1:9101"
WEB_PATH = "/metrics"
AUTH = "HALOTUI_EXPORT_AUTH"  # user:password, where no file is named
INTERVAL = 5.0  # seconds between frames: a third of Prometheus's usual scrape interval

_HELP = "a Prometheus exporter of this box, or of far ones"
_EPILOG = f"""\
examples:
  halotui export                          http://{LISTEN}{WEB_PATH}, this box
  halotui export --listen 0.0.0.0:9101 --tls-cert box.pem --tls-key box.key --basic-auth-file users
  halotui export --fleet                  all boxes of [hosts] in the config, one exporter
  halotui export --demo --fault thermal   a demo box, to try a dashboard or an alert with
  halotui export --alert-rules            rules for Prometheus, as in contrib/prometheus

A frame is made every --interval seconds, whoever scrapes: a scrape is told the last one and makes none.
What is counted (requests, tokens, events) is counted in each frame. A box whose last frame is older than
three intervals, and 10 s, has nothing but halotui_up 0, so that Prometheus takes its numbers for stale.

--basic-auth-file: lines of user:password, in a file that only you can read (chmod 600); or one such line
in the variable {AUTH}.

exit codes: 0 ended by SIGTERM, 1 the port is taken or no box gives frames any more, 2 usage,
3 the only box cannot be reached, 130 interrupted
"""


def add(commands: Commands, argv: Sequence[str]) -> None:
    """Add ``export``. It is made whole only where it is said."""
    if "export" not in argv:
        commands.add_parser("export", help=_HELP)
        return
    parser = commands.add_parser(
        "export",
        help=_HELP,
        description=f"{_HELP[0].upper()}{_HELP[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    _what(parser.add_argument_group("what to watch"))
    _how(parser.add_argument_group("how to serve it"))


def _what(group: argparse._ArgumentGroup) -> None:
    words.add(group, "-u --url", *words.WHICH, "--fleet", "--log", "--api-key-env", "--gpu-source")
    words.add(group, "--sysfs", "--procfs", "--config")
    group.add_argument("--demo", action="store_true", help="a demo box")
    group.add_argument("--fault", metavar="FAULT", help="of the demo box")


def _how(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-i", "--interval", type=float, metavar="S", help=f"seconds between frames ({INTERVAL:g})"
    )
    group.add_argument("--listen", metavar="ADDR:PORT", help=f"where to be scraped ({LISTEN})")
    group.add_argument("--web-path", metavar="PATH", help=f"of the metrics ({WEB_PATH})")
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain (PEM): https alone")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key (in the certificate's file)")
    group.add_argument("--tls-client-ca", type=Path, metavar="FILE", help="only clients that this CA signed")
    group.add_argument("--basic-auth-file", type=Path, metavar="FILE", help="who may: lines of user:password")
    group.add_argument("--alert-rules", action="store_true", help="print Prometheus alert rules, and exit")
