"""What ``/v1/models`` says of a model, and ``/models`` of those that a router serves."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta, Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from halotui.collectors.llama_answers import Count, HttpKind, HttpProblem, decoded, known
from halotui.collectors.llama_process import launch_facts
from halotui.hosts import Process
from halotui.model import ModelMeta, ModelState, ServerProcess
from halotui.safe import clean

MODELS = 1024  # of one answer
LONGEST = 200  # characters of a name


class Offered(Struct, frozen=True, kw_only=True):
    """A model that a router offers. ``child``: what the command line of its server tells, when it has one."""

    id: str
    state: ModelState
    reason: str | None = None
    context_tokens: int | None = None
    child: ServerProcess | None = None


class _Meta(Struct):
    n_ctx: Count | None = None
    n_ctx_train: Count | None = None
    n_params: Count | None = None
    size: Count | None = None
    ftype: str | None = None


class _Status(Struct):
    value: str
    args: list[str] = []
    failed: bool = False
    exit_code: Count | None = None


class _Model(Struct):
    id: str
    status: _Status | None = None
    meta: _Meta | None = None


class _Models(Struct):
    data: Annotated[list[_Model], Meta(max_length=MODELS)]


_MODELS = Decoder(_Models)
_RUNNING = (ModelState.LOADING, ModelState.LOADED, ModelState.SLEEPING)


def child_url(router: str, model: str) -> str:
    """What a model of a router is known by, whichever port it has this time."""
    return f"{router}?model={quote(model)}"


def parse_meta(body: bytes) -> ModelMeta:
    """``GET /v1/models`` of a server with one model. Raises HttpProblem (failed)."""
    models = decoded(_MODELS, body).data
    meta = (models[0].meta if models else None) or _Meta()
    return ModelMeta(
        context_trained_tokens=known(meta.n_ctx_train),
        parameters=known(meta.n_params),
        bytes=known(meta.size),
        type=clean(meta.ftype, LONGEST) if meta.ftype else None,
    )


def parse_offered(body: bytes) -> tuple[Offered, ...]:
    """``GET /models`` of a router. Raises HttpProblem (failed): a server with one model tells no status."""
    models = decoded(_MODELS, body).data
    if any(model.status is None for model in models):
        raise HttpProblem(HttpKind.FAILED, "not a router's list of models")
    return tuple(_offered(model, model.status) for model in models if model.status is not None)


def _offered(model: _Model, status: _Status) -> Offered:
    try:
        state = ModelState(status.value)
    except ValueError:  # "downloaded", and what later builds think of
        state = ModelState.UNLOADED
    failed = status.failed and state is ModelState.UNLOADED
    return Offered(
        id=clean(model.id, LONGEST),
        state=ModelState.FAILED if failed else state,
        reason=f"failed, exit code {status.exit_code or 0}: see the router's log" if failed else None,
        context_tokens=known(model.meta.n_ctx) if model.meta is not None else None,
        child=_child(status.args) if state in _RUNNING else None,
    )


def _child(args: list[str]) -> ServerProcess | None:
    """None until it has a port. Files that it names lie where the router runs: they are not ours."""
    port = dict(pairwise(args)).get("--port", "")
    if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
        return None
    facts = launch_facts(Process(pid=0, name="llama-server", argv=tuple(args), environ={}))
    return replace(facts, log=None, log_path=None)
