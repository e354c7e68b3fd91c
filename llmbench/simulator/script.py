"""From a behaviour to what is written when: a pure sequence of steps, made one at a time."""

from __future__ import annotations

import enum
import functools
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from llmbench.simulator import damage, eventstream
from llmbench.simulator.apis.base import EventStream, Plan
from llmbench.simulator.behaviour import Behaviour
from llmbench.simulator.problems import Problem

_WORDS = (
    " the river turns south past the old mill and its slow water carries leaves from the upper valley down to a"
    " harbour where small boats wait for evening while people on the quay talk about weather prices and the"
    " long road that climbs behind the town to a pass with snow until late in spring and beyond it the plain"
)
_TEXTS = tuple(f" {word}".encode() for word in _WORDS.split())
_WIDE_TEXTS = tuple(
    msgspec.json.encode(text)[1:-1]
    for text in (
        " caf\u00e9",
        " l\u2028s",
        " p\u2029s",
        " n\u0085l",
        " \u6f22\u5b57",
        " \U0001f680",
        " \ufeffb",
        ' "q"\\',
    )
)


class Ending(enum.Enum):
    """What becomes of the connection behind the last step."""

    COMPLETE = enum.auto()
    """The body ends as HTTP says it should."""
    CLOSE = enum.auto()
    """FIN, whatever is missing."""
    RESET = enum.auto()
    """RST."""
    HANG = enum.auto()
    """Nothing more; the connection stays open."""


class Content(enum.Enum):
    """What a step brings, for the record."""

    VISIBLE = enum.auto()
    REASONING = enum.auto()
    OTHER = enum.auto()


class Step(NamedTuple):
    """One write, due so many nanoseconds behind the request. ``data`` may be made from the stamp of its write.

    ``raw`` data goes out without the transfer coding around it.
    """

    due_ns: int
    data: bytes | Callable[[int], bytes]
    content: Content = Content.OTHER
    ending: Ending | None = None
    raw: bool = False


def make_plan(behaviour: Behaviour, budget: int, input_tokens: int) -> Plan:
    """Return what the answer will hold when the request allows ``budget`` tokens."""
    reasoning = visible = 0
    if behaviour.budget:
        reasoning = budget
    elif not behaviour.fails_with("empty", "blocked"):
        wanted = behaviour.reasoning_tokens or (1 if behaviour.reason_ns is not None else 0)
        reasoning = min(wanted, budget)
        visible = min(budget if behaviour.tokens is None else behaviour.tokens, budget - reasoning)
    output = reasoning + visible
    return Plan(
        reasoning=reasoning,
        visible=visible,
        exhausted=output >= budget,
        input=input_tokens,
        output=output if behaviour.counted is None else behaviour.counted,
        prompt_seconds=behaviour.ttft_ns / 1e9,
        completion_seconds=output * behaviour.gap_ns / 1e9,
        report_usage=not behaviour.no_usage,
    )


class Script:
    """The steps of one answer."""

    def __init__(
        self, behaviour: Behaviour, stream: EventStream, plan: Plan, problem: Problem, rng: random.Random
    ) -> None:
        self._behaviour = behaviour
        self._stream = stream
        self._plan = plan
        self._problem = problem
        self._rng = rng
        self._texts = _WIDE_TEXTS if behaviour.unicode else _TEXTS
        self._group = max(behaviour.burst, behaviour.chunk)
        self._latest_ns = 0

    def steps(self) -> Iterator[Step]:
        """Yield the steps in the order of their times; the last one, and only that, has an ending."""
        behaviour, stream = self._behaviour, self._stream
        match behaviour.fault.kind if behaviour.fault else None:
            case "silent":
                yield Step(0, b"", ending=Ending.HANG)
            case "errorobj":
                yield Step(behaviour.ttft_ns, stream.error(self._problem, first=True), ending=Ending.COMPLETE)
            case "errorstr":
                yield Step(behaviour.ttft_ns, stream.error_text("upstream failed"), ending=Ending.COMPLETE)
            case "flood":
                yield from self._flood()
            case _:
                if opening := stream.opening():
                    yield Step(0, opening)
                yield from self._fillers()
                yield from self._reasoning()
                yield from self._visible()
                yield self._end()

    def _flood(self) -> Iterator[Step]:
        assert self._behaviour.fault is not None
        yield Step(0, self._stream.opening())
        data = damage.flood(self._stream, self._behaviour.fault.at)
        yield Step(self._behaviour.ttft_ns, data, ending=Ending.COMPLETE)

    def _fillers(self) -> Iterator[Step]:
        if self._behaviour.comments:
            for quarter in (1, 2, 3):
                yield Step(self._behaviour.ttft_ns * quarter // 4, self._stream.filler() + self._stream.hollow())

    def _reasoning(self) -> Iterator[Step]:
        for index in range(self._plan.reasoning):
            due = self._behaviour.ttft_ns + index * self._behaviour.gap_ns
            if data := self._stream.reasoning(self._texts[index % len(self._texts)]):
                yield Step(due, data, Content.REASONING)
        if self._plan.reasoning and self._plan.visible and (data := self._stream.turn()):
            yield Step(due, data)

    def _first_visible_ns(self) -> int:
        behaviour, reasoning = self._behaviour, self._plan.reasoning
        if not reasoning:
            return behaviour.ttft_ns
        pause = behaviour.gap_ns if behaviour.reason_ns is None else behaviour.reason_ns
        return behaviour.ttft_ns + (reasoning - 1) * behaviour.gap_ns + pause

    def _cut(self) -> int:
        """Return the number of visible tokens that really come."""
        fault = self._behaviour.fault
        if fault is not None and fault.kind in ("stall", "truncate", "cutevent", "reset", "badchunk", "errormid"):
            return min(fault.at, self._plan.visible)
        return self._plan.visible

    def _visible(self) -> Iterator[Step]:
        first, gap, jitter = self._first_visible_ns(), self._behaviour.gap_ns, self._behaviour.jitter_ns
        cut = self._cut()
        for start in range(0, cut, self._group):
            wobble = self._rng.randint(-jitter, jitter) if jitter and start else 0
            self._latest_ns = max(self._latest_ns, first + start * gap + wobble)
            yield Step(self._latest_ns, self._tokens(start, min(self._group, cut - start)), Content.VISIBLE)

    def _tokens(self, start: int, count: int) -> bytes | Callable[[int], bytes]:
        if self._behaviour.stamp:
            return functools.partial(self._stamped, count)
        texts = [self._texts[index % len(self._texts)] for index in range(start, start + count)]
        return self._events(texts, start)

    def _stamped(self, count: int, stamp_ns: int) -> bytes:
        return self._events([b" t%d" % stamp_ns] * count, 0)

    def _events(self, texts: list[bytes], start: int) -> bytes:
        """Return the events with ``texts``, `chunk` of them in each."""
        size = self._behaviour.chunk
        if len(texts) == 1 and self._behaviour.fault is None:
            return self._stream.visible(texts[0])
        events = [
            self._maybe_broken(self._stream.visible(b"".join(texts[at : at + size])), start + at)
            for at in range(0, len(texts), size)
        ]
        return b"".join(events)

    def _maybe_broken(self, event: bytes, index: int) -> bytes:
        fault = self._behaviour.fault
        if fault is None or not index <= fault.at - 1 < index + self._behaviour.chunk:
            return event
        match fault.kind:
            case "badjson":
                return damage.cut_json(self._stream, event)
            case "badcrc":
                return eventstream.spoil_checksum(event)
            case _:
                return event

    def _end(self) -> Step:
        due = self._end_ns()
        match self._behaviour.fault.kind if self._behaviour.fault else None:
            case "stall":
                return Step(due, b"", ending=Ending.HANG)
            case "truncate":
                return Step(due, b"", ending=Ending.CLOSE)
            case "cutevent":
                event = self._stream.visible(self._texts[0])
                return Step(due, event[: len(event) // 2], ending=Ending.CLOSE)
            case "reset":
                return Step(due, b"", ending=Ending.RESET)
            case "badchunk":
                return Step(due, b"not a length\r\n", ending=Ending.CLOSE, raw=True)
            case "errormid":
                return Step(due, self._stream.error(self._problem, first=False), ending=Ending.COMPLETE)
            case "noend":
                return Step(due, self._stream.finish(), ending=Ending.COMPLETE)
            case _:
                return Step(due, self._stream.finish() + self._stream.terminator(), ending=Ending.COMPLETE)

    def _end_ns(self) -> int:
        """The end takes the place of one more token."""
        if self._plan.visible:
            return max(self._latest_ns, self._first_visible_ns() + self._cut() * self._behaviour.gap_ns)
        return self._behaviour.ttft_ns + self._plan.reasoning * self._behaviour.gap_ns
