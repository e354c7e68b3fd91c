"""How large a document and each of its values may be: nothing in it may be an operator, a cost, or a lie that shows.

What is free-form (``misc``, ``partial``, ``raw``) has to be plain: of the types of JSON, integers of 64 bits, text that
is Unicode, keys that mean nothing to a database. The other fields are of their types already; here are their ranges.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec

from llmbench.bridge.dates import check_date
from llmbench.bridge.refusals import Foreign, Refused, Sender
from llmbench.error_text import MESSAGE_LIMIT
from llmbench.messages import Outcome, Sample

LONGEST_NAME = 200
LONGEST_TEXT = 2000
LONGEST_FREE_TEXT = 100_000
LONGEST_TRACEBACK = 200_000
MOST_GAPS = 100_000
MOST_WARNINGS = 100
DEEPEST = 50
"""Far below what readers of JSON, and MongoDB, can follow."""

_LARGEST = 2**63
_COUNT = 10**9
_DAY = 86_400.0
_FASTEST = 1e15
_RANGES: Mapping[str, float] = {"temperature": 100.0, "cost_usd": 1e9, "retry_after": 1e9}
"""Largest value of figures that are neither seconds nor tokens per second."""

_SPEED = "tokens_per_second"
_TEXTS: Mapping[str, int] = {
    "message": MESSAGE_LIMIT,
    "normalized_message": MESSAGE_LIMIT,
    "traceback": LONGEST_TRACEBACK,
    "provider": LONGEST_NAME,
    "model_name": LONGEST_NAME,
    "runner_id": LONGEST_NAME,
}
_NAMES = frozenset({"provider", "model_name", "runner_id"})
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Controls, line separators and direction marks: what `llmbench.error_text.clean` makes visible."""

_KEY = re.compile(f"[^$.{_CONTROLS}]{{0,200}}")
_CONTROL = re.compile(f"[{_CONTROLS}]")
_CONTROL_IN_LINES = re.compile(f"(?!\n)[{_CONTROLS}]")

Check = Callable[[Any, datetime], None]
"""Raises `Refused` for a value that can't be; ``now`` is what dates are held against."""


def text_limit(name: str) -> int:
    """Return how many characters the text in a field may have."""
    return _TEXTS.get(name, LONGEST_TEXT)


def check_plain(value: Any, where: str, depth: int = DEEPEST) -> None:
    """Raise `Refused` if a value as JSON has it is not plain; ``where`` names it."""
    match value:
        case str():
            _check_free_text(value, where)
        case bool():
            pass
        case int() if not -_LARGEST <= value < _LARGEST:
            raise Refused(f"{where} holds an integer of more than 64 bits: write it as a text")
        case dict() | list() if depth == 0:
            raise Refused(f"{where} is nested deeper than {DEEPEST}: make it flat")
        case dict():
            for key, inner in value.items():
                check_key(key, where)
                check_plain(inner, where, depth - 1)
        case list():
            for inner in value:
                check_plain(inner, where, depth - 1)
        case _:
            pass


def check_key(key: str, where: str) -> None:
    """Raise `Refused` for a key that a database could take for more than a name."""
    if not _KEY.fullmatch(key):
        raise Refused(f"{where} has a key {key!r:.80}: a key has no '$', no '.', no control character, 200 at most")
    check_unicode(key, where)


def _check_free_text(text: str, where: str) -> None:
    if len(text) > LONGEST_FREE_TEXT:
        raise Refused(f"{where} holds a text of {len(text)} characters, and {LONGEST_FREE_TEXT} are the most")
    check_unicode(text, where)


def check_unicode(text: str, where: str) -> None:
    """Raise `Refused` for text that has no UTF-8."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{where} holds a lone surrogate, which is no character: leave it out") from error


def check_name(name: str, value: str) -> None:
    """Raise `Refused` for what can't be the name of a provider, a model or a runner."""
    if not value.strip():
        raise Refused(f"{name!r} is empty: it has to name one")
    _check_text(name, value, LONGEST_NAME)


def check_runner(runner_id: str, sender: Sender) -> None:
    """Raise `Foreign` if this sender may not speak for this runner."""
    if sender.runner is not None and runner_id != sender.runner:
        raise Foreign(
            f"runner_id {runner_id!r:.80} is not that of this key, {sender.runner!r:.80}: set runner.id to that, or "
            "use a key of the right name"
        )


def check_outcome(outcome: Outcome, sender: Sender, now: datetime) -> None:
    """Raise `Refused` if a value of an outcome can't be, or the sender may not speak for its runner."""
    check_runner(outcome.runner_id, sender)
    values = msgspec.structs.astuple(outcome)
    checks = _by_form(type(outcome))
    # What is fine is most of what comes, so it is seen to be fine without a call each.
    for position, most, check in checks.figures:
        value = values[position]
        if value is not None and not 0 <= value <= most:
            check(value, now)
    for position, limit, check in checks.texts:
        value = values[position]
        if value is not None and not (len(value) <= limit and value.isprintable()):
            check(value, now)
    for position, check in checks.others:
        value = values[position]
        if value is not None:
            check(value, now)


class _Checks(NamedTuple):
    """The checks of a Struct, by position of the field; with the bound within which nothing needs to be checked."""

    figures: list[tuple[int, float, Check]]
    texts: list[tuple[int, int, Check]]
    others: list[tuple[int, Check]]


@functools.cache
def _by_form(kind: type[msgspec.Struct]) -> _Checks:
    checks = _Checks([], [], [])
    all_of_them = _checks(kind)
    for position, field in enumerate(msgspec.structs.fields(kind)):
        check, types = all_of_them.get(field.name), _alternatives(field.type)
        if check is None:
            continue
        if int in types or float in types:
            checks.figures.append((position, _most(field.name, whole=int in types), check))
        elif str in types and field.name not in _NAMES:
            checks.texts.append((position, text_limit(field.name), check))
        else:
            checks.others.append((position, check))
    return checks


@functools.cache
def _checks(kind: type[msgspec.Struct]) -> dict[str, Check]:
    """Return name of a field → check of its value."""
    found = {field.name: _check_of(field.name, field.type) for field in msgspec.structs.fields(kind)}
    return {name: check for name, check in found.items() if check is not None}


def _check_of(name: str, annotation: Any) -> Check | None:
    if name == "partial":
        return _check_partial
    options = get_args(annotation)
    if get_origin(annotation) is list or any(get_origin(option) is list for option in options):
        return _check_gaps if name == "times_between_tokens" else functools.partial(_check_texts, name)
    if get_origin(annotation) is dict:
        return lambda value, _: check_plain(value, repr(name))
    return next((make(name) for kind, make in _MAKERS.items() if annotation is kind or kind in options), None)


def _number(name: str, most: float) -> Check:
    def check(value: Any, _: datetime) -> None:
        if not 0 <= value <= most:
            raise Refused(f"{name!r} is {value!r:.80}, and can only be from 0 to {most:g}")

    return check


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a value may have."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _most(name: str, *, whole: bool) -> float:
    """Return the largest value of a figure."""
    return _COUNT if whole else _FASTEST if name.endswith(_SPEED) else _RANGES.get(name, _DAY)


def _figure(name: str) -> Check:
    return _number(name, _most(name, whole=False))


def _text(name: str) -> Check:
    if name in _NAMES:
        return lambda value, _: check_name(name, value)
    limit = text_limit(name)
    if name == "traceback":  # of several lines, unlike all others
        return lambda value, _: _check_text(name, value, limit, _CONTROL_IN_LINES)
    return lambda value, _: _check_text(name, value, limit)


def _check_text(name: str, value: str, limit: int, control: re.Pattern[str] = _CONTROL) -> None:
    if len(value) > limit:
        raise Refused(f"{name!r} has {len(value)} characters, and {limit} are the most")
    if control.search(value):
        raise Refused(f"{name!r} is {value!r:.80}, which holds a control character: take it out")


_MAKERS: Mapping[type, Callable[[str], Check]] = {
    datetime: lambda name: lambda value, now: check_date(name, value, now),
    int: lambda name: _number(name, _COUNT),
    float: _figure,
    str: _text,
}


def _check_texts(name: str, values: list[str], _: datetime) -> None:
    if len(values) > MOST_WARNINGS:
        raise Refused(f"{name!r} has {len(values)} items, and {MOST_WARNINGS} are the most")
    for value in values:
        _check_text(name, value, LONGEST_TEXT)


def _check_gaps(values: list[float], _: datetime) -> None:
    if len(values) > MOST_GAPS:
        raise Refused(f"'times_between_tokens' has {len(values)} items, and {MOST_GAPS} are the most")
    if values and not (min(values) >= 0 and max(values) <= _DAY):
        raise Refused(f"'times_between_tokens' holds a gap that can't be: each is from 0 to {_DAY:g} s")


def _check_partial(partial: dict[str, Any], now: datetime) -> None:
    """Hold what is under the name of a sample's figure to what holds for that."""
    check_plain(partial, "'partial'")
    for name, value in partial.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and name in _NUMBERS:
            _NUMBERS[name](value, now)
        elif name == "times_between_tokens":
            _check_gaps(_gaps(value), now)


def _gaps(value: Any) -> list[float]:
    try:
        return msgspec.convert(value, list[float])
    except msgspec.ValidationError as error:
        raise Refused(f"'times_between_tokens' in 'partial' is no list of numbers: {error}") from error


_NUMBERS: dict[str, Check] = {
    field.name: _checks(Sample)[field.name]
    for field in msgspec.structs.fields(Sample)
    if field.type in (int, float, int | None, float | None)
}
