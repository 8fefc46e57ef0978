"""No key survives in what may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.servers.secret import MASK, is_secret, masked, masked_env, withdraw

# Distinct enough that finding it means that it leaked; it may look like a flag.
secrets = st.text("xyzXYZ-019=_/+", min_size=6, max_size=30).map(lambda text: f"{text}Q7Q")
harmless = st.sampled_from(["-c", "4096", "--metrics", "-m", "/models/tiny.gguf", "run", "--", "-np", "2"])


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LLAMA_API_KEY",
            "HF_TOKEN",
            "--api-key",
            "--api_key",
            "-hft",
            "--hf-token",
            "AWS_SECRET_ACCESS_KEY",
        ),
        *("PGPASSWORD", "OPENAI_APIKEY", "--mcp-servers-json", "LLAMA_ARG_MCP_SERVERS_JSON"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LLAMA_ARG_CTX_SIZE",
            "--api-key-file",
            "LLAMA_ARG_API_KEY_FILE",
            "--ssl-key-file",
            "--keep",
            "PATH",
        ),
        *("TOKENIZERS_PARALLELISM", "--image-min-tokens", "-c", "--cache-type-k", "SSH_AUTH_SOCK", "", "-"),
    ],
)
def test_names_of_none(name: str) -> None:
    assert not is_secret(name)


def test_withdrawn_to_the_environment() -> None:
    words = ("-m", "a", "--api_key", "k1", "-hft", "t", "--api-key-file", "f", "--api-key", "k2", "--metrics")
    assert withdraw(words) == (
        ("-m", "a", "--api-key-file", "f", "--metrics"),
        {"LLAMA_API_KEY": "k1,k2", "HF_TOKEN": "t"},
    )
    assert withdraw(("--hf-token",)) == (("--hf-token",), {})


def test_masked_keeps_what_is_none() -> None:
    words = ("podman", "run", "--env", "A=b", "llama-server", "-m", "a=b.gguf", "--override-kv", "a.b=int:3")
    assert masked(words) == words
    assert masked(("--api-key", "--metrics", "--metrics")) == ("--api-key", MASK, "--metrics")
    assert masked(("-mu", "https://me:pw@host/x.gguf?token=t&v=1")) == (
        "-mu",
        f"https://{MASK}@host/x.gguf?token={MASK}&v=1",
    )


@given(
    st.lists(harmless),
    secrets,
    st.lists(harmless),
    st.sampled_from(["--api-key", "-hft", "--hf_token", "--mcp-servers-json"]),
    st.sampled_from(["word", "equals", "env", "assigned"]),
)
def test_no_secret_survives(before: list[str], key: str, after: list[str], flag: str, how: str) -> None:
    said = {
        "word": [flag, key],
        "equals": [f"{flag}={key}"],
        "env": [f"--env=LLAMA_API_KEY={key}"],
        "assigned": ["env", f"HF_TOKEN={key}"],
    }[how]
    shown = masked([*before, *said, *after])
    assert not any("Q7Q" in word for word in shown)
    assert list(shown[: len(before)]) == before
    assert list(shown[len(shown) - len(after) :]) == after


@given(secrets)
def test_no_secret_survives_in_an_environment(key: str) -> None:
    shown = masked_env({"LLAMA_API_KEY": key, "HTTPS_PROXY": "http://u:p@proxy:1", "LLAMA_ARG_CTX_SIZE": "7"})
    assert shown == {
        "LLAMA_API_KEY": MASK,
        "HTTPS_PROXY": f"http://{MASK}@proxy:1",
        "LLAMA_ARG_CTX_SIZE": "7",
    }
