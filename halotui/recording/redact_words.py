"""The words of a server beside its log lines: each kept only in the shape of what it should be.

A log told to print prompts can make any of them: a line of a prompt may look like a line of the server's own.
"""

from __future__ import annotations

import re
from functools import lru_cache

from msgspec.structs import replace

from halotui.collectors import environment
from halotui.collectors.log_events import CAUSES, ROWS
from halotui.collectors.log_facts import REFUSED, TRANSLATED
from halotui.collectors.log_tasks import REASONS
from halotui.model import Buffer, Device, Request, ServedModel, ServerFacts

LEFT_OUT_REASON = "…"

_WORD = r"[\w.:+-]{0,60}"  # what stands for a {} of ours: a number, a file, an architecture


def _any_of(words: list[str]) -> str:
    """As a pattern, each ``{}`` a word."""
    return "|".join(re.sub(r"\\\{\d?\\\}", lambda _: _WORD, re.escape(text)) for text in dict.fromkeys(words))


_CAUSE = _any_of([words for *_, words in CAUSES])
_EVENT = re.compile(
    rf"(?:{_any_of([row.words for row in ROWS])})(?:: (?:{_CAUSE}))?(?: \(\d{{1,12}} times\))?"
    r"|\d{1,3} servers share this port, pids [\d, ]{1,80}: a request reaches one of them",
    re.A,
)
_END = re.compile(
    _any_of([words for *_, words in REASONS] + ["the server said so", "the server ended"]), re.A
)
_MODEL_END = re.compile(r"failed, exit code -?\d{1,5}: see the router's log|stopping", re.A)

_BUILD = re.compile(
    r"b?\d{1,9}(?:-(?:[0-9a-f]{4,40}|[a-z]{1,12}))?(?:-dirty)?"
    r"|\d{1,4}\.\d{1,4}(?:\.\d{1,4})?(?:[-.+]?(?:rc|dev|post|alpha|beta)?\d{0,6})?",
    re.A,
)
_PATH = re.compile(r"[\w./+@:~\[\]=-]{1,300}|[\w ./+@:~()-]{1,300}\.gguf", re.A)
_SPEC_TYPE = re.compile(r"(?:none|draft|ngram)[a-z0-9-]{0,20}", re.A)
_MODEL = re.compile(r"[\w./+@:~()\[\]=-]{1,200}", re.A)  # one word
_ADDRESS = re.compile(r"(?:https?://)?(?:[\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\])(?::\d{1,5})?/?", re.A)
_PEER = re.compile(r"(?:[\w.-]{1,253}|\[?[\da-fA-F:.]{2,45}\]?)(?::\d{1,5})?", re.A)
_DEVICE_ID = re.compile(
    r"(?:Vulkan|ROCm|CUDA|HIP|CPU|RPC|SYCL|Metal|MTL|BLAS|OpenCL|CANN|MUSA|Host|IGPU|GPU|RAM|GTT|VRAM|none)"
    r"(?:\d{1,2})?(?:_(?:Mapped|Host|REPACK|AMX|Split|HBM|Private|Shared|Device))?(?:\[[\w.:-]{1,80}\])?",
    re.A,
)
_DEVICE_NAME = re.compile(
    r"(?:AMD|Radeon|NVIDIA|GeForce|Intel|Arc|Apple|Qualcomm|Ryzen|EPYC|Xeon|ARM|CPU|llvmpipe|SwiftShader|Virtio)"
    r"(?:[ (][\w ().,+*@/-]{0,90})?|[\d.]{7,15}:\d{1,5}",
    re.A,
)
_KINDS = frozenset(("model", "kv", "recurrent", "compute", "output", "process"))
_KV_TYPE = re.compile(r"b?f(?:16|32)|i?q\d(?:_[a-z0-9]{1,4}){0,3}|mxfp4|iq4_nl|tq\d_0", re.A)
_MODEL_TYPE = re.compile(  # ftype, as llama.cpp names them
    r"(?:\(guessed\) )?(?:all )?[A-Z]{1,6}\d{1,2}(?:_[A-Z0-9]{1,4}){0,3}"
    r"(?:,? (?:-|some|MoE|Small|Medium|Large|bpw|ternary|F16|[\d.]{1,8})){0,5}",
    re.A,
)
_ATTENTION = frozenset(("on", "off", "auto"))
_ARCHITECTURE = re.compile(
    r"(?:apertus|arcee|arctic|baichuan|bailing|bert|bitnet|bloom|chatglm|codeshell|cogvlm|command|dbrx|deepseek"
    r"|dots|dream|ernie|eurobert|exaone|falcon|gemma|glm|gpt|granite|grok|grovemoe|hunyuan|internlm|jais|jamba"
    r"|jina|kimi|lfm|llada|llama|maincoder|mamba|megrez|mellum|mimo|minicpm|minimax|mistral|mixtral|modern-bert"
    r"|mpt|nemotron|neo-bert|nomic|olmo|openelm|orion|paddleocr|pangu|phi|plamo|plm|pixtral|qwen|refact|rnd|rwkv"
    r"|seed|smallthinker|smollm|solar|stablelm|starcoder|step|t5|talkie|wavtokenizer|xverse)[a-z\d_.-]{0,16}",
    re.A,
)
_LAYERS = re.compile(r"-?\d{1,6}|all|auto", re.A)
_MISMATCH = re.compile(
    r"[A-Z]{3,4} and [A-Z]{3,4} tokenizers|only one of them adds a (?:first|last) token"
    r"|the (?:first|last) token is \d{1,12} and \d{1,12}|[\d,]{1,16} and [\d,]{1,16} tokens"
    rf"|token [\d,]{{1,16}} is another text|{re.escape(REFUSED)}|{re.escape(TRANSLATED)}",
    re.A,
)


def is_ours(text: str) -> bool:
    """Whether an event's text is one of the words of ``collectors.log_events``, and numbers."""
    return _EVENT.fullmatch(text) is not None


def told_build(build: str | None) -> str | None:
    return _shaped(build, _BUILD)


def told_path(path: str | None) -> str | None:
    return _shaped(path, _PATH)


def told_spec_type(kinds: str | None) -> str | None:
    return kinds if kinds and len(kinds) <= 160 and all(map(_SPEC_TYPE.fullmatch, kinds.split(","))) else None


def told_request(request: Request) -> Request:
    if request.reason is None or _END.fullmatch(request.reason):
        return request
    return replace(request, reason=LEFT_OUT_REASON)


def told_model(model: ServedModel) -> ServedModel:
    """Without its name it has no use, and keeps its place."""
    id_ = model.id if _MODEL.fullmatch(model.id) else LEFT_OUT_REASON
    reason = model.reason if model.reason is None or _MODEL_END.fullmatch(model.reason) else LEFT_OUT_REASON
    url = model.url if id_ == model.id else None
    address = _shaped(model.address, _ADDRESS)
    if (id_, reason, url, address) == (model.id, model.reason, model.url, model.address):
        return model
    return replace(model, id=id_, reason=reason, url=url, address=address)


@lru_cache(maxsize=32)
def told_facts(facts: ServerFacts) -> ServerFacts:
    """They hardly change: judged once."""
    told = {
        "devices": tuple(map(_device, filter(_is_device, facts.devices))),
        "buffers": tuple(filter(_is_buffer, facts.buffers)),
        "cache_type_k": _shaped(facts.cache_type_k, _KV_TYPE),
        "cache_type_v": _shaped(facts.cache_type_v, _KV_TYPE),
        "flash_attention": facts.flash_attention if facts.flash_attention in _ATTENTION else None,
        "rpc_peers": tuple(filter(_PEER.fullmatch, facts.rpc_peers)),
        "model_type": _shaped(facts.model_type, _MODEL_TYPE),
        "architecture": _shaped(facts.architecture, _ARCHITECTURE),
        "layers_asked": _shaped(facts.layers_asked, _LAYERS),
        "device_asked": _devices(facts.device_asked),
        "environment": _environment(facts.environment),
        "draft_mismatch": _shaped(facts.draft_mismatch, _MISMATCH),
    }
    changed = {key: value for key, value in told.items() if value != getattr(facts, key)}
    return replace(facts, **changed) if changed else facts


def _is_device(device: Device) -> bool:
    return _DEVICE_ID.fullmatch(device.id) is not None


def _device(device: Device) -> Device:
    name = _shaped(device.name, _DEVICE_NAME)
    return device if name == device.name else replace(device, name=name)


def _devices(asked: str | None) -> str | None:
    return asked if asked and all(map(_DEVICE_ID.fullmatch, asked.split(","))) else None


def _environment(pairs: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if pairs is None else tuple(filter(environment.is_told, pairs))


def _is_buffer(buffer: Buffer) -> bool:
    return buffer.kind in _KINDS and _DEVICE_ID.fullmatch(buffer.device) is not None


def _shaped(text: str | None, shape: re.Pattern[str]) -> str | None:
    return text if text is not None and shape.fullmatch(text) else None
