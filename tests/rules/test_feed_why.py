"""Why a speed is lower than usual, asked of the feed on a key press."""

from __future__ import annotations

from typing import cast

from builders import URL, frame
from halotui.feed import LiveFeed
from halotui.ledger import Baselines
from halotui.rules.engine import Engine
from halotui.sampler.core import Sampler
from rules.usual import NOW, answer, baseline, serving

FIELD = "server.generation_tokens_per_second"


def test_the_rules_say_why() -> None:
    engine = Engine()
    engine.baselines = Baselines([baseline(depth=2500), baseline(40.0, depth=12000)])
    feed = LiveFeed(cast(Sampler, None), engine)
    assert feed.why(URL, FIELD) == ()  # no frame yet
    for number in range(1, 4):
        ended = answer(NOW + 30 * number, 44.0, depth=7000)
        feed.judge(frame(NOW + 30 * number, servers=[serving(requests=(ended,))]))
    assert [cause.id for cause in feed.why(URL, FIELD)] == ["deeper-context"]
    assert feed.why(URL, "server.prompt_tokens_per_second") == ()
    assert feed.why(URL, "server.model") == () == feed.why("http://elsewhere", FIELD)
