"""The suite that the README shows is one that runs, with the profiles that it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from running import environment

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(holding: str) -> str:
    return next(text for text in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if holding in text)


def test_the_readme_s_suite_is_understood(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(block("[profiles.coder]"))
    (tmp_path / "backends.toml").write_text(block("# backends.toml"))
    words = ("bench", "backends.toml", "--dry-run", "--config", "config.toml")
    done = subprocess.run(
        [sys.executable, "-m", "halotui", *words],
        cwd=tmp_path,
        env=environment(XDG_STATE_HOME=str(tmp_path / "state")),
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert not re.search(r"backends\.toml:\d+:|config\.toml:\d+:", said), said
    assert "Vulkan + FA" in said and "HIP + hipBLASLt, ctk q8_0" in said, said
