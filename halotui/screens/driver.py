"""Textual's terminal driver, with a keyboard thread that sleeps until there is a key, and a clipboard that
tmux and GNU screen let through.

The stock thread wakes ten times a second to see whether it should end: a tenth of what the whole cockpit
costs, for ever. This one is woken through a pipe.
"""

from __future__ import annotations

import os
import select
import signal
from codecs import getincrementaldecoder
from contextlib import suppress
from threading import Event
from typing import Any

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

from halotui.screens.clipboard import OSC52, TOO_LONG, wrapped

ESCAPE_SECONDS = 0.1  # how often a half-read escape sequence is looked at ...
RECENT_TICKS = 10  # ... and how often after the last input


class QuietDriver(LinuxDriver):
    """The same input, at no cost while nobody types."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exit_event = self._waking = WakingEvent()

    def write(self, data: str) -> None:
        """To the terminal. What is copied is wrapped here, whoever copies it."""
        if data.startswith(OSC52):
            copied = wrapped(data)
            if copied is None:
                self._app.notify(TOO_LONG, severity="warning")
                return
            data = copied
        super().write(data)

    def run_input_thread(self) -> None:
        """Wait for input and dispatch events."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")().decode
        wake = self._waking.reader
        ticks = 0
        try:
            while not self.exit_event.is_set():
                timeout = ESCAPE_SECONDS if ticks else None
                ready, _, _ = select.select((self.fileno, wake), (), (), timeout)
                if self.fileno in ready:
                    data = os.read(self.fileno, 4096)
                    if not data:  # the terminal has gone
                        os.kill(os.getpid(), signal.SIGHUP)
                        break
                    ticks = RECENT_TICKS
                    for event in parser.feed(decode(data)):
                        self.process_message(event)
                ticks = max(0, ticks - 1)
                for event in parser.tick():
                    self.process_message(event)
        finally:
            with suppress(EOFError, ParseError):
                for _ in parser.feed(""):
                    pass


class WakingEvent(Event):
    """An event whose ``reader`` becomes readable when it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reader, self._writer = os.pipe()

    def set(self) -> None:
        if not self.is_set():
            os.write(self._writer, b"!")
        super().set()

    def clear(self) -> None:
        if self.is_set():
            os.read(self.reader, 1)
        super().clear()
