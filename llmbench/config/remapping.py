"""Keys of the dashboard that a person has remapped: what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llmbench.config.check import Problem, dotted, nearest, quote
from llmbench.tui.bindings import BY_ID, conflicts, is_key

_TABLE = "tui.keys"


def problems(keys: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a problem for each command that there is not, each key that there is not, and each key that has two."""
    known = {command: key for command, key in keys.items() if command in BY_ID}
    for command in keys:
        if command not in known:
            yield Problem(dotted(_TABLE, command), _unknown(command))
    for command, key in known.items():
        if not is_key(key):
            wants = "name a key such as 'x', 'ctrl+x', 'f5' or 'slash'"
            yield Problem(dotted(_TABLE, command), f"is {quote(key)}, which is no key: {wants}")
    for command, key, other in conflicts(known):
        yield Problem(dotted(_TABLE, command), f"is {quote(key)}, which {other!r} has, too: choose another key for one")


def _unknown(command: str) -> str:
    meant = nearest(command, list(BY_ID))
    what_to_do = f"rename it to {meant!r}, or remove it" if meant else "remove it (docs/dashboard.md lists them)"
    return f"is no command: {what_to_do}"
