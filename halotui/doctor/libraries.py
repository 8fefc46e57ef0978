"""Which libraries a binary links, and whether they are there: what ``ldd`` tells, without running anything.

``ldd`` executes what it is asked about. So the dynamic section is read here, and names are looked for where
ld.so would: RPATH, LD_LIBRARY_PATH, RUNPATH, the cache, the usual directories. A llama.cpp build may keep its
backends in files of their own beside the binary (``libggml-hip.so``), which nothing links: they are read too.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from halotui.doctor.lines import Linked
from halotui.hosts import Host
from halotui.safe import clean

T = TypeVar("T")
U = TypeVar("U")

MOST_FILES = 300
MOST_BYTES = 1 << 20  # of a table
LONGEST = 4096  # bytes of a name
AT_ONCE = 8  # files of a far box
BACKENDS = "libggml-*.so"
OF_A_GPU = ("libvulkan", "libamdhip64", "librocblas", "libhipblaslt", "libhipblas", "libhsa-runtime64")
_USUAL = ("/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib")
_LINKER = ("ld-linux", "linux-vdso", "ld-musl")
_CACHE = b"glibc-ld.so.cache1.1"
_CACHE_BYTES = 8 << 20
_LINKS = 16  # symbolic ones in a row
_SPAN = 64 * 1024  # bytes of names that are read in one go
_LOAD, _DYNAMIC = 1, 2  # of a program header
_NEEDED, _STRINGS, _RPATH, _RUNPATH = 1, 5, 15, 29  # of a dynamic entry


class Elf(Struct, frozen=True):
    """What its dynamic section asks for."""

    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


def linked(
    host: Host, binary: Path, root: Path = Path("/"), environ: Mapping[str, str] | None = None
) -> Linked:
    """Of ``binary`` as it is called under ``root``, a container's or the box's. Blocking; never raises but
    LinkDown."""
    path = str(binary)
    places = _Places(host)
    try:
        real = _inside(root, _resolved(host, path) if root == Path("/") else path)
        first = read(host, real)
        beside = sorted(name for name in places.names(str(real.parent)) if fnmatchcase(name, BACKENDS))
    except OSError as error:
        return Linked(path=clean(path), problem=error.strerror or "cannot be read")
    except ValueError as error:
        return Linked(path=clean(path), problem=str(error))
    search = _Search(places, root, (environ or {}).get("LD_LIBRARY_PATH", ""))
    found: dict[str, str] = {}
    missing = _closure([(real, first)], search, found)
    left_out = _closure(_read(host, [real.parent / name for name in beside]), search, found)
    return Linked(
        path=clean(path),
        backends=tuple(map(clean, beside)),
        found={clean(name): clean(place) for name, place in found.items()},
        missing={clean(name): clean(by) for name, by in missing.items()},
        left_out={clean(name): clean(by) for name, by in left_out.items() if name not in missing},
    )


def _closure(todo: list[tuple[Path, Elf]], search: _Search, found: dict[str, str]) -> dict[str, str]:
    """All that these ask for: into ``found``, and what is not there, with who needs it."""
    missing: dict[str, str] = {}
    while todo and len(found) < MOST_FILES:
        new: list[Path] = []
        for file, elf in todo:
            for name in elf.needed:
                if name in found or name in missing or name.startswith(_LINKER):
                    continue
                place = search.find(name, file, elf)
                if place is None:
                    missing[name] = file.name
                    continue
                found[name] = str(place)
                new.append(place)
        todo = _read(search.host, new)
    return missing


def _read(host: Host, files: Sequence[Path]) -> list[tuple[Path, Elf]]:
    """Those that can be."""

    def one(file: Path) -> Elf | None:
        with suppress(OSError, ValueError):
            return read(host, file)
        return None

    return [(file, elf) for file, elf in zip(files, _each(host, one, files), strict=True) if elf is not None]


def _each(host: Host, work: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """What a far box is asked at once costs it one round trip."""
    if host.here or len(items) < 2:
        return [*map(work, items)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="halotui-elf") as pool:
        return [*pool.map(work, items)]


def read(host: Host, path: Path) -> Elf:
    """Raises OSError, and ValueError for what is no 64-bit ELF file of this byte order."""
    try:
        head = host.part(path, 0, LONGEST)
        if head[:4] != b"\x7fELF":
            raise ValueError("a script, or no program")
        if head[4:6] != b"\x02\x01":
            raise ValueError("no 64-bit program of this machine")
        (table,) = struct.unpack_from("<Q", head, 32)
        size, number = struct.unpack_from("<HH", head, 54)
        whole = table + size * number <= len(head)
        rows = head[table:] if whole else _part(host, path, table, size * number)
        headers = [struct.unpack_from("<IIQQQQQQ", rows, size * at) for at in range(number)]
        return _dynamic(host, path, headers)
    except (struct.error, OverflowError):
        raise ValueError("a broken program file") from None


def _part(host: Host, path: Path, start: int, size: int) -> bytes:
    if not 0 <= start < 2**48:
        raise ValueError("a broken program file")
    return host.part(path, start, min(size, MOST_BYTES))


def _dynamic(host: Host, path: Path, headers: Sequence[tuple[int, ...]]) -> Elf:
    """``headers``: type, flags, offset, address, …, size in the file, …"""
    place = next(((row[2], row[5]) for row in headers if row[0] == _DYNAMIC), None)
    if place is None:
        return Elf()  # linked statically
    raw = _part(host, path, *place)
    entries = list(struct.iter_unpack("<QQ", raw[: len(raw) // 16 * 16]))
    address = next((value for tag, value in entries if tag == _STRINGS), 0)
    home = next((row for row in headers if row[0] == _LOAD and row[3] <= address < row[3] + row[5]), None)
    if home is None:
        return Elf()
    names = home[2] + address - home[3]
    wanted = [(tag, at) for tag, at in entries if tag in (_NEEDED, _RPATH, _RUNPATH)]
    texts = [*_texts(host, path, names, [at for _, at in wanted])]

    def told(kind: int) -> tuple[str, ...]:
        return tuple(text for (tag, _), text in zip(wanted, texts, strict=True) if tag == kind)

    return Elf(
        needed=told(_NEEDED),
        rpath=tuple(part for text in told(_RPATH) for part in text.split(":")),
        runpath=tuple(part for text in told(_RUNPATH) for part in text.split(":")),
    )


def _texts(host: Host, path: Path, start: int, places: Sequence[int]) -> Iterator[str]:
    """Names of a table that begins at ``start``. They mostly stand together."""
    least, most = min(places, default=0), max(places, default=0)
    near = _part(host, path, start + least, most - least + LONGEST) if most - least <= _SPAN else None
    for at in places:
        raw = near[at - least :] if near is not None else _part(host, path, start + at, LONGEST)
        yield raw[:LONGEST].partition(b"\0")[0].decode("utf-8", "replace")


class _Places:
    """What lies in the directories of a box, each listed once."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._names: dict[str, frozenset[str]] = {}

    def names(self, directory: str) -> frozenset[str]:
        """Empty where it cannot be listed."""
        known = self._names.get(directory)
        if known is None:
            known = frozenset()
            with suppress(OSError, ValueError):
                known = frozenset(self.host.listdir(directory))
            self._names[directory] = known
        return known

    def has(self, path: Path) -> bool:
        return path.name in self.names(str(path.parent))


class _Search:
    """Where ld.so would look, in a file system whose root is ``root``."""

    def __init__(self, places: _Places, root: Path, paths: str) -> None:
        self.host = places.host
        self._places = places
        self._root = root
        self._paths = [path for path in paths.replace(";", ":").split(":") if path.startswith("/")]
        self._cache = _cached(self.host, root)

    def find(self, name: str, by: Path, elf: Elf) -> Path | None:
        """``by`` needs ``name``; None where it is not."""
        if "/" in name:
            return self._there(name.replace("$ORIGIN", str(by.parent)))
        own = () if elf.runpath else elf.rpath
        for place in (*own, *self._paths, *elf.runpath):
            origin = place.startswith(("$ORIGIN", "${ORIGIN}"))
            where = place.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(by.parent))
            path = f"{where}/{name}"
            if found := (Path(path) if origin and self._places.has(Path(path)) else self._there(path)):
                return found
        beside = by.parent / name  # of a library that an RPATH led to: its own kin
        if name in self._cache:
            return self._there(self._cache[name])
        if self._places.has(beside):
            return beside
        return next((found for place in _USUAL if (found := self._there(f"{place}/{name}"))), None)

    def _there(self, path: str) -> Path | None:
        place = _inside(self._root, path)
        return place if self._places.has(place) else None


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _resolved(host: Host, path: str) -> str:
    """Through symbolic links: the backends lie beside the real file. Links of a container are left alone."""
    for _ in range(_LINKS):
        try:
            path = os.path.join(os.path.dirname(path), host.readlink(path))  # noqa: PTH118, PTH120
        except OSError:
            break
    return path


def _cached(host: Host, root: Path) -> dict[str, str]:
    """``/etc/ld.so.cache``: name -> path. Empty where there is none, or of another format."""
    try:
        raw = host.part(root / "etc/ld.so.cache", 0, _CACHE_BYTES)
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
