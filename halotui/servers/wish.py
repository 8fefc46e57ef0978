"""A wish: the server that shall run, from a profile, from what runs, or from both.

A complete profile is taken as it is, at the address of what runs where it names none. Any other changes
what runs. The patch comes last. Nothing is read here but a key file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from halotui.actions import ActionError, Patch, Value
from halotui.collectors.llama_process import DEFAULT_PORT, NAME, launch_facts
from halotui.hosts import Process
from halotui.safe import clean
from halotui.servers.as_profile import ENGINES, for_a_server, port_of
from halotui.servers.launch import Runner
from halotui.servers.login import Login
from halotui.servers.profile import NO_DRAFT, OWN_KEYS, SOURCES, Profile, meant, resolve
from halotui.servers.runners import KEY
from halotui.servers.running import Running, session_free
from halotui.servers.secret import withdraw
from halotui.servers.vocabulary import BY_NAME, Word, from_environment, parse, patched, spoken, values

DRAWN = "draft-simple"  # the speculation that needs a model of its own
# They say where a binary's libraries are: another one must not find them.
OF_THE_BINARY = ("LD_LIBRARY_PATH", "LD_PRELOAD", "GGML_BACKEND_PATH")
# A backend names its own devices: Vulkan0 is nothing to ROCm.
OF_THE_BACKEND = ("device", "devd")


class Wish(Struct, frozen=True, kw_only=True):
    """What shall run, its flags not rendered yet."""

    name: str  # of its profile; empty: from none
    runner: Runner
    binary: tuple[str, ...]  # words of a wrapper and the binary, as run inside the runner
    image: str = ""
    container: str = ""
    unit: str = ""
    backend: str | None = None  # that it must show; None: unknown
    words: tuple[Word, ...] = ()
    env: dict[str, str] = {}  # plain: the whole environment; others: what is set inside
    cwd: str = "/"
    log: str = ""
    url: str = ""
    api_key: str | None = None
    load_seconds: float | None = None

    def __repr__(self) -> str:
        """Without environment and key: a traceback may print it."""
        return f"Wish({self.name!r}, {self.url!r})"


class Place(Struct, frozen=True):
    """Where a server runs, and which."""

    runner: Runner
    binary: tuple[str, ...] = ()
    image: str = ""
    container: str = ""
    unit: str = ""


def wish_of(
    profile: Profile | None,
    running: Running | None,
    patch: Patch,
    extra: Sequence[str] | None,
    environ: Mapping[str, str],
    *,
    name: str = "",
    profiles: Mapping[str, Profile] = {},
    home: str | None = None,
    keys: Mapping[str, str] | None = None,
) -> Wish:
    """``profile`` is resolved, ``name`` its name; ``environ`` is our login's on that box, for what has none
    yet, ``home`` its home (None: both are ours), and ``keys`` our own environment here, where a key may be
    named. ``profiles`` tell what the profile of what runs had set: that leaves with it. ``extra`` takes the
    place of every flag that no setting stands for; None leaves them. Raises ``ActionError``.
    """
    login = Login(environ, environ if keys is None else keys, home)
    said = login.full(profile or Profile())
    patch = login.paths(patch)
    extra = None if extra is None else tuple(map(login.path, extra))
    if running is not None and not said.complete:
        left = login.full(_left(running, profiles)) if profile else Profile()
        wish = _changed(said, running, left, login, name)
    elif said.complete or (profile and patch.get("model")):
        wish = _complete(said, running, login, name)
    elif profile:
        raise ActionError(
            f"profile {name} names no model, and nothing runs that it could change",
            f'add to config.toml: [profiles.{name}] model = "..."',
        )
    else:
        raise ActionError("nothing runs, and no profile is named", "halotui profiles lists them")
    if wish.runner is not Runner.SYSTEMD:
        return _finished(wish, running, patch, extra)
    if patch or extra:
        raise _in_the_unit(wish)
    return wish


def _in_the_unit(wish: Wish) -> ActionError:
    unit = clean(wish.unit)
    return ActionError(f"the flags of {unit} stand in the unit", f"systemctl --user edit {unit}")


def _complete(said: Profile, running: Running | None, login: Login, name: str) -> Wish:
    """All of it from the profile; the address and the key from what runs, so that its clients go on."""
    place = _place(said, running, name)
    wish = _at(place, said, name, login)
    settings = {**(_address(running) if running else {}), **_settings(said)}
    settings.setdefault("port", DEFAULT_PORT)  # said aloud: llama.cpp is about to change its own
    wish = _keyed(wish, running)
    if place.runner is Runner.SYSTEMD:
        return replace(wish, url=_url(patched((), settings), {}, "/"), env={})
    own = session_free(login.environ) if place.runner is Runner.PLAIN else {}
    if wish.api_key:
        own.pop(KEY, None)
    words, env = _with((), own, settings)
    words, keys = _with_extra(words, said.extra_words)
    cwd = said.cwd or login.directory
    return replace(wish, words=words, env=env | wish.env | said.env | keys, cwd=cwd)


def _changed(said: Profile, running: Running, left: Profile, login: Login, name: str) -> Wish:
    """What runs, with the profile's word where it has one."""
    place, old = _place(said, running, name), _place_of(running)
    wish = _at(place, said, name or running.profile, login)
    wish = replace(wish, backend=wish.backend or (_built_for(running) if place == old else None))
    if place.runner is Runner.SYSTEMD:
        if said.flags or said.env or said.extra or said.draft:
            raise _in_the_unit(wish)
        return replace(_keyed(wish, running), url=running.facts.url, env={})
    words = parse(running.arguments)
    free = () if left.complete else [word.text for word in parse(left.extra_words)]
    settings = {**_leaving(words, left), **_moving(words, running, place, said, wish), **_settings(said)}
    stay = [word for word in words if word.setting is not None or word.text not in free]
    changed, env = _with(stay, _environment(running, left, place, login.environ), settings)
    changed, keys = _with_extra(changed, said.extra_words)
    if wish.api_key:
        env.pop(KEY, None)
    here = place.runner is running.runner
    cwd = said.cwd or (running.cwd if here else login.directory)
    key = wish.api_key or running.api_key
    return replace(wish, words=changed, env=env | said.env | keys, cwd=cwd, api_key=key)


def _keyed(wish: Wish, running: Running | None) -> Wish:
    """With the keys of what runs where the profile has none: there may be several."""
    if wish.api_key or running is None:
        return wish
    keys = {KEY: running.env[KEY]} if KEY in running.env else {}
    return replace(wish, api_key=running.api_key, env=keys)


def _finished(wish: Wish, running: Running | None, patch: Patch, extra: Sequence[str] | None) -> Wish:
    """With the patch and the free flags; then what follows from all of it."""
    words, env = _with(wish.words, wish.env, patch)
    if patch.get("model"):
        words = tuple(word for word in words if word.setting or word.text[0] not in SOURCES)
    if extra is not None:
        kept = [word for word in words if word.setting is not None]
        words, keys = _with_extra(kept, extra)
        env = env | keys
    asked = from_environment(env) | values(words)
    if asked.get("spec") == DRAWN and not (asked.get("draft") or asked.get("draft-hf")):
        raise ActionError(
            f"{DRAWN} speculation needs a draft model, and none is named",
            f'add to config.toml: [profiles.{wish.name}] draft = "..."',
        )
    url = _url(words, env, wish.cwd)
    if running is not None and _url(parse(running.arguments), running.env, running.cwd) == url:
        url = running.facts.url  # it knows more: what a container publishes, what port 0 became
    return replace(
        wish,
        backend="cpu" if asked.get("device") == "none" else wish.backend,
        words=words,
        env=env,
        url=url,
        api_key=(env.get(KEY) or "").split(",")[0] or wish.api_key,
    )


def _at(place: Place, said: Profile, name: str, login: Login) -> Wish:
    """What the profile alone decides."""
    return Wish(
        name=name,
        runner=place.runner,
        binary=place.binary,
        image=place.image,
        container=place.container,
        unit=place.unit,
        backend=said.backend or None,
        log=said.log,
        api_key=_api_key(said, login.keys),
        load_seconds=said.load_seconds,
    )


# --- where


def _place(said: Profile, running: Running | None, name: str) -> Place:
    """The profile's place, else that of what runs. Raises ``ActionError``: of another backend."""
    named = said.binary_words or said.image or said.container or said.unit
    built = _built_for(running) if running else None
    if not named and said.backend not in ("", "cpu", built or said.backend):  # any build has the CPU
        raise ActionError(
            f"profile {name} names no binary, and what runs is {built}",
            f'add to config.toml: [profiles.{name}] binary = "..."',
        )
    there = _place_of(running) if running else None
    stays = there is not None and not named and said.runner in (None, there.runner)
    if there and stays and not (there.runner is Runner.SYSTEMD and said.complete):
        return there
    runner = said.runner or Runner.PLAIN
    words = said.binary_words
    if not words and runner is Runner.PLAIN and running and running.runner in (runner, Runner.SYSTEMD):
        words = running.binary
    if not words and runner not in (Runner.SYSTEMD, *ENGINES):  # an image has an entry point
        words = (NAME,)
    return Place(runner, words, said.image, said.container, said.unit)


def _place_of(running: Running) -> Place:
    return Place(running.runner, running.binary, running.image, running.container, running.unit)


def _built_for(running: Running) -> str | None:
    """The backend of its build: without a device every one of them runs on the CPU."""
    if values(parse(running.arguments)).get("device") != "none":
        return running.facts.backend
    process = Process(pid=0, name=NAME, argv=running.binary, environ=running.env)
    return launch_facts(process).backend


# --- settings


def _settings(said: Profile) -> dict[str, Value | None]:
    """A profile as a patch."""
    own = {key: value for key in OWN_KEYS if (value := getattr(said, key))}
    if said.draft == NO_DRAFT:
        own["draft"] = None
    return own | {name: meant(name, value) for name, value in said.flags.items()}


def _address(running: Running) -> dict[str, Value | None]:
    """Where its clients find it. What it listens on inside a container's own network, 0.0.0.0 as a rule,
    must not come out here; the containers that we start use the host's.
    """
    found = from_environment(running.env) | values(parse(running.arguments))
    walled = running.runner in ENGINES and not running.profile
    host = {"host": None if walled else found.get("host")}
    return host | ({"port": port} if (port := port_of(running.facts.url)) else {})


def _moving(
    words: Sequence[Word], running: Running, place: Place, said: Profile, wish: Wish
) -> dict[str, Value | None]:
    """What cannot stay as it is said: an address that is not said, or not for here, and devices."""
    moves: dict[str, Value | None] = {}
    old = _place_of(running)
    if place != old or values(words).get("port") == 0 or running.runner in ENGINES:
        moves = _address(running)
    if (place != old or said.backend) and wish.backend != running.facts.backend:
        moves |= dict.fromkeys(OF_THE_BACKEND)
    return moves


def _left(running: Running, profiles: Mapping[str, Profile]) -> Profile:
    """The profile of what runs, if it is still known."""
    try:
        return resolve(running.profile, profiles)
    except ActionError:
        return Profile()


def _leaving(words: Sequence[Word], left: Profile) -> dict[str, Value | None]:
    """What the old profile had set, and is still so. One with a model is not a change that is taken back."""
    if left.complete:
        return {}
    now = values(words)
    return {name: None for name, value in _settings(left).items() if name in now and now[name] == value}


def _with(
    words: Sequence[Word], env: Mapping[str, str], settings: Patch
) -> tuple[tuple[Word, ...], dict[str, str]]:
    """Patched, on the command line; what is taken away may have been said by environment."""
    changed = patched(words, settings)  # first: it knows the names
    gone = {variable for name, value in settings.items() if value is None for variable in BY_NAME[name].env}
    return changed, {name: value for name, value in env.items() if name not in gone}


def _with_extra(words: Sequence[Word], extra: Sequence[str]) -> tuple[tuple[Word, ...], dict[str, str]]:
    """Free flags at the end, in the place of the same ones; and the keys that stood among them."""
    arguments, keys = withdraw(extra)
    new = parse(arguments)
    free = tuple(word for word in new if word.setting is None)
    flags = {word.text[0] for word in free}
    kept = tuple(word for word in words if word.setting is not None or word.text[0] not in flags)
    return patched(kept, values(new)) + free, keys


# --- environment


def _environment(running: Running, left: Profile, place: Place, environ: Mapping[str, str]) -> dict[str, str]:
    """Of what runs, without what the old profile and the old binary brought."""
    old = _place_of(running)
    gone = set() if place == old else set(OF_THE_BINARY)
    env = {
        name: value
        for name, value in running.env.items()
        if name not in gone
        and left.env.get(name) != value
        and (place.runner is old.runner or for_a_server(name))
    }
    inside = place.runner is not Runner.PLAIN or place.runner is old.runner
    return env if inside else session_free(environ) | env


# --- what else a profile says


def _url(words: Sequence[Word], env: Mapping[str, str], cwd: str) -> str:
    """Where it will be found, as it would be for a running one."""
    process = Process(pid=0, name=NAME, argv=(NAME, *spoken(words)), environ=dict(env), cwd=cwd)
    return launch_facts(process).url


def _api_key(said: Profile, environ: Mapping[str, str]) -> str | None:
    """Raises ``ActionError``: a key is named and cannot be had."""
    if said.api_key_env:
        if key := environ.get(said.api_key_env):
            return key
        raise ActionError(f"no API key in ${clean(said.api_key_env)}", "set it, or use api_key_file")
    if not said.api_key_file:
        return None
    file = Path(said.api_key_file).expanduser()
    try:
        lines = file.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ActionError(f"no API key in {clean(str(file))}: {why}") from None
    if not lines:
        raise ActionError(f"no API key in {clean(str(file))}: it is empty")
    return lines[0]
