"""Versions of the distribution's packages that decide how the GPU behaves: by whichever manager is there."""

from __future__ import annotations

import re

from halotui.collectors.leash import leash
from halotui.collectors.platform_facts import Facts, contained
from halotui.hosts import Host
from halotui.safe import clean

SECONDS = 2.0  # for each package manager

# Key of Platform: the packages that tell it, the first that is installed counts.
PACKAGES: dict[str, tuple[str, ...]] = {
    "firmware": (
        "amd-gpu-firmware",  # Fedora
        "linux-firmware-amdgpu",  # Arch since 2025
        "kernel-firmware-amdgpu",  # openSUSE
        "firmware-amd-graphics",  # Debian
        "linux-firmware",  # Ubuntu, older Fedora and Arch
    ),
    "mesa": (
        "mesa-vulkan-drivers",  # Fedora, Debian, Ubuntu
        "vulkan-radeon",  # Arch
        "libvulkan_radeon",  # openSUSE
    ),
    "rocm": ("rocm-core", "hip-runtime-amd", "rocm-hip", "rocm-runtime", "libhsa-runtime64-1"),
}
_ALL = tuple(name for names in PACKAGES.values() for name in names)

# Each prints "name version" a line; what is not installed is said on stderr, or in other words.
QUERIES = (
    ("rpm", "-q", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\n", *_ALL),
    ("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Package} ${Version}\n", *_ALL),
    ("pacman", "-Q", *_ALL),
)
_INSTALLED = re.compile(rf"^(?:[a-z]i )?({'|'.join(map(re.escape, _ALL))}) (\S+)$", re.MULTILINE)

# They fail when one package is missing, and a Host gives no output of a command that failed.
_WHATEVER = ("/bin/sh", "-c", 'LC_ALL=C "$@" 2>/dev/null || :', "sh")


def versions(out: str) -> dict[str, str]:
    """Key -> version, from what a query printed."""
    installed = dict(_INSTALLED.findall(out))
    found = {
        key: next((clean(installed[name], 80) for name in names if name in installed), "")
        for key, names in PACKAGES.items()
    }
    return {key: version for key, version in found.items() if version}


def installed(host: Host) -> Facts:
    """Blocking, up to 6 s. Nothing of a box whose commands do not speak of it."""
    facts = Facts()
    inside = contained(host)
    for query in QUERIES if host.native else ():
        try:
            out = host.run((*leash(host), *_WHATEVER, *leash(host), *query), SECONDS).decode(
                "utf-8", "replace"
            )
        except (OSError, TimeoutError):
            continue
        for key, version in versions(out).items():
            if not inside or key != "firmware":
                facts.tell(key, version, f"{query[0]}, of this container" if inside else query[0])
    return facts
