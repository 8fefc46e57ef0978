"""Speculation that costs more than it gives: beside this box's speed without it, else by its own figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from halotui.baselines.comparing import NOISE, Change, compare
from halotui.baselines.setups import setup_of
from halotui.format import percent, rate
from halotui.history import Sample
from halotui.ledger import Baseline, Key, Metric
from halotui.model import Server
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View
from halotui.rules.curves import as_usual
from halotui.rules.recent import Group, groups, samples_of, words_of_p

_ID = "spec-harmful"
_LOW = 0.5  # of the drafted tokens: a lower acceptance is reason enough
_DRAFTS = 0.05  # of the tokens: who drafts less loses nothing by it


class _Loss(Struct, frozen=True):
    ratio: float  # decode speed ÷ that without speculation
    told: str
    streams: str = "1"
    at_least: bool = False  # it may be slower still


def _spec_harmful(view: View) -> Iterator[Symptom | Undefined]:
    for server in view.running:
        if server.speculative and (outcome := _judge(view, server)):
            yield outcome


def _judge(view: View, server: Server) -> Symptom | Undefined | None:
    """Between two requests that end all is as it was. What was measured outweighs what is estimated."""
    last, fires = view.last.get((_ID, server.url)), view.firing(_ID, server.url)
    if not server.requests:
        if last is None:
            return _unknown(view, server)
        return last if samples_of(view, server) else None
    recent, samples = int(view.levels["recent"]), samples_of(view, server)
    found = groups(view, server, Metric.DECODE, samples, recent)
    known = [(group, plain) for group in found if (plain := _plain(view, group.key)) is not None]
    losses = [loss for pair in known if (loss := _measured(view, *pair, fires)) is not None]
    if not any(group.key.streams == "1" for group, _ in known):
        losses += _estimated(view, server, samples, fires)
    if not losses:
        return None if known else _unknown(view, server)
    return _symptom(server, samples[:recent], min(losses, key=lambda loss: loss.ratio))


def _unknown(view: View, server: Server) -> Undefined | None:
    """Whether there is nothing yet to hold it against. Asked in every frame."""
    if server.draft_gain_ratio is not None or (setup := setup_of(server)) is None:
        return None
    plain, least = replace(setup, speculation=""), view.levels["samples"]
    for one in view.baselines.alike(setup.model, Metric.DECODE):
        if len(one.observations) >= least and one.key.setup == plain:
            return None
    return Undefined(server.url)


def _plain(view: View, key: Key) -> Baseline | None:
    """The same without speculation."""
    plain = view.baselines.of(replace(key, setup=replace(key.setup, speculation="")))
    return plain if plain is not None and len(plain.observations) >= view.levels["samples"] else None


def _measured(view: View, group: Group, plain: Baseline, fires: bool) -> _Loss | None:
    level = view.levels["clears" if fires else "fires"]
    covered = [one.conditions.draft_coverage_ratio for one in group.measured]
    drafts = median(ratio or 0.0 for ratio in covered) >= _DRAFTS
    if median(group.values) >= level * plain.median or not drafts:
        return None
    kin = view.baselines.alike(plain.key.setup.model, Metric.DECODE)
    change = compare(as_usual(group, plain, kin), plain.values)
    if change is None or change.ratio >= level or (change.word == NOISE and not fires):
        return None
    return _Loss(change.ratio, _beside(group, plain, change), group.key.streams)


def _beside(group: Group, plain: Baseline, change: Change) -> str:
    streams = group.key.streams
    return (
        f"decode {rate(median(group.values))} t/s with speculation, {rate(plain.median)} t/s without "
        f"({len(plain.observations)} requests), p {words_of_p(change.p)}; at {group.key.depth} tokens, "
        f"{streams} request{'' if streams == '1' else 's'} at a time"
    )


def _estimated(view: View, server: Server, samples: Sequence[Sample], fires: bool) -> Iterator[_Loss]:
    gain, error = server.draft_gain_ratio, server.draft_gain_error_ratio
    if gain is None or error is None:
        return
    clearly = gain < view.levels["clears"] if fires else gain + error < view.levels["fires"]
    if clearly and sum(bool(one.request.draft_tokens) for one in samples) >= view.levels["recent"]:
        told = f"{percent(gain)} ± {percent(error)} of the speed without speculation, estimated"
        yield _Loss(gain + error, told, at_least=True)


def _symptom(server: Server, samples: Sequence[Sample], loss: _Loss) -> Symptom:
    requests = [one.request for one in samples if one.request.draft_tokens is not None]
    drafted = sum(request.draft_tokens or 0 for request in requests)
    generated = sum(request.generation_tokens or 0 for request in requests)
    acceptance = (
        sum(request.draft_accepted_tokens or 0 for request in requests) / drafted if drafted else None
    )
    evidence = loss.told
    if acceptance is not None and generated:
        coverage = percent(drafted / generated)
        evidence += f"; {percent(acceptance)} of the drafts accepted, {coverage} of tokens drafted"
    low = acceptance is not None and acceptance < _LOW
    return Symptom(
        subject=server.url,
        title=f"Speculation makes decoding {_by(loss)}slower",
        evidence=evidence,
        why=_WHY_LOW if low else _WHY_STREAMS if loss.streams != "1" else None,
    )


def _by(loss: _Loss) -> str:
    """Of an estimate no more than is sure."""
    if loss.ratio > 0.995:
        return ""
    return f"{'at least ' if loss.at_least else ''}{percent(1 - loss.ratio)} "


_WHY_LOW = (
    "Most drafts are rejected: the model checked them in vain, and what drafted them took its time as well."
)
_WHY_STREAMS = (
    "Several requests at once fill each pass already: there is no spare compute left to check drafts with."
)

RULES = (
    Rule(
        id=_ID,
        check=_spec_harmful,
        title="Speculation makes decoding slower",
        window="the last 8 requests of 30 min; an estimate: the last 4 that ran alone",
        clears="it is as fast as without, or no request came for 30 min, or the server restarts",
        levels=(
            Level(name="fires", value=0.95, help="share of the speed without speculation", most=1.0),
            Level(name="clears", value=1.0, help="share from which it is over", most=2.0, above="fires"),
            Level(name="recent", value=8, help="requests of late, at least", least=8, most=64),
            Level(name="samples", value=10, help="requests that make a baseline", least=8, most=64),
        ),
        evidence="[{gain} ± {error} of the speed without speculation, estimated]"
        "[decode {now} t/s with speculation, {usual} t/s without ({number} requests), p {p}; "
        "at {depth} tokens, {streams} at a time]"
        "[; {acceptance} of the drafts accepted, {coverage} of tokens drafted]",
        freezes=False,
        proof=Proof.REAL,
        marks=("server.draft_gain_ratio", "server.draft_acceptance_ratio"),
        needs=(
            "server.speculative",
            "server.draft_gain_ratio",
            "server.draft_gain_error_ratio",
            "request.generation_tokens_per_second",
            "request.draft_tokens",
            "request.draft_accepted_tokens",
        ),
        why="The time that drafting and checking take is more than what accepted drafts save.",
        fix="Relaunch without speculation; or try another draft model, shorter drafts, --draft-p-min 0.75: "
        "newer builds draft even what the draft model doubts.",
        reference="https://github.com/ggml-org/llama.cpp/issues/25908",
        patch={"draft": None, "spec": None},
    ),
)
