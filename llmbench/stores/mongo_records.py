"""Documents about models, as they are in MongoDB, read as records: as far as they go, whoever has written them.

A field that is missing or of another type gets the value that says "not known"; a document that does not say what it is
about is none. Dates within what is free-form come out as text, as JSON has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args, get_origin

import msgspec

from llmbench.lifecycle import CatalogEntry, DeprecationSnapshot, DiscoveryRun, ModelStatus, R, StatusMetrics
from llmbench.stores.mongo_client import Document
from llmbench.stores.mongo_documents import converted, made_at, plain

_NAMES: dict[type, tuple[str, ...]] = {
    CatalogEntry: ("provider", "model_id"),
    DiscoveryRun: ("provider", "started_at"),
    ModelStatus: ("provider", "model_id"),
    DeprecationSnapshot: ("provider", "model_id", "deprecation_date"),
}

# What stands in for a date that is missing; after these, the time when the document was made.
_DATES: dict[type, dict[str, tuple[str, ...]]] = {
    CatalogEntry: {"first_seen_at": ("last_seen_at",), "last_seen_at": ("first_seen_at",)},
    DiscoveryRun: {},
    ModelStatus: {"computed_at": ("last_updated", "created_at")},
    DeprecationSnapshot: {"created_at": ()},
}
_UNKNOWN: dict[type, Document] = {
    CatalogEntry: {"in_our_db": False, "raw": {}},
    DiscoveryRun: dict.fromkeys(("finished_at", "raw_count", "accepted_count", "new_count"))
    | {"status": "unknown", "pagination_complete": False},
    ModelStatus: {"status": None, "confidence": None, "reasons": [], "recommended_actions": []}
    | {"metrics": StatusMetrics()},
    DeprecationSnapshot: {"stats": {}},
}


def record_of(document: Mapping[str, Any], kind: type[R]) -> R | None:
    """Return a document as a record, None if it does not say of what it is one."""
    values: Document = plain(document)
    for name, value in values.items():
        if isinstance(value, dict) and name != "metrics":
            values[name] = _json_like(value)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError:
        return _read_leniently(values, document.get("_id"), kind)


def _json_like(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case dict():
            return {key: _json_like(inner) for key, inner in value.items()}
        case list():
            return [_json_like(inner) for inner in value]
        case _:
            return value


def _read_leniently(values: Document, key: Any, kind: type[R]) -> R | None:
    read = _fields(values, kind)
    if not all(read.get(name) for name in _NAMES[kind]):
        return None
    for name, others in _DATES[kind].items():
        read.setdefault(name, next((read[other] for other in others if other in read), made_at(key)))
    return kind(**{**_UNKNOWN[kind], **read})


def _fields(values: Mapping[str, Any], kind: type[msgspec.Struct]) -> Document:
    found = {field.name: _value(values.get(field.encode_name), field.type) for field in msgspec.structs.fields(kind)}
    return {name: value for name, value in found.items() if value is not None}


def _value(value: Any, annotation: Any) -> Any:
    """Return a value in a field's type, or as much of it as is; None if it is nothing of the kind."""
    for option in get_args(annotation):
        if get_origin(option) is list and isinstance(value, list):
            return _value(value, option)
    if get_origin(annotation) is list and isinstance(value, list):
        [inner] = get_args(annotation)
        return [one for item in value if (one := _value(item, inner)) is not None]
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation(**_fields(value, annotation)) if isinstance(value, dict) else None
    return converted(value, annotation)
