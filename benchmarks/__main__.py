"""`python -m benchmarks`: every claim about accuracy, cost, storing, start-up and the bridge, measured here and now."""

from __future__ import annotations

import argparse
import sys

from benchmarks import bridge, dashboard, questions, report, startup, storage, streams

_PARTS = {
    "startup": startup.run,
    "storage": storage.run,
    "streams": streams.run,
    "questions": questions.run,
    "bridge": bridge.run,
    "dashboard": dashboard.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of shorter loads: a look, not a result")
    parser.add_argument("--only", choices=tuple(_PARTS), help="only this part")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    report.machine()
    figures: list[report.Figure] = []
    for name in (options.only,) if options.only else _PARTS:
        figures += list(_PARTS[name](rounds, quick=options.quick))
    return report.summary(figures)


if __name__ == "__main__":
    sys.exit(main())
