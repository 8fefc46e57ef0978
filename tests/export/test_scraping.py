"""The server that is scraped: TLS, passwords, slow and odd clients."""

from __future__ import annotations

import base64
import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from builders import frame, memory
from halotui.commands.listening import Door, door
from halotui.exits import UsageError
from halotui.exporters import prometheus_http
from halotui.exporters.prometheus_http import Server
from halotui.exporters.prometheus_scrape import Scrape

Listen = Callable[..., Server]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """``listen(tls_cert=…)``: a server of one box, by the words of the command."""
    begun: list[Server] = []

    def begin(environ: dict[str, str] | None = None, **said: Any) -> Server:
        scrape = Scrape()
        scrape.watch("halo", 60.0)
        scrape.take("halo", frame(memory=memory()))
        way = door({"listen": "127.0.0.1:0", **said}, environ or {})
        begun.append(Server(*way.address, scrape, way.path, way.tls, way.users))
        begun[-1].run()
        return begun[-1]

    yield begin
    for server in begun:
        server.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file: certificate and key."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made += ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(["openssl", "req", *made], cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return both


def get(server: Server, path: str = "/metrics", tls: ssl.SSLContext | None = None, **headers: str) -> Any:
    """Status, headers and body."""
    made = HTTPSConnection if tls else HTTPConnection
    connection = made("127.0.0.1", server.port, timeout=20, **({"context": tls} if tls else {}))
    try:
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(user.encode()).decode()


def test_formats(listen: Listen) -> None:
    server = listen()
    status, headers, body = get(server)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'halotui_up{host="halo"} 1.0' in body and b"# EOF" not in body
    _, headers, zipped = get(
        server, Accept="application/openmetrics-text; version=1.0.0", Accept_Encoding="gzip"
    )
    assert headers["Content-Encoding"] == "gzip" and "openmetrics" in headers["Content-Type"]
    assert gzip.decompress(zipped).endswith(b"# EOF\n")
    assert "Python" not in headers["Server"]
    assert get(server, "/")[0] == 200 and get(server, "/other")[0] == 404


def test_another_path(listen: Listen) -> None:
    server = listen(web_path="/halo/metrics")
    assert get(server, "/halo/metrics?x=1")[0] == 200 and get(server)[0] == 404


def test_passwords(listen: Listen, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("# who\nprometheus:pässword:with colons\nother:x\n")
    users.chmod(0o600)
    server = listen(basic_auth_file=users)
    status, headers, body = get(server)
    assert status == 401 and headers["WWW-Authenticate"].startswith("Basic") and b"halotui_up" not in body
    for wrong in ("prometheus:", "prometheus:x", "other:pässword:with colons", ":", ""):
        assert get(server, Authorization=basic(wrong))[0] == 401
    assert get(server, Authorization="Basic ===")[0] == get(server, Authorization="Bearer x")[0] == 401
    assert get(server, "/", Authorization=basic("x:y"))[0] == 401
    assert get(server, Authorization=basic("prometheus:pässword:with colons"))[0] == 200
    assert get(server, Authorization=basic("other:x"))[0] == 200


def test_tls_with_passwords(listen: Listen, certificate: Path) -> None:
    server = listen({"HALOTUI_EXPORT_AUTH": "p:secret"}, tls_cert=certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    assert get(server, tls=trusting)[0] == 401
    assert get(server, tls=trusting, Authorization=basic("p:secret"))[0] == 200
    with pytest.raises((HTTPException, OSError)):  # no TLS, no answer
        get(server)
    with pytest.raises(ssl.SSLError):
        get(server, tls=ssl.create_default_context())
    assert get(server, tls=trusting, Authorization=basic("p:secret"))[0] == 200


def test_client_certificates(listen: Listen, certificate: Path) -> None:
    server = listen(tls_cert=certificate, tls_client_ca=certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    with pytest.raises((ssl.SSLError, OSError)):
        get(server, tls=trusting)
    trusting.load_cert_chain(certificate)
    assert get(server, tls=trusting)[0] == 200


@pytest.mark.parametrize("secure", [False, True])
def test_slow_clients_hold_up_nobody(
    secure: bool, listen: Listen, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are places: those that drip are hung up on, and then others are served."""
    monkeypatch.setattr(prometheus_http, "WHOLE_SECONDS", 0.5)
    server = listen(**({"tls_cert": certificate} if secure else {}))
    trusting = ssl.create_default_context(cafile=str(certificate)) if secure else None
    begun = threading.active_count()
    slow = [
        socket.create_connection(("127.0.0.1", server.port)) for _ in range(prometheus_http.CONNECTIONS * 2)
    ]
    try:
        for line in slow:
            with suppress(OSError):  # it may have been hung up on
                line.send(b"\x16\x03\x01\x40\x00" if secure else b"GET /met")
        assert threading.active_count() <= begun + prometheus_http.CONNECTIONS
        deadline = time.monotonic() + 20
        while True:
            for line in slow:
                with suppress(OSError):  # it may have been hung up on
                    line.send(b"r")
            try:
                assert get(server, tls=trusting)[0] == 200
                break
            except (OSError, HTTPException):
                assert time.monotonic() < deadline, "nobody else is served"
                time.sleep(0.2)
    finally:
        for line in slow:
            line.close()


def words(**said: Any) -> Door:
    return door(said, {})


def test_it_listens_on_loopback_unless_told() -> None:
    assert words().address[1] == ("127.0.0.1", 9101) and not words().warnings
    assert words(listen="0").address[1] == ("127.0.0.1", 0)
    assert words(listen="[::1]:9101").url(9101) == "http://[::1]:9101/metrics"
    assert not words(listen="[::1]:9101").warnings


def test_what_others_can_reach_is_said(certificate: Path) -> None:
    assert "--basic-auth-file" in words(listen="0.0.0.0:9101").warnings[0]
    assert "--basic-auth-file" in words(listen="0.0.0.0:9101", tls_cert=certificate).warnings[0]
    assert not words(listen="0.0.0.0:9101", tls_cert=certificate, tls_client_ca=certificate).warnings
    user = {"HALOTUI_EXPORT_AUTH": "p:secret"}
    assert "in the clear" in door({"listen": "0.0.0.0:9101"}, user).warnings[0]
    assert not door({"listen": "0.0.0.0:9101", "tls_cert": certificate}, user).warnings
    assert "secret" not in repr(door({}, user))


@pytest.mark.parametrize(
    "said",
    [
        *(
            {"listen": where}
            for where in ("x:", "127.0.0.1:99999", "::1:9101", ":9101", "1.2.3.4:²", "no.invalid:1")
        ),
        *({"web_path": path} for path in ("metrics", "/", "/a?b", "/\x1b")),
        {"tls_key": Path("/dev/null")},
        {"tls_cert": Path("/dev/null")},
        {"tls_cert": Path("/nowhere")},
        {"basic_auth_file": Path("/dev/null")},
        {"basic_auth_file": Path("/nowhere")},
    ],
    ids=str,
)
def test_wrong_words(said: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        words(**said)
    assert "\n" not in str(error.value) and str(error.value).startswith("--")


@pytest.mark.parametrize(
    ("text", "mode"), [("p:secret", 0o640), ("secret", 0o600), ("", 0o600), (":secret", 0o600)]
)
def test_wrong_files_of_users(text: str, mode: int, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(text)
    users.chmod(mode)
    with pytest.raises(UsageError) as error:
        words(basic_auth_file=users)
    assert "secret" not in str(error.value)
