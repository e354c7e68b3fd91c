"""Outcomes and models as BSON documents, and back.

Going in, a document is the whole Struct: dates as BSON dates, which keep milliseconds, the id as an ObjectId. Coming
back, documents of earlier writers are read as far as they go: a field that is missing or of another type gets the
value that says "not known", by `llmbench.stores.earlier`.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import bson
import msgspec
from bson.decimal128 import Decimal128
from bson.errors import BSONError, InvalidId
from bson.objectid import ObjectId

from llmbench.messages import Envelope, Failure, Model, Outcome, Sample
from llmbench.stores.canonical import UnstorableError, canonical_json, canonical_milliseconds
from llmbench.stores.counted import UNDATED
from llmbench.stores.earlier import completed
from llmbench.stores.mongo_client import Document
from llmbench.stores.mongo_schema import FAILURES, PROBES, SAMPLES

T = TypeVar("T", Sample, Failure, Model)

UNCOUNTED = "uncounted"
"""A field of a failure that its rollup may not have counted yet; it goes away once it has."""

_NUMBERS = (int, float, int | None, float | None)
_MAX_BYTES = 16 * 1024 * 1024
_MAX_DEPTH = 150
"""The server refuses a whole batch for one document nested deeper than 200, some of which are its own."""


def derived_id(*parts: str) -> ObjectId:
    """Return an ``_id`` that follows from what a document is about, so that of two who insert it one is refused."""
    return ObjectId(hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24])


def made_at(key: Any) -> datetime:
    """Return when the document with this ``_id`` was made, as far as the ``_id`` tells."""
    return key.generation_time if isinstance(key, ObjectId) else UNDATED


class Form(msgspec.Struct, frozen=True):
    """An outcome on its way in. Two outcomes are the same if their ``canonical`` forms are."""

    outcome: Outcome
    key: ObjectId
    collection: str
    canonical: bytes
    encoded: bytes


def form(item: Envelope) -> Form:
    """Return the BSON form of an outcome. Raises `UnstorableError`."""
    try:
        key = ObjectId(item.outcome.id)
    except InvalidId as error:
        raise UnstorableError(f"id {item.outcome.id!r:.80} is not one of 24 hexadecimal digits") from error
    # As read back: what is stored is what a spool or HTTP would have made of it.
    canonical, outcome = canonical_milliseconds(item.outcome, item.canonical)
    document = builtins_of(outcome)
    document["_id"] = key
    collection = SAMPLES if item.publish else PROBES
    if isinstance(outcome, Failure):
        document[UNCOUNTED] = True
        collection = FAILURES
    return Form(outcome, key, collection, canonical, encoded(document, canonical))


def builtins_of(document: msgspec.Struct) -> Document:
    """Return the Struct as a dict with its dates as such; fields that are not known are left out."""
    made: Document = msgspec.to_builtins(document, builtin_types=(datetime,))
    return made


@functools.cache
def fields_of(kind: type[msgspec.Struct]) -> Document:
    """Return the projection on the fields of a Struct: what others have added may be large."""
    return {field.encode_name: 1 for field in msgspec.structs.fields(kind)}


def encoded(document: Document, text: bytes) -> bytes:
    """Return a document as BSON; ``text`` is its JSON. Raises `UnstorableError` for what the server would not take."""
    # With fewer brackets it can't be too deep, and to count them takes next to no time.
    if text.count(b"{") + text.count(b"[") > _MAX_DEPTH and _depth(document) > _MAX_DEPTH:
        raise UnstorableError(f"document is nested deeper than {_MAX_DEPTH}, which MongoDB does not take")
    try:
        made = bson.encode(document)
    except (BSONError, OverflowError, ValueError, TypeError) as error:
        # An integer of more than 64 bits, a key with a NUL in it, and the like.
        raise UnstorableError(f"document has no BSON form: {error}") from error
    if len(made) > _MAX_BYTES:
        raise UnstorableError(f"document has {len(made)} bytes, and MongoDB takes {_MAX_BYTES} at most")
    return made


def _depth(value: Any) -> int:
    # Level by level: recursion would have a limit of its own.
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def same_content(sent: Form, stored: Mapping[str, Any], collection: str) -> bool:
    """Say whether a stored document is the outcome that was sent; fields that others added to it don't count."""
    if (collection == FAILURES) != isinstance(sent.outcome, Failure):
        return False
    try:
        return canonical_json(msgspec.convert(plain(stored), type(sent.outcome))) == sent.canonical
    except (msgspec.ValidationError, UnstorableError):
        return False


def plain(value: Any) -> Any:
    """Return a value as BSON decoded it, in the types of JSON, None for NaN and infinity, and dates in aware UTC."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, int):
        return int(value)  # bson's Int64 is a class of its own
    if isinstance(value, Decimal128):
        return _plain_scalar(float(value.to_decimal()))
    return str(value)


def sample_of(document: Mapping[str, Any]) -> Sample:
    """Return a document of the metrics collections as a Sample; see `llmbench.stores.earlier` for what it may lack."""
    return _read(document, Sample)


def failure_of(document: Mapping[str, Any]) -> Failure:
    """Return a document of errors_cloud as a Failure."""
    return _read(document, Failure)


def model_of(document: Mapping[str, Any]) -> Model | None:
    """Return a row of the catalogue, None if it names no model. Only true is enabled, as for the unique index."""
    if not all(isinstance(document.get(name), str) and document[name] for name in ("provider", "model_id")):
        return None
    return _read({**document, "enabled": document.get("enabled") is True}, Model)


def _read(document: Mapping[str, Any], kind: type[T]) -> T:
    values: Document = {**plain(document), "_id": str(document.get("_id"))}
    if dates := [name for name in ("run_ts", "ts") if name in kind.__struct_fields__]:
        values["run_ts"] = _when(values, dates)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError:
        return _read_leniently(values, document.get("_id"), kind)


def _when(values: Document, names: Iterable[str]) -> datetime:
    """Return the first of these dates that is given, if it is a date, as windows see it (`mongo_windows`)."""
    given = next((values[name] for name in names if values.get(name) is not None), None)
    return given if isinstance(given, datetime) else UNDATED


def _read_leniently(values: Document, key: Any, kind: type[T]) -> T:
    read: Document = {}
    for field in msgspec.structs.fields(kind):
        value = converted(values.get(field.encode_name), field.type)
        if value is not None:
            read[field.name] = value
    return kind(**completed(read, kind, made_at(key)))


def converted(value: Any, annotation: Any) -> Any:
    """Return the value in a field's type, None if it can't be in it. Text is no number, as for `mongo_figures`."""
    if isinstance(value, datetime) and annotation == (str | None):
        return value.isoformat()
    if isinstance(value, str | bool) and annotation in _NUMBERS:
        return None
    try:
        converted = msgspec.convert(value, annotation, strict=False)
    except msgspec.ValidationError:
        return None
    if isinstance(converted, datetime) and converted.tzinfo is None:
        return converted.replace(tzinfo=UTC)  # earlier writers wrote UTC without saying so
    return converted
