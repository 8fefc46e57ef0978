"""The commands that the doctor gives to copy, run by a shell where they can be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from halotui.doctor.distributions import boot, join


@pytest.mark.parametrize("quote", ['"', "'"])
def test_grub_keeps_what_is_there_and_loses_what_is_stale(tmp_path: Path, quote: str) -> None:
    file = tmp_path / "grub"
    file.write_text(
        f"GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT={quote}quiet ttm.pages_limit=3145728{quote}\n"
        f"GRUB_CMDLINE_LINUX={quote}amdgpu.gttsize=126976 amdttm.pages_limit=5 splash{quote}\n"
    )
    command = boot("arch", ["ttm.pages_limit=31457280"], ["ttm.pages_limit=3145728", "amdgpu.gttsize=126976"])
    for word, ours in (
        ("/etc/default/grub", str(file)),
        ("sudo grub-mkconfig -o /boot/grub/grub.cfg", "true"),
        ("sudo ", ""),
    ):
        assert word in command
        command = command.replace(word, ours)
    show = f'. {file}; echo "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"'
    told = subprocess.check_output(["sh", "-ec", f"{{ {command}; }} >&2; {show}"], text=True, timeout=10)
    assert told.split() == ["amdttm.pages_limit=5", "splash", "quiet", "ttm.pages_limit=31457280"]


def test_without_grub_or_on_a_system_we_do_not_know_it_is_left_to_the_reader() -> None:
    for command in (boot("arch", ["a=1"], grub=False), boot("", ["a=1"])):
        assert command == "# append to the kernel's command line: a=1"


def test_groups_of_an_image_are_copied_first() -> None:
    assert join("fedora") == "sudo usermod -aG video,render $USER"
    assert subprocess.run(["sh", "-n", "-c", join("ostree")], timeout=10).returncode == 0
    assert "/usr/lib/group" in join("ostree")
