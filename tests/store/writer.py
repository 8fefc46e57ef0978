"""Fills a store and says what has returned, a line each, until somebody kills it.

python writer.py STORE HALOTUI_ROOT [keep]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [sys.argv[2], str(Path(__file__).parent)]

from store_parts import block, ended, speed, template  # noqa: E402

from halotui.runs import Mark  # noqa: E402
from halotui.store import open_store  # noqa: E402


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def main() -> None:
    store = open_store(Path(sys.argv[1]))
    say("open")
    for number in range(10_000):
        id_ = store.begin(template(f"round {number}"))
        say("begin", id_)
        sink = store.sink(id_)
        for second in range(8):
            sink.write(block(second))
            say("samples", id_)
            if second % 3 == 0:
                store.result(id_, speed(f"pp{second + 1}"))
                say("result", id_)
            if second % 4 == 0:
                sink.mark(Mark(time=float(second), label=f"mark {second}"))
                say("mark", id_)
        if number % 4 == 1 and "keep" not in sys.argv:  # the one before has ended
            store.delete((id_ - 1,))
            say("deleted", id_ - 1)
        if number % 2 == 0:
            store.finish(id_, ended())
            say("finish", id_)


main()
