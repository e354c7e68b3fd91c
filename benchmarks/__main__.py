"""`python -m benchmarks`: every claim about accuracy, cost and start-up, measured here and now."""

from __future__ import annotations

import argparse
import sys

from benchmarks import report, startup, storage, streams


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of shorter loads: a look, not a result")
    parser.add_argument("--only", choices=("streams", "startup", "storage"), help="only this part")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    report.machine()
    figures = []
    if options.only in (None, "startup"):
        figures += list(startup.run(rounds))
    if options.only in (None, "streams"):
        figures += list(streams.run(rounds, quick=options.quick))
    if options.only in (None, "storage"):
        figures += list(storage.run(rounds, quick=options.quick))
    return report.summary(figures)


if __name__ == "__main__":
    sys.exit(main())
