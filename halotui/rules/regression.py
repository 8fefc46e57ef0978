"""Slower than this box's own: the last requests against the baseline of the same setup and the same bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from msgspec.structs import replace

from halotui.baselines.comparing import Change, compare
from halotui.baselines.setups import setup_of
from halotui.format import digits, percent, rate
from halotui.ledger import Baseline, Key, Metric, Setup
from halotui.model import Server
from halotui.rules import Level, Proof, Rule, Symptom, Undefined, View
from halotui.rules.causes import UNKNOWN, fix_of, rank
from halotui.rules.curves import as_usual, with_usual_drafts
from halotui.rules.falls import before, fall_of
from halotui.rules.recent import Group, groups, samples_of, words_of_p

SUSPICIOUS = 3  # requests in a row
MOST = 0.75  # of the requests of late that have to be slow
_NAMES = {Metric.DECODE: "Decode", Metric.PREFILL: "Prefill"}


def _regressed(id_: str, metric: Metric) -> Callable[[View], Iterator[Symptom | Undefined]]:
    def check(view: View) -> Iterator[Symptom | Undefined]:
        if len(view.baselines):
            for server in view.running:
                if outcome := _judge(view, server, id_, metric):
                    yield outcome

    return check


def _judge(view: View, server: Server, id_: str, metric: Metric) -> Symptom | Undefined | None:
    """Requests that end are the only news: between two of them all is as it was."""
    last, fires = view.last.get((id_, server.url)), view.firing(id_, server.url)
    if not server.requests:
        if last is None:
            return _unheld(view, server, metric)
        return last if samples_of(view, server) else None
    found = groups(view, server, metric, samples_of(view, server), int(view.levels["recent"]))
    known = [(group, usual) for group in found if (usual := _usual(view, group.key, group.since)) is not None]
    slow = [one for pair in known if (one := _slow(view, *pair, fires)) is not None]
    if slow:
        return _symptom(view, server, *min(slow, key=lambda one: one[2].ratio))
    if not fires and (suspicion := _suspicion(view, server, metric)) is not None:
        return suspicion
    if not known:
        return last if fires else _unheld(view, server, metric)
    return None


def _suspicion(view: View, server: Server, metric: Metric) -> Symptom | None:
    """The newest few of a kind are all slow: too few to say so, and no more to be learned from."""
    for group in groups(view, server, metric, samples_of(view, server), SUSPICIOUS):
        usual = _usual(view, group.key, group.since)
        if usual is None:
            continue
        kin = view.baselines.alike(usual.key.setup.model, usual.key.metric)
        if max(as_usual(group, usual, kin)) < view.levels["fires"] * usual.median:
            return Symptom(
                subject=server.url, title=f"{_NAMES[metric]} may be slow", evidence="", doubtful=True
            )
    return None


def _unheld(view: View, server: Server, metric: Metric) -> Undefined | None:
    """Whether there is nothing yet to hold any number of it against. Asked in every frame."""
    setup = setup_of(server)
    if setup is None:
        return None
    least = view.levels["samples"]
    for one in view.baselines.alike(setup.model, metric):
        if len(one.observations) >= least and (one.key.setup == setup or _other_build(one.key.setup, setup)):
            return None
    return Undefined(server.url)


def _usual(view: View, key: Key, since: float) -> Baseline | None:
    """Its own baseline; while that is short, the newest that another build left."""
    return next((one for one in _usuals(view, key, since)), None)


def _usuals(view: View, key: Key, since: float) -> Iterator[Baseline]:
    least = view.levels["samples"]
    if (own := before(view.baselines.of(key), since)) is not None and len(own.observations) >= least:
        yield own
    for other in view.baselines.alike(key.setup.model, key.metric):
        old = before(other, since) if _elsewhere(other.key, key) else None
        if old is not None and len(old.observations) >= least:
            yield old


def _elsewhere(one: Key, key: Key) -> bool:
    """By another build, and nothing else differs."""
    bands = (one.depth, one.streams, one.prompt) == (key.depth, key.streams, key.prompt)
    return bands and _other_build(one.setup, key.setup)


def _other_build(one: Setup, setup: Setup) -> bool:
    return one.build != setup.build and one.flags == setup.flags and replace(one, build=setup.build) == setup


def _slow(view: View, group: Group, usual: Baseline, fires: bool) -> tuple[Group, Baseline, Change] | None:
    """First the plain medians, which cost nothing; then without what depth, streams and prompts explain."""
    level = view.levels["clears" if fires else "fires"]
    if median(group.values) >= level * usual.median:
        return None
    kin = view.baselines.alike(usual.key.setup.model, usual.key.metric)
    values = sorted(as_usual(group, usual, kin))
    change = compare(values, with_usual_drafts(usual))
    if change is None or change.ratio >= level:
        return None
    most = values[int(MOST * (len(values) - 1))]  # where some are as ever, it is the requests, not the box
    noisy = change.p >= view.levels["p"] or change.z > -view.levels["noise"]
    if not fires and (noisy or most >= level * usual.median):
        return None
    return group, usual, change


def _symptom(view: View, server: Server, group: Group, usual: Baseline, change: Change) -> Symptom:
    key, now = group.key, median(group.values)
    name = _NAMES[key.metric]
    build = usual.key.setup.build
    against = "usually" if build == key.setup.build else f"with {build[:20] or 'another build'}"
    slower = percent(1 - now / usual.median)
    kin = view.baselines.alike(key.setup.model, key.metric)
    causes = rank(view, server, fall_of(view, server, group, usual, kin))
    likeliest = causes[0] if causes[0].id != UNKNOWN.id else None
    return Symptom(
        subject=server.url,
        title=f"{name} is {slower} slower than {against if against != 'usually' else 'usual'}",
        evidence=f"{name.lower()} {rate(now)} t/s (median of {len(group.measured)}), "
        f"{against} {rate(usual.median)} ± {digits(usual.spread)} ({len(usual.observations)} requests), "
        f"p {words_of_p(change.p)}; {_where(key)}",
        why=likeliest.text if likeliest is not None else None,
        fix=fix_of(likeliest) if likeliest is not None else None,
        causes=causes,
    )


def _where(key: Key) -> str:
    at_a_time = f"{key.streams} request{'' if key.streams == '1' else 's'} at a time"
    if key.metric is Metric.PREFILL:
        return f"prompts of {key.prompt} tokens after {key.depth} cached, {at_a_time}"
    return f"at {key.depth} tokens, {at_a_time}"


_LEVELS = (
    Level(name="fires", value=0.85, help="share of the usual speed below which it fires", most=1.0),
    Level(name="clears", value=0.92, help="share from which it is over", most=1.0, above="fires"),
    Level(name="recent", value=8, help="requests of late that are compared", least=8, most=64),
    Level(name="samples", value=20, help="requests that make a baseline", least=8, most=64),
    Level(name="p", value=0.01, help="chance that noise alone does it (rank test)", most=0.05),
    Level(name="noise", value=2, help="usual spreads (MAD) that the median must lie below the usual one"),
)
_NEEDS = (
    "server.model",
    "server.build",
    "server.facts",
    "server.uptime_seconds",
    "request.context_tokens",
    "request.prompt_tokens",
    "request.started_time",
    "request.ended_time",
)


def _rule(id_: str, metric: Metric, title: str, field: str, where: str) -> Rule:
    name = metric.value
    return Rule(
        id=id_,
        check=_regressed(id_, metric),
        title=title,
        window="the last 8 requests of one kind, of 30 min, against up to 64 of any day before",
        clears="their median is above 92 % of the usual one, or none came for 30 min, or the server restarts",
        levels=_LEVELS,
        evidence=f"{name} {{now}} t/s (median of {{number}}), {{usually}} {{usual}} ± {{spread}} "
        f"({{number}} requests), p {{p}}; {where}, {{streams}} at a time",
        freezes=True,
        proof=Proof.FRAMES,
        needs=(*_NEEDS, f"request.{field}"),
        marks=(f"server.{field}", f"server.last_{field}"),
        why="Nothing that halotui sees has changed since it was usual: not depth, streams, drafts, clocks, "
        "heat, memory, other processes, build, flags, kernel, firmware.",
        fix="Measure it with the same prompts each time: halotui probe speed. If it is slow there too, "
        "relaunch, then reboot.",
    )


RULES = (
    _rule(
        "tg-regressed",
        Metric.DECODE,
        "Decode is slower than usual on this box",
        "generation_tokens_per_second",
        "at {depth} tokens",
    ),
    _rule(
        "pp-regressed",
        Metric.PREFILL,
        "Prefill is slower than usual on this box",
        "prompt_tokens_per_second",
        "prompts of {prompt} tokens after {depth} cached",
    ),
)
