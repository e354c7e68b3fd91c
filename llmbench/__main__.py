"""The program."""

from __future__ import annotations

import sys


def main() -> None:
    """Run llmbench and exit with its code."""
    from llmbench.cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
