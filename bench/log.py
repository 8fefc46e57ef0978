"""How fast a server's log is read, and whether memory stays flat: logs of the real server, repeated.

Two of them: ``-lv 5`` under load, nearly all of it debug, and ``-lv 3``, nearly all of it requests. A block
of 4 MiB at a time, as the followers hand them over.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from halotui.collectors.llama_log import LogParser
from halotui.demo.model import TINY, write_preset

BLOCK = 4 << 20  # bytes
SECONDS = 30.0  # for the server to start, and for each request
LISTENING = re.compile(rb"listening on http://[^:\s]+:(\d+)")
WORDS = ("the", "red", "fox", "runs", "over", "the", "lazy", "dog", "and", "a", "blue", "bird", "sings")


def real_log(directory: Path, verbosity: int, requests: int, tokens: int) -> bytes:
    """What the wheel's server writes while two clients at a time ask it."""
    model, draft, log = directory / "m.gguf", directory / "d.gguf", directory / f"{verbosity}.log"
    write_preset(model, TINY)
    write_preset(draft, TINY, noise=0.02)
    argv = [
        sys.executable,
        "-m",
        "halotui.demo.server",
        "-m",
        model,
        "-md",
        draft,
        "--spec-type",
        "draft-simple",
    ]
    argv += ["--host", "127.0.0.1", "--port", "0", "-t", "1", "-td", "1", "-np", "2", "-c", "4096"]
    argv += ["-lv", str(verbosity), "--log-file", log, "--die-with-parent", "pipe"]
    server = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not (found := LISTENING.search(log.read_bytes() if log.exists() else b"")):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("no server: is xllamacpp there? (pip install .[demo])")
            time.sleep(0.05)

        def ask(number: int) -> None:
            prompt = " ".join(WORDS[number % 5 :] * (1 + number % 7))
            body = {"prompt": prompt, "n_predict": tokens, "temperature": 0}
            url = f"http://127.0.0.1:{int(found[1])}/completion"
            headers = {"Content-Type": "application/json"}
            urllib.request.urlopen(
                urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=SECONDS
            )

        with ThreadPoolExecutor(2) as clients:
            list(clients.map(ask, range(requests)))
        time.sleep(0.3)  # its log has a thread of its own
    finally:
        server.terminate()
        server.wait(10)
    return log.read_bytes()


def blocks(log: bytes, size: int) -> Iterator[bytes]:
    """``size`` bytes of it: the start once, then its work again and again."""
    begin = log.index(b"launch_slot_")
    begin = log.rindex(b"\n", 0, begin) + 1
    end = log.rindex(b"stop processing")
    end = log.index(b"\n", end) + 1
    yield log[:begin]
    work = log[begin:end]
    whole = work * (BLOCK // len(work) + 1)
    for _ in range(max(size // len(whole), 1)):
        yield whole


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=300, help="of each log (300)")
    parser.add_argument("--log", type=Path, help="another log, instead of the server's")
    said = parser.parse_args()
    logs = {}
    with tempfile.TemporaryDirectory() as name:
        if said.log:
            logs[said.log.name] = said.log.read_bytes()
        else:
            logs["-lv 5, under load"] = real_log(Path(name), 5, 24, 200)
            logs["-lv 3, requests alone"] = real_log(Path(name), 3, 400, 2)
    for title, log in logs.items():
        reader = LogParser(time.time())
        size = requests = 0
        spent, grown = 0.0, []
        for block in blocks(log, said.megabytes * 1_000_000):
            began = time.process_time()
            requests += len(reader.feed(block).requests)
            spent += time.process_time() - began
            size += len(block)
            grown.append(resident())
        tenth, line = grown[len(grown) // 10], len(log) / len(log.splitlines())
        print(
            f"{title}: {size / spent / 1e6:.0f} MB/s, {requests / spent:,.0f} requests/s,"
            f" {line:.0f} bytes a line;"
            f" memory {(grown[-1] - tenth) / 1e6:+.1f} MB over nine tenths of {size / 1e6:.0f} MB"
        )
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
