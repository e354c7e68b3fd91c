"""Where a command is to listen, as arguments say it. Like the parser itself it imports nothing heavy."""

from __future__ import annotations

import argparse
import re


def port(text: str) -> int:
    """Parse a port; 0 lets the system choose."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535")
    return value


def address(text: str) -> str:
    """Parse an address to listen at."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5})", text)
    if found is None or int(found[2]) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address and a port: write them as 127.0.0.1:8787")
    return text
