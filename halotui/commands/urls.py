"""A server's URL as people type it."""

from __future__ import annotations

from urllib.parse import urlsplit

from halotui.exits import UsageError
from halotui.safe import clean


def url(text: str) -> str:
    """``host:port`` is enough; no path, no query, no trailing slash. Raises UsageError."""
    whole = text if "://" in text or text.startswith("unix:") else f"http://{text}"
    try:
        parts = urlsplit(whole)
        good = whole.startswith("unix:") or (
            parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        )
    except ValueError:
        good = False
    if "@" in whole:
        raise UsageError("--url: no user or password in a URL; name a variable: --api-key-env")
    if not good or clean(whole) != whole:
        raise UsageError(f"--url: '{text}' is not a URL like http://127.0.0.1:8080")
    return whole.partition("?")[0].rstrip("/")
