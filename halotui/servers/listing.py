"""What there is to choose from: servers, profiles, settings; masked. Asks nothing of any server."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from msgspec.structs import replace

from halotui.actions import ActionError, Field, ProfileRow, ServerRow
from halotui.collectors import llama_process
from halotui.hosts import Host
from halotui.hosts.hands import Hands
from halotui.model import ServerProcess
from halotui.safe import clean
from halotui.servers import diff, secret, there, unfinished
from halotui.servers.journal import Journal
from halotui.servers.launch import Runner
from halotui.servers.profile import Profile, as_text, resolve
from halotui.servers.running import Running, inspect
from halotui.servers.settings import BY_NAME, FORM, text_of
from halotui.servers.vocabulary import from_environment, parse
from halotui.servers.wish import wish_of


async def servers(host: Host, hands: Hands, urls: Sequence[str], log_dir: PurePath) -> list[ServerRow]:
    """Every llama-server of this box, and what answers at ``urls``; why not, where it may not be touched."""
    found = {facts.pid: facts for facts in await asyncio.to_thread(_find, host, urls)}
    rows = (_server(host, hands, facts, log_dir) for facts in found.values())
    return list(await asyncio.gather(*rows))


def _find(host: Host, urls: Sequence[str]) -> list[ServerProcess]:
    return [*llama_process.find(host, ()), *(llama_process.find(host, urls) if urls else ())]


async def _server(host: Host, hands: Hands, facts: ServerProcess, log_dir: PurePath) -> ServerRow:
    row = ServerRow(
        url=facts.url,
        pid=facts.pid,
        model=facts.alias or (PurePath(facts.model_path).name if facts.model_path else ""),
        backend=facts.backend or "",
        started_time=facts.started_time,
    )
    try:
        now = await inspect(host, hands, facts.pid, log_dir=log_dir)
    except ActionError as error:
        return replace(row, refusal=error.reason, hint=error.hint)
    return replace(
        row,
        backend=now.facts.backend or "",
        runner=now.runner.value,
        profile=clean(now.profile),
        command=diff.shown((*now.binary, *now.arguments)),
    )


def profiles(
    host: Host, own: Mapping[str, Profile], everything: Mapping[str, Profile], now: Running | None
) -> list[ProfileRow]:
    """In the order of ``everything``; with ``now``, whether each could take its place."""
    return [_profile(host, name, name not in own, everything, now) for name in everything]


def _profile(
    host: Host, name: str, preset: bool, everything: Mapping[str, Profile], now: Running | None
) -> ProfileRow:
    try:
        profile = resolve(name, everything)
    except ActionError as error:
        return ProfileRow(name=clean(name), preset=preset, complete=False, summary="", problem=error.reason)
    problem = ""
    if now is not None:
        try:
            wish_of(profile, now, {}, None, name=name, profiles=everything, **there.login(host))
        except ActionError as error:
            problem = error.reason
    return ProfileRow(
        name=clean(name),
        preset=preset,
        complete=profile.complete,
        summary=clean(profile.description or summary(profile)),
        problem=problem,
        current=now is not None and now.profile == name,
    )


def summary(profile: Profile) -> str:
    """Backend, runner, model, what it sets."""
    runner = profile.runner if profile.runner is not Runner.PLAIN else None
    model = PurePath(profile.model).name
    flags = " ".join(f"{name}={as_text(value)}" for name, value in profile.flags.items())
    return " · ".join(part for part in (profile.backend, runner, profile.unit, model, flags) if part)


def form(now: Running) -> list[Field]:
    """The settings that matter, as they stand on the command line or else in the environment."""
    words = parse(now.arguments)
    said = {name: text_of(value) for name, value in from_environment(now.env).items()} | diff.flag_texts(
        words
    )
    fields = [
        Field(
            name=name,
            label=BY_NAME[name].label,
            help=BY_NAME[name].help,
            value=clean(said.get(name, "")),
            choices=BY_NAME[name].choices or (("on", "off") if BY_NAME[name].kind is bool else ()),
        )
        for name in FORM
    ]
    free = (text for word in words if word.setting is None for text in secret.masked(word.text))
    help_ = "flags that no line above stands for, as on a command line"
    return [*fields, Field(name="extra", label="extra flags", help=help_, value=clean(shlex.join(free)))]


def other_profile(
    rows: Sequence[ProfileRow], everything: Mapping[str, Profile], now: Running, last: Journal | None
) -> str | None:
    """Where to swap to: the other one of the last change, else the first of another backend."""
    usable = [row.name for row in rows if not row.problem and not row.current]
    if last is not None:
        for name in unfinished.profiles(last.plan):
            if name in usable:
                return name
    for name in usable:
        backend = resolve(name, everything).backend
        if backend and backend != now.facts.backend:
            return name
    return None
