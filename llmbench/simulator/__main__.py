"""``python -m llmbench.simulator``: the simulator as a process, announced by a JSON line on standard output."""

from __future__ import annotations

import argparse
import sys

from llmbench.simulator.behaviour import MENU
from llmbench.simulator.main import serve
from llmbench.simulator.server import SimulatorError


def _menu() -> str:
    return "\n".join(f"  {form:15} {meaning}" for form, meaning in MENU)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llmbench.simulator",
        description="Providers with known behaviour and timing on a loopback port.",
        epilog=f"A model's name is its behaviour, such as sim-ttft200-gap20-tok64:\n{_menu()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 is any free port")
    parser.add_argument("--tls-cert", metavar="FILE", help="serve https with this certificate")
    parser.add_argument("--tls-key", metavar="FILE", help="and this key")
    parser.add_argument("--record", metavar="FILE", help="append a JSON line for each request")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end together with the parent process")
    arguments = parser.parse_args()
    try:
        return serve(**vars(arguments))
    except SimulatorError as error:
        sys.stderr.write(f"llmbench simulator: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
