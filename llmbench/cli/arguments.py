"""What the arguments of commands may be: each is parsed into a value, or refused in a sentence.

Like the parser itself this imports nothing heavy.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path


def up_to(most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from 1 to ``most``."""

    def parse(text: str) -> int:
        value = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 to {most}")
        return value

    return parse


def counted_by(text: str) -> str:
    """Parse what failures are counted by."""
    if text not in ("provider", "model", "kind", "fingerprint"):
        raise argparse.ArgumentTypeError(f"{text!r} must be provider, model, kind or fingerprint")
    return text


def path(text: str) -> Path:
    """Parse a path."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty: name a file")
    return Path(text)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> int:
    """Parse a duration such as ``90s``, ``24h`` or ``7d``; seconds are returned."""
    if not (found := re.fullmatch(r"0*([1-9][0-9]*)([smhd])", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write a number and s, m, h or d, such as 24h")
    if len(found[1]) > 9:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is too long: give 999999999d at most")
    return int(found[1]) * _UNITS[found[2]]


def names(text: str) -> list[str]:
    """Parse a comma-separated list."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("the list is empty: separate names by commas")
    return found


def model_ref(text: str) -> tuple[str, str]:
    """Parse ``provider/model_id``; the id may hold slashes and colons."""
    provider, slash, model_id = text.partition("/")
    if not slash or not provider or not model_id.strip():
        raise argparse.ArgumentTypeError(
            f"{text!r} names no model: write provider/model_id, such as openai/gpt-4o-mini"
        )
    return provider, model_id


def state(text: str) -> str:
    """Parse the state of rows of the spool."""
    if text not in ("waiting", "quarantined", "delivered"):
        raise argparse.ArgumentTypeError(f"{text!r} must be waiting, quarantined or delivered")
    return text


def outcome_id(text: str) -> str:
    """Parse the id of an outcome."""
    if not re.fullmatch(r"[!-~]{1,200}", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no id: llmbench spool list shows them")
    return text


_SCOPES = ("ingest", "worklist", "read")


def scopes(text: str) -> list[str]:
    """Parse what a key allows: a comma-separated list."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found or (unknown := [name for name in found if name not in _SCOPES]):
        named = repr(unknown[0]) if found else "an empty list"
        raise argparse.ArgumentTypeError(f"{named} is nothing that a key allows: use some of {','.join(_SCOPES)}")
    return found


def runner_id(text: str) -> str:
    """Parse the id of a runner."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r:.80} is no id of a runner: use 1 to 100 letters, digits, '.', '_', ':' and '-', beginning with a "
            "letter or digit"
        )
    return text


def key_id(text: str) -> str:
    """Parse the id of a key. What may be a key itself must not end up on a screen once more."""
    if not re.fullmatch(r"[0-9a-f]{8}", text):
        raise argparse.ArgumentTypeError("a key's id is the 8 hexadecimal digits behind llmb_: give those alone")
    return text


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


def place(text: str) -> Path | str:
    """Parse the place of a store: the path of an SQLite file, or the name of a variable, of which a str is made."""
    kind, colon, name = text.partition(":")
    if colon and kind == "env":
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise argparse.ArgumentTypeError(f"{text!r} names no environment variable: write env:MONGODB_URI")
        return name
    if "://" in text:
        raise argparse.ArgumentTypeError(
            "a URI may hold a password, which other users could see here: put it into an environment variable and "
            "write env:MONGODB_URI"
        )
    return path(text)
