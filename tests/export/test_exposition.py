"""Frames as Prometheus is told them: names, units, types, what is unknown, what is counted."""

from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

from builders import GPU, URL, frame, gpu, memory, request, server, source
from halotui.exporters import prometheus, prometheus_names, prometheus_scrape, prometheus_tally
from halotui.exporters.prometheus_scrape import Scrape
from halotui.fields import FIELDS
from halotui.model import (
    End,
    Energy,
    Finding,
    Frame,
    HeldBy,
    Holder,
    KernelEvent,
    Link,
    LinkState,
    ServerEvent,
    ServerFacts,
    ServerState,
    Severity,
    Slot,
    SlotPhase,
    SourceState,
    System,
)

OPEN = "application/openmetrics-text; version=1.0.0"


class Exporter:
    """A Scrape of one box with a clock of ours."""

    def __init__(self, interval: float = 1.0, link: Link | None = None) -> None:
        self.now = 0.0
        self.scrape = Scrape(lambda: self.now)
        self.scrape.watch("halo", interval, (lambda: link) if link else None)

    def take(self, frame: Frame) -> Exporter:
        self.now += 1
        self.scrape.take("halo", frame)
        return self

    @property
    def text(self) -> str:
        return self.scrape.text("", False)[0].decode()

    @property
    def values(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """By name and labels; host is halo in all that have one."""
        found = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                labels = dict(sample.labels)
                assert labels.pop("host", None) == "halo" or sample.name == "halotui_build_info"
                at = sample.name.removeprefix("halotui_"), frozenset(labels.items())
                assert at not in found
                found[at] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float | None:
        return self.values.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        return {name for name, _ in self.values}


def finding(id: str = "thermal", subject: str = GPU, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(id=id, severity=severity, title="t", evidence="e", why="w", fix="f", subject=subject)


def test_base_units() -> None:
    seen = Exporter().take(
        frame(
            gpus=[gpu(busy_percent=98.0, sclk_hertz=2_900_000_000, gfx_power_watts=58.5)],
            memory=memory(),
            system=System(cpu_busy_percent=12.5, load_1m=1.5, oom_kills=2),
            energy=Energy(seconds=60.0, watt_hours=2.0, tokens=900, decode_joules_per_token=1.5),
            servers=[
                server(
                    slots_total=2,
                    kv_used_ratio=0.25,
                    speculative=True,
                    facts=ServerFacts(layers_total=49),
                    slots=(Slot(id=0, phase=SlotPhase.DECODE, used_tokens=7),),
                )
            ],
        )
    )
    assert seen.value("gpu_busy_ratio", gpu=GPU) == pytest.approx(0.98)
    assert seen.value("gpu_sclk_hertz", gpu=GPU) == 2.9e9
    assert seen.value("gpu_gfx_power_watts", gpu=GPU) == 58.5
    assert seen.value("memory_total_bytes") == 128 * 1024**3
    assert seen.value("system_cpu_busy_ratio") == pytest.approx(0.125)
    assert seen.value("system_load1") == 1.5
    assert seen.value("system_oom_kills_total") == 2
    assert seen.value("energy_joules_total") == 7200
    assert seen.value("energy_decode_joules_per_token") == 1.5
    assert seen.value("server_slots", server=URL) == 2
    assert seen.value("server_layers", server=URL) == 49
    assert seen.value("server_kv_used_ratio", server=URL) == 0.25
    assert seen.value("server_speculative", server=URL) == 1
    assert seen.value("slot_used_tokens", server=URL, slot="0") == 7
    assert seen.value("server_slots_in_phase", server=URL, phase="decode") == 1
    assert not {name for name in seen.names() if "percent" in name or "watt_hours" in name}


def test_unknown_is_absent_and_nought_is_nought() -> None:
    seen = Exporter().take(
        frame(gpus=[gpu(gtt=None, busy_percent=0.0, npu_busy_percent=math.nan)], servers=[server()])
    )
    assert seen.value("gpu_busy_ratio", gpu=GPU) == 0
    absent = {"gpu_gtt_used_bytes", "gpu_npu_busy_ratio", "gpu_temperature_celsius", "memory_total_bytes"}
    absent |= {"server_speculative", "server_generation_tokens_per_second", "gpu_held_by"}
    assert not absent & seen.names()


def test_states_are_one_of_all() -> None:
    seen = Exporter().take(
        frame(
            gpus=[gpu(held_by=HeldBy.HEAT, throttle={"thm_gfx": 9.5})],
            servers=[server(state=ServerState.LOADING)],
            sources=[
                source(),
                source("holders", SourceState.DENIED),
                source("amdsmi", SourceState.UNUSED),
                source(f"log {URL}", SourceState.HUNG, age_seconds=4.0),
            ],
        )
    )
    states = {
        dict(labels)["state"]: value
        for (name, labels), value in seen.values.items()
        if name == "server_state"
    }
    assert states == {state: float(state == "loading") for state in ServerState}
    assert seen.value("gpu_held_by", gpu=GPU, by="heat") == 1
    assert seen.value("gpu_held_by", gpu=GPU, by="power") == 0
    assert seen.value("gpu_throttle_steps_per_second", gpu=GPU, limiter="thm_gfx") == 9.5
    assert seen.value("source_up", source="gpu") == 1
    assert seen.value("source_up", source="holders") == 0
    assert seen.value("source_up", source="amdsmi") is None
    assert seen.value("source_up", source="log", server=URL) == 0
    assert seen.value("source_age_seconds", source="log", server=URL) == 4


def test_findings_come_and_go() -> None:
    box = Exporter().take(frame(findings=[finding(), finding(), finding("oom-kill", "", Severity.CRITICAL)]))
    assert box.value("finding", id="thermal", severity="warning", subject=GPU) == 1
    assert box.value("finding", id="oom-kill", severity="critical") is None  # an empty label is written
    assert box.value("finding", id="oom-kill", severity="critical", subject="") == 1
    assert box.value("findings", severity="critical") == 1
    box.take(frame(1))
    assert "finding" not in box.names()
    assert box.value("findings", severity="critical") == 0


HOSTILE = 'a"b\\c\n} 1\nhalotui_up{host="evil"} 1 # {{ .Value }} \u2603' + "x" * 500


def test_a_hostile_model_is_a_label_and_no_more() -> None:
    """The name a server gives has been through ``clean``; the exposition does not rely on it."""
    box = Exporter().take(frame(servers=[server(model=HOSTILE, draft_model="/home/me/secret/d.gguf")]))
    (labels,) = (dict(labels) for name, labels in box.values if name == "server_info")
    assert labels == {"server": URL, "model": HOSTILE[:200], "draft_model": "d.gguf", "engine": "llama.cpp"}
    families = list(open_families(box.scrape.text(OPEN, False)[0].decode()))
    assert {family.name for family in families} >= {"halotui_up", "halotui_server", "halotui_frames"}


def test_what_ends_between_two_scrapes_is_counted_once() -> None:
    box = Exporter()
    done = request(
        drafted=40,
        accepted=30,
        generated=100,
        end=End.DONE,
        prompt_tokens=50,
        ttft_seconds=0.3,
        wall_seconds=4.0,
    )
    for at in range(3):  # no scrape between them
        box.take(frame(at, servers=[server(requests=(done,) if at else ())]))
    first = box.values
    assert box.values == first  # a scrape counts nothing
    assert box.value("requests_total", server=URL, end="done") == 2
    assert box.value("requests_total", server=URL, end="error") == 0
    assert box.value("request_generation_tokens_total", server=URL) == 200
    assert box.value("request_draft_accepted_tokens_total", server=URL) == 60
    assert box.value("request_ttft_seconds_bucket", server=URL, le="0.25") == 0
    assert box.value("request_ttft_seconds_bucket", server=URL, le="0.5") == 2
    assert box.value("request_ttft_seconds_bucket", server=URL, le="+Inf") == 2
    assert box.value("request_ttft_seconds_sum", server=URL) == pytest.approx(0.6)
    box.take(
        frame(
            3,
            servers=[
                server(requests=(request(source="metrics", generated=7), request(end=None, generated=-5)))
            ],
        )
    )
    assert box.value("request_generation_tokens_total", server=URL) == 207
    assert box.value("requests_total", server=URL, end="unknown") == 1
    monotone = {at for at in first if at[0].endswith(("_total", "_count", "_bucket"))}
    assert monotone and all(box.values[at] >= first[at] for at in monotone)


def test_what_ended_before_the_exporter_looked_is_not_its_own() -> None:
    old, new = request(ended_time=900.0), request(ended_time=1001.0)
    events = [
        ServerEvent(kind="abort", severity=Severity.CRITICAL, text="", time=time) for time in (900.0, 1000.5)
    ]
    kernel = [
        KernelEvent(kind="gpu-reset", severity=Severity.CRITICAL, text="", time=time)
        for time in (1.0, 1000.0)
    ]
    box = Exporter().take(
        frame(1000, servers=[server(requests=(old, new), events=tuple(events))], kernel=tuple(kernel))
    )
    assert box.value("requests_total", server=URL, end="unknown") == 1
    assert box.value("server_events_total", server=URL, kind="abort") == 1
    assert box.value("kernel_events_total", kind="gpu-reset") == 1


def test_a_stale_box_is_down_and_shows_no_numbers() -> None:
    box = Exporter(interval=5.0, link=Link(state=LinkState.LOST, since_time=0.0)).take(frame(memory=memory()))
    assert box.value("up") == 1 and box.value("memory_total_bytes")
    box.now += 15
    assert box.value("up") == 1
    box.now += 1
    assert box.names() == {
        "build_info",
        "up",
        "frame_age_seconds",
        "frame_interval_seconds",
        "frames_total",
        "link_state",
    }
    assert box.value("up") == 0 and box.value("frame_age_seconds") == 16
    assert box.value("link_state", state="lost") == 1
    box.take(frame(20, memory=memory()))
    assert box.value("up") == 1 and box.value("frames_total") == 2


def test_a_box_that_was_never_seen() -> None:
    box = Exporter()
    assert box.value("up") == 0 and box.value("frame_age_seconds") is None


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_tally, "SERVERS", 3)
    box = Exporter()
    slots = tuple(Slot(id=n, phase=SlotPhase.IDLE, used_tokens=1) for n in range(99))
    for at in range(6):
        holders = tuple(Holder(pid=n, name=f"p{at}-{n}", rss_bytes=1) for n in range(9))
        servers = [server(f"http://h:{n}", slots=slots) for n in range(at, at + 5)]
        box.take(frame(at, holders=holders, servers=servers))
    series = [(name, dict(labels)) for name, labels in box.values]
    assert len({labels.get("server") for _, labels in series} - {None}) == prometheus_tally.SERVERS
    assert (
        sum(name == "slot_used_tokens" for name, _ in series) == prometheus_tally.SERVERS * prometheus.SLOTS
    )
    assert [labels for name, labels in series if "process" in name] == [{"process": prometheus_tally.OTHER}]
    assert not {"pid", "task", "user"} & {key for _, labels in series for key in labels}


def test_processes_of_one_name_are_one() -> None:
    two = (Holder(pid=1, name="llama-server", gtt_bytes=5), Holder(pid=2, name="llama-server", gtt_bytes=6))
    box = Exporter().take(frame(holders=two))
    assert box.value("process_gtt_bytes", process="llama-server") == 11
    assert box.value("process_rss_bytes", process="llama-server") is None


def test_help_and_type() -> None:
    box = Exporter().take(
        frame(gpus=[gpu(busy_percent=1.0)], memory=memory(), servers=[server(uptime_seconds=3.0)])
    )
    families = {family.name: family for family in text_string_to_metric_families(box.text)}
    helps = {field.id: field.help for field in FIELDS}
    assert families["halotui_gpu_gtt_used_bytes"].documentation == helps["gpu.gtt_used_bytes"]
    assert families["halotui_gpu_busy_ratio"].documentation.startswith(helps["gpu.busy_percent"])
    assert {
        name: families[f"halotui_{name}"].type
        for name in ("up", "frames", "requests", "request_ttft_seconds")
    } == {
        "up": "gauge",
        "frames": "counter",
        "requests": "counter",
        "request_ttft_seconds": "histogram",
    }
    assert all("\n" not in family.documentation and family.documentation for family in families.values())


def test_what_is_left_out_is_there() -> None:
    ids = {field.id for field in FIELDS}
    assert ids >= prometheus_names.LEFT_OUT
    assert ids >= {f"facts.{key}" for key in prometheus_names._FACTS}
    assert ids >= prometheus_names._COUNTERS and ids >= set(prometheus_names._CALLED)


def test_a_rendering_is_kept_until_the_next_frame_or_second(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Exporter().take(frame())
    made: list[Any] = []
    families = prometheus_scrape.families
    monkeypatch.setattr(prometheus_scrape, "families", lambda boxes: made.append(1) or families(boxes))
    assert box.text == box.text and len(made) == 1
    box.scrape.text("", True)
    assert len(made) == 2  # compressed
    box.take(frame(1))
    assert 'halotui_frames_total{host="halo"} 2.0' in box.text and len(made) == 3
    box.now += 1.5
    assert box.text and len(made) == 4
    for number in range(50):  # a client that makes up versions
        box.scrape.text(f"application/openmetrics-text; version=1.0.{number}", False)
    assert len(box.scrape._kept) <= prometheus_scrape.FORMS
    assert box.scrape.text("application/openmetrics-text; version=x.y", False)[1].startswith("text/plain")
