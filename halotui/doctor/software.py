"""Mesa, ROCm, containers, and llama-servers that do not run now. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.actions import Verdict
from halotui.doctor import distributions
from halotui.doctor.lines import Line, Section, Sighted, line
from halotui.doctor.parameters import is_strix
from halotui.doctor.serving import libraries


def vulkan(seen: Sighted) -> Iterator[Line]:
    """Mesa, and the manifest by which programs find its driver."""
    if not is_strix(seen):
        return
    platform, drivers = seen.frame.platform, seen.drivers
    mesa = f"Mesa {platform.mesa}" if platform and platform.mesa else ""
    title, read = "Mesa, Vulkan driver", "/usr/share/vulkan/icd.d"
    if platform and platform.mesa:
        read = f"{platform.provenance.get('mesa', 'packages')}, {read}"
    if drivers is None:
        yield line(
            Section.SOFTWARE,
            "vulkan",
            title,
            Verdict.UNKNOWN,
            mesa or "no manifests to look into",
            read,
        )
        return
    radv = [name for name in drivers if name.startswith(("radeon", "libvulkan_radeon"))]
    rival = [name for name in drivers if name.startswith("amd_icd")]
    told = ", ".join(filter(None, (mesa, *radv, *rival)))
    if rival:
        yield line(
            Section.SOFTWARE,
            "vulkan",
            title,
            Verdict.WARN,
            f"{told}: AMDVLK beside RADV may be the one that is taken",
            read,
            fix="RADV is the faster and the maintained one.",
            commands=("export AMD_VULKAN_ICD=RADV",),
        )
    elif radv:
        yield line(Section.SOFTWARE, "vulkan", title, Verdict.OK, told, read)
    else:
        yield line(
            Section.SOFTWARE,
            "vulkan",
            title,
            Verdict.UNKNOWN if platform and platform.images else Verdict.WARN,
            ", ".join(filter(None, (mesa, "no RADV driver on this system"))),
            read,
            fix="Only a container that brings its own can use Vulkan.",
            commands=distributions.package(seen.kin, "vulkan"),
        )


def rocm(seen: Sighted) -> Iterator[Line]:
    platform = seen.frame.platform
    if not is_strix(seen) or platform is None:
        return
    read = platform.provenance.get("rocm", "/opt/rocm/.info/version, packages")
    if platform.rocm:
        yield line(Section.SOFTWARE, "rocm", "ROCm", Verdict.OK, platform.rocm, read)
    else:
        note = "none on this system: a container may bring its own"
        yield line(Section.SOFTWARE, "rocm", "ROCm", Verdict.UNKNOWN, note, read)


def images(seen: Sighted) -> Iterator[Line]:
    """What containers run models here."""
    platform = seen.frame.platform
    if platform is not None and platform.images:
        read = platform.provenance.get("images", "")
        yield line(Section.SOFTWARE, "images", "Containers", Verdict.OK, ", ".join(platform.images), read)


def binaries(seen: Sighted) -> Iterator[Line]:
    """llama-servers that do not run now."""
    for one in seen.binaries:
        yield libraries(one, Section.SOFTWARE, one.path)
