"""Where a llama-bench is found, and how it is reached through a container."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from lab import SUITE, Lab, orphans

from halotui.benching.measure import measure
from halotui.benching.relay import Relay
from halotui.benching.suite_item import step_of
from halotui.benching.suite_place import Place, tail
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.runs import Kind, Run, Status

# Stand-ins for the clients of containers: they do at once what is to be done inside.
TOOLBOX = """\
#!/bin/sh
echo "$@" >> "$0.calls"
[ "$1 $2 $3" = "run --container llama-vulkan-radv" ] || exit 1
shift 3
exec "$@"
"""
PODMAN = """\
#!/bin/sh
echo "$@" >> "$0.calls"
while [ $# -gt 0 ]; do
    case "$1" in
    --entrypoint=*) entry="${1#--entrypoint=}" ;;
    --env=*) export "${1#--env=}" ;;
    localhost/llama) shift; exec "$entry" "$@" ;;
    esac
    shift
done
exit 125
"""


def profile(lab: Lab, **said: str) -> None:
    lines = "".join(f"{name} = {value}\n" for name, value in said.items())
    (lab.directory / "config/halotui/config.toml").write_text(f"[profiles.vk]\n{lines}")


def client(lab: Lab, name: str, text: str) -> Path:
    path = lab.directory / "bin" / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_through_a_toolbox(lab: Lab) -> None:
    toolbox = client(lab, "toolbox", TOOLBOX)
    profile(
        lab,
        runner='"toolbox"',
        container='"llama-vulkan-radv"',
        binary=f'"{lab.vulkan}/llama-server"',
        env='{ ROW_ENV = "inside" }',
    )
    done = lab.bench("--only", "Vulkan · pp512*")
    assert done.returncode == 0, done.stderr
    asked, ran = toolbox.with_name("toolbox.calls").read_text().splitlines()
    assert asked.endswith("llama-bench --help") and "-p 512 -n 128" in ran
    assert lab.calls(lab.vulkan)[0]["env"] == "inside"
    assert lab.runs()[0].command[:4] == ("toolbox", "run", "--container", "llama-vulkan-radv")


def test_what_a_client_leaves_in_its_container_is_ended(lab: Lab) -> None:
    """Ending the client of a container ends nothing inside: the next row would be measured beside it."""
    leaving = TOOLBOX.replace(
        'exec "$@"', 'case "$*" in *--help*) exec "$@" ;; esac\n(setsid "$@" &)\nexec sleep 60'
    )
    client(lab, "toolbox", leaving)
    profile(lab, runner='"toolbox"', container='"llama-vulkan-radv"', binary=f'"{lab.vulkan}/llama-server"')
    lab.behave(lab.vulkan, "-p 512 hang")
    lab.write(SUITE.replace("repeats", 'timeout = "3s"\nrepeats'))
    done = lab.bench("--only", "Vulkan · pp512*")
    assert lab.runs()[0].status is Status.HUNG, done.stderr
    assert len(lab.calls(lab.vulkan)) == 1 and not orphans(lab.directory)


def test_through_podman(lab: Lab) -> None:
    podman = client(lab, "podman", PODMAN)
    profile(
        lab,
        runner='"podman"',
        image='"localhost/llama"',
        binary=f'"{lab.vulkan}/llama-server"',
        backend='"vulkan"',
        env='{ ROW_ENV = "inside" }',
    )
    done = lab.bench("--only", "Vulkan · pp512*")
    assert done.returncode == 0, done.stderr
    _, ran = podman.with_name("podman.calls").read_text().splitlines()
    assert f"--volume={lab.directory}:{lab.directory}:ro" in ran  # the model's directory
    assert "--device=/dev/dri" in ran and "--pull=never" in ran and "--rm" in ran
    assert lab.calls(lab.vulkan)[0]["env"] == "inside"


def test_a_wrapper_stays(lab: Lab) -> None:
    profile(lab, binary=f'["/usr/bin/env", "ROW_ENV=wrapped", "{lab.vulkan}/llama-server"]')
    assert lab.bench("--only", "Vulkan · pp512*").returncode == 0
    assert lab.calls(lab.vulkan)[0]["env"] == "wrapped"


def test_a_bare_name_is_looked_for_in_path(lab: Lab) -> None:
    profile(lab, binary='"/nowhere/llama-server"')
    lab.env["PATH"] = f"{lab.rocm}:{lab.env['PATH']}"
    assert lab.bench("--only", "Vulkan · pp512*").returncode == 0
    assert len(lab.calls(lab.rocm)) == 1


def test_none_is_found(lab: Lab) -> None:
    profile(lab, binary='"/nowhere/llama-server"')
    done = lab.bench("--only", "Vulkan · pp512*")
    assert done.returncode == 1
    [run] = lab.runs()
    assert run.reason.startswith("there is no llama-bench beside /nowhere/llama-server nor in PATH")


def test_another_program_is_refused(lab: Lab) -> None:
    lab.write(SUITE.replace('"rocm/llama-bench"', '"/bin/true"'))
    lab.bench("--only", "HIP · pp512*")
    assert lab.runs()[0].status is Status.FAILED
    assert lab.runs()[0].reason.startswith("/bin/true is no llama-bench")


def test_a_unit_does_not_tell(lab: Lab) -> None:
    profile(lab, runner='"systemd"', unit='"llama.service"')
    done = lab.bench("--only", "Vulkan · pp512*")
    assert done.returncode == 1 and "is a systemd unit" in done.stderr


def test_no_model_anywhere(lab: Lab) -> None:
    lab.write(SUITE.replace('model = "m.gguf"\n', ""))
    done = lab.bench("--dry-run")
    assert done.returncode == 1
    assert "-m /nowhere/other.gguf" in done.stdout  # the profile's
    assert "no model: neither the suite nor profile (none) names one" in done.stdout


def test_an_older_build_writes_json(lab: Lab) -> None:
    from stand_in_bench import binary

    binary(lab.directory / "old", old=True)
    lab.write(SUITE.replace('"rocm/llama-bench"', '"old/llama-bench"\nflags = { fa = "on", mmap = false }'))
    done = lab.bench("--only", "HIP*", "--json")
    assert done.returncode == 0, done.stderr
    [first, second] = json.loads(done.stdout)
    assert [result["test"] for result in first["results"]] == ["pp512", "tg128"]
    assert "-fa 1 -mmp 0 -r 2 -o json" in " ".join(second["command"])


async def test_a_full_disk_does_not_end_the_command(tmp_path: Path) -> None:
    relay = Relay.quiet(Path("/dev/full"))
    words = (sys.executable, "-c", "for _ in range(50): print('x' * 10_000, flush=True)")
    run = await measure(
        words,
        host=LocalHost(tmp_path, Path("/proc")),
        hands=LocalHands(),
        store=None,
        run=Run(kind=Kind.SUITE),
        relay=relay,
        tell=lambda line: None,
    )
    assert run.status is Status.OK, run.reason
    assert relay.failure == "No space left on device"


@pytest.mark.parametrize("progress", ["prompt run 2/5", "warmup generation run", "depth run 1/2 (cached)"])
def test_the_progress_of_llama_bench(tmp_path: Path, progress: str) -> None:
    log = tmp_path / "log"
    head = "ggml_vulkan: 1 device\nllama-bench: benchmark 3/4: starting\n"
    log.write_text(f"{head}llama-bench: benchmark 3/4: {progress}\n")
    assert step_of(log) == f"test 3/4, {progress}"
    assert step_of(log, log.stat().st_size) == ""  # of an earlier run


def test_the_end_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert tail(file, 3) == []
    file.write_bytes(b"x" * 200_000 + b"\none\n\ntwo\rthree\n\xff\n")
    assert tail(file, 3) == ["two", "three", "\ufffd"]
    assert Place(Path("/dev/null/nowhere")).log("a", "b", "c") == Path("/dev/null")
