"""A real sshd on loopback, with its own config, keys and port, and an ssh client config for it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

_SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_SECONDS = 20.0


class Sshd:
    """``config`` is for ``ssh -F`` (``--ssh-config``, ``Far(ssh_config=...)``): nothing of ~/.ssh is read."""

    def __init__(self, place: Path, aliases: Sequence[str], options: Sequence[str]) -> None:
        self._place = place
        self._options = options
        self._aliases: dict[str, int] = {}
        self._daemon: subprocess.Popen[bytes] | None = None
        self._orphans: list[int] = []  # sessions of a listener that is gone
        self.config = place / "ssh_config"
        self.known_hosts = place / "known_hosts"
        self.port = _free_port()
        place.mkdir(parents=True, exist_ok=True)
        _keygen(place / "user_key")
        _keygen(place / "host_key")
        self.accept_key()
        for alias in aliases:
            self._aliases[alias] = self.port
        self.know_host()

    @property
    def pid(self) -> int:
        assert self._daemon
        return self._daemon.pid

    @property
    def log(self) -> str:
        return (self._place / "sshd.log").read_text(errors="replace")

    def start(self) -> None:
        """On the same port as ever."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self._place / "sshd_config"
        config.write_text(
            "\n".join(
                (
                    f"ListenAddress 127.0.0.1:{self.port}",
                    f"HostKey {self._place}/host_key",
                    f"AuthorizedKeysFile {self._place}/authorized_keys",
                    f"PidFile {self._place}/sshd.pid",
                    "StrictModes no",
                    "UsePAM no",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin prohibit-password",
                    "PrintMotd no",
                    "MaxStartups 100",
                    *self._options,
                    "SetEnv SHLVL=5",  # the first counts; bash reads no ~/.bashrc then
                    "",
                )
            )
        )
        with (self._place / "sshd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [_SSHD, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no sshd: {self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """The box is off: listener and sessions."""
        self.thaw()
        self.stop_listening()
        self.cut()

    def stop_listening(self) -> None:
        """Sessions go on."""
        if self._daemon and self._daemon.poll() is None:
            self._orphans = self.sessions()
            self._daemon.kill()
            self._daemon.wait(_SECONDS)

    def cut(self) -> None:
        """Kill the sessions, not the listener."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Listener and sessions stand still: the box sleeps, and nobody tells."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def sessions(self) -> list[int]:
        """The pids of sshd's own processes, the listener's apart."""
        return sorted({pid for pid in (*self._orphans, *descendants(self.pid)) if _is_sshd(pid)})

    def children(self) -> list[int]:
        """The pids of all that runs there for those who are logged in, sshd's own apart."""
        under = [pid for session in self.sessions() for pid in descendants(session)]
        return sorted({pid for pid in under if not _is_sshd(pid)})

    def new_host_key(self) -> None:
        """Another box under the old address: what is logged in stays."""
        running = self._daemon is not None and self._daemon.poll() is None
        self.stop_listening()
        for name in ("host_key", "host_key.pub"):
            (self._place / name).unlink()
        _keygen(self._place / "host_key")
        if running:
            self.start()

    def know_host(self) -> None:
        """The client trusts the host key as it is now."""
        key = " ".join((self._place / "host_key.pub").read_text().split()[:2])
        ports = sorted({self.port, *self._aliases.values()})
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{port} {key}\n" for port in ports))
        self._write_config()

    def forget_host(self) -> None:
        """The client has never seen it."""
        self.known_hosts.write_text("")

    def refuse_key(self) -> None:
        (self._place / "authorized_keys").write_text("")

    def accept_key(self) -> None:
        shutil.copy(self._place / "user_key.pub", self._place / "authorized_keys")

    def alias(self, name: str, port: int | None = None) -> str:
        """One more name for it, through a proxy on ``port``."""
        self._aliases[name] = port or self.port
        self.know_host()
        return name

    def _write_config(self) -> None:
        self.config.write_text(
            "".join(
                f"Host {name}\n"
                "  HostName 127.0.0.1\n"
                f"  Port {port}\n"
                f"  IdentityFile {self._place}/user_key\n"
                "  IdentitiesOnly yes\n"
                "  IdentityAgent none\n"
                f"  UserKnownHostsFile {self.known_hosts}\n"
                "  GlobalKnownHostsFile /dev/null\n"
                "  UpdateHostKeys no\n"
                for name, port in self._aliases.items()
            )
        )

    def _signal(self, number: int) -> None:
        for pid in (*self.sessions(), *([self.pid] if self._daemon and self._daemon.poll() is None else [])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@contextlib.contextmanager
def sshd(place: Path, aliases: Sequence[str] = ("box",), options: Sequence[str] = ()) -> Iterator[Sshd]:
    """``options``: more lines of its sshd_config, as ``SetEnv PATH=...``. Skips where there is no sshd."""
    if not Path(_SSHD).exists() or not shutil.which("ssh"):
        pytest.skip("no sshd here: apt install openssh-server")
    server = Sshd(place / "sshd", aliases, options)
    server.start()
    try:
        yield server
    finally:
        left = server.children()
        server.stop()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Of a process, corpses apart."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if fields[0] != b"Z":
                    parents[int(entry.name)] = int(fields[1])
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


def _is_sshd(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    return False


def _keygen(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "halotui", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=_SECONDS,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
