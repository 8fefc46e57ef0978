"""fw-bad and kernel-old, with the versions as distributions write them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from builders import Watch, frame, gpu, server
from halotui.model import Finding, Frame, Gpu, Platform, Severity
from halotui.rules.engine import KEEP, State
from halotui.rules.platform import RULES, kernel_version

HALO = "Radeon 8060S"
HOST = "halo"


def seen(watch: Watch, time: float = 0, *, chip: str | None = HALO, **facts: Any) -> Finding | None:
    """What is found of a box with these facts; ``chip`` None: the GPU is not seen."""
    gpus = [] if chip is None else [gpu(name=chip, integrated=True)]
    return judged(watch, replace(frame(time, gpus=gpus), platform=Platform(**facts)))


def judged(watch: Watch, now: Frame) -> Finding | None:
    watch.history.push(now)
    findings = watch.engine.evaluate(now, watch.history).findings
    assert len(findings) <= 1
    return findings[0] if findings else None


def watching() -> Watch:
    return Watch(*RULES, hold=False)


GOOD_KERNEL = {"kernel": "6.18.9-200.fc43.x86_64"}


@pytest.mark.parametrize(
    ("firmware", "mes", "severity"),
    [
        ("20251125-1.fc43", None, Severity.WARNING),  # Fedora
        ("20251125-2", None, Severity.WARNING),  # Arch
        ("20251125.git1f3e2a9b-0ubuntu1", None, Severity.WARNING),
        ("20251125-1~bpo13+1", None, Severity.WARNING),  # Debian's backports
        ("20251125-1.1", None, Severity.WARNING),  # openSUSE
        ("1:20251125-1", None, Severity.WARNING),
        ("20251125-1.fc43", "0x83", Severity.WARNING),
        (None, "0x83", Severity.WARNING),  # in a container no package tells
        ("20251125-1.fc43", "0x80", Severity.INFO),  # another file is laid over it
        ("20260110-1.fc43", "0x83", Severity.WARNING),  # an old initramfs
        ("20251111-1.fc43", None, None),
        ("20260110-1.fc43", "0x80", None),
        ("20240318.git3b128b60-0ubuntu2.19", None, None),
        ("20251021-1~bpo13+1", None, None),
        ("20261125-1", None, None),
        ("202511250-1", None, None),
    ],
)
def test_a_firmware_by_its_package_and_by_what_runs(
    firmware: str | None, mes: str | None, severity: Severity | None
) -> None:
    found = seen(watching(), firmware=firmware, mes=mes, **GOOD_KERNEL)
    assert (found.severity if found else None) == severity
    if found is not None:
        assert (found.id, found.subject) == ("fw-bad", HOST)
        assert firmware is None or firmware in found.evidence
        assert mes is None or f"MES {mes} in use" in found.evidence


def test_a_new_package_that_is_not_in_use_wants_an_initramfs() -> None:
    found = seen(watching(), firmware="20260110-1", mes="0x83", **GOOD_KERNEL)
    assert found is not None and found.fix.startswith("The package is newer than what is in use")


@pytest.mark.parametrize(
    ("release", "severity"),
    [
        ("6.14.0-36-generic", Severity.WARNING),
        ("6.12.48+deb13-amd64", Severity.WARNING),
        ("6.16.8-arch1-1", Severity.WARNING),
        ("6.16.9-arch1-1", Severity.INFO),
        ("6.16.12-amd64", Severity.INFO),
        ("6.17.7-2-cachyos", Severity.INFO),
        ("6.18.3-200.fc43.x86_64", Severity.INFO),
        ("6.18.4-200.fc43.x86_64", None),
        ("6.18.9", None),
        ("6.19-rc3", None),
        ("7.1.0", None),
        ("10.0.1", None),
    ],
)
def test_a_kernel_by_its_release(release: str, severity: Severity | None) -> None:
    found = seen(watching(), kernel=release, firmware="20260110-1")
    assert (found.severity if found else None) == severity
    if found is not None:
        assert (found.id, found.subject) == ("kernel-old", HOST) and release in found.evidence


@pytest.mark.parametrize(
    "release", ["6.14.0-1018-oem", "6.17.0-19-generic", "6.12.0-55.el10.x86_64", "", "unknown"]
)
def test_a_kernel_whose_number_does_not_tell_is_not_judged(release: str) -> None:
    watch = watching()
    assert seen(watch, kernel=release or None, firmware="20260110-1") is None
    assert watch.engine.state("kernel-old", HOST) == State.UNDEFINED


@pytest.mark.parametrize(
    ("backends", "severity"),
    [
        (("vulkan",), Severity.INFO),
        (("vulkan", "cpu", None), Severity.INFO),
        (("vulkan", "rocm"), Severity.WARNING),
        ((None,), Severity.WARNING),
        ((), Severity.WARNING),
    ],
)
def test_only_rocm_suffers_from_an_old_kernel(backends: tuple[str | None, ...], severity: Severity) -> None:
    servers = [server(f"http://127.0.0.1:{8080 + n}", backend=name) for n, name in enumerate(backends)]
    facts = Platform(kernel="6.14.8-arch1-1", firmware="20260110-1")
    found = judged(watching(), frame(gpus=[gpu(name=HALO)], servers=servers, platform=facts))
    assert found is not None and found.severity is severity


def test_what_a_release_says() -> None:
    assert kernel_version("6.18.9-200.fc43.x86_64") == (6, 18, 9)
    assert kernel_version("7.2-rc6") == (7, 2, 0)
    assert kernel_version("x") is None


@pytest.mark.parametrize("rule", ["fw-bad", "kernel-old"])
def test_nothing_is_said_without_facts(rule: str) -> None:
    watch = watching()
    assert seen(watch) is None
    assert watch.engine.state(rule, HOST) == State.UNDEFINED
    assert judged(watch, frame(1, gpus=[gpu(name=HALO)])) is None  # the box is not read yet


@pytest.mark.parametrize(
    "card",
    [
        None,
        gpu(name="AMD GPU 0x1681", integrated=True),
        gpu(name="Radeon RX 9060 XT", integrated=False),
        gpu(name=None),
    ],
    ids=["none", "another-apu", "card", "nameless"],
)
def test_other_boxes_are_none_of_its_business(card: Gpu | None) -> None:
    watch = watching()
    facts = Platform(kernel="6.1.0-41-amd64", firmware="20251125-1", mes="0x83")
    assert judged(watch, replace(frame(gpus=[card] if card else []), platform=facts)) is None
    assert watch.engine.state("fw-bad", HOST) == State.OK


@pytest.mark.parametrize("name", ["AMD Radeon 8050S", "GFX1151/Strix Halo", "Radeon 8060S family"])
def test_the_chip_is_known_by_every_source_s_name(name: str) -> None:
    assert seen(watching(), chip=name, kernel="6.14.0", firmware="20260110-1") is not None


def test_it_is_over_with_another_kernel_and_not_because_the_driver_hangs() -> None:
    watch = watching()
    assert seen(watch, 0, kernel="6.14.0", firmware="20260110-1")
    assert seen(watch, 1, chip=None, kernel="6.14.0") is not None
    assert seen(watch, 2, kernel="6.18.9", firmware="20260110-1") is None
    assert watch.engine.state("kernel-old", HOST) == State.RESOLVED
    assert seen(watch, 3 + KEEP, firmware="20251125-1", **GOOD_KERNEL)
    assert seen(watch, 4 + KEEP, firmware="20260110-1", **GOOD_KERNEL) is None
