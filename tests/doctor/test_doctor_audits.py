"""Each audit of the doctor, from what was looked at: its ok, its warn or fail, and what it copies out."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import GIB, gpu, memory, server
from builders import frame as frame_of
from halotui.actions import Check, Verdict
from halotui.doctor import boxed, served
from halotui.doctor.examine import lines, must
from halotui.doctor.lines import Line, Linked, Node, Nursed, Person, Section, Sighted
from halotui.doctor.standing import standing
from halotui.doctor.text import summary, text
from halotui.history import History
from halotui.model import GPU_SOURCE, Gpu, Platform, Server, ServerFacts, Source, SourceState
from halotui.rules import ALL
from halotui.rules.tuning import Tuning

PAGES = 120 * 262144
KERNEL = "6.18.9-200.fc43.x86_64"
NODES = (Node("/dev/kfd", True, "render"), Node("/dev/dri/renderD128", True, "render"))
ME = Person("me", False, frozenset({"me", "video", "render"}), frozenset({"me", "video", "render"}))
URL = "http://127.0.0.1:8080"


def chip(**more: Any) -> Gpu:
    told = {
        "name": "Radeon 8060S",
        "integrated": True,
        "vram_total_bytes": GIB // 2,
        "vram_used_bytes": GIB // 4,
        "performance_level": "auto",
    }
    return gpu(**{**told, **more})


def platform(**more: Any) -> Platform:
    told: dict[str, Any] = {
        "cpu": "AMD RYZEN AI MAX+ 395 w/ Radeon 8060S",
        "kernel": KERNEL,
        "firmware": "20260110-1.fc43",
        "kernel_parameters": ("amd_iommu=off", f"ttm.pages_limit={PAGES}"),
        "module_parameters": {"ttm.pages_limit": f"{PAGES}", "amdgpu.gttsize": "-1"},
        "power_mode": "performance",
        "mesa": "25.2.6",
        "rocm": "7.1.1",
        "provenance": {"kernel": "/proc/sys/kernel/osrelease", "firmware": "rpm", "mesa": "rpm"},
    }
    return Platform(**{**told, **more})


def box(*servers: Server, apu: Gpu | None = None, told: Platform | None = None, **more: Any) -> Sighted:
    """A healthy one, with Fedora on it."""
    frame = frame_of(
        servers=servers, gpus=[apu or chip()], memory=memory(60, total=125, swap_total_bytes=8 * GIB)
    )
    frame = replace(frame, platform=told or platform())
    known = {
        "os_id": "fedora",
        "nodes": NODES,
        "person": ME,
        "drivers": ("radeon_icd.x86_64.json",),
    }
    return Sighted(frame=frame, **{**known, **more})


def audit(seen: Sighted) -> tuple[Line, ...]:
    history = History()
    history.push(seen.frame)
    return lines(seen, standing((seen.frame,), history))


def line(seen: Sighted, id_: str) -> Line:
    found = [one for one in audit(seen) if one.id == id_]
    assert len(found) == 1, (id_, found)
    return found[0]


def test_a_healthy_box_is_ok_in_every_line_and_says_where_it_was_read() -> None:
    known = audit(box())
    assert {one.verdict for one in known} == {Verdict.OK}
    assert all(one.read and one.detail for one in known)
    assert not any(one.commands or one.fix for one in known)
    assert {"kernel-old", "fw-bad", "gtt-size", "carve-out", "kfd", "groups", "vulkan"} <= {
        o.id for o in known
    }
    assert line(box(), "kernel-old").read == "/proc/sys/kernel/osrelease"


def test_every_rule_with_a_line_is_a_rule() -> None:
    assert {row.id for row in (*boxed.ROWS, *served.ROWS)} <= {rule.id for rule in ALL}


def test_both_schools_of_gttsize_are_shown_for_this_memory() -> None:
    told = line(box(), "kernel-parameters").detail
    assert f"ttm.pages_limit={PAGES} alone, or amdgpu.gttsize=122880 ttm.pages_limit={PAGES}" in told


def digit_short() -> Sighted:
    short = f"{PAGES // 10}"
    told = platform(
        kernel_parameters=(f"ttm.pages_limit={short}",), module_parameters={"ttm.pages_limit": short}
    )
    return box(apu=chip(gtt=1, gtt_total=12), told=told)


@pytest.mark.parametrize(
    ("os_id", "ostree", "command"),
    [
        ("fedora", False, f'sudo grubby --update-kernel=ALL --args="ttm.pages_limit={PAGES}"'),
        (
            "bazzite fedora",
            True,
            f"--delete-if-present=ttm.pages_limit={PAGES // 10} --append-if-missing=ttm.pages_limit={PAGES}",
        ),
        ("ubuntu debian", False, "sudo update-grub"),
        ("arch", False, "sudo grub-mkconfig -o /boot/grub/grub.cfg"),
        ("nixos", False, f"ttm.pages_limit={PAGES}"),
    ],
)
def test_pages_limit_a_digit_short_must_be_fixed_by_a_command_of_that_distribution(
    os_id: str, ostree: bool, command: str
) -> None:
    found = line(replace(digit_short(), os_id=os_id, ostree=ostree), "gtt-size")
    assert found.verdict is Verdict.FAIL
    assert "a digit short" in found.detail
    alone, both = found.commands
    assert command in alone and "gttsize" not in alone
    assert "amdgpu.gttsize=122880" in both


BAD: dict[str, tuple[Sighted, str, Verdict, str]] = {
    "old kernel": (box(told=platform(kernel="6.14.0-1")), "kernel-old", Verdict.FAIL, "6.16.9"),
    "a kernel older than advised": (
        box(told=platform(kernel="6.17.7")),
        "kernel-old",
        Verdict.WARN,
        "6.18.4",
    ),
    "bad firmware": (box(told=platform(firmware="20251125-1.fc43")), "fw-bad", Verdict.FAIL, "20251125"),
    "no firmware told": (box(told=platform(firmware=None)), "fw-bad", Verdict.UNKNOWN, "not known"),
    "not taken": (
        box(told=platform(module_parameters={"ttm.pages_limit": "4096000"})),
        "kernel-parameters",
        Verdict.WARN,
        "4096000 in force",
    ),
    "misspelt": (
        box(told=platform(kernel_parameters=("ttm.page_limit=31457280",))),
        "kernel-parameters",
        Verdict.WARN,
        "ttm.page_limit is not known",
    ),
    "no command line": (box(cmdline=False), "kernel-parameters", Verdict.UNKNOWN, "not readable"),
    "large carve-out": (
        box(apu=chip(vram_total_bytes=96 * GIB, gtt=1, gtt_total=15)),
        "carve-out",
        Verdict.WARN,
        "gone from the RAM",
    ),
    "no kfd": (
        box(nodes=(Node("/dev/kfd", False, "render"), NODES[1])),
        "kfd",
        Verdict.FAIL,
        "Permission denied",
    ),
    "no kfd, and no ROCm": (box(nodes=NODES[1:], told=platform(rocm=None)), "kfd", Verdict.WARN, "not there"),
    "no render node": (box(nodes=NODES[:1]), "render-node", Verdict.FAIL, "not there"),
    "no /dev": (box(nodes=None), "nodes", Verdict.UNKNOWN, "no /dev"),
    "no group": (
        box(nodes=(Node("/dev/kfd", False, "render"),), person=Person("me", False, frozenset(), frozenset())),
        "groups",
        Verdict.FAIL,
        "neither video nor render",
    ),
    "a group, while another one's server is on the GPU": (
        box(
            server(
                URL, backend="vulkan", facts=ServerFacts(layers_offloaded=33, layers_total=33, mmap=False)
            ),
            nodes=(Node("/dev/dri/renderD128", False, "render"), NODES[0]),
            person=Person("me", False, frozenset(), frozenset()),
        ),
        "render-node",
        Verdict.WARN,
        "Permission denied",
    ),
    "an old kernel, and no ROCm": (
        box(told=platform(kernel="6.14.0-1", rocm=None)),
        "kernel-old",
        Verdict.WARN,
        "6.16.9",
    ),
    "open to this login alone": (
        box(person=Person("me", False, frozenset({"video"}), frozenset({"video"}))),
        "groups",
        Verdict.WARN,
        "this login alone",
    ),
    "from the next login on": (
        box(person=Person("me", False, frozenset(), ME.listed)),
        "groups",
        Verdict.WARN,
        "next login",
    ),
    "AMDVLK": (box(drivers=("amd_icd64.json", "radeon_icd.json")), "vulkan", Verdict.WARN, "AMDVLK"),
    "no driver": (box(drivers=("lvp_icd.json",)), "vulkan", Verdict.WARN, "no RADV"),
    "no ROCm": (box(told=platform(rocm=None)), "rocm", Verdict.UNKNOWN, "a container"),
    "power": (box(told=platform(power_mode=None)), "machine", Verdict.OK, "Radeon 8060S"),
    "a library is missing": (
        box(binaries=(Linked(path="/opt/llama-server", missing={"libllama.so": "llama-server"}),)),
        "libraries",
        Verdict.FAIL,
        "libllama.so (for llama-server)",
    ),
    "a backend for another GPU": (
        box(binaries=(Linked(path="/opt/llama-server", left_out={"libamdhip64.so.7": "libggml-hip.so"}),)),
        "libraries",
        Verdict.WARN,
        "libamdhip64.so.7 (for libggml-hip.so)",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_broken_box(case: str) -> None:
    seen, id_, verdict, told = BAD[case]
    found = line(seen, id_)
    assert (found.verdict, told in found.detail) == (verdict, True), found
    if verdict in (Verdict.FAIL, Verdict.WARN):
        assert found.fix or found.commands
    assert must(audit(seen)) is (verdict is Verdict.FAIL)


@pytest.mark.parametrize(("free", "verdict"), [(5, Verdict.WARN), (60, Verdict.OK)])
def test_swap_in_use_is_worth_a_look_where_memory_is_short(free: int, verdict: Verdict) -> None:
    seen = box()
    used = replace(seen.frame, memory=memory(free, total=125, swap=3, swap_total_bytes=8 * GIB))
    assert line(replace(seen, frame=used), "swap").verdict is verdict


def test_a_chip_without_its_driver_must_be_fixed_and_one_that_does_not_answer_or_is_not_there_need_not() -> (
    None
):
    seen = box(on_bus=True)
    without = replace(seen, frame=replace(seen.frame, gpus=()))
    found = line(without, "machine")
    assert (found.verdict, found.commands[0]) == (Verdict.FAIL, "sudo modprobe amdgpu")
    late = Source(id=GPU_SOURCE, name="sysfs", state=SourceState.HUNG)
    hung = line(replace(without, frame=replace(without.frame, sources=(late,))), "machine")
    virtual = line(replace(without, on_bus=False), "machine")
    assert hung.verdict is virtual.verdict is Verdict.UNKNOWN
    assert not hung.commands and not virtual.commands


def test_devices_that_are_open_to_everybody_need_no_group() -> None:
    """As on Fedora and Arch."""
    nodes = tuple(replace(node, public=True) for node in NODES)
    found = line(box(nodes=nodes, person=Person("me", False, frozenset(), frozenset())), "groups")
    assert found.verdict is Verdict.OK and "everybody" in found.detail


def test_a_gttsize_that_is_there_is_taken_away_where_pages_shall_stand_alone() -> None:
    told = platform(
        kernel_parameters=("amdgpu.gttsize=126976", f"ttm.pages_limit={PAGES // 10}"),
        module_parameters={"ttm.pages_limit": f"{PAGES // 10}", "amdgpu.gttsize": "126976"},
    )
    alone, both = line(box(told=told), "gtt-size").commands
    assert '--remove-args="amdgpu.gttsize" --args="ttm.' in alone and "--remove-args" not in both


def test_the_iommu_is_turned_off_by_a_command() -> None:
    facts = ServerFacts(model_bytes=80 * GIB, load_seconds=4000.0)
    told = platform(
        kernel_parameters=("iommu=pt",),
        provenance={"kernel_parameters": "/proc/cmdline"},
        module_parameters={},
    )
    found = line(box(serving(facts=facts), told=told), "iommu")
    assert found.commands == ('sudo grubby --update-kernel=ALL --args="amd_iommu=off"',)


def test_another_box_is_told_so_in_one_line_and_nothing_is_wrong_with_it() -> None:
    seen = box(told=platform(cpu="AMD EPYC"), apu=chip(name="AMD GPU 0x7550", integrated=False))
    known = audit(seen)
    assert [one.id for one in known if one.verdict is not Verdict.OK] == ["machine"]
    assert {one.section for one in known} == {Section.BOX, Section.MEMORY}


def serving(**more: Any) -> Server:
    facts = ServerFacts(flash_attention="on", cache_type_k="f16", cache_type_v="f16", batch_tokens=2048)
    known = {"model": "m.gguf", "backend": "vulkan", "slots_total": 1, "slots_asked": 1, "facts": facts}
    return server(URL, **{**known, **more})


def test_a_silenced_rule_is_not_called_ok() -> None:
    seen, history = digit_short(), History()
    history.push(seen.frame)
    stand = standing((seen.frame,), history, Tuning(silent=frozenset({"gtt-size"})))
    assert "gtt-size" in {finding.id for finding in stand.findings}


def test_flash_attention_off_and_a_command_that_turns_it_on() -> None:
    off = serving(facts=ServerFacts(flash_attention="off"))
    found = line(box(off), "flash-attention")
    assert found.verdict is Verdict.WARN
    assert found.commands == (f"halotui relaunch --server {URL} --set fa=on",)
    assert line(box(serving()), "flash-attention").verdict is Verdict.OK


def test_a_rule_that_fires_for_a_server_is_its_line() -> None:
    found = line(box(serving(slots_total=4, slots_asked=1, build="b7347-57a6f5c")), "np-slots")
    assert (found.section, found.subject, found.verdict) == (Section.SERVER, URL, Verdict.WARN)
    assert "4" in found.detail and found.commands[0].startswith("halotui relaunch --server")


def test_memory_of_a_running_server_never_must_be_fixed_and_what_cannot_be_seen_is_said() -> None:
    tight = Check(id="memory", title="Memory", verdict=Verdict.FAIL, detail="90 GiB, of 60 GiB free")
    busy = Check(id="busy", title="Requests", verdict=Verdict.WARN)
    seen = box(serving(), servers=(Nursed(url=URL, pid=1, checks=(tight, busy)),))
    assert line(seen, "memory").verdict is Verdict.WARN
    assert "busy" not in {one.id for one in audit(seen)}
    hidden = box(serving(), servers=(Nursed(url=URL, pid=1, refusal="another user's", hint="sudo"),))
    found = line(hidden, "memory")
    assert (found.verdict, found.detail, found.fix) == (Verdict.UNKNOWN, "another user's", "sudo")


def test_text_is_aligned_within_its_width_and_sums_up() -> None:
    known = audit(digit_short())
    told = text(known, "halo")
    for row in told.splitlines():
        assert len(row) <= 80 or row.lstrip().startswith(("$ ", "https://")), row
    assert told.splitlines()[-1] == f"halo: {summary(known)}"
    assert summary(known).startswith("1 must be fixed")
    quiet = text(known, "halo", quiet=True)
    assert "  ok " not in quiet and quiet.splitlines()[-1] == told.splitlines()[-1]
    assert "\x1b[1;31mfail" in text(known, "halo", colour=True)
    path = "/sys/class/drm/card*/device/power_dpm_force_performance_level"
    assert path in told  # whole, to be copied


def test_no_byte_of_a_box_reaches_the_terminal_as_it_is() -> None:
    evil = "\x1b[2J\u202eevil"
    seen = box(
        told=platform(kernel=evil, power_mode=evil), person=Person(evil, True, frozenset(), frozenset())
    )
    told = text(audit(seen), "halo")
    assert "\x1b" not in told and "\u202e" not in told
