"""The demo's llama-bench: llama-bench's flags and formats, and real measurements by the server of the wheel.

Each test has a server of its own in this process, with a context as large as the test needs, and takes its
times from the server's ``timings``: a prefill is a prompt, a decode what is generated after one token, or
after so many as the depth says. The backend is the name of its directory; its build says that it is the
demo's. One thread unless told, so that a core is left for who watches.

Within a box it tells the sensors what it would hold, and ends with the box. Standard library and xllamacpp.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from halotui.demo import at_work, flags
from halotui.demo.bench_flags import BadArgument, Said, parse, usage
from halotui.demo.bench_formats import FORMATS, Format, record
from halotui.demo.life import belong_to
from halotui.demo.server import PR_SET_NAME, parameters
from halotui.demo.tree import KV_BYTES_PER_TOKEN

BACKENDS = {"vulkan": "Vulkan", "rocm": "ROCm"}
GPU = "halotui demo: the CPU in the place of a Radeon 8060S"
SPARE_TOKENS = 2  # of a context: the one before what is generated, and one that is sampled and not used
WORDS = (260, 340)  # tokens that any of the demo's models has
LOAD_SECONDS = 1.0  # that weights take to come into memory, for the sensors
SETTLE_SECONDS = 0.15  # that a context takes, for the sensors: they look every 0.05 s
STEPS = 10
CACHE_BITS = {"q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5}  # else 16
HEADS = 64
COMPUTE_BYTES = 80 << 20


class Failed(Exception):
    """What it says on stderr."""


def build() -> tuple[int, str]:
    """Number and commit."""
    try:
        return int(version("xllamacpp").rpartition(".")[2]), "demo"
    except (PackageNotFoundError, ValueError):
        return 0, "demo"


class Machine:
    """The box, as far as a bench has to do with it; outside of any it tells nobody."""

    def __init__(self, box: Path | None, backend: str) -> None:
        self._box = box
        self._backend = backend
        self._loaded = ""  # which model
        self._held = 0

    def load(self, model: str) -> None:
        """Its weights come into memory, once."""
        if self._box is None or model == self._loaded:
            return
        weights = Path(model).stat().st_size
        for step in range(1, STEPS + 1):
            self._held = weights * step // STEPS
            self.phase(at_work.REST)
            time.sleep(LOAD_SECONDS / STEPS)
        self._loaded = model

    def hold(self, model: str, settings: dict[str, Any], context: int) -> None:
        """A context's buffers, beside the weights. Without flash attention a matrix of scores is one."""
        if self._box is None:
            return
        bits = [CACHE_BITS.get(settings[name], 16) for name in ("type_k", "type_v")]
        cache = int(context * KV_BYTES_PER_TOKEN * sum(bits) / 32)
        scores = 0 if settings["flash_attn"] else min(settings["n_ubatch"], context) * context * HEADS * 4
        self._held = Path(model).stat().st_size + cache + scores + COMPUTE_BYTES
        self.phase(at_work.REST)
        time.sleep(SETTLE_SECONDS)

    def release(self) -> None:
        """Everything, seen by the sensors before we are gone: who comes next begins with a free GPU."""
        if self._box is not None:
            at_work.clear(self._box)
            time.sleep(SETTLE_SECONDS)

    def phase(self, phase: str) -> None:
        if self._box is not None:
            at_work.leave(self._box, self._backend, self._held, phase)


class Case:
    """One test on a server of its own. Raises Failed."""

    def __init__(self, wheel: Any, settings: dict[str, Any], machine: Machine) -> None:
        self._settings = settings
        self._machine = machine
        self.prompt, self.generation = settings["n_prompt"], settings["n_gen"]
        self.depth = settings["n_depth"]
        model = settings["model_filename"]
        context = self.prompt + self.generation + self.depth
        flash = ("off", "on", "auto")[settings["flash_attn"]]
        said = flags.parse(
            (
                *("-m", model, "-c", str(context + SPARE_TOKENS), "-np", "1", "-cram", "0", "--port", "0"),
                *("-b", str(settings["n_batch"]), "-ub", str(settings["n_ubatch"]), "-fa", flash),
                *("-ctk", settings["type_k"], "-ctv", settings["type_v"], "-lm", "none", "-lv", "0"),
                *("-t", str(settings["n_threads"]), "-tb", str(settings["n_threads"])),
                *("-ngl", str(settings["n_gpu_layers"]), "--no-slots"),
            ),
            {},
        )
        if not Path(model).is_file():
            raise Failed(f"error: failed to load model '{model}'")
        machine.load(model)
        try:
            self._server = wheel.Server(parameters(wheel, said))
        except RuntimeError:
            raise Failed(f"error: failed to create context with model '{model}'") from None
        machine.hold(model, settings, context)
        self._words = random.Random(context)
        self._before = self._text(self.depth)
        self._cached = False

    def model(self) -> dict[str, Any]:
        """What llama.cpp says of it."""
        import urllib.request

        with urllib.request.urlopen(f"{self._server.listening_address}/v1/models", timeout=30) as answer:
            meta = json.loads(answer.read())["data"][0]["meta"]
        return {
            "model_type": f"llama ?B {meta['ftype']}",  # as all the demo's models are
            "model_size": meta["size"],
            "model_n_params": meta["n_params"],
        }

    def warm_prompt(self) -> None:
        self._ask(self._text(self.prompt), 1)

    def warm_generation(self) -> None:
        self._ask(self._text(1), 1)

    def fill(self) -> bool:
        """The tokens before; whether they were there already."""
        if self._cached:
            return True
        self._machine.phase(at_work.PREFILL)
        self._ask(self._before, 1)
        self._cached = True
        return False

    def run(self) -> int:
        """Nanoseconds of one repetition."""
        self._machine.phase(at_work.PREFILL if self.prompt else at_work.DECODE)
        prompt = self._before + self._text(self.prompt, opening=not self.depth)
        timings = self._ask(prompt or self._text(1), self.generation + 1)
        if timings["prompt_n"] < self.prompt or timings["predicted_n"] < self.generation:
            raise Failed("error: failed to run prompt")
        milliseconds = (timings["prompt_ms"] if self.prompt else 0.0) + (
            timings["predicted_ms"] if self.generation else 0.0
        )
        self._machine.phase(at_work.REST)
        return round(milliseconds * 1e6)

    def _text(self, tokens: int, *, opening: bool = True) -> list[int]:
        text = [self._words.randrange(*WORDS) for _ in range(tokens)]
        return [1, *text[1:]] if opening and tokens else text

    def _ask(self, prompt: list[int], answer: int) -> dict[str, Any]:
        body = {
            "prompt": prompt,
            "n_predict": answer,
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": bool(self.depth),
            "stream": False,
        }
        reply = self._server.handle_completions(body)
        if "timings" not in reply:
            raise Failed(f"error: {reply.get('message') or reply.get('error') or 'failed to decode'}")
        timings: dict[str, Any] = reply["timings"]
        return timings


def measure(said: Said, wheel: Any, backend: str, machine: Machine) -> None:
    """All tests, each printed as it ends. Raises Failed."""
    number, commit = build()
    known = {
        "build_commit": commit,
        "build_number": number,
        "cpu_info": _cpu(),
        "gpu_info": GPU,
        "backends": BACKENDS.get(backend, "CPU"),
    }
    wanted = ((said.output, sys.stdout), (said.output_err, sys.stderr))
    outputs: list[tuple[Format, Any]] = [
        (FORMATS[name](said, backend in BACKENDS), stream) for name, stream in wanted if name in FORMATS
    ]
    for form, stream in outputs:
        print(form.head(), end="", file=stream, flush=True)
    tests = list(said.tests())
    for index, settings in enumerate(tests, 1):

        def progress(words: str, place: str = f"benchmark {index}/{len(tests)}") -> None:
            if said.progress:
                print(f"llama-bench: {place}: {words}", file=sys.stderr, flush=True)

        progress("starting")
        case = Case(wheel, settings, machine)
        samples = _samples(case, said, progress)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        made = record({**known, **settings, **case.model(), "test_time": when}, samples)
        for form, stream in outputs:
            print(form.test(made), end="", file=stream, flush=True)
    for form, stream in outputs:
        print(form.foot(f"{commit} ({number})"), end="", file=stream, flush=True)


def _samples(case: Case, said: Said, progress: Any) -> list[int]:
    if said.delay:
        time.sleep(said.delay)
    if not said.no_warmup and case.prompt:
        progress("warmup prompt run")
        case.warm_prompt()
    if not said.no_warmup and case.generation:
        progress("warmup generation run")
        case.warm_generation()
    samples = []
    for repetition in range(1, said.repetitions + 1):
        place = f"{repetition}/{said.repetitions}"
        if case.depth:
            cached = case.fill()
            progress(f"depth run {place}{' (cached)' if cached else ''}")
        if case.prompt:
            progress(f"prompt run {place}")
        if case.generation:
            progress(f"generation run {place}")
        samples.append(case.run())
    return samples


def _cpu() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return ""


def main(argv: Sequence[str] | None = None, *, backend: str = "", box: str = "", directory: str = "") -> int:
    """``box`` is the one it belongs to, as in ``life``, and ``directory`` that box's."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_DFL)  # it has nothing to put in order
    ctypes.CDLL(None).prctl(PR_SET_NAME, at_work.NAME.encode())
    try:
        said = parse(sys.argv[1:] if argv is None else argv)
    except BadArgument as error:
        print(error, file=sys.stderr)
        print(usage(sys.argv[0]), end="")
        return 1
    if said.end:
        number, commit = build()
        told = {
            "help": usage(sys.argv[0]),
            "version": f"version: 0.6.0-dev (build {number}, commit {commit})\n",
            "list_devices": f"Available devices:\n  {BACKENDS.get(backend, 'CPU')}0: {GPU}\n",
        }
        print(told[said.end], end="", file=sys.stderr if said.end == "version" else sys.stdout)
        return 0
    try:
        import xllamacpp
    except ImportError:
        print("the demo's llama-bench is not installed: pip install halotui[demo]", file=sys.stderr)
        return 2
    if box and not belong_to(box):
        print("the demo box has gone", file=sys.stderr)
        return 1
    machine = Machine(Path(directory) if box else None, backend)
    code = 0
    try:
        measure(said, xllamacpp, backend, machine)
    except BrokenPipeError:  # nobody reads on
        code = 1
    except (Failed, OSError) as error:
        print(f"llama_bench: {error}", file=sys.stderr, flush=True)
        code = 1
    machine.release()
    os._exit(code)  # the wheel's threads have nothing to put in order either


if __name__ == "__main__":
    sys.exit(main())
