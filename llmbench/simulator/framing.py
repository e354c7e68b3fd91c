"""Ways to repack the same bytes: compressed, with other line ends, in pieces."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator

from llmbench.simulator.behaviour import Behaviour
from llmbench.simulator.script import Content, Ending, Step

_DRIP_NS = 50_000_000
_LEAD_NS = 500_000
"""The first piece of a split event is written this long before the second, so that they are two reads."""

_GZIP_WINDOW = 31
"""zlib's name for the gzip format with the largest window."""


def repacked(steps: Iterator[Step], behaviour: Behaviour, rng: random.Random) -> Iterator[Step]:
    """Return ``steps`` as the behaviour wants them on the wire."""
    if behaviour.crlf:
        steps = _with_crlf(steps, rng)
    if behaviour.gzip:
        steps = _compressed(steps)
    return _dripping(steps) if behaviour.drip else steps


def _bytes_of(step: Step) -> bytes:
    assert isinstance(step.data, bytes), "stamped tokens are never repacked"
    return step.data


def _with_crlf(steps: Iterable[Step], rng: random.Random) -> Iterator[Step]:
    for step in steps:
        data = _bytes_of(step) if step.raw else _bytes_of(step).replace(b"\n", b"\r\n")
        if len(data) < 2:
            yield step._replace(data=data)
            continue
        cut = _cut(data, rng)
        yield Step(max(0, step.due_ns - _LEAD_NS), data[:cut], raw=step.raw)
        yield step._replace(data=data[cut:])


def _cut(data: bytes, rng: random.Random) -> int:
    """Return where to split: every other time between CR and LF, otherwise anywhere."""
    between = data.find(b"\r\n", rng.randrange(len(data)))
    return between + 1 if between >= 0 and rng.random() < 0.5 else rng.randrange(1, len(data))


def _compressed(steps: Iterable[Step]) -> Iterator[Step]:
    squeezer = zlib.compressobj(wbits=_GZIP_WINDOW)
    for step in steps:
        if step.raw:
            yield step
            continue
        data = squeezer.compress(_bytes_of(step)) + squeezer.flush(zlib.Z_SYNC_FLUSH)
        yield step._replace(data=data + squeezer.flush() if step.ending is Ending.COMPLETE else data)


def _dripping(steps: Iterable[Step]) -> Iterator[Step]:
    due = 0
    for step in steps:
        data = _bytes_of(step)
        if step.raw or len(data) < 2:
            due = max(due + _DRIP_NS, step.due_ns)
            yield step._replace(due_ns=due)
            continue
        for at in range(len(data)):
            due = max(due + _DRIP_NS, step.due_ns)
            last = at == len(data) - 1
            yield Step(due, data[at : at + 1], step.content if last else Content.OTHER, step.ending if last else None)
