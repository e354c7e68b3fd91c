"""Outcome ids: 24 hexadecimal digits in the layout of a BSON ObjectId, which existing readers expect."""

from __future__ import annotations

import itertools
import os
import time

_process = os.urandom(5)
_counter = itertools.count(int.from_bytes(os.urandom(3), "big"))


def new_outcome_id() -> str:
    """Return a new id: 4 bytes of Unix time, 5 random bytes of this process, a 3-byte counter.

    The layout is that of the BSON specification's ObjectId, so that ids sort by the time they were made.
    """
    seconds = int(time.time()) & 0xFFFFFFFF
    count = next(_counter) & 0xFFFFFF
    return (seconds.to_bytes(4, "big") + _process + count.to_bytes(3, "big")).hex()
