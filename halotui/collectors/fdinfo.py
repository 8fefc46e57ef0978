"""What a process holds on the GPU, as one fdinfo of amdgpu tells (kernel's drm-usage-stats)."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

_UNITS = {b"KiB": 1024, b"MiB": 1 << 20, b"GiB": 1 << 30}
_ENGINE = b"drm-engine-"  # time that a ring worked for it; drm-engine-capacity-* count rings
_DIGITS = 20  # of a 64-bit counter
Client = tuple[bytes, bytes]  # drm-pdev, drm-client-id: one client may have many descriptors
Held = tuple[int, int]  # bytes of GTT and of VRAM


class Share(Struct, frozen=True):
    """One descriptor's word on its client."""

    client: Client
    held: Held
    engines: dict[bytes, float]  # gfx, compute ... -> seconds of work since the client began; none at rest

    @property
    def engine_seconds(self) -> float | None:
        """Of all engines together."""
        return sum(self.engines.values()) if self.engines else None


def client(data: bytes) -> tuple[Client, Held] | None:
    """Who, and how many bytes of GTT and VRAM are resident. None: not one of amdgpu."""
    return _client(_told(data))


@lru_cache(maxsize=256)  # a client at rest says the same each time
def read(data: bytes) -> Share | None:
    """All that a fdinfo tells. None: not one of amdgpu."""
    told = _told(data)
    found = _client(told)
    return Share(*found, _engines(told)) if found is not None else None


def _told(data: bytes) -> dict[bytes, bytes]:
    told: dict[bytes, bytes] = {}
    for line in data.splitlines():
        if line.startswith(b"drm-"):
            key, _, value = line.partition(b":")
            told[key.strip()] = value.strip()
    return told


def _client(told: dict[bytes, bytes]) -> tuple[Client, Held] | None:
    if told.get(b"drm-driver", b"amdgpu") != b"amdgpu":
        return None
    gtt, vram = (_resident(told, pool) for pool in (b"gtt", b"vram"))
    if gtt is None and vram is None:
        return None
    return (told.get(b"drm-pdev", b""), told.get(b"drm-client-id", b"")), (gtt or 0, vram or 0)


def _resident(told: dict[bytes, bytes], pool: bytes) -> int | None:
    value = told.get(b"drm-resident-" + pool) or told.get(b"drm-memory-" + pool)
    if value is None:
        return None
    number, _, unit = value.partition(b" ")
    return int(number) * _UNITS.get(unit.strip(), 1) if _counts(number) else None


def _engines(told: dict[bytes, bytes]) -> dict[bytes, float]:
    return {
        key.removeprefix(_ENGINE): int(number) / 1e9
        for key, value in told.items()
        if key.startswith(_ENGINE)
        and (number := value.removesuffix(b" ns")) != value  # capacities are bare numbers
        and _counts(number)
    }


def _counts(number: bytes) -> bool:
    return number.isdigit() and len(number) <= _DIGITS
