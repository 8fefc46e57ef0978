"""The rows of several boxes: what is summed, what is one job, who is meant by --rpc."""

from __future__ import annotations

import pytest

from builders import GIB, frame, gpu, server
from halotui.fleet import Box, Kind, Order, Row, rows, totals, worst
from halotui.model import Finding, Frame, Link, LinkState, ServerFacts, ServerState, Severity

UP = Link(state=LinkState.UP, since_time=0)
LOST = Link(state=LinkState.LOST, since_time=0, reason="timed out")


def box(name: str, link: Link | None = UP, rate: float | None = 20.0, **more: object) -> Box:
    return Box(name, work(name, rate), link, **more)  # type: ignore[arg-type]


def work(host: str, rate: float | None = 20.0, *findings: Finding, gtt: float = 60) -> Frame:
    served = server(state=ServerState.BUSY, model=f"/m/{host}.gguf", generation_tokens_per_second=rate)
    return frame(
        servers=[served], gpus=[gpu(gtt=gtt, socket_power_watts=100.0)], host=host, findings=findings
    )


def head(host: str, *peers: str, rate: float = 15.0) -> Frame:
    served = server(
        model="/m/big.gguf",
        facts=ServerFacts(rpc_peers=peers),
        generation_tokens_per_second=rate,
        backend="vulkan",
    )
    return frame(servers=[served], gpus=[gpu(gtt=90)], host=host)


def peer(host: str, port: int = 50052, state: ServerState = ServerState.BUSY) -> Frame:
    served = server(f"rpc://0.0.0.0:{port}", state, engine="rpc-server")
    return frame(servers=[served], gpus=[gpu(gtt=80)], host=host)


def finding(severity: Severity, title: str = "wrong") -> Finding:
    return Finding(id=title, severity=severity, title=title, evidence="", why="", fix="")


def tree(boxes: list[Box]) -> list[str]:
    return [f"{row.stem}{row.name} {row.note} {row.trouble}".strip() for row in rows(boxes)]


def names(boxes: list[Box], order: Order) -> list[str]:
    return [row.name for row in rows(boxes, order)]


def test_a_box_sums_its_servers_and_shows_the_one_at_work() -> None:
    idle = server(
        "http://b", model="idle.gguf", generation_tokens_per_second=0.0, slots_busy=0, slots_total=2
    )
    busy = server(
        "http://c",
        ServerState.BUSY,
        model="/m/busy.gguf",
        generation_tokens_per_second=5.0,
        slots_busy=1,
        slots_total=4,
    )
    (row,) = rows([Box("a", frame(servers=[idle, busy], gpus=[gpu(gtt=60)]))])
    of = row.figures
    assert (of.model, of.models, of.decode, of.slots_busy, of.slots_total) == ("busy", 2, 5.0, 1, 6)
    assert (of.gtt_used, of.gtt_total) == (60 * GIB, 120 * GIB) and row.live


def test_what_is_not_known_is_none() -> None:
    (row,) = rows([Box("a")])
    assert not row.live and row.figures.decode is None and row.figures.gtt_used is None
    (row,) = rows([Box("a", frame())])
    assert row.live and row.figures.decode is None and row.figures.watts is None and row.figures.model is None


def test_totals_leave_out_what_cannot_be_asked() -> None:
    lost = box("b", LOST)._replace(frame=work("b", 9.0, finding(Severity.CRITICAL)))
    good = box("a")._replace(frame=work("a", 20.0, finding(Severity.WARNING)))
    all_ = totals([good, lost, Box("c", link=UP), box("d", trouble="broken")])
    assert (all_.boxes, all_.up, all_.decode, all_.watts) == (4, 1, 20.0, 100.0)
    assert all_.findings == {Severity.WARNING: 1}
    assert [(at, one.severity) for at, one in worst([lost, good])] == [(1, Severity.WARNING)]


def test_the_worst_finding_stands_first() -> None:
    all_ = (finding(Severity.INFO), finding(Severity.CRITICAL, "hang"), finding(Severity.WARNING))
    (row,) = rows([Box("a", work("a", 1.0, *all_))])
    assert [one.severity for one in row.figures.findings] == ["critical", "warning", "info"]


# --- RPC clusters


def test_a_cluster_is_one_job_over_its_hosts() -> None:
    boxes = [
        Box("x", work("x")),
        Box("two", peer("two"), UP),
        Box("one", head("one", "two:50052", "three:50052"), UP),
    ]
    boxes.append(Box("three", peer("three"), UP))
    assert tree(boxes) == [
        "x",
        "big 3 boxes · rpc",
        "├ one 1 of 3 · head",
        "├ two 2 of 3 · rpc",
        "└ three 3 of 3 · rpc",
    ]
    job, first, second, _ = rows(boxes)[1:]
    assert job.kind is Kind.JOB and job.box == 2 and job.live and job.whole
    assert (job.figures.decode, job.figures.gtt_used, job.figures.backend) == (15.0, 250 * GIB, "vulkan")
    assert first.figures.decode is None and first.figures.gtt_used == 90 * GIB  # its speed is told once
    assert second.box == 1 and second.figures.gtt_used == 80 * GIB
    assert totals(boxes).decode == 35.0


@pytest.mark.parametrize(
    ("called", "known"),
    [
        ("two:50052", Box("two")),
        ("TWO:50052", Box("me@two")),
        ("two.lan:50052", Box("two")),
        ("two:50052", Box("two.lan")),
        ("two:50052", Box("other", frame(host="two"))),
        ("10.0.0.2:50052", Box("10.0.0.2")),
        ("10.0.0.2:50052", Box("two", addresses=("192.168.1.2", "10.0.0.2"))),
        ("[fd00::2]:50052", Box("two", addresses=("fd00::2",))),
    ],
)
def test_a_peer_is_the_box_of_that_name_or_address(called: str, known: Box) -> None:
    boxes = [Box("one", head("one", called)), known]
    assert [row.box for row in rows(boxes)] == [0, 0, 1]


@pytest.mark.parametrize("called", ["10.0.0.3:50052", "strix:50052", "ten:50052"])
def test_a_peer_of_nobody_s_is_a_row_of_its_own(called: str) -> None:
    boxes = [Box("one", head("one", called)), Box("strix.a"), Box("strix.b"), Box("10.0.0.2")]
    last = rows(boxes)[2]
    assert (last.kind, last.name, last.note) == (Kind.PEER, called, "2 of 2 · rpc · not watched")
    assert last.box is None and not last.live


def test_an_rpc_server_of_the_same_box_makes_no_cluster() -> None:
    boxes = [
        Box("one", head("one", "127.0.0.1:50052", "localhost:50053", "one:50054")),
        Box("two", peer("two")),
    ]
    assert [row.kind for row in rows(boxes)] == [Kind.BOX, Kind.BOX]


def test_a_job_says_which_host_it_lacks() -> None:
    call = Box("one", head("one", "two:50052", "three:50052", "four:50052", "five"), UP)
    boxes = [
        call,
        Box("two", peer("two"), LOST),
        Box("three", peer("three", 50099), UP),
        Box("four", peer("four", state=ServerState.DOWN), UP),
        Box("five", None, None, trouble="no such file"),
    ]
    job = rows(boxes)[0]
    assert job.trouble.split("; ") == [
        "two: link lost",
        "three: no rpc-server on port 50052",
        "four: no rpc-server on port 50052",
        "five: no such file",
    ]
    assert job.live and not job.whole


def test_a_box_stands_once_though_two_jobs_call_it() -> None:
    boxes = [
        Box("one", head("one", "three:1")),
        Box("two", head("two", "three:1", "one:1")),
        Box("three", peer("three", 1)),
    ]
    shown = rows(boxes)
    assert [row.box for row in shown if row.kind is Kind.BOX] == [0, 2, 1]
    assert [row.name for row in shown if "of another job" in row.note] == ["three", "one"]


# --- order and filter


def test_in_order_the_unknown_and_the_lost_come_last() -> None:
    boxes = [box("b", rate=5.0), box("c", rate=None), box("a", rate=9.0), box("d", LOST, rate=99.0)]
    assert names(boxes, Order()) == ["b", "c", "a", "d"]
    order = Order()
    order.by("decode")
    assert names(boxes, order) == ["a", "b", "c", "d"]
    order.by("decode")
    assert names(boxes, order) == ["b", "a", "c", "d"]
    order.by("name")
    assert names(boxes, order) == ["a", "b", "c", "d"]
    order.next(["name", "decode"])
    assert order.sort == "decode" and order.descending
    order.next(["name", "decode"])
    assert order.sort == "" and names(boxes, order) == ["b", "c", "a", "d"]


def test_by_findings_the_worst_come_first() -> None:
    two = (finding(Severity.WARNING), finding(Severity.WARNING, "too"))
    boxes = [box("a"), Box("b", work("b", 1.0, *two)), Box("c", work("c", 1.0, finding(Severity.CRITICAL)))]
    assert names(boxes, Order("findings", True)) == ["c", "b", "a"]


def test_a_job_goes_with_its_hosts() -> None:
    boxes = [box("z", rate=1.0), Box("one", head("one", "two:50052"), UP), Box("two", peer("two"), UP)]
    assert names(boxes, Order("decode", True)) == ["big", "one", "two", "z"]
    assert names(boxes, Order(words="two")) == ["big", "one", "two"]


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("LOST", ["b"]),
        ("up lab", ["a"]),
        ("critical", ["a"]),
        ("a.gguf", []),
        ("oops", ["c"]),
        ("", ["a", "b", "c"]),
    ],
)
def test_words_choose(words: str, left: list[str]) -> None:
    boxes = [
        Box("a", work("a", 1.0, finding(Severity.CRITICAL)), UP, ("lab",)),
        Box("b", work("b", 1.0, finding(Severity.CRITICAL)), LOST),
        Box("c", trouble="oops"),
    ]
    shown: list[Row] = rows(boxes, Order(words=words))
    assert [row.name for row in shown if row.kind is Kind.BOX] == left


def test_groups_have_headings() -> None:
    boxes = [box("a", groups=("lab",)), box("b"), box("c", LOST, groups=("lab", "more"))]
    assert [(row.kind, row.name, row.note) for row in rows(boxes)] == [
        (Kind.GROUP, "lab", "1 of 2 up"),
        (Kind.BOX, "a", ""),
        (Kind.BOX, "c", ""),
        (Kind.GROUP, "no group", "1 of 1 up"),
        (Kind.BOX, "b", ""),
    ]
