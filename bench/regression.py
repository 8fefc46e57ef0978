"""How honest tg-regressed is: false alarms over a day's users, and how soon it tells of a real fall.

python bench/regression.py                  20 seeds of 2,000 requests, without drafts and with
python bench/regression.py --seeds 3 --requests 500 --left 0.75

The server is of numbers alone (tests/rules/synthetic.py); rules, engine and learning are the real ones. Its
users come and go, their contexts grow, caches are warm or cold, texts draft well or badly: none of that is a
fault. Then it keeps ``--left`` of its speed. Exit 1: there was an alarm before.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from rules.synthetic import RULES, Synthetic  # noqa: E402  below tests

PATIENCE = 600  # requests after the fall


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--left", type=float, default=0.75, help="share of the speed that is left")
    asked = parser.parse_args()
    wrong, found = 0, {False: [], True: []}
    print(f"{'seed':>4}  {'drafts':<6}  " + "  ".join(RULES) + "  found after")
    for seed in range(asked.first, asked.first + asked.seeds):
        for drafts in (False, True):
            box = Synthetic(seed, speculates=drafts)
            box.run(asked.requests)
            alarms, told = dict(box.alarms), list(box.found)
            box.cut = asked.left
            after = box.run(PATIENCE, until="tg-regressed")
            found[drafts].append(after)
            wrong += sum(alarms.values())
            counts = "  ".join(f"{alarms[rule]:>{len(rule)}}" for rule in RULES)
            late = "" if after < PATIENCE else " (not found)"
            print(f"{seed:>4}  {'yes' if drafts else 'no':<6}  {counts}  {after}{late}", flush=True)
            for at, finding in told:
                print(f"      request {at}: {finding.title}; {finding.evidence}", flush=True)
    for drafts, many in found.items():
        never = sum(one >= PATIENCE for one in many)
        print(
            f"drafts {'yes' if drafts else 'no'}: found after {median(many):.0f} requests (median), "
            f"{max(many)} at most, {never} of {len(many)} not within {PATIENCE}"
        )
    print(f"{wrong} false alarms")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
