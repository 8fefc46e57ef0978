"""Makes halotui.json: ``python contrib/grafana/dashboard.py > contrib/grafana/halotui.json``.

Panels in the order of halotui's own screen; what a panel says of its numbers is the HELP of its first metric.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from halotui.exporters import prometheus_names as names

HOST = 'host=~"$host"'
SERVER = f'{HOST}, server=~"$server"'
RATE = "$__rate_interval"
WIDE, HALF, THIRD, HEIGHT = 24, 12, 8, 8  # in Grafana's units
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
METRIC = re.compile(r"halotui_\w+")


@dataclass(frozen=True)
class Panel:
    """``lines``: expression -> legend. ``unit`` is Grafana's."""

    title: str
    unit: str
    lines: dict[str, str]
    width: int = THIRD
    kind: str = "timeseries"  # | stat | table
    stacked: bool = False
    most: float | None = None


def percentiles(name: str, quantiles: tuple[float, ...] = (0.5, 0.95)) -> dict[str, str]:
    """Over all servers that are chosen."""
    rate = f"sum by (le, host) (rate(halotui_request_{name}_bucket{{{SERVER}}}[{RATE}]))"
    return {f"histogram_quantile({q:g}, {rate})": f"{{{{host}}}} p{q * 100:g}" for q in quantiles}


def summed(name: str, by: str) -> str:
    return f"sum by ({by}) (rate(halotui_{name}{{{SERVER}}}[{RATE}]))"


def by_server(*metrics: str, what: str = "") -> dict[str, str]:
    words = {name: name.removeprefix("server_").split("_")[0] for name in metrics}
    return {
        f"halotui_{name}{{{SERVER}}}": " ".join(filter(None, ("{{host}} {{server}}", what or words[name])))
        for name in metrics
    }


def by_host(**metrics: str) -> dict[str, str]:
    return {f"halotui_{name}{{{HOST}}}": f"{{{{host}}}} {what}".strip() for name, what in metrics.items()}


ROWS: dict[str, tuple[Panel, ...]] = {
    "Findings": (
        Panel(
            "Boxes",
            "short",
            {f"sum(halotui_up{{{HOST}}})": "up", f"count(halotui_up{{{HOST}}})": "all"},
            4,
            "stat",
        ),
        Panel(
            "Findings",
            "short",
            {f"sum by (severity) (halotui_findings{{{HOST}}})": "{{severity}}"},
            6,
            "stat",
        ),
        Panel("What is wrong", "short", {f"halotui_finding{{{HOST}}} == 1": ""}, 14, "table"),
    ),
    "Speed": (
        Panel("Decode", "suffix: t/s", by_server("server_generation_tokens_per_second", what="decode")),
        Panel("Prefill", "suffix: t/s", by_server("server_prompt_tokens_per_second", what="prefill")),
        Panel(
            "Speculation",
            "percentunit",
            {
                f"halotui_server_draft_acceptance_ratio{{{SERVER}}}": "{{server}} accepted",
                f"halotui_server_draft_coverage_ratio{{{SERVER}}}": "{{server}} coverage",
            },
        ),
    ),
    "Memory": (
        Panel(
            "All memory",
            "bytes",
            by_host(
                account_carve_out_bytes="carve-out",
                account_gtt_bytes="GTT",
                account_other_bytes="other",
                account_free_bytes="free",
            ),
            stacked=True,
        ),
        Panel("Headroom", "bytes", by_host(account_headroom_bytes="", memory_swap_used_bytes="swap")),
        Panel(
            "Largest processes", "bytes", {f"halotui_process_gtt_bytes{{{HOST}}}": "{{host}} {{process}} GTT"}
        ),
    ),
    "Slots": (
        Panel("Slots at work", "short", by_server("server_slots_busy", "server_slots")),
        Panel("Queue", "short", by_server("server_requests_deferred", what="waiting")),
        Panel(
            "Context",
            "percentunit",
            {
                f"halotui_server_kv_used_ratio{{{SERVER}}}": "{{server}} KV",
                f"halotui_slot_used_ratio{{{SERVER}}}": "{{server}} slot {{slot}}",
            },
            most=1,
        ),
    ),
    "Power, clock, heat": (
        Panel(
            "Power",
            "watt",
            by_host(gpu_socket_power_watts="package", gpu_gfx_power_watts="GPU", gpu_cpu_power_watts="CPU"),
        ),
        Panel("Clock", "hertz", by_host(gpu_sclk_hertz="", gpu_sclk_limit_hertz="limit")),
        Panel(
            "Temperature",
            "celsius",
            by_host(gpu_temperature_celsius="GPU", system_cpu_temperature_celsius="CPU"),
        ),
        Panel("Busy", "percentunit", by_host(gpu_busy_ratio="GPU", system_cpu_busy_ratio="CPU"), most=1),
        Panel("Held back by", "short", {f"halotui_gpu_held_by{{{HOST}}} == 1": "{{host}} {{by}}"}),
        Panel(
            "Energy",
            "suffix: J/token",
            {
                f"halotui_energy_decode_joules_per_token{{{HOST}}}": "{{host}} decode",
                f"halotui_energy_prefill_joules_per_token{{{HOST}}}": "{{host}} prefill",
            },
        ),
    ),
    "Requests": (
        Panel("Time to the first token", "s", percentiles("ttft_seconds")),
        Panel("Time in all", "s", percentiles("wall_seconds")),
        Panel("Decode of a request", "suffix: t/s", percentiles("generation_tokens_per_second", (0.5, 0.05))),
        Panel(
            "Ended",
            "reqpm",
            {f"60 * {summed('requests_total', 'host, end')}": "{{host}} {{end}}"},
        ),
        Panel(
            "Tokens",
            "suffix: t/s",
            {
                summed(f"request_{key}_total", "host"): f"{{{{host}}}} {what}"
                for key, what in (
                    ("prompt_tokens", "prompt"),
                    ("cached_tokens", "cached"),
                    ("generation_tokens", "generated"),
                )
            },
        ),
        Panel(
            "Drafts accepted",
            "percentunit",
            {
                f"rate(halotui_request_draft_accepted_tokens_total{{{SERVER}}}[{RATE}])"
                f" / rate(halotui_request_draft_tokens_total{{{SERVER}}}[{RATE}])": "{{host}} {{server}}"
            },
            most=1,
        ),
    ),
    "Box": (
        Panel(
            "Disk and network",
            "Bps",
            by_host(
                system_disk_read_bytes_per_second="read",
                system_disk_write_bytes_per_second="write",
                system_network_receive_bytes_per_second="receive",
                system_network_send_bytes_per_second="send",
            ),
        ),
        Panel(
            "Stalls",
            "percentunit",
            by_host(system_memory_pressure_ratio="memory", system_io_pressure_ratio="disk"),
        ),
        Panel(
            "Kernel events",
            "short",
            {f"increase(halotui_kernel_events_total{{{HOST}}}[{RATE}])": "{{host}} {{kind}}"},
        ),
        Panel(
            "Sources that fail",
            "short",
            {f"halotui_source_up{{{HOST}}} == 0": "{{host}} {{source}} {{server}}"},
        ),
        Panel("Age of the last frame", "s", by_host(frame_age_seconds="")),
        Panel("Servers", "short", {f"halotui_server_info{{{SERVER}}}": ""}, kind="table"),
    ),
}


def helps() -> dict[str, str]:
    """HELP by family."""
    rows = [row for table in (names.ROWS, names.FLAGS) for its in table.values() for row in its]
    own = [value for value in vars(names).values() if isinstance(value, names.Metric)]
    tables = [
        *names.TOKENS.values(),
        *names.HOLDER.values(),
        *(metric for metric, _ in names.BUCKETS.values()),
    ]
    return {metric.name: metric.help for metric in (*(row.metric for row in rows), *own, *tables)}


def panel(what: Panel, number: int, x: int, y: int, known: dict[str, str]) -> dict[str, Any]:
    first = METRIC.search(next(iter(what.lines)))
    name = re.sub(r"_(total|info|bucket)$", "", first[0]) if first else ""
    table = what.kind == "table"
    custom: dict[str, Any] = {
        "fillOpacity": 60 if what.stacked else 5,
        "showPoints": "never",
        "spanNulls": False,
    }
    if what.stacked:
        custom["stacking"] = {"mode": "normal"}
    defaults: dict[str, Any] = {
        "unit": what.unit,
        "min": 0,
        "custom": custom if what.kind == "timeseries" else {},
    }
    if what.most is not None:
        defaults["max"] = what.most
    made: dict[str, Any] = {
        "id": number,
        "type": what.kind,
        "title": what.title,
        "description": known[name],
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": what.width, "h": HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend,
                **({"format": "table", "instant": True} if table else {}),
            }
            for at, (expression, legend) in enumerate(what.lines.items())
        ],
    }
    if table:
        hidden = dict.fromkeys(("Time", "Value", "__name__", "job", "instance"), True)
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return made


def variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    known, y = helps(), 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": WIDE, "h": 1},
            }
        )
        x, y = 0, y + 1
        for what in row:
            if x + what.width > WIDE:
                x, y = 0, y + HEIGHT
            panels.append(panel(what, len(panels) + 1, x, y, known))
            x += what.width
        y += HEIGHT
    return {
        "uid": "halotui",
        "title": "halotui",
        "tags": ["halotui", "llama.cpp"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "data source"},
                variable("host", "label_values(halotui_up, host)"),
                variable("server", f"label_values(halotui_server_up{{{HOST}}}, server)"),
            ]
        },
        "panels": panels,
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1, ensure_ascii=False))
