"""Wishes: what comes from a profile, what stays of the server that runs, what leaves with its old profile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from binaries import Brood, binary
from halotui import config
from halotui.actions import ActionError, Value
from halotui.collectors.llama_process import launch_facts
from halotui.hosts import Process
from halotui.hosts.hands import Identity
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.servers import profile_file
from halotui.servers.as_profile import profile_of, withheld
from halotui.servers.dialect import read_dialect, render
from halotui.servers.launch import Launch, Runner
from halotui.servers.profile import Profile, merged, resolve
from halotui.servers.running import Running, inspect
from halotui.servers.secret import withdraw
from halotui.servers.vocabulary import spoken, values
from halotui.servers.wish import Wish, wish_of

KEY = "LLAMA_API_KEY"
ENVIRON = {"PATH": "/usr/bin", "HOME": "/home/u", "SSH_TTY": "/dev/pts/1"}
VULKAN = "/opt/vulkan/llama-server"
MINE = {
    "rocm": Profile(
        binary="/opt/rocm/llama-server",
        backend="rocm",
        env={"ROCBLAS_USE_HIPBLASLT": "1"},
        flags={"ub": 1024},
    ),
    "qwen": Profile(binary=VULKAN, backend="vulkan", model="/m/qwen.gguf", flags={"np": 2, "ctk": "q8_0"}),
    "box": Profile(runner=Runner.TOOLBOX, container="llama-rocm", backend="rocm"),
    "image": Profile(runner=Runner.PODMAN, image="ghcr.io/llama:vulkan", backend="vulkan"),
    "unit": Profile(runner=Runner.SYSTEMD, unit="llama.service", port=8099),
}
ALL = merged(MINE)


def running(*flags: object, env: Mapping[str, str] | None = None, **more: Any) -> Running:
    """A server as it would be captured; no process is behind it."""
    arguments, keys = withdraw(["-m", "/m/a.gguf", "--port", "8090", *map(str, flags)])
    said = {"runner": Runner.PLAIN, "binary": (VULKAN,), "cwd": "/srv"} | more
    whole = {"PATH": "/usr/bin", **(env or {}), **keys}
    process = Process(pid=7, name="llama-server", argv=(*said["binary"], *arguments), environ=whole)
    facts = launch_facts(process)
    return Running(
        **{"who": Identity(7, 1, "boot"), "process": process, "facts": facts, "arguments": arguments}
        | {"env": whole, "api_key": facts.api_key, "back": Launch(name="as it was", argv=(), url=facts.url)}
        | said
    )


def wish(
    name: str = "",
    now: Running | None = None,
    patch: Mapping[str, Value | None] | None = None,
    extra: tuple[str, ...] | None = None,
    environ: Mapping[str, str] = ENVIRON,
    profiles: Mapping[str, Profile] = ALL,
) -> Wish:
    profile = resolve(name, profiles) if name else None
    return wish_of(profile, now, patch or {}, extra, environ, name=name, profiles=profiles)


def line(made: Wish) -> list[str]:
    return list(spoken(made.words))


# --- the same, but


def test_nothing_asked_nothing_changed() -> None:
    now = running("-np", 4, "--lora", "/l", env={"RADV_PERFTEST": "nogttspill"})
    made = wish(now=now)
    assert line(made) == list(now.arguments)
    assert (made.binary, made.env, made.cwd, made.url) == (now.binary, now.env, "/srv", now.facts.url)
    assert (made.name, made.backend) == ("", "vulkan")


def test_one_setting_in_its_place() -> None:
    made = wish(now=running("-np", 4, "--lora", "/l"), patch={"np": 1, "ctk": "q8_0"})
    assert line(made)[4:] == ["-np", "1", "--lora", "/l", "-ctk", "q8_0"]


def test_what_is_taken_away_is_not_left_in_the_environment() -> None:
    now = running("-np", 4, env={"LLAMA_ARG_N_PARALLEL": "8", "LLAMA_ARG_CTX_SIZE": "4096"})
    made = wish(now=now, patch={"np": None})
    assert "-np" not in line(made) and "LLAMA_ARG_N_PARALLEL" not in made.env
    assert made.env["LLAMA_ARG_CTX_SIZE"] == "4096"


def test_free_flags_take_the_place_of_free_flags() -> None:
    now = running("--lora", "/l", "-np", 4)
    assert line(wish(now=now, extra=("--lora", "/k", "-np", "2")))[4:] == ["-np", "2", "--lora", "/k"]
    assert line(wish(now=now, extra=()))[4:] == ["-np", "4"]


def test_a_key_among_the_free_flags_is_withdrawn() -> None:
    made = wish(now=running("--api-key", "old1,old2"), extra=("--api-key", "hunter2"))
    assert "hunter2" not in line(made) and made.env[KEY] == made.api_key == "hunter2"
    assert "hunter2" not in repr(made)


def test_all_keys_stay_and_the_first_is_for_asking() -> None:
    made = wish(now=running("--api-key", "a,b"))
    assert (made.env[KEY], made.api_key) == ("a,b", "a")


def test_a_server_on_port_0_keeps_the_port_it_got() -> None:
    now = running("--port", 0)
    process = Process(pid=7, name="llama-server", argv=now.process.argv, environ={}, ports=(34567,))
    made = wish(now=running("--port", 0, facts=launch_facts(process)), patch={"np": 1})
    assert values(made.words)["port"] == 34567 and made.url == "http://127.0.0.1:34567"


def test_an_unknown_setting_is_one_line() -> None:
    for value in (1, None):
        with pytest.raises(ActionError, match="no setting ctkk"):
            wish(now=running(), patch={"ctkk": value})


def test_another_port_is_another_url() -> None:
    made = wish(now=running("--host", "0.0.0.0"), patch={"port": 8091, "api-prefix": "/llm"})
    assert made.url == "http://127.0.0.1:8091/llm"


def test_the_url_stays_as_it_is_known() -> None:
    now = running()
    facts = structs.replace(now.facts, url="http://box.lan:8090")
    assert wish(now=running(facts=facts), patch={"np": 1}).url == "http://box.lan:8090"


def test_another_model_leaves_the_repository() -> None:
    made = wish(now=running("-hf", "org/repo"), patch={"model": "~/b.gguf"})
    assert "-hf" not in line(made) and values(made.words)["model"] == str(Path.home() / "b.gguf")


def test_draft_simple_without_a_draft_is_said() -> None:
    with pytest.raises(ActionError, match="needs a draft model"):
        wish(now=running(), patch={"spec": "draft-simple"})
    assert wish(now=running("-md", "/d"), patch={"spec": "draft-simple"})
    assert wish(now=running(env={"LLAMA_ARG_SPEC_DRAFT_MODEL": "/d"}), patch={"spec": "draft-simple"})


def test_without_a_device_it_is_the_cpu() -> None:
    assert wish(now=running(), patch={"device": "none"}).backend == "cpu"
    assert wish(now=running("-dev", "none"), patch={"device": None}).backend == "vulkan"


def test_nothing_to_go_by() -> None:
    with pytest.raises(ActionError, match="nothing runs"):
        wish()


# --- a profile that changes what runs


def test_a_preset_changes_what_runs() -> None:
    made = wish("vulkan", running("-np", 4))
    assert values(made.words) == {
        "model": "/m/a.gguf",
        "port": 8090,
        "np": 4,
        "ngl": 99,
        "fa": "on",
        "mmap": False,
    }
    assert made.env == {"PATH": "/usr/bin", "RADV_PERFTEST": "nogttspill"}
    assert (made.name, made.backend, made.binary) == ("vulkan", "vulkan", (VULKAN,))


def test_a_preset_of_another_backend_says_what_is_missing() -> None:
    with pytest.raises(ActionError) as error:
        wish("rocm-hipblaslt", running())
    assert error.value.reason == "profile rocm-hipblaslt names no binary, and what runs is vulkan"
    assert error.value.hint == 'add to config.toml: [profiles.rocm-hipblaslt] binary = "..."'


def test_an_unknown_backend_is_not_in_the_way() -> None:
    assert wish("rocm-hipblaslt", running(binary=("/opt/llama-server",))).backend == "rocm"


def test_any_build_has_the_cpu_and_comes_back() -> None:
    cpu = wish("cpu", running("-ngl", 99))
    assert cpu.backend == "cpu" and values(cpu.words)["device"] == "none"
    back = wish("vulkan", running(*line(cpu)[4:], profile="cpu"))
    assert back.backend == "vulkan" and "device" not in values(back.words)
    forgotten = wish("vulkan", running(*line(cpu)[4:]))
    assert forgotten.backend == "vulkan" and "device" not in values(forgotten.words)


def test_another_binary_leaves_the_old_ones_libraries_and_devices() -> None:
    env = {"LD_LIBRARY_PATH": "/opt/vulkan", "GGML_BACKEND_PATH": "/x", "FOO": "1"}
    made = wish("rocm", running("-dev", "Vulkan0", "-np", 4, env=env))
    assert made.env == {"PATH": "/usr/bin", "FOO": "1", "ROCBLAS_USE_HIPBLASLT": "1"}
    assert (made.binary, made.backend) == (("/opt/rocm/llama-server",), "rocm")
    assert values(made.words) == {"model": "/m/a.gguf", "port": 8090, "np": 4, "ub": 1024}


def test_the_address_is_said_aloud_to_another_binary() -> None:
    now = running(arguments=("-m", "/m/a.gguf"), env={"LLAMA_ARG_HOST": "0.0.0.0"})
    assert values(wish("rocm", now).words)["host"] == "0.0.0.0"
    assert values(wish("rocm", now).words)["port"] == 8090


def test_what_a_profile_had_set_leaves_with_it() -> None:
    before = wish("vulkan-spec", running("-md", "/d", "-np", 4))
    now = running(*line(before)[4:], env=before.env, profile="vulkan-spec")
    made = wish("rocm", now)
    assert "RADV_PERFTEST" not in made.env
    assert values(made.words) == {
        "model": "/m/a.gguf",
        "port": 8090,
        "draft": "/d",
        "np": 4,
        "ub": 1024,
    }


def test_free_flags_of_a_profile_leave_with_it() -> None:
    known = ALL | {"lora": Profile(extra="--lora /k")}
    now = running("--lora", "/k", "--lora", "/l", profile="lora")
    assert line(wish("vulkan", now, profiles=known))[4:6] == ["--lora", "/l"]


def test_what_was_changed_since_stays() -> None:
    now = running("-fa", "off", "-ngl", 99, env={"RADV_PERFTEST": "mine"}, profile="vulkan")
    made = wish("rocm", now)
    assert made.env["RADV_PERFTEST"] == "mine"
    assert values(made.words)["fa"] == "off" and "ngl" not in values(made.words)


def test_the_flags_of_a_profile_with_a_model_stay_with_the_model() -> None:
    now = running("-np", 2, "-ctk", "q8_0", profile="qwen")
    assert values(wish("rocm", now).words)["ctk"] == "q8_0"


def test_same_but_keeps_the_profile() -> None:
    made = wish(now=running(env={"RADV_PERFTEST": "nogttspill"}, profile="vulkan"), patch={"np": 1})
    assert made.name == "vulkan" and made.env["RADV_PERFTEST"] == "nogttspill"


def test_a_profile_takes_flags_away() -> None:
    known = {"bare": Profile(draft="none", flags={"ctk": "", "ctv": False, "np": 1}, extra="--lora /k")}
    now = running("-md", "/d", "--draft-max", 8, "-ctk", "q8_0", "-ctv", "q8_0", "--lora", "/l")
    made = wish("bare", now, profiles=known)
    assert line(made)[4:] == ["-np", "1", "--lora", "/k"]


def test_speculation_needs_the_users_draft() -> None:
    with pytest.raises(ActionError) as error:
        wish("vulkan-spec", running())
    assert error.value.hint == 'add to config.toml: [profiles.vulkan-spec] draft = "..."'
    mine = merged({"vulkan-spec": Profile(draft="~/d.gguf")})
    made = wish("vulkan-spec", running(), profiles=mine)
    assert values(made.words)["draft"] == str(Path.home() / "d.gguf")


def test_without_a_model_and_without_a_server() -> None:
    with pytest.raises(ActionError, match="profile rocm names no model"):
        wish("rocm")
    made = wish("rocm", patch={"model": "/m/b.gguf"})
    assert values(made.words)["model"] == "/m/b.gguf"


# --- from one runner to another


def test_into_a_box_only_what_is_for_a_server() -> None:
    made = wish("box", running(env={"HSA_ENABLE_SDMA": "0", "LANG": "C", "LD_LIBRARY_PATH": "/x"}))
    assert made.env == {"HSA_ENABLE_SDMA": "0"}
    assert (made.runner, made.container, made.binary) == (Runner.TOOLBOX, "llama-rocm", ("llama-server",))


def test_out_of_a_box_into_our_own_environment() -> None:
    now = running(runner=Runner.TOOLBOX, container="c", binary=("llama-server",), env={"HSA_X": "1"})
    made = wish("rocm", now)
    assert made.env == {
        "PATH": "/usr/bin",
        "HOME": "/home/u",
        "HSA_X": "1",
        "ROCBLAS_USE_HIPBLASLT": "1",
    }
    assert (made.runner, made.container, made.cwd) == (Runner.PLAIN, "", str(Path.home()))


def test_an_image_has_its_own_entry_point() -> None:
    made = wish("image", running())
    assert (made.runner, made.image, made.binary) == (Runner.PODMAN, "ghcr.io/llama:vulkan", ())


def test_a_published_container_does_not_open_to_the_network() -> None:
    inside = Process(
        pid=7, name="llama-server", argv=("llama-server", "-m", "/m"), environ={}, ports=(18080,)
    )
    now = running(
        *("--host", "0.0.0.0"), runner=Runner.PODMAN, image="i", binary=(), facts=launch_facts(inside)
    )
    for made in (wish(now=now, patch={"np": 1}), wish("rocm", now), wish("qwen", now)):
        assert "host" not in values(made.words) and made.url == "http://127.0.0.1:18080"


def test_a_units_flags_stand_in_the_unit() -> None:
    now = running(runner=Runner.SYSTEMD, unit="llama.service")
    for ask in ({"patch": {"np": 1}}, {"extra": ("-v",)}, {"name": "vulkan"}):
        with pytest.raises(ActionError, match="stand in the unit"):
            wish(now=now, **ask)  # type: ignore[arg-type]
    again = wish(now=now)
    assert (again.unit, again.url, again.words) == ("llama.service", now.facts.url, ())
    assert wish("rocm", now).runner is Runner.PLAIN
    assert wish("unit").url == "http://127.0.0.1:8099"


# --- a profile that is complete


def test_a_complete_profile_without_a_server() -> None:
    made = wish("qwen", environ={**ENVIRON, "TERM": "xterm"})
    assert line(made)[:2] == ["-m", "/m/qwen.gguf"]
    assert values(made.words) == {"model": "/m/qwen.gguf", "port": 8080, "np": 2, "ctk": "q8_0"}
    assert made.env == {"PATH": "/usr/bin", "HOME": "/home/u"}
    assert (made.url, made.cwd) == ("http://127.0.0.1:8080", str(Path.home()))


def test_a_complete_profile_takes_the_address_and_no_flag() -> None:
    now = running("--host", "0.0.0.0", "-c", 4096, "--lora", "/l", "--api-key", "a,b", env={"RADV_X": "1"})
    made = wish("qwen", now)
    assert values(made.words) == {
        "model": "/m/qwen.gguf",
        "host": "0.0.0.0",
        "port": 8090,
        "np": 2,
        "ctk": "q8_0",
    }
    assert made.url == now.facts.url and made.env[KEY] == "a,b" and "RADV_X" not in made.env


def test_its_own_address_wins() -> None:
    known = {"q": Profile(model="/m", port=9000, host="127.0.0.1", log="~/q.log", load_seconds=5.0)}
    made = wish("q", running("--host", "0.0.0.0"), profiles=known)
    assert (made.url, made.load_seconds) == ("http://127.0.0.1:9000", 5.0)
    assert (made.binary, made.log) == ((VULKAN,), str(Path.home() / "q.log"))


def test_a_complete_profile_of_another_backend_needs_a_binary() -> None:
    known = merged({"q": Profile(inherits="rocm-wmma", model="/m")})
    with pytest.raises(ActionError, match="q names no binary, and what runs is vulkan"):
        wish("q", running(), profiles=known)
    assert wish("q", profiles=known).binary == ("llama-server",)


def test_the_key_is_the_profiles(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("filed\nsecond\n")
    known = {
        "env": Profile(model="/m", api_key_env="MY_KEY"),
        "file": Profile(model="/m", api_key_file=str(tmp_path / "key")),
        "change": Profile(api_key_file=str(tmp_path / "key")),
        "gone": Profile(model="/m", api_key_file=str(tmp_path / "none")),
    }
    environ = {**ENVIRON, "MY_KEY": "said", KEY: "login"}
    now = running("--api-key", "old")
    for name, key in (("env", "said"), ("file", "filed"), ("change", "filed")):
        made = wish(name, now, environ=environ, profiles=known)
        assert made.api_key == key and made.env.get(KEY, key) == key, name
    with pytest.raises(ActionError, match=r"no API key in \$MY_KEY"):
        wish("env", profiles=known)
    with pytest.raises(ActionError, match=r"no API key in .*none: No such file"):
        wish("gone", profiles=known)


def test_a_wrapper_and_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    known = {"q": Profile(model="~/m.gguf", binary=("nice", "~/llama-server"), cwd="~/srv")}
    made = wish("q", profiles=known)
    assert made.binary == ("nice", "/home/u/llama-server") and made.cwd == "/home/u/srv"
    assert values(made.words)["model"] == "/home/u/m.gguf"


# --- and back


def test_what_runs_as_a_profile_without_secrets() -> None:
    env = {"RADV_PERFTEST": "x", "LANG": "C", "HF_TOKEN": "hunter2", "LD_LIBRARY_PATH": "/opt/vulkan"}
    now = running("-np", 2, "--api-key", "hunter2", "-md", "/d", "--lora", "/l", env=env)
    made = profile_of(now, "/state/key")
    assert made == Profile(
        binary=VULKAN,
        backend="vulkan",
        model="/m/a.gguf",
        draft="/d",
        port=8090,
        cwd="/srv",
        env={"RADV_PERFTEST": "x", "LD_LIBRARY_PATH": "/opt/vulkan"},
        flags={"np": 2},
        extra=("--lora", "/l"),
        api_key_file="/state/key",
    )
    assert withheld(now) == ("HF_TOKEN",)


def test_a_secret_among_the_free_flags_is_left_out() -> None:
    now = running("--lora", "/l", "--proxy-token", "hunter2")
    assert profile_of(now).extra == ("--lora", "/l") and withheld(now) == ("--proxy-token",)


def test_a_containers_address_is_not_ours() -> None:
    now = running("--host", "0.0.0.0", runner=Runner.PODMAN, image="i", binary=("llama-server",))
    assert profile_of(now) == Profile(
        runner=Runner.PODMAN,
        binary="llama-server",
        image="i",
        model="/m/a.gguf",
        port=8090,
        env={"PATH": "/usr/bin"},
    )


def test_the_profile_of_what_runs_is_what_runs() -> None:
    now = running("-np", 2, "--no-mmap", "-fa", "on", "--lora", "/l", env={"RADV_PERFTEST": "x"})
    made = wish("it", profiles={"it": profile_of(now)})
    assert values(made.words) == values(wish(now=now).words) and made.binary == now.binary
    assert line(made)[-2:] == ["--lora", "/l"] and made.env["RADV_PERFTEST"] == "x"


def test_a_unit_as_a_profile() -> None:
    now = running("-np", 2, runner=Runner.SYSTEMD, unit="llama.service")
    made = profile_of(now)
    assert made == Profile(
        runner=Runner.SYSTEMD, unit="llama.service", backend="vulkan", host="127.0.0.1", port=8090
    )
    assert wish("it", profiles={"it": made}).url == now.facts.url


@pytest.mark.slow
async def test_a_real_server_goes_into_the_file_and_comes_out_again(tmp_path: Path, models: Path) -> None:
    """Captured, saved, loaded, resolved, rendered: and the real binary takes it."""
    with Brood(tmp_path, models) as brood:
        env = {"RADV_PERFTEST": "nogttspill", KEY: "hunter2"}
        server = brood.start(
            binary(tmp_path / "vulkan"),
            *("-np", 2, "-c", 2048, "-ctk", "bf16", "-fa", "on", "--metrics"),
            env=env,
        ).wait_ready()
        host, hands = LocalHost(), LocalHands()
        now = await inspect(host, hands, server.pid, log_dir=tmp_path)
        file = tmp_path / "config.toml"
        profile_file.save(file, "mine", profile_of(now))
        assert "hunter2" not in file.read_text()
        known = merged(config.load(file, environ={}).profiles)
        made = wish("mine", now, environ=brood.env, profiles=known)
        assert made.api_key == "hunter2" and made.url == server.url and made.backend == "vulkan"
        dialect = await read_dialect(
            LocalHost(), hands, made.binary, tmp_path / "dialects", env=made.env, cwd=made.cwd
        )
        arguments = render(made.words, dialect)
        assert values(made.words) == values(wish(now=now).words)
        done = await hands.run((*made.binary, *arguments, "--version"), env=made.env, cwd=made.cwd)
        assert done.code == 0, done.err
        assert os.environ.get(KEY) is None and "hunter2" not in arguments
