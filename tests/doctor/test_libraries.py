"""What a binary links: read, never run."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from halotui.doctor.libraries import linked
from halotui.hosts.local import LocalHost

HOST = LocalHost()


def elf(path: Path, *needed: str, runpath: str = "") -> Path:
    """The least 64-bit program with a dynamic section."""
    names, entries = b"\0", []
    for tag, name in [*((1, name) for name in needed), *([(29, runpath)] if runpath else [])]:
        entries.append((tag, len(names)))
        names += name.encode() + b"\0"
    headers, start = 64, 64 + 2 * 56
    table = start + len(names)
    entries += [(5, start), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    whole = table + len(dynamic)
    head = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, headers, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, whole, whole, 4096)
    about = struct.pack("<IIQQQQQQ", 2, 4, table, table, table, len(dynamic), len(dynamic), 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + load + about + names + dynamic)
    return path


def test_it_finds_what_ldd_finds() -> None:
    program = Path(sys.executable).resolve()
    if shutil.which("ldd") is None:
        pytest.skip("no ldd to compare with")
    told = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=10).stdout
    theirs = {line.split()[0] for line in told.splitlines() if "=>" in line}
    found = linked(HOST, program)
    assert set(found.found) >= theirs - {"linux-vdso.so.1"}
    assert not found.missing


def test_a_backend_beside_it_is_read_too_and_what_it_lacks_is_named(tmp_path: Path) -> None:
    server = elf(tmp_path / "bin/llama-server", "libllama.so", runpath="$ORIGIN/../lib")
    elf(tmp_path / "lib/libllama.so")
    elf(tmp_path / "bin/libggml-hip.so", "libamdhip64.so.99")
    found = linked(HOST, server)
    assert found.backends == ("libggml-hip.so",)
    assert set(found.found) == {"libllama.so"}
    assert (found.missing, found.left_out) == ({}, {"libamdhip64.so.99": "libggml-hip.so"})


def test_the_environment_of_the_server_counts(tmp_path: Path) -> None:
    server = elf(tmp_path / "llama-server", "libx.so")
    elf(tmp_path / "rocm/libx.so", "liby.so")
    elf(tmp_path / "rocm/liby.so")
    assert linked(HOST, server).missing == {"libx.so": "llama-server"}
    found = linked(HOST, server, environ={"LD_LIBRARY_PATH": str(tmp_path / "rocm")})
    assert (set(found.found), dict(found.missing)) == ({"libx.so", "liby.so"}, {})


def test_a_container_has_its_own_files(tmp_path: Path) -> None:
    elf(tmp_path / "usr/bin/llama-server", "libx.so")
    elf(tmp_path / "usr/lib64/libx.so")
    assert not linked(HOST, Path("/usr/bin/llama-server"), tmp_path).missing


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200])
def test_what_is_no_program_is_said_and_nothing_breaks(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert linked(HOST, tmp_path / "x").problem
    assert linked(HOST, tmp_path / "nowhere").problem == "No such file or directory"
