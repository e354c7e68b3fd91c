"""The one JSON form of a document, which stores keep and compare by.

Whether an outcome is a repeat is decided by the digest of this form, so it must not depend on where the document
has been: an outcome that went through a spool or over HTTP has to come out with the same bytes. So a document is
encoded, decoded and encoded again. The way back also shows what JSON would have changed silently, such as NaN, and
proves that whoever reads the document later can decode it.
"""

from __future__ import annotations

import copy
import functools
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from llmbench.lifecycle import RECORDS, Record
from llmbench.messages import Failure, Model, Sample

Document = Sample | Failure | Model | Record
D = TypeVar("D", bound=Document)
S = TypeVar("S", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder(order="deterministic")
_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Sample, Failure, Model, *RECORDS)
}


@functools.cache
def dates_of(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of a Struct's fields that hold dates."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if field.type in (datetime, datetime | None))


def in_milliseconds(document: S) -> S:
    """Return the document with its dates cut to what every store keeps: MongoDB has whole milliseconds."""
    cut = {}
    for name in dates_of(type(document)):
        date = getattr(document, name)
        if isinstance(date, datetime) and date.microsecond % 1000:
            cut[name] = date.replace(microsecond=date.microsecond // 1000 * 1000)
    return _with_dates(document, cut) if cut else document


def _with_dates(document: S, dates: dict[str, datetime]) -> S:
    """Return a copy with other dates; a quarter of the time that `msgspec.structs.replace` takes."""
    changed = copy.copy(document)
    for name, date in dates.items():
        msgspec.structs.force_setattr(changed, name, date)
    return changed


class UnstorableError(ValueError):
    """The document can't be stored unchanged. The message names the field, where one field is to blame."""


def canonical_json(document: Document) -> bytes:
    """Return the document as UTF-8 JSON, the keys of its free-form parts sorted. Raises `UnstorableError`."""
    return canonical_form(document)[0]


def canonical_form(document: D) -> tuple[bytes, D]:
    """Return the document as `canonical_json` does, and what that decodes to. Raises `UnstorableError`."""
    read = read_back(document)
    return _encoder.encode(read), read


def canonical_milliseconds(document: D, known: bytes | None) -> tuple[bytes, D]:
    """Return `canonical_form` of the document with its dates cut to milliseconds. Raises `UnstorableError`.

    ``known`` is the document's own canonical form where it was read from that: then it need not be read back again.
    """
    cut = in_milliseconds(document)
    if known is None:
        return canonical_form(cut)
    return (known if cut is document else _encoder.encode(cut)), cut


def read_back(document: D) -> D:
    """Return the document as its JSON is decoded. Raises `UnstorableError`."""
    try:
        document = _in_utc(document)
        read: D = _decoders[type(document)].decode(_encoder.encode(document))
        fault = _fault(document, read)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        # TypeError: no JSON for such a type, or a key that is no string. ValueError: a lone surrogate, or a value
        # that the document's own type refuses. RecursionError: nested beyond reason.
        raise UnstorableError(f"{type(document).__name__} has no JSON form to be read back from: {error}") from error
    if fault:
        raise UnstorableError(f"{type(document).__name__} {fault}")
    return read


def read_canonical(text: bytes, kind: type[D]) -> D:
    """Return the document of which this is the canonical form. Raises `UnstorableError` if it is of none."""
    try:
        read: D = _decoders[kind].decode(text)
        if _encoder.encode(read) == text:
            return read
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnstorableError(f"text is no {kind.__name__}: {error}") from error
    raise UnstorableError(f"text is not the canonical form of a {kind.__name__}")


def as_canonical(text: bytes, document: Document) -> bytes | None:
    """Return the text if it is the canonical form of the document that was read from it, which an earlier one's is not.

    Another version may have written it, with fields that this one does not know, or has put elsewhere.
    """
    return text if _encoder.encode(document) == text else None


def _in_utc(document: D) -> D:
    """Return the document with its dates in UTC: one moment is one content, and is read back as UTC in any case."""
    kind: type[msgspec.Struct] = type(document)
    shifted = {}
    for name in dates_of(kind):
        date = getattr(document, name)
        if isinstance(date, datetime) and date.tzinfo is not UTC and date.tzinfo is not None:
            shifted[name] = date.astimezone(UTC)
    return _with_dates(document, shifted) if shifted else document


def _fault(document: Document, read_back: Document) -> str | None:
    for name in dates_of(type(document)):
        date = getattr(document, name)
        if date is not None and date.tzinfo is None:
            return f"has no time zone in {name!r}; every date is aware UTC"
    if read_back == document:
        return None
    changed = (n for n in document.__struct_fields__ if getattr(document, n) != getattr(read_back, n))
    name = next(changed)
    return f"would be changed by JSON: {name!r} is {getattr(document, name)!r:.200}"
