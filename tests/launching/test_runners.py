"""Command lines for each runner: pure, so compared word by word; no secret in any of them."""

from __future__ import annotations

from typing import Any

import pytest

from halotui.actions import ActionError
from halotui.servers import runners
from halotui.servers.launch import Launch, Runner
from halotui.servers.vocabulary import Word
from halotui.servers.wish import Wish

URL = "http://127.0.0.1:8081"
ARGUMENTS = ("-m", "/srv/models/big.gguf", "--host", "127.0.0.1", "--port", "8081", "-ngl", "99")
KEY, TOKEN = "sk-very-secret", "hf_very_secret"
OURS = {
    "PATH": "/usr/bin",
    "HOME": "/home/user",
    "XDG_RUNTIME_DIR": "/run/user/1000",
    "XDG_SESSION_ID": "3",
    "TERM": "xterm",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
}
CLIENT = {name: OURS[name] for name in ("PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")}
MARKS = {"HALOTUI_LAUNCH": "a1", "HALOTUI_PROFILE": "fast"}


def wish(runner: Runner, **more: Any) -> Wish:
    known: dict[str, Any] = {
        "binary": ("/opt/vulkan/llama-server",),
        "words": (Word("model", "/srv/models/big.gguf", ("-m", "/srv/models/big.gguf")),),
        "env": {"RADV_PERFTEST": "nogttspill"},
        "cwd": "/home/user",
        "url": URL,
    }
    return Wish(name="fast", runner=runner, **{**known, **more})


def launch(wanted: Wish, arguments: tuple[str, ...] = ARGUMENTS, **more: Any) -> Launch:
    return runners.launch(wanted, arguments, id="a1", log="/logs/fast.log", environ=OURS, **more)


def test_plain() -> None:
    made = launch(wish(Runner.PLAIN, env=OURS, api_key=KEY, load_seconds=90.0))
    assert made.argv == ("/opt/vulkan/llama-server", *ARGUMENTS)
    assert made.env == {**OURS, **MARKS, "LLAMA_API_KEY": KEY}, "its whole environment, as it was wished"
    assert (made.name, made.cwd, made.log, made.url) == ("fast", "/home/user", "/logs/fast.log", URL)
    assert (made.hands_over, made.stop, made.api_key, made.load_seconds) == (False, (), KEY, 90.0)
    assert made.model == "/srv/models/big.gguf"


def test_several_keys_of_one_server_stay_together() -> None:
    """The first is for asking it; all of them are its own."""
    made = launch(wish(Runner.PLAIN, env={"LLAMA_API_KEY": "one,two"}, api_key="one"))
    assert made.env["LLAMA_API_KEY"] == "one,two"


def test_a_key_file_is_not_said_twice() -> None:
    made = launch(wish(Runner.PLAIN, env={}, api_key=KEY), (*ARGUMENTS, "--api-key-file", "/keys"))
    assert "LLAMA_API_KEY" not in made.env


@pytest.mark.parametrize(
    ("runner", "enter"),
    [
        (Runner.TOOLBOX, ("toolbox", "run", "--container", "rocm-7")),
        (Runner.DISTROBOX, ("distrobox", "enter", "--name", "rocm-7", "--")),
    ],
)
def test_a_box(runner: Runner, enter: tuple[str, ...]) -> None:
    made = launch(wish(runner, container="rocm-7", binary=("llama-server",)))
    marked = tuple(f"{name}={value}" for name, value in MARKS.items())
    assert made.argv == (*enter, "env", "RADV_PERFTEST=nogttspill", *marked, "llama-server", *ARGUMENTS)
    assert made.env == {**CLIENT, **MARKS}
    assert (made.hands_over, made.stop) == (False, ()), "the server itself is signalled: it is ours"


@pytest.mark.parametrize("runner", [Runner.TOOLBOX, Runner.DISTROBOX])
def test_a_box_gets_the_key_by_file(runner: Runner) -> None:
    wanted = wish(runner, container="rocm-7", api_key=KEY, env={"LLAMA_API_KEY": KEY})
    made = launch(wanted, key_file="/state/keys/a1")
    assert made.argv[-2:] == ("--api-key-file", "/state/keys/a1")
    assert KEY not in " ".join(made.argv) + str(made.env)
    with pytest.raises(ActionError, match="LLAMA_API_KEY cannot be handed to a"):
        launch(wanted)
    with pytest.raises(ActionError, match="HF_TOKEN cannot be handed to a"):
        launch(wish(runner, container="rocm-7", env={"HF_TOKEN": TOKEN}))


def test_podman() -> None:
    made = launch(
        wish(
            Runner.PODMAN,
            image="docker.io/kyuz0/amd-strix-halo-toolboxes:rocm-7",
            binary=("llama-server",),
            backend="rocm",
            env={"ROCBLAS_USE_HIPBLASLT": "1", "HF_TOKEN": TOKEN},
            api_key=KEY,
        )
    )
    assert made.argv == (
        *("podman", "run", "--pull=never", "--rm", "--name=halotui-a1", "--network=host"),
        *("--env=LLAMA_API_KEY", "--env=HF_TOKEN", "--env=HALOTUI_LAUNCH", "--env=HALOTUI_PROFILE"),
        *("--device=/dev/kfd", "--device=/dev/dri", "--group-add=keep-groups"),
        *("--security-opt=label=disable", "--security-opt=seccomp=unconfined"),
        "--volume=/srv/models:/srv/models:ro",
        "--env=ROCBLAS_USE_HIPBLASLT=1",
        "--entrypoint=llama-server",
        "docker.io/kyuz0/amd-strix-halo-toolboxes:rocm-7",
        *ARGUMENTS,
    )
    assert made.env == {**CLIENT, **MARKS, "LLAMA_API_KEY": KEY, "HF_TOKEN": TOKEN}
    assert made.stop == ("podman", "stop", "-t", "15", "halotui-a1")
    assert made.hands_over is False, "the client stays, so that log and exit code are ours"


def test_docker_has_groups_by_name() -> None:
    made = launch(wish(Runner.DOCKER, image="server-vulkan", binary=(), backend="vulkan"))
    assert made.argv[0] == "docker"
    assert {"--group-add=video", "--group-add=render", "--device=/dev/dri"} < set(made.argv)
    assert "--device=/dev/kfd" not in made.argv
    assert not [word for word in made.argv if word.startswith("--entrypoint")], "the image's own"
    assert made.argv[made.argv.index("server-vulkan") + 1 :] == ARGUMENTS


def test_a_container_for_the_cpu_gets_no_device() -> None:
    made = launch(wish(Runner.PODMAN, image="server", backend="cpu"))
    assert not [word for word in made.argv if word.startswith(("--device", "--group-add"))]


def test_an_image_cannot_open_the_server_to_the_network() -> None:
    """The images of llama.cpp say LLAMA_ARG_HOST=0.0.0.0, for a network of their own."""
    without = ("-m", "/srv/models/big.gguf", "--port", "8081")
    assert "--env=LLAMA_ARG_HOST=127.0.0.1" in launch(wish(Runner.PODMAN, image="server"), without).argv
    assert not [word for word in launch(wish(Runner.PODMAN, image="server")).argv if "LLAMA_ARG_HOST" in word]


@pytest.mark.parametrize(
    ("arguments", "mounts"),
    [
        ("-m /a/t.gguf -md /b/d.gguf", ["/a:/a:ro", "/b:/b:ro"]),
        ("-m /a/t.gguf -md /a/drafts/d.gguf", ["/a:/a:ro"]),
        ("-m models/t.gguf", ["/home/user/models:/home/user/models:ro"]),
        ("-m /a/t.gguf --log-file /var/llama/x.log", ["/a:/a:ro", "/var/llama:/var/llama:rw"]),
        ("-m /a/t.gguf --log-file /a/x.log", ["/a:/a:rw"]),
        ("-m /a/t.gguf --slot-save-path /a/slots", ["/a:/a:ro", "/a/slots:/a/slots:rw"]),
        ("-m /hub/models--x--y/snapshots/0123/t.gguf", ["/hub/models--x--y:/hub/models--x--y:ro"]),
        ("--models-dir /all --api-prefix /v2", ["/all:/all:ro"]),
        ("-m /a/t.gguf --lora /b/1.gguf,/c/2.gguf", ["/a:/a:ro", "/b:/b:ro", "/c:/c:ro"]),
        ("-m /a/t.gguf --lora-scaled /b/1.gguf:0.5,/b/2.gguf:1", ["/a:/a:ro", "/b:/b:ro"]),
        ("-m /a/t.gguf --chat_template_file /b/t.jinja", ["/a:/a:ro", "/b:/b:ro"]),
    ],
)
def test_what_a_container_sees(arguments: str, mounts: list[str]) -> None:
    made = launch(wish(Runner.PODMAN, image="server"), tuple(arguments.split()))
    found = [word.removeprefix("--volume=") for word in made.argv if word.startswith("--volume=")]
    assert found == mounts


def test_a_directory_that_cannot_be_mounted() -> None:
    with pytest.raises(ActionError, match="cannot be mounted"):
        launch(wish(Runner.PODMAN, image="server"), ("-m", "/odd:place/t.gguf"))


def test_a_unit() -> None:
    made = launch(wish(Runner.SYSTEMD, unit="llama.service", binary=(), words=(), env={}), ())
    assert made.argv == ("systemctl", "--user", "start", "llama.service")
    assert made.stop == ("systemctl", "--user", "stop", "llama.service")
    assert made.find_pid == ("systemctl", "--user", "show", "llama.service", "--property=MainPID", "--value")
    assert (made.hands_over, made.log, made.env) == (True, "", CLIENT)


def test_what_is_asked_before_is_what_would_run() -> None:
    assert runners.probe(wish(Runner.PLAIN, binary=("nice", "/opt/llama-server"))) == (
        "nice",
        "/opt/llama-server",
    )
    box = wish(Runner.TOOLBOX, container="rocm-7", env={"A": "1", "HF_TOKEN": TOKEN})
    assert runners.probe(box) == (
        *("toolbox", "run", "--container", "rocm-7", "env", "A=1"),
        "/opt/vulkan/llama-server",
    )
    podman = runners.probe(wish(Runner.PODMAN, image="server", env={"HF_TOKEN": TOKEN}, api_key=KEY))
    assert podman[-1] == "server" and {"--rm", "--network=none", "--pull=never"} < set(podman)
    assert "--volume=/srv/models:/srv/models:ro" in podman and "--device=/dev/dri" in podman
    assert runners.probe(wish(Runner.SYSTEMD, unit="llama.service")) == ()


@pytest.mark.parametrize("runner", list(Runner))
def test_no_secret_in_any_command_line(runner: Runner) -> None:
    wanted = wish(
        runner,
        container="box",
        image="server",
        unit="llama.service",
        env={"LLAMA_API_KEY": KEY},
        api_key=KEY,
    )
    made = launch(wanted, key_file="/state/keys/a1")
    assert KEY not in " ".join((*made.argv, *made.stop, *made.find_pid, *runners.probe(wanted))) + repr(made)
