"""Which file is a server's model, as we see it, and what a name alone may tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders import server
from gguf_files import number, word, write
from halotui.collectors import model_name, model_weights, process_io
from halotui.hosts.local import LocalHost
from halotui.model import SourceState, Unavailable


def header(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, word("general.architecture", "llama"), tensors=("output.weight",), more=4096 * 4)


def proc(path: Path, mount: str | None, own: str = "mnt:[1]") -> LocalHost:
    """A /proc with process 7 in a mount namespace; None: not ours to see."""
    for pid, name in (("7", mount), ("self", own)):
        (path / "proc" / pid / "ns").mkdir(parents=True)
        if name is not None:
            (path / "proc" / pid / "ns/mnt").symlink_to(name)
    return LocalHost(path, path / "proc")


def test_of_a_process_that_sees_what_we_see(tmp_path: Path) -> None:
    model = header(tmp_path / "models/m.gguf")
    host = proc(tmp_path, "mnt:[1]")
    at = model_weights.place(host, server(pid=7, model_path=str(model)))
    assert at == model and model_weights.read(LocalHost(), at).parameters == 4096
    (tmp_path / "proc/7/cwd").symlink_to(tmp_path / "models")
    near = model_weights.place(host, server(pid=7, model_path="m.gguf"))
    assert model_weights.stamp(LocalHost(), near) == model_weights.stamp(LocalHost(), model)


def test_of_a_container_by_its_own_root(tmp_path: Path) -> None:
    """Links lead where they lead inside, however absolute, and never out of it."""
    host, root = proc(tmp_path, "mnt:[2]"), tmp_path / "proc/7/root"
    model = header(root / "data/m.gguf")
    (root / "models").mkdir()
    (root / "models/one.gguf").symlink_to("/data/m.gguf")
    (root / "models/two.gguf").symlink_to("../../../../models/one.gguf")
    (root / "models/circle").symlink_to("circle")
    for name in ("/data/m.gguf", "/models/one.gguf", "/models/two.gguf"):
        assert model_weights.place(host, server(pid=7, model_path=name)) == model
    with pytest.raises(Unavailable, match="circle"):
        model_weights.place(host, server(pid=7, model_path="/models/circle"))
    with pytest.raises(Unavailable, match="not where"):
        model_weights.place(host, server(pid=7, model_path="/models/none.gguf"))


def test_what_is_not_ours_to_see_is_said(tmp_path: Path) -> None:
    model = header(tmp_path / "m.gguf")
    host = proc(tmp_path, None)
    assert model_weights.place(host, server(pid=7, model_path=str(model))) == model
    with pytest.raises(Unavailable) as hidden:  # the same path may be another file there
        model_weights.place(host, server(pid=7, model_path=str(model), container="llama"))
    assert hidden.value.state is SourceState.DENIED and "right to read" in hidden.value.hint
    with pytest.raises(Unavailable) as unknown:
        model_weights.place(host, server(pid=7))
    assert unknown.value.state is SourceState.NO_DATA


def test_no_pipe_no_half_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unavailable, match="not a file"):
        model_weights.read(LocalHost(), tmp_path / "pipe")
    part = write(tmp_path / "m-00001-of-00002.gguf", number("split.count", 2), tensors=("output.weight",))
    with pytest.raises(Unavailable, match="part of"):
        model_weights.read(LocalHost(), part)


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("Qwen3.5-122B-A10B-REAP-20-Q6_K.gguf", 98, 10e9),
        ("qwen3-30b-a3b-instruct", 30.5, 3e9),
        ("LFM2-8B-A1B", 8.3, 1e9),
        ("Qwen3-30B", 30.5, None),  # an alias that keeps it to itself
        ("Mixtral-8x7B-Instruct", 46.7, None),
        ("Llama-3.2-8X3B-MOE", 18, None),
        ("gpt-oss-120b", 117, None),
        ("GLM-4.7-Q4_K_M", 355, None),
        ("Llama-4-Scout-17B-16E", 109, None),
        ("gemma-3n-E4B-it", 6.9, None),
        ("Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf", 8.03, 8.03e9),
        ("Qwen2.5-Coder-32B-Instruct", 32.8, 32.8e9),
        ("gemma-2-2b-it", 2.61, 2.61e9),
        ("Llama-3-8B", 47, None),  # whatever that is
        ("Model-A10B", 7, None),
        ("DATA10B", 30, None),
        (None, 8, None),
    ],
)
def test_what_a_name_tells(name: str | None, billions: float, active: float | None) -> None:
    found = model_name.weights(name, round(billions * 1e9), round(billions * 1e9 / 2))
    assert (found[0].active_parameters if found else None) == active
    if found:
        assert found[0].token_bytes == pytest.approx(found[0].active_parameters / 2)
        assert found[1] == ("/v1/models" if found[0].active_parameters == found[0].parameters else "name")


def test_bytes_read_from_disk(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/io").write_text("rchar: 5\nwchar: 6\nsyscr: 1\nread_bytes: 4096\nwrite_bytes: 0\n")
    assert process_io.read_bytes(LocalHost(tmp_path, tmp_path), 7) == 4096
    assert process_io.read_bytes(LocalHost(tmp_path, tmp_path), 8) is None
    assert process_io.read_bytes(LocalHost(), os.getpid()) is not None
