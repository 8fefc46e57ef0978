"""The box itself in the live frame: all of it, without waiting for a command, and never a raise."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from box_tree import write
from halotui.collectors import images
from halotui.collectors.leash import leash
from halotui.hosts.local import LocalHost
from halotui.model import Platform, SourceState
from halotui.sampler.clock import Clock
from halotui.sampler.platform import IMAGES_EVERY, SETTINGS_EVERY, PlatformWatch

CARD = "sys/class/drm/card1/device"
IMAGE = "docker.io/kyuz0/amd-strix-halo-toolboxes:vulkan-radv"
FILES = {
    "sys/class/dmi/id/sys_vendor": "Framework\n",
    "sys/class/dmi/id/product_name": "Desktop\n",
    "sys/class/dmi/id/bios_version": "03.04\n",
    "proc/cpuinfo": "model name\t: AMD RYZEN AI MAX+ 395 w/ Radeon 8060S\n",
    "proc/cmdline": "quiet amd_iommu=off ttm.pages_limit=31457280\n",
    "proc/sys/kernel/osrelease": "6.18.9-200.fc43.x86_64\n",
    "etc/os-release": 'PRETTY_NAME="Fedora Linux 43"\n',
    "opt/rocm/.info/version": "7.1.0-38\n",
    "sys/module/ttm/parameters/pages_limit": "31457280\n",
    "sys/module/amdgpu/parameters/cwsr_enable": "1\n",
    "sys/module/amdgpu/parameters/lockup_timeout": "\n",
    "sys/firmware/acpi/platform_profile": "balanced\n",
    "sys/firmware/acpi/platform_profile_choices": "low-power balanced performance\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/class/accel/accel0/device/vbnv": "RyzenAI-npu5\n",
    "sys/class/accel/accel0/device/fw_version": "1.0.0.166\n",
    f"{CARD}/vendor": "0x1002\n",
    f"{CARD}/fw_version/mes_fw_version": "0x00000083\n",
    "var/lib/containers/storage/overlay-images/images.json": json.dumps(
        [{"id": "b4", "names": [IMAGE, "localhost/website:latest"]}, {"id": "b5"}]
    ),
    "var/lib/containers/storage/overlay-containers/containers.json": json.dumps(
        [
            {"id": "37", "names": ["radv"], "metadata": json.dumps({"image-name": IMAGE, "created-at": 1})},
            {"id": "38", "names": ["database"], "metadata": json.dumps({"image-name": "postgres"})},
            {"id": "39", "names": ["llama-rocm"], "metadata": "{"},
        ]
    ),
}


class Box:
    def __init__(self, root: Path, *, native: bool = False) -> None:
        self.root, self.now = root, 100.0
        host = LocalHost(root / "sys", root / "proc")
        host.native = native
        self.watch = PlatformWatch(host, Clock(monotonic=lambda: self.now, wall=lambda: self.now))

    async def after(self, seconds: float, grace: float = 0.3) -> Platform | None:
        self.now += seconds
        await self.watch.read(grace)
        return self.watch.platform


async def test_a_whole_box_and_what_told_it(tmp_path: Path) -> None:
    box = Box(write(tmp_path, FILES))
    assert box.watch.source().state is SourceState.NO_DATA
    told = await box.after(0, grace=2)
    assert told == Platform(
        product="Framework Desktop",
        bios="03.04",
        cpu="AMD RYZEN AI MAX+ 395 w/ Radeon 8060S",
        distribution="Fedora Linux 43",
        kernel="6.18.9-200.fc43.x86_64",
        kernel_parameters=("amd_iommu=off", "ttm.pages_limit=31457280"),
        module_parameters={"ttm.pages_limit": "31457280", "amdgpu.cwsr_enable": "1"},
        mes="0x83",
        rocm="7.1.0-38",
        power_mode="balanced",
        power_modes=("low-power", "balanced", "performance"),
        governor="powersave",
        npu="RyzenAI-npu5, firmware 1.0.0.166",
        images=(IMAGE, "llama-rocm (container)", "radv (container)"),
        provenance=told.provenance if told else {},
    )
    assert told and told.provenance["mes"] == "/sys/class/drm/card1/device/fw_version/mes_fw_version"
    assert told.provenance["rocm"] == "/opt/rocm/.info/version"
    assert told.provenance.keys() == {
        key for key in Platform.__struct_fields__ if getattr(told, key) and key != "provenance"
    }
    source = box.watch.source()
    assert (source.state, source.reason, source.hint) == (SourceState.OK, None, None)


async def test_nothing_at_all(tmp_path: Path) -> None:
    box = Box(tmp_path)
    assert await box.after(0, grace=2) is None
    assert box.watch.source().state is SourceState.OK


async def test_settings_are_seen_to_change_and_the_rest_is_not_read_again(tmp_path: Path) -> None:
    box = Box(write(tmp_path, FILES))
    first = await box.after(0, grace=2)
    profile = "sys/firmware/acpi/platform_profile"
    write(tmp_path, {profile: "performance\n", "proc/sys/kernel/osrelease": "7.0\n"})
    assert await box.after(1) is first  # one object, while nothing is due
    now = await box.after(SETTINGS_EVERY)
    assert now and (now.power_mode, now.kernel) == ("performance", "6.18.9-200.fc43.x86_64")
    (tmp_path / profile).unlink()
    now = await box.after(SETTINGS_EVERY)
    assert now and now.power_mode is None and "power_mode" not in now.provenance
    (tmp_path / "var/lib/containers/storage/overlay-images/images.json").write_text("[{")
    now = await box.after(IMAGES_EVERY, grace=2)
    assert now and now.images == ("llama-rocm (container)", "radv (container)")


def stand_in(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


async def test_no_frame_waits_for_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An rpm that finds half of what it is asked for fails, and what it found counts."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    write(tmp_path, FILES)
    stand_in(
        tmp_path / "bin/rpm", "sleep 0.4; echo amd-gpu-firmware 20251125-1.fc43; echo $LC_ALL >&2; exit 7"
    )
    for other in ("dpkg-query", "pacman"):
        stand_in(tmp_path / "bin" / other, "exit 1")
    box, began = Box(tmp_path, native=True), time.monotonic()
    now = await box.after(0)
    assert time.monotonic() - began < 1.0
    assert now and now.kernel and now.firmware is None
    for _ in range(100):
        now = await box.after(0.01)
        if now and now.firmware:
            break
        await asyncio.sleep(0.05)
    assert now and now.firmware == "20251125-1.fc43" and now.provenance["firmware"] == "rpm"
    assert now.rocm == "7.1.0-38"  # the file is believed before a package


async def test_in_a_container_the_package_of_the_firmware_is_not_the_box_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    toolbox = {"run/.containerenv": "", "run/host/etc/os-release": 'PRETTY_NAME="Bazzite"\n'}
    write(tmp_path, FILES | toolbox)
    for name in ("rpm", "dpkg-query", "pacman"):
        stand_in(tmp_path / "bin" / name, "echo linux-firmware 1; echo mesa-vulkan-drivers 25.2.7")
    now = await Box(tmp_path, native=True).after(0, grace=5)
    assert now and (now.distribution, now.firmware, now.mesa) == ("Bazzite", None, "25.2.7")
    assert now.provenance["mesa"] == "rpm, of this container"
    assert now.provenance["rocm"] == "/opt/rocm/.info/version, of this container"


async def test_what_is_root_s_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old kernel tells of MES in debugfs alone; a card that is no AMD's has none."""
    write(tmp_path, FILES | {"sys/class/drm/card0/device/vendor": "0x10de\n"})
    (tmp_path / CARD / "fw_version/mes_fw_version").unlink()
    debug = "sys/kernel/debug/dri/1/amdgpu_firmware_info"
    write(
        tmp_path,
        {
            debug: "MES_KIQ feature version: 6, firmware version: 0x0000006f\n"
            "MES feature version: 1, firmware version: 0x00000080\nVBIOS version: 113-STRXLGEN-001\n"
        },
    )
    now = await Box(tmp_path).after(0)
    assert now and now.mes == "0x80" and now.provenance["mes"] == f"/{debug}"
    real = LocalHost.read

    def denied(host: LocalHost, path: Path) -> bytes:
        if "kernel/debug" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(host, path)

    monkeypatch.setattr(LocalHost, "read", denied)
    box = Box(tmp_path)
    now = await box.after(0)
    assert now and now.mes is None and now.kernel
    assert box.watch.source().reason == "root alone may read the version of MES"
    assert box.watch.source().state is SourceState.OK


async def test_an_apu_is_asked_before_a_card(tmp_path: Path) -> None:
    card = "sys/class/drm/card0/device"
    other = {f"{card}/vendor": "0x1002\n", f"{card}/mem_busy_percent": "0\n"}
    write(tmp_path, FILES | other | {f"{card}/fw_version/mes_fw_version": "0x0000004e\n"})
    now = await Box(tmp_path).after(0)
    assert now and now.mes == "0x83"


async def test_docker_is_asked_where_its_daemon_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To knock at its socket would start it."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.defpath}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    note = tmp_path / "asked"
    stand_in(
        tmp_path / "bin/docker",
        f'echo "$@" >> {note}; echo ollama/ollama:rocm; echo redis:8; echo "vllm:<none>"',
    )
    write(tmp_path, {"docker.pid": "4242", "proc/cmdline": "quiet\n"})
    assert (await Box(tmp_path, native=True).after(0, grace=5)) is None and not note.exists()
    write(tmp_path, {"proc/4242/comm": "dockerd\n"})
    now = await Box(tmp_path, native=True).after(0, grace=5)
    assert now and now.images == ("ollama/ollama:rocm", "vllm")
    assert now.provenance["images"] == "docker image ls"
    assert note.read_text().startswith(f"--host unix://{tmp_path}/docker.sock image ls --format")


async def test_what_hangs_is_said_and_the_rest_is_told(tmp_path: Path) -> None:
    """A FIFO blocks its reader, as a driver in trouble does."""
    write(tmp_path, FILES)
    fifo = tmp_path / "sys/firmware/acpi/platform_profile"
    fifo.unlink()
    os.mkfifo(fifo)
    box = Box(tmp_path)
    now = await box.after(0, grace=4)
    assert now and now.kernel and now.governor is None
    assert box.watch.source().state is SourceState.HUNG
    began = time.monotonic()
    await box.after(1)
    await box.after(SETTINGS_EVERY)
    assert time.monotonic() - began < 1.0
    os.close(os.open(fifo, os.O_RDWR))  # lets that thread go


async def test_a_driver_that_hangs_costs_its_own_version_alone(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    fifo = tmp_path / CARD / "fw_version/mes_fw_version"
    fifo.unlink()
    os.mkfifo(fifo)
    box = Box(tmp_path)
    now = await box.after(0)
    assert now and now.kernel and now.product and now.mes is None
    assert (await box.after(1, grace=5)) == now
    assert box.watch.source().reason == "MES: no answer within 3 s"
    os.close(os.open(fifo, os.O_RDWR))


async def test_a_list_far_too_long_is_left_alone_and_passwords_are_no_name(tmp_path: Path) -> None:
    store = "var/lib/containers/storage/overlay-{0}/{0}.json"
    names = ["joe:hunter2@registry.corp/llama:1", "quay.io/llama@sha256:ab", "https://a:b@c.d/rocm"]
    write(tmp_path, {store.format("images"): json.dumps([{"names": names}])})
    told = await Box(tmp_path).after(0, grace=2)
    assert told and set(told.images) == {"c.d/rocm", "quay.io/llama@sha256:ab", "registry.corp/llama:1"}
    write(tmp_path, {store.format("images"): json.dumps([{"names": names}]) + " " * images.LONGEST})
    assert await Box(tmp_path).after(0, grace=2) is None


KILLED = """
from halotui.collectors import packages
from halotui.hosts.local import LocalHost
packages.installed(LocalHost())
"""


@pytest.mark.skipif(not leash(LocalHost()), reason="no setpriv")
def test_a_package_manager_that_hangs_ends_even_when_we_are_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    stand_in(tmp_path / "bin/rpm", f"echo $$ > {pid}; exec sleep 60")
    deadline = time.monotonic() + 20
    ours = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    with subprocess.Popen([sys.executable, "-c", KILLED], env=ours) as child:
        while not (pid.exists() and pid.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
    stat = Path(f"/proc/{int(pid.read_text())}/stat")
    while stat.exists() and " Z " not in stat.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_this_very_box() -> None:
    watch = PlatformWatch(LocalHost(), Clock())
    await watch.read(10)
    assert watch.platform and watch.platform.kernel == os.uname().release
    assert watch.source().state is SourceState.OK
