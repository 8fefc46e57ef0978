"""The box's two llama-servers: one program on one CPU, told apart by where it lies and how it is started.

Their flags differ so that a swap has a price and a gain that are real: Vulkan as its owners know it, quick
with single tokens, ROCm with whole prompts.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import halotui
from halotui.demo.faults import Fault

SLOTS = 2
MODEL, DRAFT, LOG = "demo-110B-Q4_K_M.gguf", "demo-1B-draft.gguf", "llama-server.log"
BENCH_MODEL, SUITE = "demo-7B-Q4_0.gguf", "suite.toml"
FIRST, OTHER = "vulkan", "rocm"
LOAD_SECONDS = 2.0  # that a relaunched one takes over its weights
LONGEST_SHEBANG = 120

FLAGS = {  # in halotui's vocabulary
    "np": SLOTS,
    "c": 8192,
    "b": 256,
    "ngl": 99,
    "fa": "on",
    "mmap": False,
    "t": 1,
    "td": 1,
    "cram": 0,
    "metrics": True,
    "spec": "draft-simple",
}
OWN_FLAGS = {FIRST: {"ub": 16, "draft-max": 3}, OTHER: {"ub": 256, "draft-max": 1}}
ENV: dict[str, dict[str, str]] = {
    FIRST: {},
    OTHER: {"ROCBLAS_USE_HIPBLASLT": "1"},
}  # as its owners have it; here nobody reads it
DESCRIPTIONS = {
    FIRST: "demo: the CPU again, with -ub 16 and drafts of three tokens: slower prompts, faster answers",
    OTHER: "demo: the CPU again, with -ub 256 and drafts of one token: faster prompts, slower answers",
}
SPELLINGS = {  # others: a dash before the name
    "draft-max": ("--spec-draft-n-max",),
    "metrics": ("--metrics",),
    "mmap": ("-lm", "none"),
    "spec": ("--spec-type",),
}


# The first table that owners of these boxes published: backends with and without flash attention.
SUITE_HEAD = f"""\
# The demo's suite: `halotui bench --demo`, or `halotui bench` with this file.
name = "demo-backends"
model = "{BENCH_MODEL}"
repeats = 3
cooldown_celsius = 60
cooldown_seconds = 2
timeout = "3m"
"""
SUITE_TESTS = ({"pp": 512, "tg": 128}, {"pp": 8192, "tg": 8192})
SUITE_RUNS = (
    ("Vulkan", FIRST, "off"),
    ("Vulkan + FA", FIRST, "on"),
    ("HIP", OTHER, "off"),
    ("HIP + FA", OTHER, "on"),
)


def lay_binaries(directory: Path, box: str = "") -> None:
    """``vulkan/llama-server`` and ``rocm/llama-server``: the directory names the backend; and a llama-bench
    beside each, which belongs to the box, if told."""
    python = sys.executable
    shebang = f"#!{python}\n"
    if " " in python or len(shebang) > LONGEST_SHEBANG:  # the kernel would cut it
        shebang = f"#!/bin/sh\n'''exec' {shlex.quote(python)} \"$0\" \"$@\"\n' '''\n"
    root = str(Path(halotui.__file__).parents[1])
    for backend in OWN_FLAGS:
        (directory / backend).mkdir()
        told = f"backend={backend!r}, box={box!r}, directory={str(directory)!r}"
        for name, module, said in (("llama-server", "server", ""), ("llama-bench", "bench", told)):
            code = f"from halotui.demo.{module} import main\n\nsys.exit(main({said}))\n"
            binary = directory / backend / name
            binary.write_text(f"{shebang}import sys\n\nsys.path[0] = {root!r}\n{code}")
            binary.chmod(0o700)


def lay_suite(directory: Path) -> Path:
    """The file. It names what lies beside it, so the suites of two boxes have the same items, and one goes on
    with what another began."""
    lines = [SUITE_HEAD]
    for label, backend, flash in SUITE_RUNS:
        lines.append(
            f'[[run]]\nlabel = "{label}"\nbench = "{backend}/llama-bench"\nflags = {{ fa = "{flash}" }}\n'
        )
    lines += ["[[test]]\npp = {pp}\ntg = {tg}\n".format(**test) for test in SUITE_TESTS]
    path = directory / SUITE
    path.write_text("\n".join(lines))
    return path


def profile(backend: str, directory: Path, fault: Fault, port: int, env: dict[str, str]) -> dict[str, Any]:
    """As ``servers.profile.Profile`` has it. A fault is one of both backends."""
    flags = {**FLAGS, **OWN_FLAGS[backend], **fault.flags}
    flags = {name: value for name, value in flags.items() if value is not None}
    drafts = {"draft": str(directory / DRAFT)} if fault.drafts else {}
    return {
        "description": DESCRIPTIONS[backend],
        "runner": "plain",
        "binary": str(directory / backend / "llama-server"),
        "backend": backend,
        "model": str(directory / MODEL),
        **drafts,
        "host": "127.0.0.1",
        "port": port,
        "cwd": str(directory),
        "env": env | ENV[backend],
        "flags": flags,
        "extra": fault.extra,
    }


def command(profile: dict[str, Any], log: Path) -> list[str]:
    """The command line of the profile; the server that the box starts writes a log of its own."""
    words = [profile["binary"], "-m", profile["model"], "--host", profile["host"], "--port", profile["port"]]
    if "draft" in profile:
        words += ["-md", profile["draft"]]
    for name, value in profile["flags"].items():
        words += SPELLINGS.get(name, (f"-{name}",))
        words += [] if isinstance(value, bool) else [value]
    return [str(word) for word in (*words, *profile["extra"], "--log-file", log)]
