"""Launch facts from command lines as people write them, and from the real server's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.collectors.llama_process import FLAGS, MORE, find, launch_facts
from halotui.hosts import Process
from halotui.hosts.local import LocalHost
from halotui.safe import clean


def process(line: str | Sequence[str] = "llama-server", /, **known: Any) -> Process:
    argv = line.split() if isinstance(line, str) else line
    defaults: dict[str, Any] = {"pid": 7, "name": "llama-server", "environ": {}}
    return Process(argv=tuple(argv), **(defaults | known))


def test_nothing_said_is_nothing_known() -> None:
    facts = launch_facts(process())
    assert facts.url == "http://127.0.0.1:8080"
    unknown = set(facts.__struct_fields__) - {"pid", "name", "url", "engine"}
    assert {field: getattr(facts, field) or None for field in unknown} == dict.fromkeys(unknown)


@pytest.mark.parametrize(
    ("said", "field", "value"),
    [
        ("-np 2", "slots_asked", 2),
        ("--parallel=3", "slots_asked", 3),
        ("-np -1", "slots_asked", None),
        ("-np two", "slots_asked", None),
        ("-np 1 -np 4", "slots_asked", 4),
        ("-c 8192", "context_tokens", 8192),
        ("--ctx_size 8192", "context_tokens", 8192),
        ("-c 0", "context_tokens", None),
        ("-c " + "9" * 40, "context_tokens", None),
        ("-kvu", "kv_unified", True),
        ("--kv-unified --no-kv-unified", "kv_unified", False),
        ("-no-kvu -kvu", "kv_unified", True),
        ("-m /models/a.gguf", "model_path", "/models/a.gguf"),
        ("--model=/models/a=b.gguf", "model_path", "/models/a=b.gguf"),
        ("-m", "model_path", None),
        ("-a qwen", "alias", "qwen"),
        ("-md d.gguf", "draft_model", "d.gguf"),
        ("--model-draft d.gguf", "draft_model", "d.gguf"),
        ("--spec-draft-model d.gguf", "draft_model", "d.gguf"),
        ("--spec-type draft-simple,ngram-mod", "spec_type", "draft-simple,ngram-mod"),
        ("--spec-default", "spec_type", "ngram-mod"),
        ("--sleep-idle-seconds 300", "sleep_idle_seconds", 300),
        ("--sleep-idle-seconds -1", "sleep_idle_seconds", None),
        ("--metrics", "metrics", True),
        ("-ctk q8_0 -ctv q4_0", "cache_type_k", "q8_0"),
        ("-ctk q8_0 -ctv q4_0", "cache_type_v", "q4_0"),
        ("--api-key one,two", "api_key", "one"),
        ("--api-key-file keys.txt", "api_key", None),
        ("--log-file /var/log/l.log", "log_path", "/var/log/l.log"),
        ("-fa", "flash_attention", "on"),  # up to autumn 2025
        ("-fa -c 512", "context_tokens", 512),
        ("-fa auto -c 512", "context_tokens", 512),
        ("-fa off", "flash_attention", "off"),
        ("--flash-attn=1", "flash_attention", "on"),
        ("-fa -1", "flash_attention", "auto"),
        ("--flash-attn=x", "flash_attention", None),
        ("-b 1024 -ub 256", "batch_tokens", 1024),
        ("-b 1024 -ub 256", "ubatch_tokens", 256),
        ("-t 16", "threads", 16),
        ("-t -1", "threads", None),
        ("-cram 4096", "prompt_cache_bytes", 4096 << 20),
        ("--cache-ram 0", "prompt_cache_bytes", 0),
        ("-cram -1", "prompt_cache_bytes", None),
        ("--rpc 10.0.0.2:50052,[::1]:50053,", "rpc_peers", ("10.0.0.2:50052", "[::1]:50053")),
        ("--no-mmap", "mmap", False),
        ("--mmap", "mmap", True),
        ("-lm none", "mmap", False),
        ("--load-mode mmap+mlock", "mmap", True),
        ("-lm auto", "mmap", None),
        ("--direct-io", "mmap", False),
        ("-ngl 99", "layers_asked", "99"),
        ("--n-gpu-layers all", "layers_asked", "all"),
        ("-dev none", "device_asked", "none"),
        ("-np 1", "environment", None),  # not ours to read
        ("-lv 4", "verbosity", 4),
        ("--verbosity 0", "verbosity", 0),
        ("-lv 4 -v", "verbosity", 2**31 - 1),
        ("-v -m a.gguf", "model_path", "a.gguf"),
        ("--models-dir /m", "router", True),
        ("--models-dir /m -m a.gguf", "router", False),
        ("-hf org/model", "router", False),
        ("--embd-gemma-default", "router", False),
        ("--metrics", "router", None),  # its environment, not ours to read, may name a model
    ],
)
def test_command_line(said: str, field: str, value: object) -> None:
    assert getattr(launch_facts(process(f"llama-server {said}")), field) == value


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("LLAMA_ARG_N_PARALLEL", "2", "slots_asked", 2),
        ("LLAMA_ARG_MODEL_DRAFT", "d.gguf", "draft_model", "d.gguf"),
        ("LLAMA_ARG_SPEC_DRAFT_MODEL", "d.gguf", "draft_model", "d.gguf"),
        ("LLAMA_ARG_ENDPOINT_METRICS", "1", "metrics", True),
        ("LLAMA_ARG_ENDPOINT_METRICS", "0", "metrics", False),
        ("LLAMA_ARG_KV_UNIFIED", "off", "kv_unified", False),
        ("LLAMA_ARG_NO_KV_UNIFIED", "1", "kv_unified", False),
        ("LLAMA_API_KEY", "secret", "api_key", "secret"),
        ("LLAMA_LOG_FILE", "/tmp/l.log", "log_path", "/tmp/l.log"),
        ("LLAMA_ARG_PORT", "9000", "url", "http://127.0.0.1:9000"),
        ("LLAMA_ARG_FLASH_ATTN", "enabled", "flash_attention", "on"),
        ("LLAMA_ARG_CACHE_RAM", "512", "prompt_cache_bytes", 512 << 20),
        ("LLAMA_ARG_RPC", "a:1", "rpc_peers", ("a:1",)),
        ("LLAMA_ARG_LOG_VERBOSITY", "4", "verbosity", 4),
        ("LLAMA_ARG_HF_REPO", "org/model", "router", False),
        ("LLAMA_ARG_NO_MMAP", "1", "mmap", False),
        ("LLAMA_ARG_MMAP", "0", "mmap", False),
        ("LLAMA_ARG_LOAD_MODE", "none", "mmap", False),
        ("LLAMA_ARG_N_GPU_LAYERS", "0", "layers_asked", "0"),
        ("ROCBLAS_USE_HIPBLASLT", "1", "environment", ("ROCBLAS_USE_HIPBLASLT=1",)),
        ("HIP_VISIBLE_DEVICES", "0,1", "environment", ("HIP_VISIBLE_DEVICES=0,1",)),
        ("RADV_PERFTEST", "nogttspill", "environment", ("RADV_PERFTEST=nogttspill",)),
        ("RADV_PERFTEST", "a secret", "environment", ()),  # not as it should look
        ("HF_TOKEN", "secret", "environment", ()),
        ("HOME", "/", "router", True),
    ],
)
def test_environment(name: str, text: str, field: str, value: object) -> None:
    assert getattr(launch_facts(process(environ={name: text})), field) == value


@pytest.mark.parametrize(("name", "router"), [("llama-server", True), ("python3", None), ("koboldcpp", None)])
def test_another_program_may_have_a_model_without_a_flag(name: str, router: bool | None) -> None:
    one = Process(pid=1, name=name, argv=(name, "serve.py", "--port", "80"), environ={"HOME": "/"})
    assert launch_facts(one).router is router


def test_the_command_line_beats_the_environment() -> None:
    environ = {"LLAMA_ARG_CTX_SIZE": "1", "LLAMA_ARG_MODEL": "a.gguf"}
    facts = launch_facts(process("llama-server -c 2", environ=environ))
    assert (facts.context_tokens, facts.model_path) == (2, "a.gguf")


@pytest.mark.parametrize(
    ("said", "ports", "url"),
    [
        ("--port 9000", (), "http://127.0.0.1:9000"),
        ("--port 9000", (8000, 9000), "http://127.0.0.1:9000"),
        ("--port 0", (41234,), "http://127.0.0.1:41234"),
        ("", (9931,), "http://127.0.0.1:9931"),
        ("--host 0.0.0.0", (), "http://127.0.0.1:8080"),
        ("--host ::", (), "http://127.0.0.1:8080"),
        ("--host ::1", (), "http://[::1]:8080"),
        ("--host 192.168.1.5,127.0.0.1", (), "http://192.168.1.5:8080"),
        ("--host /run/l.sock,10.0.0.1", (), "http://10.0.0.1:8080"),
        ("--host run/l.sock", (), "unix:/srv/run/l.sock"),
        ("--host a@b/c?d", (), "http://127.0.0.1:8080"),
        ("--ssl-key-file k --ssl-cert-file c", (), "https://127.0.0.1:8080"),
        ("--api-prefix /llama/", (), "http://127.0.0.1:8080/llama"),
    ],
)
def test_url(said: str, ports: tuple[int, ...], url: str) -> None:
    assert launch_facts(process(f"llama-server {said}", ports=ports, cwd="/srv")).url == url


@pytest.mark.parametrize(
    "launcher",
    [
        "/usr/bin/llama-server",
        "toolbox run -c box /opt/llama/llama-server",
        "sudo -u llama-server llama-server-vulkan",
        "python -m something.server -m first.gguf",
        "./serve -m first.gguf",
    ],
)
def test_a_launcher_is_skipped(launcher: str) -> None:
    facts = launch_facts(process(f"{launcher} -m second.gguf -c 512"))
    assert (facts.model_path, facts.context_tokens) == ("second.gguf", 512)


def test_a_python_module_is_not_a_model() -> None:
    assert launch_facts(process("python3 -m something.server --port 1")).model_path is None


@pytest.mark.parametrize(
    ("line", "environ", "backend"),
    [
        ("llama-server -dev Vulkan0", {}, "vulkan"),
        ("/opt/llama-vulkan/llama-server -dev ROCm0,ROCm1", {}, "rocm"),
        ("llama-server", {"LLAMA_ARG_DEVICE": "ROCm0"}, "rocm"),
        ("llama-server -dev none", {}, "cpu"),
        ("/opt/llama-rocm-7/bin/llama-server", {}, "rocm"),
        ("/src/build-hip/bin/llama-server -m vulkan.gguf", {}, "rocm"),
        ("toolbox run -c llama-vulkan-radv llama-server", {}, "vulkan"),
        ("llama-server -m /models/rocm-vulkan.gguf", {}, None),
        ("/opt/chips/llama-server", {}, None),
        ("/rocm-and-vulkan/llama-server", {}, None),
        ("llama-server", {"CONTAINER_ID": "llama-vulkan"}, "vulkan"),
        ("llama-server", {"GGML_VK_VISIBLE_DEVICES": "0"}, "vulkan"),
        ("llama-server", {"HIP_VISIBLE_DEVICES": "0"}, "rocm"),
        ("llama-server", {"HIP_VISIBLE_DEVICES": "0", "GGML_VK_VISIBLE_DEVICES": "0"}, None),
        ("llama-server", {"HSA_OVERRIDE_GFX_VERSION": "11.5.1"}, None),
    ],
)
def test_backend(line: str, environ: dict[str, str], backend: str | None) -> None:
    assert launch_facts(process(line, environ=environ)).backend == backend


def test_log_path_is_where_the_server_writes() -> None:
    assert launch_facts(process("llama-server --log-file l.log", cwd="/srv")).log_path == "/srv/l.log"
    assert launch_facts(process("llama-server --log-file l.log")).log_path is None
    assert launch_facts(process(["llama-server", "--log-file", "/tmp/\x1b[2J.log"])).log_path is None
    assert launch_facts(process(stderr="/srv/err.log")).log_path == "/srv/err.log"
    assert launch_facts(process("llama-server --log-file /l.log", stderr="/err.log")).log_path == "/l.log"
    assert launch_facts(process(stderr="/srv/\x1b[2J.log")).log_path is None


def test_texts_are_made_harmless() -> None:
    facts = launch_facts(process(["llama-server", "-m", "/m/\x1b]0;owned\x07a.gguf", "-a", "\x1b[31m"]))
    assert (facts.model_path, facts.alias) == ("/m/a.gguf", None)


@given(
    st.lists(st.one_of(st.sampled_from([s for flag in (*FLAGS, *MORE) for s in flag.flags]), st.text())),
    st.dictionaries(st.sampled_from([name for flag in (*FLAGS, *MORE) for name in flag.env]), st.text()),
    st.lists(st.integers(1, 65535)),
)
def test_no_command_line_is_too_strange(argv: list[str], environ: dict[str, str], ports: list[int]) -> None:
    facts = launch_facts(process(argv, environ=environ, ports=tuple(ports), cwd="/"))
    assert facts.url == clean(facts.url)


def test_the_real_server_is_found(server: Any) -> None:
    found = {facts.pid: facts for facts in find(LocalHost(), ())}
    facts = found[server.pid]
    assert facts.url == server.url
    assert facts.log_path == str(server.log_path)
    assert (facts.slots_asked, facts.context_tokens, facts.metrics) == (2, 4096, True)
    assert facts.spec_type == "draft-simple"
    assert facts.draft_model and facts.model_path
    assert facts.started_time


def test_the_real_server_is_found_by_url(server: Any) -> None:
    host = LocalHost()
    port = server.url.rpartition(":")[2]
    urls = [f"http://localhost:{port}/", f"http://{host.name}:{port}"]
    assert [(facts.pid, facts.url) for facts in find(host, urls)] == [(server.pid, url) for url in urls]
    elsewhere = [
        f"http://192.0.2.1:{port}",
        "http://127.0.0.1:1",
        "unix:/x.sock",
        "http://[",
        "http://127.0.0.1:x",
    ]
    assert find(host, elsewhere) == []


class FakeHost(LocalHost):
    """Processes that cannot be had here: of another network namespace, or forwarding a port."""

    def __init__(self, *processes: Process) -> None:
        super().__init__()
        self.listed = list(processes)

    def processes(
        self, names: Sequence[str], ports: Sequence[int], scripts: Sequence[str] = ()
    ) -> list[Process]:
        return self.listed


def test_a_forwarder_is_not_a_server() -> None:
    pasta = process("pasta -t 8080 -m 1500", pid=1, name="pasta.avx2", ports=(8080,))
    launcher = process("python -m x", pid=2, name="python", ports=(8080,))
    named = process("llama-server", pid=3, ports=(8080,))
    url = "http://127.0.0.1:8080"
    assert find(FakeHost(pasta), [url]) == []
    assert [facts.pid for facts in find(FakeHost(pasta, launcher, named), [url])] == [3]
    assert [facts.pid for facts in find(FakeHost(pasta, launcher), [url])] == [2]
