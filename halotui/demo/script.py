"""llama-server as a script: what its log and its endpoints would say at any moment of a busy day.

Nothing here waits or measures: all of it follows from the time, and is the same on every machine. The
formats are those of a new build.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from halotui.demo.tree import GIB, KV_BYTES_PER_TOKEN, MODEL_BYTES, Load

DIRECTORY = "/srv/llama"  # where the server says that it lives
LOG = "llama-server.log"
MODEL, DRAFT_MODEL = "Qwen3.5-122B-A10B-REAP-20-Q6_K", "Qwen3.5-0.8B-Q8_0"
BUILD, OLD_BUILD = "b11549-9c1f2ab", "b7347-57a6f5c"  # the old one is where -np 1 gave four slots
HELD_BYTES = int(76.6 * GIB)  # both models, the KV cache and compute buffers
SLOTS = 4
CONTEXT = 32768  # tokens a slot
TALK = CONTEXT * 3 // 4  # tokens at which a user starts a new conversation
BATCH = 512

# Seconds that a turn of the server's loop takes: on such boxes 18 t/s without a draft and 40 with one.
PROMPT_TOKEN = 1 / 412
DECODE, NEXT_SLOT, DRAFT = 0.054, 0.022, 0.013
DEPTH = 50_000.0  # tokens of context at which a prompt takes twice as long
DRAFT_MOST = 4
SURE, RIGHT = 0.8, 0.88  # how often the draft model dares another token, and is right


@dataclass(frozen=True)
class User:
    """Somebody who asks, reads and asks again, always in the same slot."""

    prompt: tuple[int, int]  # tokens
    answer: tuple[int, int]
    pause: tuple[float, float]  # seconds
    fresh: bool = False  # starts a new conversation each time


USERS = (
    User((60, 350), (240, 520), (3, 9)),  # chats
    User((400, 1500), (90, 260), (1, 4)),  # an agent with tools
    User((2600, 5200), (180, 320), (24, 40), fresh=True),  # has documents summarised
    User((40, 160), (60, 180), (10, 26)),  # completes code
)


@dataclass
class Task:
    """One request."""

    id: int
    slot: int
    cached: int  # tokens
    prompt: int
    answer: int
    began: float  # seconds
    computed: int = 0
    decoded: int = 0
    drafted: int = 0
    accepted: int = 0
    turns: int = 0
    decode_began: float = 0.0
    said: tuple[float, int] = (0.0, 0)  # when it last told of its speed, and its tokens by then

    @property
    def prompting(self) -> bool:
        return self.computed < self.prompt

    @property
    def held(self) -> int:
        """Tokens in its slot; while the prompt runs, with the batch under way."""
        return self.cached + min(self.prompt, self.computed + BATCH) + self.decoded


class Script:
    """``advance`` turns the server's loop; ``log`` collects its lines, ``answer`` is its HTTP.

    Users come at ``opens`` seconds since its start; drafts cease at ``decays``. ``np_fault``: it was asked
    for one slot and has four, without speculation.
    """

    def __init__(self, opens: float, decays: float = float("inf"), np_fault: bool = False) -> None:
        self.time = 0.0  # seconds since it started
        self.build = OLD_BUILD if np_fault else BUILD
        self.context = SLOTS * CONTEXT if np_fault else CONTEXT  # by slot, or shared
        slots = f"n_slots = {SLOTS}, n_ctx_slot = {self.context}, kv_unified = '{str(np_fault).lower()}'"
        launch = OLD_LAUNCH if np_fault else LAUNCH
        self.log = launch.format(build=self.build, slots=slots).splitlines()
        self._speculative = not np_fault
        self._decays = decays
        self._running: dict[int, Task] = {}  # by slot
        self._last: dict[int, Task] = {}
        self._asks = {slot: opens + 2.5 * slot for slot in range(SLOTS)}  # when its user asks next
        self._dice = [random.Random(f"user {slot}") for slot in range(SLOTS)]
        self._tasks = 0  # so far
        self._counters = dict.fromkeys(COUNTERS, 0.0)
        self._drafts_taken = 0  # those of which something was accepted
        self._positions = [0] * DRAFT_MOST  # accepted tokens, by place in the draft
        self._draft_seconds = 0.0

    @property
    def argv(self) -> tuple[str, ...]:
        words = f"/opt/llama.cpp/rocm/bin/llama-server -m {DIRECTORY}/{MODEL}.gguf -ngl 99 -fa on -lm none"
        words += f" -c {SLOTS * CONTEXT} -b {BATCH} -ub {BATCH} -ctk q8_0 -ctv q8_0"
        words += f" --port 8080 --metrics --log-file {LOG}"
        if self._speculative:
            words += f" -lv 4 -np {SLOTS} -md {DIRECTORY}/{DRAFT_MODEL}.gguf --spec-type draft-simple"
            words += f" --spec-draft-n-max {DRAFT_MOST} --spec-draft-p-min 0.6"
        else:
            words += " -np 1"
        return tuple(words.split())

    @property
    def load(self) -> Load:
        """What the chip feels of it. Its memory was taken once and for all when it started."""
        prompting = sum(task.prompting for task in self._running.values())
        tokens = (HELD_BYTES - MODEL_BYTES) // KV_BYTES_PER_TOKEN
        return Load(prefilling=prompting, decoding=len(self._running) - prompting, tokens=tokens)

    # The loop.

    def advance(self, time: float) -> None:
        """Turn the loop up to ``time``; what is under way then is not done yet."""
        while (then := self.time + self._turn_seconds()) <= time:
            self.time = then
            if self._running:
                self._turn()
            for slot in range(SLOTS):
                if slot not in self._running and self._asks[slot] <= then:
                    self._launch(slot)

    @property
    def _drafts(self) -> bool:
        return self._speculative and self.time < self._decays

    def _turn_seconds(self) -> float:
        if not self._running:
            return max(0.0, min(self._asks.values()) - self.time)
        decoding = sum(not task.prompting for task in self._running.values())
        seconds = sum(
            tokens * PROMPT_TOKEN * (1 + (task.cached + task.computed) / DEPTH)
            for task, tokens in self._batch()
        )
        if decoding:
            seconds += DECODE + NEXT_SLOT * (decoding - 1) + (DRAFT if self._drafts else 0)
        return seconds

    def _batch(self) -> list[tuple[Task, int]]:
        """Whose prompts the next batch holds, and how much of them."""
        parts, room = [], BATCH
        for _, task in sorted(self._running.items()):
            tokens = min(room, task.prompt - task.computed)
            if tokens:
                parts.append((task, tokens))
                room -= tokens
        return parts

    def _turn(self) -> None:
        decoding = [task for _, task in sorted(self._running.items()) if not task.prompting]
        for task, tokens in self._batch():
            self._prefill(task, tokens)
        for task in decoding:
            self._decode(task)
        self._count(n_decode_total=1)

    def _launch(self, slot: int) -> None:
        user, dice, before = USERS[slot], self._dice[slot], self._last.get(slot)
        kept = before.held if before is not None and not user.fresh and before.held < TALK else 0
        prompt, answer = dice.randint(*user.prompt), dice.randint(*user.answer)
        task = self._running[slot] = Task(self._tasks, slot, kept, prompt, answer, self.time)
        self._tasks += 1
        similar = f"LCP similarity, f_sim_best = {kept / (kept + prompt):.3f} (> 0.100 thold), f_keep = 1.000"
        self._line("get_availabl", slot, -1, f"selected slot by {similar if kept else 'LRU, t_last = -1'}")
        self._line("launch_slot_", slot, task.id, "processing task, is_child = 0")

    def _prefill(self, task: Task, tokens: int) -> None:
        task.computed += tokens
        spent = self.time - task.began
        if not task.prompting:  # the first token of the answer comes with it
            task.decoded, task.decode_began, task.said = 1, self.time, (self.time, 1)
            self._count(prompt_tokens_total=task.prompt, prompt_seconds_total=spent)
        elif spent > 3:
            done, whole = task.cached + task.computed, task.cached + task.prompt
            self._say(
                task,
                f"prompt processing, n_tokens = {done:6d}, progress = {done / whole:.2f}, "
                f"t = {spent:6.2f} s / {task.computed / spent:.2f} tokens per second",
            )

    def _decode(self, task: Task) -> None:
        drafted, accepted = self._draft(task)
        task.drafted, task.accepted = task.drafted + drafted, task.accepted + accepted
        if drafted:
            self._count(spec_decode_num_drafts_total=1)
            self._drafts_taken += accepted > 0
            self._draft_seconds += DRAFT
            for place in range(accepted):
                self._positions[place] += 1
        task.decoded = min(task.answer, task.decoded + accepted + 1)
        task.turns += 1
        then, tokens = task.said
        if task.decoded >= 100 and self.time - then >= 3:
            task.said = self.time, task.decoded
            speed = (task.decoded - 1) / (self.time - task.decode_began)
            lately = (task.decoded - tokens) / (self.time - then)
            self._say(task, f"n_gen = {task.decoded:6d}, tg = {speed:6.2f} t/s, tg_3s = {lately:6.2f} t/s")
        if task.decoded >= task.answer:
            self._release(task)

    def _draft(self, task: Task) -> tuple[int, int]:
        """Tokens drafted and accepted in this turn; with the fault hardly any, and those all good."""
        if not self._drafts:
            return (1, 1) if self._speculative and task.turns == 0 else (0, 0)
        dice = self._dice[task.slot]
        drafted = next((n for n in range(DRAFT_MOST) if dice.random() > SURE), DRAFT_MOST)
        return drafted, next((n for n in range(drafted) if dice.random() > RIGHT), drafted)

    def _release(self, task: Task) -> None:
        prompted, decoded = task.decode_began - task.began, self.time - task.decode_began
        for name, seconds, tokens, steps in (
            ("prompt eval", prompted, task.prompt, task.prompt),
            ("       eval", decoded, task.decoded, task.decoded - 1),
        ):
            self._say(
                task,
                f"{name} time = {1000 * seconds:10.2f} ms / {tokens:5d} tokens "
                f"({1000 * seconds / steps:8.2f} ms per token, {steps / seconds:8.2f} tokens per second)",
            )
        whole = 1000 * (prompted + decoded)
        self._say(task, f"      total time = {whole:10.2f} ms / {task.prompt + task.decoded:5d} tokens")
        self._say(task, f"   graphs reused = {task.turns:10d}")
        if task.drafted:
            self._say(
                task,
                f"draft acceptance = {task.accepted / task.drafted:.5f} ({task.accepted:5d} accepted / "
                f"{task.drafted:5d} generated), mean len = {task.decoded / task.turns:5.2f}",
            )
            self._tell_drafts(task)
        stop = f"stop processing: n_tokens = {task.held - 1}, truncated = 0"
        self._line("     release", task.slot, task.id, stop)
        self._count(
            prompt_tokens_cached_total=task.cached,
            tokens_predicted_total=task.decoded,
            tokens_predicted_seconds_total=decoded,
            spec_decode_num_draft_tokens_total=task.drafted,
            spec_decode_num_accepted_tokens_total=task.accepted,
        )
        self._last[task.slot] = self._running.pop(task.slot)
        self._asks[task.slot] = self.time + self._dice[task.slot].uniform(*USERS[task.slot].pause)

    def _tell_drafts(self, task: Task) -> None:
        """The sums since the start, as -lv 4 adds them."""
        told = {name: self._counters[name] for name in COUNTERS if name.startswith("spec_")}
        drafts = told["spec_decode_num_drafts_total"]
        drafted = told["spec_decode_num_draft_tokens_total"] + task.drafted
        accepted = told["spec_decode_num_accepted_tokens_total"] + task.accepted
        rates = ", ".join(f"{count / drafts:.3f}" for count in self._positions)
        self._write(
            f"spec common_specu: statistics     draft-simple: #calls(b,g,a) = {task.id + 1:4d} {drafts:6.0f} "
            f"{drafts:6.0f}, #gen drafts = {drafts:6.0f}, #acc drafts = {self._drafts_taken:5d}, "
            f"#gen tokens = {drafted:6.0f}, #acc tokens = {accepted:5.0f}, "
            f"#mean acc len = {1 + accepted / drafts:.2f}, #acc rate/pos = ({rates}), "
            f"dur(b,g,a) = 0.001, {1000 * self._draft_seconds:.3f}, 0.031 ms"
        )

    # What is told.

    def _count(self, **more: float) -> None:
        for name, value in more.items():
            self._counters[name] += value

    def _say(self, task: Task, text: str) -> None:
        self._line("print_timing", task.slot, task.id, text)

    def _line(self, function: str, slot: int, task: int, text: str) -> None:
        self._write(f"slot {function}: id {slot:2d} | task {task} | {text}")

    def _write(self, text: str) -> None:
        micro = round(self.time * 1e6)
        minutes, seconds = divmod(micro // 1_000_000, 60)
        stamp = f"{minutes}.{seconds:02}.{micro // 1000 % 1000:03}.{micro % 1000:03}"
        self.log.append(f"{stamp} I {text}")

    def answer(self, path: str) -> str:
        """The body of ``GET path``."""
        if path == "/metrics":
            return self._metrics()
        if path == "/slots":
            return json.dumps([self._slot(slot) for slot in range(SLOTS)])
        if path == "/v1/models":
            return json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "meta": META}]})
        return json.dumps(self._props() if path == "/props" else {"status": "ok"})

    def _slot(self, slot: int) -> dict[str, object]:
        running = slot in self._running
        task = self._running.get(slot) or self._last.get(slot)
        said: dict[str, object] = {"id": slot, "n_ctx": self.context, "speculative": self._speculative}
        said["is_processing"] = running
        if task is None:
            return said
        decoded = task.decoded if running else 0
        ahead = {"has_next_token": running, "n_remain": task.answer - decoded, "n_decoded": decoded}
        return said | {
            "id_task": task.id,
            "n_prompt_tokens": task.held,
            "n_prompt_tokens_processed": task.computed,
            "n_prompt_tokens_cache": task.cached,
            "params": {
                "temperature": 0.7,
                "n_predict": task.answer,
                "stream": True,
                "speculative.types": "none,draft-simple" if self._speculative else "none",
            },
            "next_token": [ahead],
        }

    def _props(self) -> dict[str, object]:
        return {
            "default_generation_settings": {"n_ctx": self.context},
            "total_slots": SLOTS,
            "model_alias": MODEL,
            "model_path": f"{DIRECTORY}/{MODEL}.gguf",
            "modalities": {"vision": False, "audio": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "endpoint_metrics": True,
            "build_info": self.build,
            "is_sleeping": False,
        }

    def _metrics(self) -> str:
        gauges = {"requests_processing": len(self._running), "requests_deferred": 0}
        told = "".join(
            f"# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value:g}\n"
            for kind, values in (("counter", self._counters), ("gauge", gauges))
            for name, value in values.items()
        )
        position = "llamacpp:spec_decode_num_accepted_tokens_per_pos_total"
        places = (
            f'{position}{{position="{n}"}} {count}\n' for n, count in enumerate(self._positions) if count
        )
        return told + "".join(places)


COUNTERS = (
    "prompt_tokens_total",
    "prompt_tokens_cached_total",
    "prompt_seconds_total",
    "tokens_predicted_total",
    "tokens_predicted_seconds_total",
    "n_decode_total",
    "spec_decode_num_draft_tokens_total",
    "spec_decode_num_accepted_tokens_total",
    "spec_decode_num_drafts_total",
)
META = {
    "n_ctx_train": 262144,
    "n_params": 98_213_445_632,
    "size": 63_995_000_000,
    "ftype": "Q6_K",
}
LAUNCH = f"""\
0.00.000.318 I srv          init: initializing ...
0.00.003.049 I srv          init: build_info: {{build}}
0.00.003.061 I cmn  common_param: common_params_print_info: verbosity = 4 (adjust with the `-lv N` CLI arg)
0.00.003.070 I cmn  common_param:   - ROCm0   : AMD Radeon 8060S Graphics (122880 MiB, 122411 MiB free)
0.00.003.092 I cmn  common_param: system_info: n_threads = 16 (n_threads_batch = 16) / 32 | ROCm : NO_VMM = 1
0.00.004.103 I srv          init: loading model
0.00.004.186 I srv    load_model: loading model '{DIRECTORY}/{MODEL}.gguf'
0.00.912.407 I load_tensors: offloaded 49/49 layers to GPU
0.00.912.419 I load_tensors:        ROCm0 model buffer size = 60512.40 MiB
0.00.912.425 I load_tensors:    ROCm_Host model buffer size =   518.00 MiB
0.36.080.117 I llama_context: constructing llama_context
0.36.080.125 I llama_context: n_ctx                 = {SLOTS * CONTEXT}
0.36.080.128 I llama_context: n_batch               = {BATCH}
0.36.080.130 I llama_context: n_ubatch              = {BATCH}
0.36.080.133 I llama_context: flash_attn            = enabled
0.36.080.136 I llama_context: kv_unified            = false
0.36.402.551 I llama_kv_cache:      ROCm0 KV buffer size = 13056.00 MiB
0.36.402.560 I llama_kv_cache: size = 13056.00 MiB ( {CONTEXT} cells,  48 layers,  {SLOTS}/{SLOTS} seqs), \
K (q8_0): 6528.00 MiB, V (q8_0): 6528.00 MiB
0.36.431.206 I sched_reserve:      ROCm0 compute buffer size =   402.19 MiB
0.36.431.212 I sched_reserve:  ROCm_Host compute buffer size =    70.02 MiB
0.36.431.219 I sched_reserve: graph: nodes = 3318, splits = 2, input objects = 5, input tensors = 9
0.38.712.654 I common_speculative_init_result: loading draft model '{DIRECTORY}/{DRAFT_MODEL}.gguf'
0.38.990.310 I load_tensors: offloaded 25/25 layers to GPU
0.38.990.315 I load_tensors:        ROCm0 model buffer size =   774.20 MiB
0.39.102.700 I llama_context: constructing llama_context
0.39.102.710 I llama_context: n_ctx                 = {SLOTS * CONTEXT}
0.39.130.481 I llama_kv_cache:      ROCm0 KV buffer size =  3072.00 MiB
0.39.150.944 I sched_reserve:      ROCm0 compute buffer size =   298.01 MiB
0.39.388.020 I spec common_specu: adding speculative implementation 'draft-simple'
0.39.402.113 I srv    load_model: prompt cache is enabled, size limit: 8192 MiB
0.39.406.863 I srv    load_model: initializing, {{slots}}
0.39.520.167 I srv          init: model loaded
0.39.520.175 I srv          init: listening on http://127.0.0.1:8080
"""
OLD_LAUNCH = f"""\
0.00.000.318 I srv          init: initializing ...
0.00.003.049 I srv          init: build_info: {{build}}
0.00.004.103 I srv          init: loading model
0.00.004.186 I srv    load_model: loading model '{DIRECTORY}/{MODEL}.gguf'
0.39.406.863 I srv    load_model: initializing, {{slots}}
0.39.520.167 I srv          init: model loaded
0.39.520.175 I srv          init: listening on http://127.0.0.1:8080
"""
