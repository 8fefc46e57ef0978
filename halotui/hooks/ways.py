"""The ways out: each one takes a message and says in a few words why it could not be told, or None."""

from __future__ import annotations

import asyncio
import html
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from halotui.hooks.news import RESOLVED, News
from halotui.hooks.settings import HookSettings, fill, is_url
from halotui.model import Severity
from halotui.safe import clean

LIMIT = 10.0  # seconds that a message may take
Way = Callable[[News], Awaitable[str | None]]


def ways(settings: HookSettings, environ: Mapping[str, str] = os.environ) -> dict[str, Way]:
    """Those that are set, by name."""
    found: dict[str, Way] = {}
    if settings.webhook or settings.webhook_env:
        found["webhook"] = _webhook(settings, environ)
    if settings.command:
        found["command"] = _command(settings.command)
    if settings.desktop:
        found["desktop"] = _desktop(environ)
    return found


# --- webhook


def _webhook(settings: HookSettings, environ: Mapping[str, str]) -> Way:
    secret = environ.get(settings.webhook_env, "").strip() if settings.webhook_env else ""
    url = settings.webhook or secret
    headers = {"Authorization": f"Bearer {secret}"} if settings.webhook and secret else {}
    encode = _FORMATS[settings.format]
    if settings.webhook_env and not secret:
        return _never(f"there is no variable {settings.webhook_env}")
    if not is_url(url):
        return _never(f"{settings.webhook_env} holds no URL like https://host/path")
    host = clean(urlsplit(url).hostname or "")  # the rest may be a secret

    async def tell(news: News) -> str | None:
        httpx: Any = await asyncio.to_thread(_httpx)
        try:
            content, kind, params = encode(news)
            where = httpx.URL(url).copy_merge_params(params)
            async with asyncio.timeout(LIMIT), httpx.AsyncClient(timeout=LIMIT) as client:
                head = {**headers, "Content-Type": kind}
                async with client.stream("POST", where, headers=head, content=content) as answer:
                    status = answer.status_code
        except (TimeoutError, httpx.TimeoutException):
            return f"{host} did not answer in {LIMIT:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return f"{host}: {_reason(error, url, secret)}"
        return None if 200 <= status < 300 else f"{host} answered {status}"

    return tell


def _httpx() -> Any:
    import httpx  # 100 ms: only when there is something to send

    return httpx


def _reason(error: Exception, url: str, secret: str) -> str:
    """Its words, without what may be a secret."""
    words = clean(str(error)) or type(error).__name__
    parts = urlsplit(url)
    hidden = [part for part in (parts.path.strip("/"), parts.query, parts.password, secret) if part]
    return type(error).__name__ if any(part in words for part in hidden) else words


def _never(reason: str) -> Way:
    async def tell(_: News) -> str | None:
        return reason

    return tell


_Body = tuple[bytes, str, dict[str, str]]  # with its type, and what is added to the URL
_JSON = "application/json"


def _as_json(news: News) -> _Body:
    return msgspec.json.encode(news), _JSON, {}


def _as_slack(news: News) -> _Body:
    """Mattermost and Rocket.Chat too. Escaped: <!channel> would call everybody."""
    return msgspec.json.encode({"text": html.escape(news.text, quote=False)}), _JSON, {}


def _as_discord(news: News) -> _Body:
    nobody: dict[str, list[str]] = {"parse": []}  # is called by an @everyone
    return msgspec.json.encode({"content": news.text[:2000], "allowed_mentions": nobody}), _JSON, {}


def _as_ntfy(news: News) -> _Body:
    done = news.state == RESOLVED
    told = [news.evidence, f"fix: {news.fix}" if news.fix and not done else ""]
    priority = {Severity.CRITICAL: "5", Severity.WARNING: "4", Severity.INFO: "3"}[news.severity]
    params = {
        "title": _title(news),
        "priority": "2" if done else priority,
        "tags": "white_check_mark" if done else "warning",
    }
    return ("\n".join(filter(None, told)) or news.title).encode(), "text/plain; charset=utf-8", params


def _title(news: News) -> str:
    return f"{news.host}: {news.title}" + (" (resolved)" if news.state == RESOLVED else "")


_FORMATS: dict[str, Callable[[News], _Body]] = {
    "json": _as_json,
    "slack": _as_slack,
    "discord": _as_discord,
    "ntfy": _as_ntfy,
}


# --- command


def _command(argv: Sequence[str]) -> Way:
    async def tell(news: News) -> str | None:
        values = {key: str(value) for key, value in msgspec.structs.asdict(news).items()}
        return await _ran([fill(word, values) for word in argv], msgspec.json.encode(news))

    return tell


async def _ran(argv: Sequence[str], data: bytes = b"") -> str | None:
    """Why not; no shell, a session of its own, and killed with all it started when its time is over."""
    name = clean(Path(argv[0]).name)
    try:
        child = await asyncio.create_subprocess_exec(
            *(word.replace("\0", "") for word in argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"{name}: {(error.strerror or str(error)).lower()}"
    try:
        async with asyncio.timeout(LIMIT):
            with suppress(BrokenPipeError, ConnectionResetError):  # it does not read
                await child.communicate(data)
            code = await child.wait()
    except TimeoutError:
        return f"{name} took more than {LIMIT:.0f} s, and was killed"
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    return None if code == 0 else f"{name} failed with exit code {code}"


# --- desktop


def _desktop(environ: Mapping[str, str]) -> Way:
    async def tell(news: News) -> str | None:
        argv = _notification(news, environ)
        return "there is no desktop session" if argv is None else await _ran(argv)

    return tell


def _notification(news: News, environ: Mapping[str, str]) -> list[str] | None:
    """By whatever is there; None where nobody could see it."""
    bus = Path(environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "bus"
    if not (environ.get("DBUS_SESSION_BUS_ADDRESS") or bus.exists()):
        return None
    done = news.state == RESOLVED
    urgency = 0 if done else 2 if news.severity is Severity.CRITICAL else 1
    title, body = _title(news), html.escape(news.evidence, quote=False)  # a body may have markup
    there = (argv for name, argv in _TOOLS.items() if shutil.which(name, path=environ.get("PATH")))
    return next((argv(title, body, urgency) for argv in there), None)


_SERVICE = "org.freedesktop.Notifications"
_OBJECT = "/org/freedesktop/Notifications"
_SHOWN = 10_000  # milliseconds


def _notify_send(title: str, body: str, urgency: int) -> list[str]:
    level = ("low", "normal", "critical")[urgency]
    return ["notify-send", "--app-name=halotui", f"--urgency={level}", "--", title, body]


def _busctl(title: str, body: str, urgency: int) -> list[str]:
    call = ["busctl", "--user", "--", "call", _SERVICE, _OBJECT, _SERVICE, "Notify", "susssasa{sv}i"]
    hints = ["0", "1", "urgency", "y", str(urgency)]  # no actions, one hint
    return [*call, "halotui", "0", "", title, body, *hints, str(_SHOWN)]


def _gdbus(title: str, body: str, urgency: int) -> list[str]:
    call = ["gdbus", "call", "--session", "--dest", _SERVICE, "--object-path", _OBJECT]
    words = ["halotui", 0, "", title, body, [], {}, _SHOWN]
    told = [_variant(word) for word in words]
    told[6] = f"{{'urgency': <byte {urgency}>}}"
    return [*call, "--method", f"{_SERVICE}.Notify", *told]


def _variant(word: object) -> str:
    """As GVariant's text."""
    return msgspec.json.encode(word).decode() if isinstance(word, str) else str(word)


_TOOLS = {"notify-send": _notify_send, "busctl": _busctl, "gdbus": _gdbus}  # the best first
