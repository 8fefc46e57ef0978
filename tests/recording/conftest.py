"""Frames to record: of a real demo box, and made ones that are quick to tell apart."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from halotui.model import Frame

DEMO = Path(__file__).parents[1] / "fixtures" / "recording" / "demo.jsonl.gz"


@pytest.fixture(scope="session")
def demo_frames() -> list[Frame]:
    """Ninety seconds of the demo box at 1 Hz: two slots, requests, log lines, sources."""
    lines = gzip.decompress(DEMO.read_bytes()).splitlines()
    return [msgspec.json.decode(line, type=Frame) for line in lines]
