"""The box from files and package managers, and each part empty where it cannot be read.

rpm and pacman are stand-ins here that print in the form of the real ones (rpm 4.18, pacman 6.0).
dpkg-query is the real one, over a database of the test's own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

import sysfs_tree
from halotui.collectors import platform
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.runs import Environment

DPKG = """\
Package: firmware-amd-graphics
Status: hold ok installed
Maintainer: nobody <nobody@example.org>
Architecture: all
Version: 20250808-1
Description: x

Package: mesa-vulkan-drivers
Status: install ok installed
Maintainer: nobody <nobody@example.org>
Architecture: amd64
Version: 25.2.6-1
Description: x

Package: rocm-core
Status: deinstall ok config-files
Maintainer: nobody <nobody@example.org>
Architecture: amd64
Version: 6.4.3
Description: x
"""
RPM = """\
amd-gpu-firmware 20251111-1.fc43
package linux-firmware is not installed
mesa-vulkan-drivers 25.2.7-1.fc43
package rocm-core is not installed
rocm-runtime 6.4.2-3.fc43
"""
PACMAN = "linux-firmware-amdgpu 20251111-1\nvulkan-radeon 1:25.2.7-1\n"


class Box:
    """Fixture trees in place of a machine, and a PATH in place of what is installed."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sysfs, self.procfs = directory / "sys", directory / "proc"
        self.root, self.bin = directory / "root", directory / "bin"
        for made in (self.sysfs, self.procfs, self.root, self.bin):
            made.mkdir()
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("DPKG_ADMINDIR", str(directory / "dpkg"))

    def file(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def stand_in(self, name: str, out: str, code: int = 0, pause: float = 0) -> None:
        """A command that notes its arguments and prints that."""
        self.file(self.bin / f"{name}.out", out)
        sleep, cat = shutil.which("sleep", path=os.defpath), shutil.which("cat", path=os.defpath)
        here = self.bin / name
        note = f'printf "%s|" "$@" > {here}.args'
        self.file(here, f"#!/bin/sh\n{note}\n{sleep} {pause}\n{cat} {here}.out\nexit {code}\n")
        here.chmod(0o755)

    def read(self, host: LocalHost | None = None) -> Environment:
        host = host or LocalHost(self.sysfs, self.procfs)
        return asyncio.run(platform.read(host, LocalHands(), self.root))


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def furnish(box: Box) -> None:
    sysfs_tree.build(box.sysfs)
    box.file(box.sysfs / "firmware/acpi/platform_profile", "performance\n")
    box.file(box.sysfs / "devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    box.file(box.procfs / "sys/kernel/osrelease", "6.18.4-200.fc43.x86_64\n")
    box.file(
        box.procfs / "cmdline",
        "BOOT_IMAGE=(hd0,gpt2)/vmlinuz root=UUID=1 ro quiet amd_iommu=off ttm.pages_limit=33554432"
        " amdgpu.gttsize=122880 iommu=pt intel_iommu=on my.password=x amdgpux.y=1 rd.luks.uuid=2\n",
    )
    box.file(
        box.procfs / "cpuinfo",
        "processor\t: 0\nmodel name\t: AMD RYZEN AI MAX+ 395 w/ Radeon 8060S\nflags\t: x\n",
    )
    box.file(box.procfs / "meminfo", "MemTotal:       131072000 kB\nMemFree:        1 kB\n")
    box.file(
        box.root / "etc/os-release",
        'NAME="Fedora Linux"\nPRETTY_NAME="Fedora Linux 43 (Workstation)"\nID=fedora\n',
    )


def test_everything(box: Box) -> None:
    furnish(box)
    box.stand_in("rpm", RPM, code=3)
    found = box.read()
    assert found.host
    assert found == Environment(
        host=found.host,
        cpu="AMD RYZEN AI MAX+ 395 w/ Radeon 8060S",
        gpu="Radeon 8060S",
        memory_bytes=131072000 * 1024,
        gtt_total_bytes=133143986176,
        vram_total_bytes=536870912,
        distribution="Fedora Linux 43 (Workstation)",
        kernel="6.18.4-200.fc43.x86_64",
        kernel_parameters=("amd_iommu=off", "ttm.pages_limit=33554432", "amdgpu.gttsize=122880", "iommu=pt"),
        firmware="20251111-1.fc43",
        mesa="25.2.7-1.fc43",
        rocm="6.4.2-3.fc43",
        power_mode="performance",
        performance_level="auto",
        governor="powersave",
    )
    arguments = (box.bin / "rpm.args").read_text()
    assert arguments.startswith("-q|--qf|%{NAME} %{VERSION}-%{RELEASE}\n|amd-gpu-firmware|")


def test_nothing_at_all(box: Box) -> None:
    found = box.read()
    assert found == Environment(host=found.host)


def test_arch(box: Box) -> None:
    box.stand_in("pacman", PACMAN, code=1)
    found = box.read()
    assert (found.firmware, found.mesa, found.rocm) == ("20251111-1", "1:25.2.7-1", "")


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="no dpkg here")
def test_debian_by_its_own_tool(box: Box, tmp_path: Path) -> None:
    """What was removed and left its settings behind is not installed."""
    real = shutil.which("dpkg-query", path=os.defpath)
    assert real
    (box.bin / "dpkg-query").symlink_to(real)
    box.file(tmp_path / "dpkg/status", DPKG)
    (tmp_path / "dpkg/updates").mkdir()
    found = box.read()
    assert (found.firmware, found.mesa, found.rocm) == ("20250808-1", "25.2.6-1", "")


def test_an_rpm_that_is_not_at_home_does_not_hide_another(box: Box, tmp_path: Path) -> None:
    box.stand_in("rpm", "package amd-gpu-firmware is not installed\n", code=11)
    box.stand_in("pacman", PACMAN, code=1)
    assert box.read().mesa == "1:25.2.7-1"


def test_rocm_without_a_package(box: Box) -> None:
    box.file(box.root / "opt/rocm/.info/version", "7.1.0-38\n")
    box.stand_in("rpm", RPM)
    assert box.read().rocm == "7.1.0-38"


def test_the_kernel_by_another_file(box: Box) -> None:
    box.file(box.procfs / "version", "Linux version 6.17.1-arch1 (linux@archlinux) (gcc 15) #1 SMP\n")
    box.file(box.root / "usr/lib/os-release", "PRETTY_NAME='Arch Linux'\n")
    found = box.read()
    assert (found.kernel, found.distribution) == ("6.17.1-arch1", "Arch Linux")


def test_what_hangs_costs_itself_alone(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package manager behind a lock, and a driver that does not answer."""
    monkeypatch.setattr(platform, "SECONDS", 0.4)
    furnish(box)
    box.stand_in("rpm", RPM, pause=30)
    fifo = box.sysfs / "class/drm/card1/device/mem_info_gtt_used"
    fifo.unlink()
    os.mkfifo(fifo)  # to open it blocks until somebody writes
    began = time.monotonic()
    found = box.read()
    assert time.monotonic() - began < 10
    assert (found.gpu, found.performance_level, found.mesa) == ("", "", "")
    assert found.kernel and found.governor == "powersave" and found.memory_bytes
    os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))  # let that thread go


def test_hostile_text_is_made_harmless(box: Box) -> None:
    furnish(box)
    box.file(box.procfs / "cpuinfo", "model name\t: AMD\x1b[31m RYZEN\x07\n")
    box.file(box.procfs / "cmdline", "amd_iommu=\x1b]0;x\x07off\n")
    box.file(box.sysfs / "firmware/acpi/platform_profile", "low\x1b[2J-power\n")
    box.file(box.root / "etc/os-release", 'PRETTY_NAME="unclosed\n')
    found = box.read()
    assert (found.cpu, found.power_mode) == ("AMD RYZEN", "low-power")
    assert found.kernel_parameters == ("amd_iommu=off",)
    assert found.distribution == '"unclosed'


def test_garbage_costs_itself_alone(box: Box) -> None:
    furnish(box)
    box.file(box.procfs / "meminfo", "MemTotal: lots\n")
    box.stand_in("rpm", "\0\0 \n" * 10)
    found = box.read()
    assert found.memory_bytes is None and found.gpu == "Radeon 8060S" and found.mesa == ""


async def test_this_very_box() -> None:
    found = await platform.read(LocalHost(), LocalHands())
    assert found.kernel == os.uname().release
    assert found.memory_bytes and found.memory_bytes % 1024 == 0
