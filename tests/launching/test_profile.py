"""Profiles: what is inherited, what is refused, and what the shipped ones are."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halotui.actions import ActionError
from halotui.servers.launch import Runner
from halotui.servers.profile import NO_DRAFT, PRESETS, Profile, meant, merged, over, presets, resolve

SHIPPED = ("vulkan", "vulkan-spec", "rocm-hipblaslt", "rocm-wmma", "cpu")


def read(text: str) -> dict[str, Profile]:
    """As config.toml would say it."""
    return msgspec.toml.decode(text, type=dict[str, dict[str, Profile]])["profiles"]


def test_the_presets_change_what_runs() -> None:
    assert tuple(presets()) == SHIPPED
    for name in SHIPPED:
        preset = resolve(name, merged({}))
        assert preset.description and preset.backend and preset.flags, name
        assert not preset.complete and not preset.binary, name


def test_each_preset_says_where_it_comes_from() -> None:
    lines = PRESETS.read_text().splitlines()
    for name in SHIPPED:
        assert lines[lines.index(f"[profiles.{name}]") - 1].startswith("# "), name


def test_presets_inherit() -> None:
    spec, wmma = resolve("vulkan-spec", presets()), resolve("rocm-wmma", presets())
    assert spec.env == {"RADV_PERFTEST": "nogttspill"}
    assert (spec.flags["mmap"], spec.flags["draft-max"]) == (False, 8)
    assert wmma.env == {"ROCBLAS_USE_HIPBLASLT": "1"} and wmma.backend == "rocm"
    assert wmma.description != resolve("rocm-hipblaslt", presets()).description


def test_one_with_a_presets_name_builds_on_it() -> None:
    mine = read("""
        [profiles.vulkan]
        binary = "/opt/vulkan/llama-server"
        flags.fa = "auto"
        [profiles.vulkan-spec]
        inherits = "vulkan-spec"
        draft = "/models/draft.gguf"
        [profiles.cpu]
        inherits = "rocm-wmma"
    """)
    known = merged(mine)
    assert tuple(known) == ("vulkan", "vulkan-spec", "cpu", "rocm-hipblaslt", "rocm-wmma")
    vulkan, spec, cpu = (resolve(name, known) for name in ("vulkan", "vulkan-spec", "cpu"))
    assert vulkan.env == {"RADV_PERFTEST": "nogttspill"} and vulkan.flags["fa"] == "auto"
    assert spec.binary == "/opt/vulkan/llama-server" and spec.flags["draft-p-min"] == 0.5
    assert cpu.backend == "rocm" and "device" not in cpu.flags


def test_the_child_wins_key_by_key() -> None:
    known = read("""
        [profiles.a]
        description = "the first"
        model = "/a.gguf"
        port = 8080
        env = { X = "1", Y = "1" }
        flags = { np = 4, c = 8192 }
        api_key_env = "KEY"
        [profiles.b]
        inherits = "a"
        port = 8081
        env = { Y = "2" }
        flags = { np = 1, draft-max = "" }
        api_key_file = "/key"
    """)
    b = resolve("b", known)
    assert (b.model, b.port, b.inherits, b.description) == ("/a.gguf", 8081, "", "")
    assert b.env == {"X": "1", "Y": "2"} and b.flags == {"np": 1, "c": 8192, "draft-max": ""}
    assert (b.api_key_env, b.api_key_file) == ("", "/key")


def test_another_runner_leaves_the_parents_place() -> None:
    known = read("""
        [profiles.box]
        runner = "toolbox"
        container = "llama-vulkan-radv"
        model = "/m.gguf"
        [profiles.plain]
        inherits = "box"
        runner = "plain"
        [profiles.other]
        inherits = "box"
        container = "llama-rocm"
    """)
    assert resolve("plain", known) == Profile(runner=Runner.PLAIN, model="/m.gguf")
    assert resolve("other", known).container == "llama-rocm"


def test_a_plain_child_of_an_unsaid_runner_keeps_the_binary() -> None:
    known = {"a": Profile(binary="/x"), "b": Profile(inherits="a", runner=Runner.PLAIN)}
    assert resolve("b", known).binary == "/x"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[profiles.a]\ninherits='b'\n[profiles.b]\ninherits='c'\n[profiles.c]\ninherits='a'",
            "a → b → c → a",
        ),
        ("[profiles.a]\ninherits='a'", "a → a"),
        ("[profiles.a]\ninherits='vulcan'", "no profile vulcan (a → vulcan)"),
        ("[profiles.b]\nport=1", "no profile a"),
        ("[profiles.a]\nrunner='podman'", "runner podman needs image"),
        ("[profiles.a]\nrunner='docker'\ncontainer='x'", "runner docker needs image"),
        ("[profiles.a]\nrunner='distrobox'", "runner distrobox needs container"),
        ("[profiles.a]\nrunner='systemd'", "runner systemd needs unit"),
        ("[profiles.a]\nrunner='systemd'\nunit='u'\nmodel='m'\nflags.np=1", "the unit says model, flags"),
        ("[profiles.a]\nimage='x'", "image is for runner podman or docker, not plain"),
    ],
)
def test_what_cannot_be_is_said_with_its_chain(text: str, told: str) -> None:
    with pytest.raises(ActionError) as error:
        resolve("a", merged(read(text)))
    assert told in error.value.reason


def test_a_near_miss_is_offered() -> None:
    with pytest.raises(ActionError) as error:
        resolve("vulcan", presets())
    assert error.value.hint == "there is vulkan"


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".a", "-a", "a\x1b[2J", "a b"])
def test_a_name_is_a_file_name(name: str) -> None:
    with pytest.raises(ActionError) as error:
        resolve(name, {name: Profile()})
    assert "\x1b" not in error.value.reason


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("port = 0", "`port`: 0"),
        ("port = 65536", "`port`: 65536"),
        ("load_seconds = 0.0", "`load_seconds`"),
        ("backend = 'vulcan'", "`backend`: vulcan"),
        ("env = { 'A=B' = '1' }", "`A=B`"),
        ('env.A = "1\\u0000"', "`env`: no command line"),
        ('binary = ["nice", "\\u0000"]', "`binary`: no command line"),
        ('extra = "--lora \'a"', "`extra`: no closing quotation"),
        ("flags.ctkk = 'q8_0'", "`ctkk`: no such setting; did you mean ctk?"),
        ("flags.parallel = 1", "`parallel`: no such setting; did you mean np?"),
        ("flags.np = 'many'", "`np`: np=many: not a whole number"),
        ("flags.fa = 'perhaps'", "`fa`"),
        ("flags.model = '/m'", "`model`: is no flag here"),
        ("runner = 'snap'", "runner"),
        ("colour = 'red'", "colour"),
        ("binary = 1", "binary"),
    ],
)
def test_a_profile_is_strict(said: str, told: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        read(f"[profiles.a]\n{said}")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("np", 4, 4),
        ("np", "", None),
        ("np", False, None),
        ("ctk", "none", None),
        ("device", "none", "none"),
        ("spec", "none", "none"),
        ("spec", False, None),
        ("mmap", False, False),
        ("fa", False, "off"),
        ("fa", True, "on"),
        ("draft-p-min", 0.5, 0.5),
    ],
)
def test_a_flag_is_set_or_taken_away(name: str, value: str | int | float | bool, wanted: object) -> None:
    assert meant(name, value) == wanted


def test_words_of_binary_and_extra() -> None:
    assert Profile(binary="/opt/my llama/llama-server").binary_words == ("/opt/my llama/llama-server",)
    assert Profile(binary=("nice", "llama-server")).binary_words == ("nice", "llama-server")
    assert Profile().binary_words == () == Profile().extra_words
    assert Profile(extra="--lora '/a b.gguf' -v").extra_words == ("--lora", "/a b.gguf", "-v")


@pytest.mark.parametrize(
    ("profile", "complete"),
    [
        (Profile(), False),
        (Profile(draft=NO_DRAFT, flags={"np": 1}), False),
        (Profile(model="/m.gguf"), True),
        (Profile(extra="-hf org/repo:Q4_0"), True),
        (Profile(extra=("--models-dir=/m",)), True),
        (Profile(runner=Runner.SYSTEMD, unit="llama"), True),
    ],
)
def test_what_names_a_model_is_complete(profile: Profile, complete: bool) -> None:
    assert profile.complete is complete


def test_nothing_secret_in_a_repr() -> None:
    assert "hunter2" not in repr(Profile(env={"HF_TOKEN": "hunter2"}))


texts = st.sampled_from(["", "a", "b"])
profiles = st.builds(
    Profile,
    description=texts,
    runner=st.sampled_from([None, Runner.PLAIN]),
    binary=texts,
    model=texts,
    port=st.sampled_from([None, 1, 2]),
    env=st.dictionaries(st.sampled_from("XYZ"), st.sampled_from("12")),
    flags=st.dictionaries(st.sampled_from(["np", "c", "t"]), st.sampled_from([1, 2, ""])),
    extra=st.sampled_from(["", "-v", ("-v",)]),
    api_key_env=texts,
    api_key_file=st.just(""),
)


@given(profiles, profiles, profiles)
def test_inheriting_is_associative(a: Profile, b: Profile, c: Profile) -> None:
    assert over(over(a, b), c) == over(a, over(b, c))


@given(profiles, profiles)
def test_resolving_twice_is_resolving_once(parent: Profile, child: Profile) -> None:
    known = {"a": parent, "b": msgspec.structs.replace(child, inherits="a")}
    whole = resolve("b", known)
    assert resolve("b", {"b": whole}) == whole
    assert whole.flags == parent.flags | child.flags
