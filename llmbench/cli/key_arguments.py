"""Arguments of `llmbench keys`. Like the parser itself it imports nothing heavy."""

from __future__ import annotations

import argparse
import re

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
