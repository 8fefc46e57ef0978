"""From an item to the command line of its llama-bench, through the runner of its profile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath

from msgspec import Struct

from halotui.actions import ActionError, Value
from halotui.benching import suite_argv
from halotui.benching.suite_course import Item
from halotui.benching.suite_file import Suite, settings_of
from halotui.hosts import Host
from halotui.hosts.hands import MARK, Hands
from halotui.rules.launch import Deal, bad_pairs
from halotui.safe import clean
from halotui.servers import runners
from halotui.servers.dialect import HELP_SECONDS, Dialect
from halotui.servers.launch import Runner
from halotui.servers.profile import Profile, resolve
from halotui.servers.secret import is_secret
from halotui.servers.vocabulary import parse
from halotui.servers.wish import Wish

BENCH = "llama-bench"
_LOADING = ("mmap", "mlock", "dio", "lm")


class Order(Struct, frozen=True, kw_only=True):
    """A command, ready to be run."""

    command: tuple[str, ...]
    env: dict[str, str]  # all of it
    said: dict[str, str] = {}  # what the profile and the row set of it
    cwd: str
    notes: tuple[str, ...] = ()  # pairs of settings that go badly together

    def __repr__(self) -> str:
        """Without the environment: a traceback may print it."""
        return f"Order({self.command!r})"


class Clerk:
    """Writes the orders of one suite; asks each llama-bench once what it knows.

    ``directory`` is the suite's: what is named relative to it in the file is found from anywhere; on a far
    box it is relative to the home there. ``mark`` is in the environment of all that is ordered, also in a
    container: so it is found again.
    """

    def __init__(
        self,
        suite: Suite,
        directory: Path,
        hands: Hands,
        profiles: Mapping[str, Profile],
        mark: str,
        host: Host,
    ) -> None:
        self.mark = mark
        self._suite = suite
        self._host = host
        self._home = host.user.home
        self._directory = directory.absolute() if host.here else Path(self._home)
        self._hands = hands
        self._profiles = profiles
        self._environ = host.environ
        self._dialects: dict[tuple[str, ...], Dialect] = {}

    def profile(self, item: Item) -> Profile:
        """Resolved; an empty one where the row names none. Raises ActionError."""
        return resolve(item.row.profile, self._profiles) if item.row.profile else Profile()

    def model(self, profile: Profile) -> str:
        """The suite's, else the profile's; empty: neither says."""
        if self._suite.model:
            return self._path(self._suite.model)
        return self._path(profile.model, Path(profile.cwd or self._home)) if profile.model else ""

    async def order(self, item: Item) -> Order:
        """Raises ActionError, Unsayable."""
        assert item.test is not None
        profile = self.profile(item)
        said = profile.env | item.row.env
        marked = {**said, MARK: self.mark}
        env = {**self._environ, **marked}
        wish = self._wish(item, profile, marked)
        cwd = self._path(profile.cwd)
        dialect = await self._dialect(wish, env, cwd)
        model = self.model(profile)
        if not model:
            raise ActionError(
                f"no model: neither the suite nor profile {item.row.profile or '(none)'} names one",
                'add to the suite: model = "/path/model.gguf"',
            )
        arguments = (
            *("-m", model),
            *suite_argv.tests(item.test, dialect),
            *self._settings(item, profile, dialect),
            *item.row.extra_words,
            *suite_argv.how(dialect, repeats=self._suite.repeats, warmup=self._suite.warmup),
        )
        wish = _with(wish, arguments)
        return Order(
            command=(*runners.probe(wish), *arguments),
            env=env,
            said=said,
            cwd=cwd,
            notes=tuple(self._notes(item, profile, model)),
        )

    def _settings(self, item: Item, profile: Profile, dialect: Dialect) -> tuple[str, ...]:
        """The profile's as far as llama-bench knows them; the row's, or it is said which it does not."""
        own = {name: value for name, value in item.settings.items() if name in suite_argv.KNOWN}
        theirs = self._theirs(profile, own)
        return (
            *suite_argv.free(profile.extra_words, dialect),
            *suite_argv.settings(theirs, dialect, strict=False),
            *suite_argv.settings(own, dialect, strict=True),
        )

    def _theirs(self, profile: Profile, own: Mapping[str, Value]) -> dict[str, Value]:
        gone = {*own, *(_LOADING if set(own) & set(_LOADING) else ())}
        return {name: value for name, value in settings_of(profile.flags).items() if name not in gone}

    def _notes(self, item: Item, profile: Profile, model: str) -> list[str]:
        deal = Deal(
            values={**self._theirs(profile, item.settings), **item.settings},
            backend=profile.backend or None,
            model=PurePath(model).name,
            env=profile.env | item.row.env,
        )
        known = ("kv-without-flash", "kv-asymmetric", "cpu-fallback", "blas-off", "slow-load", "uma-vulkan")
        return [f"{pair.title}: {evidence}" for pair, evidence in bad_pairs(deal) if pair.id in known]

    def _wish(self, item: Item, profile: Profile, env: dict[str, str]) -> Wish:
        """Where it runs, and which llama-bench."""
        runner = profile.runner or Runner.PLAIN
        if runner is Runner.SYSTEMD:
            if not item.row.bench:
                raise ActionError(
                    f"profile {item.row.profile} is a systemd unit: which llama-bench is not known",
                    'name it in the row: bench = "/path/llama-bench"',
                )
            runner = Runner.PLAIN
        words = profile.binary_words
        bench = self._bench(item, words, runner)
        return Wish(
            name=item.row.profile,
            runner=runner,
            binary=(*words[:-1], bench),
            image=profile.image,
            container=profile.container,
            backend=profile.backend or None,
            env=env,
            cwd=self._path(profile.cwd),
        )

    def _bench(self, item: Item, words: tuple[str, ...], runner: Runner) -> str:
        """The row's, else the suite's; a bare name lies beside the profile's binary, or in PATH."""
        name = item.row.bench or self._suite.bench
        if "/" in name or name.startswith("~"):
            return self._path(name) if runner is Runner.PLAIN else name
        own = self._at_home(words[-1]) if words and "/" in words[-1] else ""
        beside = PurePath(own).with_name(name) if own else None
        if runner is not Runner.PLAIN:  # what is inside, only its own --help can tell
            return str(beside or name)
        if beside is not None and self._host.access(str(beside), os.X_OK):
            return str(beside)
        if found := self._host.which(name):
            return found
        where = f"beside {clean(words[-1])} nor in PATH" if beside else "in PATH"
        raise ActionError(
            f"there is no {clean(name)} {where}", 'name it in the row: bench = "/path/llama-bench"'
        )

    async def _dialect(self, wish: Wish, env: Mapping[str, str], cwd: str) -> Dialect:
        words = runners.probe(wish)
        if words not in self._dialects:
            self._dialects[words] = await self._ask(words, env, cwd)
        return self._dialects[words]

    async def _ask(self, words: tuple[str, ...], env: Mapping[str, str], cwd: str) -> Dialect:
        name = clean(words[-1])
        try:
            done = await self._hands.run((*words, "--help"), env=env, cwd=cwd, seconds=HELP_SECONDS)
        except TimeoutError:
            raise ActionError(f"{name} --help gave no answer in {HELP_SECONDS:.0f} s") from None
        except OSError as error:
            raise ActionError(f"{name} does not run: {error.strerror or error}") from None
        dialect = suite_argv.parse_help(done.out + "\n" + done.err)
        if not dialect.flags:
            said = next((line for line in (done.err + "\n" + done.out).splitlines() if line.strip()), "")
            raise ActionError(f"{name} is no llama-bench", clean(said, 200) or f"exit {done.code}")
        return dialect

    def _path(self, text: str, base: Path | None = None) -> str:
        return str((base or self._directory) / self._at_home(text))

    def _at_home(self, text: str) -> str:
        if self._host.here:
            return os.path.expanduser(text)  # noqa: PTH111 - an unknown user's ~ stays as it is
        return f"{self._home}{text[1:]}" if text == "~" or text.startswith("~/") else text


def _with(wish: Wish, arguments: tuple[str, ...]) -> Wish:
    """With the arguments as words: a container mounts what they name."""
    from msgspec.structs import replace

    return replace(wish, words=parse(arguments))


def shown(order: Order) -> tuple[str, ...]:
    """What was set for it, and the command, masked; for a list."""
    from halotui.servers.secret import masked, masked_env

    pairs = masked_env(order.said).items()
    return (*(f"{name}={value}" for name, value in pairs if not is_secret(name)), *masked(order.command))
