"""A llama-server that says what a test wants to hear, on a loopback port of this process."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeServer:
    """Answers as it is told: path -> (status, JSON). A llama-server at rest until changed."""

    def __init__(self) -> None:
        slot = {"id": 0, "n_ctx": 4096, "speculative": False, "is_processing": False}
        self.answers: dict[str, tuple[int, Any]] = {
            "/health": (200, {"status": "ok"}),
            "/props": (200, {"total_slots": 1, "model_path": "/m/fake.gguf", "build_info": "b1-fake"}),
            "/slots": (200, [slot]),
            "/metrics": (200, "llamacpp:requests_deferred 0\n"),
        }
        self.asked: list[str] = []
        self.holds: dict[str, float] = {}  # path -> seconds that its answer takes
        self.gone = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.asked.append(self.path)
                time.sleep(fake.holds.get(self.path, 0.0))
                if fake.gone:
                    self.close_connection = True
                    return
                status, answer = fake.answers.get(self.path, (404, {}))
                body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):  # who asked has gone
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gone = True  # for connections that are kept, too
        self._http.shutdown()
        self._http.server_close()
