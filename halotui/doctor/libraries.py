"""Which libraries a binary links, and whether they are there: what ``ldd`` tells, without running anything.

``ldd`` executes what it is asked about. So the dynamic section is read here, and names are looked for where
ld.so would: RPATH, LD_LIBRARY_PATH, RUNPATH, the cache, the usual directories. A llama.cpp build may keep its
backends in files of their own beside the binary (``libggml-hip.so``), which nothing links: they are read too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from halotui.doctor.lines import Linked
from halotui.safe import clean

MOST_FILES = 300
MOST_BYTES = 1 << 20  # of a table
LONGEST = 4096  # bytes of a name
BACKENDS = "libggml-*.so"
OF_A_GPU = ("libvulkan", "libamdhip64", "librocblas", "libhipblaslt", "libhipblas", "libhsa-runtime64")
_USUAL = ("/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib")
_LINKER = ("ld-linux", "linux-vdso", "ld-musl")
_CACHE = b"glibc-ld.so.cache1.1"
_LOAD, _DYNAMIC = 1, 2  # of a program header
_NEEDED, _STRINGS, _RPATH, _RUNPATH = 1, 5, 15, 29  # of a dynamic entry


class Elf(Struct, frozen=True):
    """What its dynamic section asks for."""

    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


def linked(binary: Path, root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> Linked:
    """Of ``binary`` as it is called under ``root``, a container's or ours. Blocking; never raises."""
    path = str(binary)
    try:
        real = _inside(root, _resolved(root, path))
        first = read(real)
        beside = sorted(real.parent.glob(BACKENDS))
    except OSError as error:
        return Linked(path=clean(path), problem=error.strerror or "cannot be read")
    except ValueError as error:
        return Linked(path=clean(path), problem=str(error))
    search = _Search(root, (environ or {}).get("LD_LIBRARY_PATH", ""))
    found: dict[str, str] = {}
    missing = _closure([(real, first)], search, found)
    todo = []
    for backend in beside:
        with suppress(OSError, ValueError):
            todo.append((backend, read(backend)))
    left_out = _closure(todo, search, found)
    return Linked(
        path=clean(path),
        backends=tuple(clean(backend.name) for backend in beside),
        found={clean(name): clean(place) for name, place in found.items()},
        missing={clean(name): clean(by) for name, by in missing.items()},
        left_out={clean(name): clean(by) for name, by in left_out.items() if name not in missing},
    )


def _closure(todo: list[tuple[Path, Elf]], search: _Search, found: dict[str, str]) -> dict[str, str]:
    """All that these ask for: into ``found``, and what is not there, with who needs it."""
    missing: dict[str, str] = {}
    while todo and len(found) < MOST_FILES:
        file, elf = todo.pop(0)
        for name in elf.needed:
            if name in found or name in missing or name.startswith(_LINKER):
                continue
            place = search.find(name, file, elf)
            if place is None:
                missing[name] = file.name
                continue
            found[name] = str(place)
            with suppress(OSError, ValueError):
                todo.append((place, read(place)))
    return missing


def read(path: Path) -> Elf:
    """Raises OSError, and ValueError for what is no 64-bit ELF file of this byte order."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF":
                raise ValueError("a script, or no program")
            if head[4:6] != b"\x02\x01":
                raise ValueError("no 64-bit program of this machine")
            (table,) = struct.unpack_from("<Q", head, 32)
            size, number = struct.unpack_from("<HH", head, 54)
            rows = _part(file, table, size * number)
            return _dynamic(file, [struct.unpack_from("<IIQQQQQQ", rows, size * at) for at in range(number)])
    except (struct.error, OverflowError):
        raise ValueError("a broken program file") from None


def _part(file: BinaryIO, start: int, size: int) -> bytes:
    if not 0 <= start < 2**48:
        raise ValueError("a broken program file")
    file.seek(start)
    return file.read(min(size, MOST_BYTES))


def _dynamic(file: BinaryIO, headers: Sequence[tuple[int, ...]]) -> Elf:
    """``headers``: type, flags, offset, address, …, size in the file, …"""
    place = next(((row[2], row[5]) for row in headers if row[0] == _DYNAMIC), None)
    if place is None:
        return Elf()  # linked statically
    raw = _part(file, *place)
    entries = list(struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16]))
    address = next((value for tag, value in entries if tag == _STRINGS), 0)
    home = next((row for row in headers if row[0] == _LOAD and row[3] <= address < row[3] + row[5]), None)
    if home is None:
        return Elf()
    names = home[2] + address - home[3]

    def told(wanted: int) -> tuple[str, ...]:
        texts = (_part(file, names + at, LONGEST).partition(b"\0")[0] for tag, at in entries if tag == wanted)
        return tuple(text.decode("utf-8", "replace") for text in texts)

    return Elf(
        needed=told(_NEEDED),
        rpath=tuple(part for text in told(_RPATH) for part in text.split(":")),
        runpath=tuple(part for text in told(_RUNPATH) for part in text.split(":")),
    )


class _Search:
    """Where ld.so would look, in a file system whose root is ``root``."""

    def __init__(self, root: Path, paths: str) -> None:
        self._root = root
        self._paths = [path for path in paths.replace(";", ":").split(":") if path.startswith("/")]
        self._cache = _cached(root)

    def find(self, name: str, by: Path, elf: Elf) -> Path | None:
        """``by`` needs ``name``; None where it is not."""
        if "/" in name:
            return self._there(name.replace("$ORIGIN", str(by.parent)))
        own = () if elf.runpath else elf.rpath
        for place in (*own, *self._paths, *elf.runpath):
            origin = place.startswith(("$ORIGIN", "${ORIGIN}"))
            where = place.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(by.parent))
            path = f"{where}/{name}"
            if found := (Path(path) if origin and Path(path).exists() else self._there(path)):
                return found
        beside = by.parent / name  # of a library that an RPATH led to: its own kin
        if name in self._cache:
            return self._there(self._cache[name])
        if beside.exists():
            return beside
        return next((found for place in _USUAL if (found := self._there(f"{place}/{name}"))), None)

    def _there(self, path: str) -> Path | None:
        place = _inside(self._root, path)
        return place if place.exists() or place.is_symlink() else None


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _resolved(root: Path, path: str) -> str:
    """Through symbolic links: the backends lie beside the real file. Links of a container are left alone."""
    return str(Path(path).resolve()) if root == Path("/") else path


def _cached(root: Path) -> dict[str, str]:
    """``/etc/ld.so.cache``: name -> path. Empty where there is none, or of another format."""
    try:
        raw = (root / "etc/ld.so.cache").read_bytes()
        start = raw.index(_CACHE)
        number, _ = struct.unpack_from("<II", raw, start + len(_CACHE))
        found: dict[str, str] = {}
        for at in range(min(number, 100_000)):
            _, key, value = struct.unpack_from("<iII", raw, start + 48 + 24 * at)
            name, path = (_string(raw, start + place) for place in (key, value))
            found.setdefault(name, path)
        return found
    except (OSError, ValueError, struct.error):
        return {}


def _string(raw: bytes, at: int) -> str:
    return raw[at : raw.find(b"\0", at)].decode("utf-8", "replace")
