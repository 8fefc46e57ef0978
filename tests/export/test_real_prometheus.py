"""``halotui export`` of a demo box with a fault, and a real Prometheus that scrapes it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from exported import Export, read, until

from running import HALOTUI, PATIENCE, run

CONTRIB = Path(__file__).parents[2] / "contrib"
FAULT, ALERT = "kernel-old", "HalotuiKernelOld"
METRIC = re.compile(r"halotui_\w+")


@pytest.fixture(scope="module")
def demo() -> Iterator[Export]:
    with Export("--demo", "--fault", FAULT, "-i", 1) as export:
        until(lambda: 'halotui_requests_total{end="done"' in export.scrape(), "a server")
        yield export
        assert export.stop() == 0


def program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"needs {name}")


def promtool(*args: object, given: str | None = None) -> str:
    done = subprocess.run(
        [program("promtool"), *map(str, args)], input=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_finds_nothing(demo: Export) -> None:
    assert promtool("check", "metrics", given=demo.scrape()) == ""


def test_the_rules_are_those_of_the_rules() -> None:
    rules = CONTRIB / "prometheus/halotui.rules.yml"
    made = run("export", "--alert-rules").stdout
    assert rules.read_text() == made, "halotui export --alert-rules > contrib/prometheus/halotui.rules.yml"
    assert "SUCCESS" in promtool("check", "rules", rules)
    promtool("check", "config", "--syntax-only", CONTRIB / "prometheus/prometheus.yml")


def test_a_scrape_makes_no_frame(demo: Export) -> None:
    began, before = time.monotonic(), demo.value("halotui_frames_total")
    for _ in range(40):
        demo.scrape()
    assert demo.value("halotui_frames_total") - before <= time.monotonic() - began + 1


@pytest.fixture
def prometheus(demo: Export, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Ask the API of one that scrapes the demo: ``prometheus("alerts")``."""
    config = f"""\
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [{CONTRIB / "prometheus/halotui.rules.yml"}]
scrape_configs:
  - job_name: halotui
    static_configs: [{{targets: ["{demo.address}"]}}]
"""
    (tmp_path / "prometheus.yml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    argv = [
        program("prometheus"),
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
    ]
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen([*argv, f"--web.listen-address={address}"], stdout=log, stderr=log)

    def ask(what: str) -> Any:
        assert process.poll() is None, (tmp_path / "log").read_text()
        return json.loads(read(f"http://{address}/api/v1/{what}"))["data"]

    try:
        yield ask
    finally:
        process.kill()
        process.wait(PATIENCE)
        log.close()


def test_an_alert_fires_and_the_series_are_held(prometheus: Callable[[str], Any], demo: Export) -> None:
    def firing() -> list[dict[str, Any]]:
        return [one for one in prometheus("alerts")["alerts"] if one["state"] == "firing"]

    alerts = until(firing, ALERT)
    assert {alert["labels"]["alertname"] for alert in alerts} == {ALERT}
    assert alerts[0]["labels"]["severity"] == "info" and alerts[0]["labels"]["host"]
    assert alerts[0]["labels"]["host"] in alerts[0]["annotations"]["summary"]
    count = quote('count(last_over_time({host!=""}[1m]))')
    held = prometheus(f"query?query={count}")["result"]
    assert int(held[0]["value"][1]) >= 100
    speed = until(
        lambda: prometheus(f"query?query={quote('count_over_time(halotui_memory_used_bytes[1m]) > 2')}")[
            "result"
        ],
        "three samples",
    )
    assert speed[0]["metric"]["job"] == "halotui"
    (target,) = prometheus("targets")["activeTargets"]
    assert target["health"] == "up" and not target["lastError"]


def test_the_dashboard_asks_for_what_there_is(demo: Export, tmp_path: Path) -> None:
    made = subprocess.run(
        [HALOTUI[0], CONTRIB / "grafana/dashboard.py"], capture_output=True, text=True, timeout=60
    )
    text = (CONTRIB / "grafana/halotui.json").read_text()
    assert text == made.stdout, "python contrib/grafana/dashboard.py > contrib/grafana/halotui.json"
    panels = json.loads(text)["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    # What a healthy box with one server has not, or not yet; each is tested in test_exposition.
    rare = {"halotui_kernel_events_total", "halotui_energy_prefill_joules_per_token"}
    rare |= {"halotui_process_gtt_bytes", "halotui_energy_decode_joules_per_token"}
    wanted = {name for expression in asked for name in METRIC.findall(expression)} - rare
    until(lambda: wanted <= set(METRIC.findall(demo.scrape())), "all that the dashboard asks for")
    rules = [
        f"  - record: x\n    expr: {json.dumps(one.replace('$__rate_interval', '5m'))}\n" for one in asked
    ]
    file = tmp_path / "asked.yml"
    file.write_text("groups:\n- name: x\n  rules:\n" + "".join(rules))
    promtool("check", "rules", file)
