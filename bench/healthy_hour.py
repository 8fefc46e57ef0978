"""A healthy hour must raise nothing: one of the scripted box, recorded and checked as a user would.

python bench/healthy_hour.py            exit 0: nothing was found
python bench/healthy_hour.py --seconds 600
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from halotui.demo.scene import Scene
from halotui.recording.file import Writer

FLUSH = 60  # frames


async def record(path: Path, seconds: int) -> int:
    """Findings that were there while it was recorded."""
    scene, writer, found = Scene(seconds=seconds), Writer(path), 0
    try:
        for second in range(seconds + 1):
            frame = await scene._frame(second)
            found += len(frame.findings)
            writer.frame(frame)
            if second % FLUSH == 0:
                writer.flush()
    finally:
        writer.close()
        await scene.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=3600)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.halo"
        began = time.monotonic()
        found = asyncio.run(record(path, seconds))
        made = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "halotui", "check", "--fail-on", "info", str(path)])
        print(
            f"made in {made - began:.1f} s, {found} findings live; checked in {time.monotonic() - made:.1f} s"
        )
    return done.returncode or (1 if found else 0)


if __name__ == "__main__":
    sys.exit(main())
