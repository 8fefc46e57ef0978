"""How things are done on each distribution: the commands that the doctor gives to copy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_GRUB = {  # by what GRUB's own file is made
    "debian": "sudo update-grub",
    "arch": "sudo grub-mkconfig -o /boot/grub/grub.cfg",
    "suse": "sudo grub2-mkconfig -o /boot/grub2/grub.cfg",
}
_PACKAGES = {
    "kernel": {
        "ostree": "rpm-ostree upgrade",
        "fedora": "sudo dnf upgrade --refresh kernel",
        "debian": "sudo apt update && sudo apt full-upgrade",
        "arch": "sudo pacman -Syu",
        "suse": "sudo zypper refresh && sudo zypper dup",
    },
    "firmware": {
        "ostree": "rpm-ostree upgrade",
        # of these alone the package does not make the initramfs anew
        "fedora": "sudo dnf upgrade --refresh amd-gpu-firmware linux-firmware"
        " && sudo dracut --force --regenerate-all",
        "debian": "sudo apt update && sudo apt full-upgrade",
        "arch": "sudo pacman -Syu linux-firmware",
        "suse": "sudo zypper refresh && sudo zypper update kernel-firmware-amdgpu",
    },
    "vulkan": {
        "ostree": "rpm-ostree install mesa-vulkan-drivers",
        "fedora": "sudo dnf install mesa-vulkan-drivers",
        "debian": "sudo apt install mesa-vulkan-drivers",
        "arch": "sudo pacman -S vulkan-radeon",
        "suse": "sudo zypper install libvulkan_radeon",
    },
}
_KIN = {
    "fedora": ("fedora", "rhel", "centos"),
    "debian": ("debian", "ubuntu"),
    "arch": ("arch", "cachyos", "manjaro"),
    "suse": ("suse", "opensuse", "opensuse-tumbleweed"),
}


def family(os_id: str, ostree: bool = False) -> str:
    """By ID and ID_LIKE of os-release; empty: one we know no commands of."""
    words = os_id.lower().split()
    found = next((name for name, kin in _KIN.items() if set(kin) & set(words)), "")
    return "ostree" if ostree and found == "fedora" else found


def boot(kin: str, parameters: Sequence[str], stale: Sequence[str] = (), *, grub: bool = True) -> str:
    """The command that sets kernel parameters from the next boot on, and takes ``stale`` ones away. All
    others are kept. ``grub``: whether its file of settings is there."""
    words, names = " ".join(parameters), sorted({one.partition("=")[0] for one in stale})
    if kin == "ostree":
        gone = [f"--delete-if-present={one}" for one in stale]
        more = [f"--append-if-missing={one}" for one in parameters]
        return shlex.join(["sudo", "rpm-ostree", "kargs", *gone, *more])
    if kin == "fedora":
        others = [name for name in names if f"{name}=" not in words]  # --args itself replaces
        gone = [f'--remove-args="{" ".join(others)}"'] if others else []
        return " ".join(["sudo grubby --update-kernel=ALL", *gone, f'--args="{words}"'])
    if kin not in _GRUB or not grub:
        return f"# append to the kernel's command line: {words}"
    # a shell sources that file: so a line at its end holds, whichever quotes those before it have
    line = f"echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {words}\"'"
    each = "|".join(name.replace(".", "[.]") for name in names)
    gone = [f"sudo sed -Ei 's/ ?\\b({each})=[[:alnum:],_-]*//g' /etc/default/grub"] if names else []
    return " && ".join([*gone, f"{line} | sudo tee -a /etc/default/grub", _GRUB[kin]])


def join(kin: str) -> str:
    """The command that makes its user a member of the GPU's groups. Those of an image are not in /etc/group,
    and ``usermod`` passes over them in silence."""
    add = "sudo usermod -aG video,render $USER"
    if kin != "ostree":
        return add
    copy = 'grep -q "^$g:" /etc/group || grep "^$g:" /usr/lib/group | sudo tee -a /etc/group'
    return f"for g in video render; do {copy}; done; {add}"


def package(kin: str, what: str) -> tuple[str, ...]:
    """The command for ``kernel``, ``firmware`` or ``vulkan``; none where we do not know it."""
    command = _PACKAGES[what].get(kin)
    return (command,) if command else ()
