"""The pre-flight beside a real server, by real hands: what it finds, and what it leaves alone.

podman, toolbox, systemctl and busctl are stand-ins: scripts that record their command line and answer as
the real ones do in that case.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from binaries import Brood, Server, binary
from halotui.actions import Check, Value, Verdict
from halotui.demo.model import write_model
from halotui.gguf.model_file import Header, Vocabulary
from halotui.hosts.hands import Done
from halotui.hosts.local import LocalHost
from halotui.hosts.local_hands import LocalHands
from halotui.servers import preflight as module
from halotui.servers.checks import CHECKS, judged
from halotui.servers.dialect import Dialect, Flag, read_dialect, render
from halotui.servers.fit import Item, Need, Room
from halotui.servers.launch import Launch, Runner
from halotui.servers.preflight import preflight
from halotui.servers.room import held, read, resident
from halotui.servers.runners import launch, probe
from halotui.servers.running import Running, inspect
from halotui.servers.seen import FileSeen, Logout, Seen
from halotui.servers.vocabulary import parse
from halotui.servers.wish import Wish, wish_of

OK, WARN, FAIL, UNKNOWN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN


class Box:
    """A real server on this machine, and what shall replace it."""

    def __init__(self, directory: Path, models: Path) -> None:
        self.directory = directory
        self.models = models
        self.program = binary(directory / "cpu")
        self.brood = Brood(directory, models)
        self.host = LocalHost()
        self.hands = LocalHands()

    def start(self, *flags: object, **more: Any) -> Server:
        return self.brood.start(self.program, *flags, **more).wait_ready()

    async def propose(
        self, server: Server | None, patch: Mapping[str, Value | None] = {}, busy: int | None = 0, **more: Any
    ) -> dict[str, Check]:
        """The checks by id, for what runs with ``patch``; ``more`` changes the wish."""
        running = await self.running(server) if server else None
        wish = await self.wish(running, patch, **more)
        dialect = await read_dialect(
            self.host,
            self.hands,
            probe(wish),
            self.directory / "dialects",
            env=wish.env,
            cwd=str(self.directory),
        )
        arguments = render(wish.words, dialect)
        order = launch(wish, arguments, id="test", log=wish.log or str(self.directory / "logs/new.log"))
        checks = await preflight(wish, order, arguments, dialect, running, self.host, self.hands, busy=busy)
        return {check.id: check for check in checks}

    async def running(self, server: Server) -> Running:
        return await inspect(self.host, self.hands, server.pid, log_dir=self.directory / "logs")

    async def wish(self, running: Running | None, patch: Mapping[str, Value | None], **more: Any) -> Wish:
        if running:
            return replace(wish_of(None, running, patch, None, self.brood.env), **more)
        words = parse(("-m", str(self.models / "tiny.gguf"), "-np", "1"))
        blank = Wish(
            name="new",
            runner=Runner.PLAIN,
            binary=(str(self.program),),
            backend="cpu",
            words=words,
            env=self.brood.env,
            cwd=str(self.directory),
            url="http://127.0.0.1:1",
        )
        return replace(blank, **more)


@pytest.fixture
def box(tmp_path: Path, models: Path) -> Iterator[Box]:
    box = Box(tmp_path, models)
    with box.brood:
        yield box


def failing(checks: Mapping[str, Check]) -> list[str]:
    return [check.id for check in checks.values() if check.verdict is FAIL]


async def test_a_change_that_is_well(box: Box) -> None:
    server = box.start("-np", "1", "-c", "2048")
    before = server.log()
    checks = await box.propose(server, {"np": 2})
    assert failing(checks) == []
    for name in ("binary", "flags", "arguments", "model", "port", "memory"):
        assert checks[name].verdict is OK, checks[name]
    assert "tiny, llama" in checks["model"].detail and "11549" in checks["binary"].detail
    assert str(server.port) in checks["port"].detail
    assert "KV cache 1.00 MiB" in checks["memory"].detail and "old server has left" in checks["memory"].detail
    assert "busy" not in checks
    assert server.poll() is None and server.log() == before, "it was touched"
    assert box.brood.pids() == [server.pid], "something was left running"


async def test_the_running_servers_log_is_not_emptied(box: Box) -> None:
    """llama-server opens --log-file as soon as it reads it, even for --version."""
    log = box.directory / "server.log"
    by_flag = box.start("--log-file", log)
    assert "listening" in log.read_text()
    checks = await box.propose(by_flag, {"np": 2})
    assert checks["arguments"].verdict is OK and "listening" in log.read_text()
    by_flag.stop()

    other = box.directory / "other.log"
    by_variable = box.start(env={"LLAMA_ARG_LOG_FILE": str(other)})
    size = other.stat().st_size
    running = await box.running(by_variable)
    wish = wish_of(None, running, {"np": 2}, None, {})
    arguments = tuple(text for word in wish.words for text in word.text)
    order = launch(wish, arguments, id="x", log="")
    await preflight(wish, order, arguments, Dialect(), running, box.host, box.hands, busy=0)
    assert other.stat().st_size >= size > 0


@pytest.mark.parametrize(
    ("patch", "check", "detail"),
    [
        ({"model": "/nonexistent/m.gguf"}, "model", "No such file"),
        ({"draft": "/nonexistent/d.gguf", "spec": "draft-simple"}, "draft", "No such file"),
        ({"model": "/etc/passwd"}, "model", "does not begin with GGUF"),
        ({"model": "/"}, "model", "not a file"),
        ({"device": "Nowhere0"}, "arguments", "Nowhere0"),
        ({"c": 2**31 - 256, "np": 1}, "memory", "KV cache"),
        ({"ctk": "f16", "ctv": "q4_0", "fa": "off"}, "kv-without-flash", "-ctv q4_0"),
        ({"ctk": "q8_0"}, "kv-blocks", "K cache q8_0 has blocks of 32, which do not divide heads of 16"),
        ({"ctv": "q4_0", "fa": "on"}, "kv-blocks", "V cache q4_0"),
    ],
)
async def test_what_would_fail_is_told_before(
    box: Box, patch: dict[str, Value | None], check: str, detail: str
) -> None:
    server = box.start("-np", "1", "-c", "2048")
    checks = await box.propose(server, patch)
    assert failing(checks) == [check], checks[check]
    assert detail in checks[check].detail and checks[check].fix
    assert server.poll() is None


async def test_cache_blocks_as_the_server_judges_them(box: Box) -> None:
    """Each line is a real server's: it ends, or it serves."""
    for flags, serves in (("-ctk q8_0", False), ("-ctk q8_0 -fa on", False), ("-ctk q8_0 -fa off", True)):
        server = box.brood.start(box.program, "-c", "512", *flags.split())
        if serves:
            server.wait_ready()
        else:
            assert server.wait() == 1 and "with block size 32 does not divide" in server.log()
    checks = await box.propose(server, {"np": 2})
    assert "kv-blocks" not in checks and failing(checks) == []
    draft = {"draft": str(box.models / "draft-mid.gguf"), "ctkd": "q8_0", "ctk": None, "fa": "on"}
    assert failing(await box.propose(server, draft)) == ["kv-blocks"]

    short = Header(architecture="x", version=3, weights_bytes=1, heads=4, embedding=64)
    for build, fa, verdict in ((8672, "on", WARN), (8672, "auto", FAIL), (11549, "on", FAIL)):
        dialect = Dialect(build=build, flags={"-fa": Flag(1)})
        found = await seen(box, model=short, dialect=dialect, values={"ctk": "q8_0", "fa": fa})
        assert found["kv-blocks"].verdict is verdict, (build, fa)
    older = Dialect(flags={"-fa": Flag(0)})
    assert "kv-blocks" not in await seen(box, model=short, dialect=older, values={"ctk": "q8_0", "fa": "on"})
    whole = replace(short, key_length=128)
    assert "kv-blocks" not in await seen(box, model=whole, values={"ctk": "q8_0"})


async def test_a_model_that_is_fetched_by_name(box: Box) -> None:
    """The path says where to put it, or which file of the repository."""
    server = box.start()
    for flags in (("-hf", "some/repo"), ("-mu", "http://127.0.0.1:1/m.gguf")):
        running = await box.running(server)
        words = (*running.arguments, *flags, "-m", "not-here-yet.gguf")
        checks = await box.propose(server, words=parse(words))
        assert checks["model"].verdict is UNKNOWN and failing(checks) == [], checks["model"]


async def test_what_is_not_all_on_this_gpu_is_not_refused(box: Box) -> None:
    """-ngl 99 alone would not fit; each of these may."""
    heavy = Header(architecture="x", version=3, weights_bytes=60 << 30, layers=2)
    tight = Room(ram_bytes=100 << 30, gtt_bytes=20 << 30)
    need_ = Need(items=(Item(name="weights", bytes=60 << 30, least=60 << 30),))
    dialect = Dialect(flags={"-ncmoe": Flag(1, env=("LLAMA_ARG_N_CPU_MOE",))})

    async def verdict(backend: str | None = "vulkan", **more: Any) -> Verdict:
        facts = {"model": heavy, "room": tight, "need": need_, "dialect": dialect, **more}
        values = {"ngl": 99, "mmap": False}
        return (await seen(box, backend=backend, values=values, **facts))["memory"].verdict

    assert await verdict() is FAIL
    assert await verdict(arguments=("--n-cpu_moe", "9")) is WARN
    assert await verdict(arguments=("-nkvo",)) is WARN
    assert await verdict(env={"LLAMA_ARG_N_CPU_MOE": "9"}) is WARN
    assert await verdict(env={"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"}, backend="rocm") is WARN
    assert await verdict(backend=None) is WARN, "a build without a GPU takes -ngl too"
    assert await verdict(backend="cuda") is UNKNOWN
    small = Room(ram_bytes=10 << 30, gtt_bytes=10 << 30)
    assert await verdict(room=small, arguments=("--rpc", "box:1")) is WARN
    assert await verdict(room=replace(small, others=True)) is WARN


async def test_a_log_that_is_a_directory(box: Box) -> None:
    checks = await box.propose(None, log=str(box.directory))
    assert failing(checks) == ["log"] and "is a directory" in checks["log"].detail
    assert failing(await box.propose(None, log="/dev/null")) == []


async def test_another_vocabulary(box: Box) -> None:
    """The real server refuses the pair as we do."""
    other = box.directory / "other.gguf"
    raw = bytearray(write_model(other).read_bytes())
    at = raw.index("\u2581amber".encode())
    raw[at + 3 : at + 8] = b"AMBER"
    other.write_bytes(raw)
    server = box.start("-np", "1", "-c", "512")
    checks = await box.propose(server, {"draft": str(other), "spec": "draft-simple"})
    assert failing(checks) == ["draft-vocab"] and "is another text" in checks["draft-vocab"].detail
    good = await box.propose(server, {"draft": str(box.models / "draft-mid.gguf"), "spec": "draft-simple"})
    assert good["draft-vocab"].verdict is OK
    flags = ("-np", "1", "-c", "512", "-md", other, "--spec-type", "draft-simple")
    refused = box.start(*flags)
    assert "vocabs are not compatible" in refused.log()
    assert refused.get_json("/slots")[0]["speculative"] is False


async def test_ports(box: Box) -> None:
    server = box.start()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        checks = await box.propose(server, {"port": port}, url=url)
        assert failing(checks) == ["port"]
        assert str(port) in checks["port"].detail and f"pid {os.getpid()}" in checks["port"].detail
    checks = await box.propose(server, {"port": port}, url=url)
    assert checks["port"].verdict is OK and "is free" in checks["port"].detail
    fresh = await box.propose(None, url=server.url)
    assert failing(fresh) == ["port"] and f"llama-server (pid {server.pid})" in fresh["port"].detail


async def test_a_binary_that_does_not_run(box: Box) -> None:
    server = box.start()
    running = await box.running(server)
    for name, text, detail in (
        ("gone", None, "No such file"),
        (
            "broken",
            "#!/bin/sh\necho 'libhip.so: cannot open' >&2\nexit 127\n",
            "libhip.so",
        ),
        ("denied", "", "Permission denied"),
    ):
        program = box.directory / name / "llama-server"
        if text is not None:
            program.parent.mkdir()
            program.write_text(text)
            program.chmod(0o755 if text else 0o644)
        wish = await box.wish(running, {"np": 2}, binary=(str(program),))
        arguments = ("-m", str(box.models / "tiny.gguf"))
        order = launch(wish, arguments, id="x", log="")
        found = await preflight(wish, order, arguments, Dialect(), running, box.host, box.hands, busy=None)
        checks = {check.id: check for check in found}
        assert failing(checks) == ["binary"] and detail in checks["binary"].detail
        assert checks["busy"].verdict is UNKNOWN


async def test_files_and_places_that_flags_name(box: Box, tmp_path: Path) -> None:
    grammar = tmp_path / "g.gbnf"
    grammar.write_text('root ::= "a"')
    good = parse(("-m", str(box.models / "tiny.gguf"), "--grammar-file", "g.gbnf"))
    bad = parse(("-m", str(box.models / "tiny.gguf"), "--lora", "g.gbnf,none.gguf", "--mmproj", "/x.gguf"))
    checks = await box.propose(None, words=good)
    assert checks["files"].verdict is OK and "1 readable" in checks["files"].detail
    checks = await box.propose(None, words=bad)
    assert checks["files"].verdict is FAIL
    assert "none.gguf" in checks["files"].detail and "--mmproj /x.gguf" in checks["files"].detail
    lost = await box.propose(None, cwd="/nonexistent/place")
    assert lost["cwd"].verdict is FAIL and "/nonexistent/place" in lost["cwd"].detail
    router = await box.propose(None, words=parse(("--models-dir", str(box.models))))
    assert router["model"].verdict is UNKNOWN and router["memory"].verdict is UNKNOWN


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and read anywhere")
async def test_what_is_not_ours_to_read_or_write(box: Box) -> None:
    secret = box.directory / "secret.gguf"
    secret.write_bytes(b"GGUF")
    secret.chmod(0)
    checks = await box.propose(None, words=parse(("-m", str(secret))), log="/usr/halotui/x.log")
    assert {"model", "log"} <= set(failing(checks))


class Scripted:
    """Hands that answer from a table by the first words, and remember what was asked."""

    def __init__(self, answers: Mapping[str, Done | Exception]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []
        self.environments: list[Mapping[str, str] | None] = []

    async def run(
        self, argv: Sequence[str], *, env: Any = None, cwd: Any = None, seconds: float = 10
    ) -> Done:
        self.asked.append(tuple(argv))
        self.environments.append(env)
        for start, answer in self.answers.items():
            if " ".join(argv).startswith(start):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise FileNotFoundError(2, "No such file or directory")

    def port_taken(self, host: str, port: int, *, lingering: bool = False) -> bool:
        return False


async def scripted(box: Box, hands: Scripted, **more: Any) -> dict[str, Check]:
    wish = await box.wish(None, {}, **more)
    arguments = tuple(text for word in wish.words for text in word.text)
    order = Launch(name="x", argv=("x",), env={"HALOTUI_LAUNCH": "x", "PATH": "/bin"}, cwd="/", url=wish.url)
    found = await preflight(
        wish,
        order,
        arguments,
        Dialect(),
        None,
        box.host,
        hands,
        busy=None,  # type: ignore[arg-type]
    )
    assert all("HALOTUI_LAUNCH" not in (env or {}) for env in hands.environments)
    return {check.id: check for check in found}


FINE, NOT_THERE = Done(0, "version: 1 (x)\n", ""), Done(1, "", "")


@pytest.mark.parametrize(
    ("runner", "more", "command", "fix"),
    [
        (
            Runner.PODMAN,
            {"image": "ghcr.io/x/y"},
            "podman image exists ghcr.io/x/y",
            "podman pull ghcr.io/x/y",
        ),
        (Runner.DOCKER, {"image": "y"}, "docker image inspect --format ok y", "docker pull y"),
        (Runner.TOOLBOX, {"container": "c"}, "podman container exists c", "toolbox create c"),
        (Runner.DISTROBOX, {"container": "c"}, "podman container exists c", "distrobox create --name c"),
        (
            Runner.SYSTEMD,
            {"unit": "u.service", "words": ()},
            "systemctl --user show",
            "systemctl --user status",
        ),
    ],
)
async def test_containers_and_units(
    box: Box, runner: Runner, more: dict[str, Any], command: str, fix: str
) -> None:
    """By stand-ins for podman, docker and systemctl: their real command lines, no daemon."""
    here = next(name for name in ("container", "image", "unit") if name in more)
    id_ = "unit" if runner is Runner.SYSTEMD else "image" if "image" in more else here
    missing = Scripted({command: NOT_THERE})
    checks = await scripted(box, missing, runner=runner, **more)
    assert checks[id_].verdict is FAIL and fix in checks[id_].fix
    assert not any("--version" in words for words in missing.asked), "it was run all the same"
    there = Scripted({command: Done(0, "loaded\n", ""), "podman run": FINE, "docker run": FINE, "": FINE})
    assert (await scripted(box, there, runner=runner, **more))[id_].verdict is OK
    absent = await scripted(box, Scripted({}), runner=runner, **more)
    assert absent[id_].verdict is UNKNOWN


async def test_a_binary_that_hangs(box: Box) -> None:
    checks = await scripted(box, Scripted({str(box.program): TimeoutError()}))
    assert checks["binary"].verdict is FAIL and "did not answer" in checks["binary"].detail


async def test_a_disk_that_hangs_is_unknown(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    began = time.monotonic()
    assert await module._aside(lambda: time.sleep(2), "instead", 0.1) == "instead"
    assert time.monotonic() - began < 1
    with pytest.raises(ZeroDivisionError):
        await module._aside(lambda: 1 // 0, 0)
    await asyncio.sleep(0)


def test_what_a_process_holds(box: Box, tmp_path: Path) -> None:
    """fdinfo as amdgpu writes it: a client with several descriptors counts once."""
    process = tmp_path / "proc/7"
    (process / "fdinfo").mkdir(parents=True)
    client = "drm-driver:\tamdgpu\ndrm-client-id:\t{}\ndrm-pdev:\t0000:c5:00.0\n{}"
    old = "drm-memory-vram:\t100 KiB\ndrm-memory-gtt:\t2048 KiB\n"
    new = "drm-resident-gtt:\t3 MiB\ndrm-memory-gtt:\t1 KiB\n"
    for number, (id_, lines) in enumerate([(1, old), (1, old), (2, new)]):
        (process / "fdinfo" / str(number)).write_text(client.format(id_, lines))
    (process / "fdinfo" / "9").write_text("pos:\t0\n")
    (process / "status").write_text("RssAnon:\t  500 kB\nRssFile:\t 900 kB\nVmLck:\t 100 kB\n")
    host = LocalHost(tmp_path / "sys", tmp_path / "proc")
    assert held(host, 7) == ((2 + 3) << 20, 100 << 10)
    assert resident(host, 7) == 600 << 10
    assert held(host, 8) == (0, 0) and resident(host, 8) == 0

    device = tmp_path / "sys/class/drm/card0/device"
    device.mkdir(parents=True)
    for name, value in {
        "vendor": "0x1002",
        "mem_info_gtt_total": 100 << 20,
        "mem_info_gtt_used": 60 << 20,
        "mem_info_vram_total": 1 << 20,
        "mem_info_vram_used": 1 << 20,
    }.items():
        (device / name).write_text(str(value))
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal: 200000 kB\nMemFree: 90000 kB\nMemAvailable: 100000 kB\nBuffers: 0 kB\nCached: 0 kB\n"
    )
    measured = read(host, 7)
    assert measured.gtt_bytes == (100 - 60 + 5) << 20 and measured.vram_bytes == 100 << 10
    assert measured.ram_bytes == (100_000 << 10) + (5 << 20) + (600 << 10)
    # the driver may keep silent: then the estimate counts, but never more than is in use
    assert read(host, 7, expected_bytes=50 << 20).gtt_bytes == ((40 + 50) << 20) - (700 << 10)
    assert read(host, 7, expected_bytes=1 << 40).gtt_bytes == 100 << 20
    assert read(host, None) == Room(
        ram_bytes=100_000 << 10, gtt_bytes=40 << 20, vram_bytes=0, held_bytes=None
    )


async def seen(box: Box, **more: Any) -> dict[str, Check]:
    wish = await box.wish(
        None, {}, **{key: more.pop(key) for key in ("backend", "runner", "env") if key in more}
    )
    found = judged(Seen(**{"wish": wish, "values": {}, "dialect": Dialect(), **more}))
    return {check.id: check for check in found}


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({"logout": Logout(in_manager=True, lingers=False)}, WARN),
        ({"logout": Logout(in_manager=True, lingers=True), "kills": True}, None),
        ({"logout": Logout(in_manager=True)}, None),
        ({"logout": Logout(in_session=True, lingers=True), "kills": True}, WARN),
        ({"logout": Logout(in_session=True), "kills": False}, None),
        ({"logout": Logout(in_session=True)}, None),
    ],
)
async def test_logout(box: Box, more: dict[str, Any], verdict: Verdict | None) -> None:
    check = (await seen(box, **more)).get("logout")
    assert (check.verdict if check else None) is verdict
    if check:
        assert "loginctl enable-linger" in check.fix


async def test_devices(box: Box) -> None:
    there, denied = FileSeen("", "/dev/kfd"), FileSeen("", "/dev/kfd", "Permission denied")
    assert (await seen(box, backend="rocm", devices=(there,)))["devices"].verdict is OK
    check = (await seen(box, backend="rocm", devices=(there, denied)))["devices"]
    assert check.verdict is WARN and "render" in check.fix
    assert (await seen(box, backend="rocm"))["devices"].verdict is UNKNOWN
    assert "devices" not in await seen(box, backend="cpu", devices=(denied,))
    assert "devices" not in await seen(box, backend="rocm", devices=(denied,), values={"ngl": 0})


async def test_parts_projectors_and_old_drafts(box: Box) -> None:
    parts = Header(architecture="llama", version=3, weights_bytes=1, missing=("m-00002-of-00002.gguf",))
    assert "m-00002" in (await seen(box, model=parts))["model"].detail
    projector = Header(architecture="clip", version=3, weights_bytes=1)
    assert (await seen(box, model=projector))["model"].verdict is FAIL

    one, other = (
        Header(architecture="x", version=3, weights_bytes=1, vocabulary=Vocabulary(tokens=count))
        for count in (1000, 2000)
    )
    old = await seen(box, model=one, draft=other)
    assert old["draft-vocab"].verdict is WARN, "older builds translate"
    dialect = Dialect(flags={"--spec-type": Flag(1, ("none", "draft-simple"))})
    assert (await seen(box, model=one, draft=other, dialect=dialect))["draft-vocab"].verdict is FAIL
    assert "draft-vocab" not in await seen(box, model=one, draft=other, values={"spec": "draft-mtp"})


async def test_requests_and_notes(box: Box) -> None:
    server = box.start()
    checks = await box.propose(server, busy=2)
    assert checks["busy"].verdict is WARN and "2 requests run" in checks["busy"].detail
    running = replace(await box.running(server), notes=("its terminal", "a \x1b[31mred\x1b[0m one"))
    told = [
        check
        for check in judged(
            Seen(wish=await box.wish(None, {}), values={}, dialect=Dialect(), running=running, busy=0)
        )
        if check.id == "note"
    ]
    assert [check.verdict for check in told] == [WARN, WARN]
    assert told[1].detail == "a red one"


async def test_the_order_is_fixed(box: Box) -> None:
    server = box.start()
    names = list(await box.propose(server, {"np": 2}, busy=1))
    order = [judge.__name__ for judge in CHECKS]
    assert order.index("_binary") < order.index("_model") < order.index("_port") < order.index("_memory")
    assert names[:4] == ["binary", "flags", "arguments", "model"] and names.index("port") < names.index(
        "busy"
    )
