"""Whether the GPU's device files are ours to open: nodes and groups. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from halotui.actions import Verdict
from halotui.doctor import distributions
from halotui.doctor.lines import Line, Section, Sighted, line
from halotui.doctor.parameters import is_strix, wants_rocm

_GROUPS = ("video", "render")
_DEVICES = "/dev/dri --device /dev/kfd"


def nodes(seen: Sighted) -> Iterator[Line]:
    """Whether the GPU's device files are there, and ours to open. ROCm needs kfd too."""
    if not is_strix(seen):
        return
    title, computes = "Device nodes", _computes(seen)
    if seen.nodes is None:
        yield line(Section.GPU, "nodes", title, Verdict.UNKNOWN, "no /dev to look into", "/dev")
        return
    for id_, name, wanted, fatal in (
        ("render-node", "/dev/dri/renderD*", "dri/renderD", True),
        ("kfd", "/dev/kfd", "kfd", wants_rocm(seen)),
    ):
        found = [node for node in seen.nodes if node.path.startswith(f"/dev/{wanted}")]
        closed = [node for node in found if not node.open]
        bad = Verdict.FAIL if fatal and not computes and len(closed) == len(found) else Verdict.WARN
        who = "GPU work" if id_ == "render-node" else "ROCm"
        if not found:
            yield line(
                Section.GPU,
                id_,
                name,
                bad,
                "not there",
                "/dev",
                fix=f"{who} goes through it. Is amdgpu loaded? A container wants --device {_DEVICES}.",
                commands=("lsmod | grep amdgpu",),
            )
        elif closed:
            told = ", ".join(
                f"{node.path} of group {node.group or '?'}: Permission denied" for node in closed
            )
            yield line(
                Section.GPU,
                id_,
                name,
                bad,
                told,
                "access(2), read and write",
                fix=f"{who} goes through it. Then log in again.",
                commands=(distributions.join(seen.kin),),
            )
        else:
            told = ", ".join(f"{node.path}{f' ({node.group})' if node.group else ''}" for node in found)
            yield line(Section.GPU, id_, name, Verdict.OK, told, "access(2), read and write")


def _computes(seen: Sighted) -> bool:
    """Whether a server is on the GPU now: then what we may not open is open to whom it concerns."""
    known = [server.facts for server in seen.frame.servers if server.facts is not None]
    return any(one.layers_offloaded or any(device.id != "CPU" for device in one.devices) for one in known)


def groups(seen: Sighted) -> Iterator[Line]:
    """Membership outlives the session; a login's own permission does not, and a service has none."""
    person = seen.person
    if person is None or not is_strix(seen):
        return
    title, read = "Groups", "id -nG"
    told = f"{person.name}: {', '.join(sorted(person.groups & set(_GROUPS))) or 'neither video nor render'}"
    nodes = seen.nodes or ()
    needed = {node.group for node in nodes if not node.public} if nodes else set(_GROUPS)
    missing = [name for name in _GROUPS if name in needed - person.groups]
    if person.root:
        yield line(Section.GPU, "groups", title, Verdict.OK, "root: may open every device", read)
    elif not missing:
        note = "; the devices are open to everybody" if nodes and not needed else ""
        yield line(Section.GPU, "groups", title, Verdict.OK, told + note, read)
    elif set(missing) <= person.listed:
        yield line(
            Section.GPU,
            "groups",
            title,
            Verdict.WARN,
            f"{told}; {', '.join(missing)} only from the next login on",
            read,
            fix="Log out and in again; for a shell that has them now:",
            commands=("su - $USER",),
        )
    else:
        shut = any(not node.open for node in nodes)
        why = "" if shut else "; the devices are open to this login alone, and not to a service or ssh"
        yield line(
            Section.GPU,
            "groups",
            title,
            Verdict.FAIL if shut and not _computes(seen) else Verdict.WARN,
            told + why,
            read,
            fix="Then log in again.",
            commands=(distributions.join(seen.kin),),
        )
