"""Foreign bytes in, outcomes out, strictly: what is not taken is `Refused`, and nothing else is ever raised.

A document comes in the wire form of `llmbench.ingestion`. One with an ``_id`` is llmbench's own: it is taken as it is,
to come out equal, or not at all; secrets were taken out where it was made. One without is an earlier runner's, of which
`llmbench.bridge.earlier` makes an outcome. Of a key that stands twice in an object the last holds; nothing is allowed
by what only the first says, since the runner is read from the same document that is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from llmbench import __version__
from llmbench.bridge.bounds import check_name, check_outcome, check_plain
from llmbench.bridge.dates import check_date, read_date
from llmbench.bridge.earlier import Content, failure_of, sample_of
from llmbench.bridge.refusals import Refused, Sender
from llmbench.ingestion import UNPUBLISHED
from llmbench.lifecycle import Listed, Listing
from llmbench.messages import Envelope, Failure, Outcome, Sample
from llmbench.stores.canonical import UnstorableError, read_back, read_canonical

__all__ = ["MOST_ITEMS", "MOST_MODELS", "Refused", "Sender", "read_batch", "read_catalog", "read_error", "read_run"]

MOST_ITEMS = 1000
"""So many documents may come in one batch."""

MOST_MODELS = 10_000
"""So many models may be in one listing."""

MOST_VALUES = 120_000
MOST_OBJECTS = 10_000
"""So many values, and so many objects and lists among them, may be in one document: `bounds.MOST_GAPS` and then some.

Each takes far more memory than the bytes that it comes in, and all of them are made in one go, without a break.
"""

_LISTED_OBJECTS = 4 * MOST_MODELS
_LISTED_VALUES = 20 * MOST_MODELS

Document = dict[str, Any]
T = TypeVar("T", Sample, Failure)

_FAILED = b'"outcome":"failed"'
_ID = re.compile(r"[0-9a-f]{24}")
_objects = msgspec.json.Decoder(Document)
_arrays = msgspec.json.Decoder(list[msgspec.Raw])
_FIELDS: dict[type[msgspec.Struct], frozenset[str]] = {
    kind: frozenset(field.encode_name for field in msgspec.structs.fields(kind))
    for kind in (Sample, Failure, Listing, Listed)
}


def read_run(body: bytes, sender: Sender, now: datetime) -> Envelope:
    """Return the run in the body of ``POST /ingest``. Raises `Refused`."""
    return _settled(body, Sample, sender, now) or _read_run(body, sender, now)


def read_error(body: bytes, sender: Sender, now: datetime) -> Envelope:
    """Return the failed run in the body of ``POST /ingest/error``. Raises `Refused`."""
    return _settled(body, Failure, sender, now) or _read_error(body, sender, now)


def read_batch(body: bytes, sender: Sender, now: datetime, most: int = MOST_ITEMS) -> list[Envelope | Refused]:
    """Return each run, good or failed, in the body of ``POST /ingest/batch``, or why it is not taken, in their order.

    Raises `Refused` for a body that is no JSON array, or has more items than ``most``.
    """
    with _decoding("a JSON array"):
        items = _arrays.decode(body)
    if len(items) > most:
        raise Refused(f"batch has {len(items)} items, and {most} are the most: send several")
    return [_item(bytes(item), sender, now) for item in items]


def read_catalog(body: bytes, sender: Sender, now: datetime) -> Listing:
    """Return the listing in the body of ``POST /ingest/catalog``. Raises `Refused`.

    One without an end has ended when it began, so that the same listing again is the same.
    """
    with _following():
        listing = _listing(_object(body, _LISTED_VALUES, _LISTED_OBJECTS), now)
    _check_secrets(listing, "listing", sender)
    return listing


def _listing(document: Document, now: datetime) -> Listing:
    _refuse_unknown(document, Listing, "listing")
    check_plain({name: value for name, value in document.items() if name != "models"}, "listing")
    for name in ("started_at", "finished_at"):
        if document.get(name) is not None:
            document[name] = read_date(name, document[name])
            check_date(name, document[name], now)
    document["models"] = _models(document.get("models"))
    usual = {"finished_at": document.get("started_at"), "status": "failed" if document.get("error") else "ok"}
    said = {name: value for name, value in document.items() if value is not None}
    listing: Listing = _converted({"pagination_complete": False, **usual, **said}, Listing)
    check_name("provider", listing.provider)
    if listing.finished_at < listing.started_at:
        raise Refused("'finished_at' is before 'started_at': a listing ends after it begins")
    return listing


def _read_run(body: bytes, sender: Sender, now: datetime) -> Envelope:
    with _following():
        return _run(_object(body), sender, now)


def _read_error(body: bytes, sender: Sender, now: datetime) -> Envelope:
    with _following():
        return _error(_object(body), sender, now)


def _settled(body: bytes, kind: type[Sample | Failure], sender: Sender, now: datetime) -> Envelope | None:
    """Return the outcome in a body that is its own canonical form, None for any other.

    Most are, and then there is nothing that reading it step by step would find: no field that is not known, no key
    that stands twice, no value that would be stored as another one.
    """
    publish = not body.endswith(UNPUBLISHED)
    text = body if publish else body[: -len(UNPUBLISHED)] + b"}"
    _check_count(text, MOST_VALUES, MOST_OBJECTS)
    try:
        outcome = read_canonical(text, kind)
    except UnstorableError:
        return None
    _check_id(outcome.id)
    with _about(outcome.id):
        check_outcome(outcome, sender, now)
        _check_text(body, "document", sender)
        return _envelope(outcome, publish, text)


def _item(item: bytes, sender: Sender, now: datetime) -> Envelope | Refused:
    try:
        found = _settled(item, Failure if _FAILED in item else Sample, sender, now)
        if found is not None:
            return found
        with _following():
            document = _object(item)
            return (_error if _is_failure(document) else _run)(document, sender, now)
    except Refused as refused:
        return refused


def _is_failure(document: Document) -> bool:
    told = "stage" in document or "message" in document
    return document.get("outcome") == "failed" or (told and "output_tokens" not in document)


def _run(document: Document, sender: Sender, now: datetime) -> Envelope:
    if document.get("outcome") == "failed":
        raise Refused("document tells of a failed run: send it to /ingest/error, or in a batch")
    publish = _publish(document)
    if "_id" in document:
        return _envelope(_own(document, Sample, sender, now), publish)
    content = Content(document, Sample, sender)
    with _about(content.id):
        return _envelope(_checked(sample_of(content, sender), sender, now), publish)


def _error(document: Document, sender: Sender, now: datetime) -> Envelope:
    publish = _publish(document)
    if "_id" in document:
        return _envelope(_own(document, Failure, sender, now), publish)
    content = Content(document, Failure, sender)
    with _about(content.id):
        return _envelope(_checked(failure_of(content, sender), sender, now), publish)


def _publish(document: Document) -> bool:
    publish = document.pop("publish", True)
    if not isinstance(publish, bool):
        raise Refused(f"'publish' is {publish!r:.80}, and can only be true or false")
    return publish


def _envelope(outcome: Outcome, publish: bool, canonical: bytes | None = None) -> Envelope:
    """Only what was scheduled is ever public, whatever a sender says."""
    return Envelope(outcome=outcome, publish=publish and outcome.sample_role == "scheduled", canonical=canonical)


def _own(document: Document, kind: type[T], sender: Sender, now: datetime) -> T:
    outcome_id = document["_id"]
    _check_id(outcome_id)
    with _about(outcome_id):
        _refuse_unknown(document, kind, "document")
        outcome: T = _converted(document, kind)
        return _checked(outcome, sender, now)


def _check_id(outcome_id: Any) -> None:
    if not isinstance(outcome_id, str) or not _ID.fullmatch(outcome_id):
        raise Refused(f"'_id' is {outcome_id!r:.80}: an id is 24 hexadecimal digits, in small letters")


def _refuse_unknown(document: Document, kind: type[msgspec.Struct], what: str) -> None:
    for name in document:
        if name not in _FIELDS[kind]:
            known = f"which this bridge (llmbench {__version__}) does not know: update the bridge first"
            raise Refused(f"{what} has a field {name!r:.80}, {known}")


def _checked(outcome: T, sender: Sender, now: datetime) -> T:
    """Return the outcome as every store would read it back. Raises `Refused`."""
    check_outcome(outcome, sender, now)
    try:
        found = read_back(outcome)
    except UnstorableError as error:
        raise Refused(str(error)) from error
    _check_secrets(found, "document", sender)
    return found


def _check_secrets(told: msgspec.Struct, what: str, sender: Sender) -> None:
    """Raise `Refused` for what holds a secret of the bridge's own: it can't be kept, nor changed unnoticed."""
    _check_text(msgspec.json.encode(told), what, sender)


def _check_text(text: bytes, what: str, sender: Sender) -> None:
    if sender.redactor.finds(text.decode()):
        raise Refused(f"{what} holds a secret that is this bridge's, too, and must not be stored: take it out")


def _converted(document: Document, kind: Any) -> Any:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise Refused(f"document is not as it should be: {error}") from error


def _models(models: Any) -> list[Document]:
    if not isinstance(models, list):
        raise Refused("'models' is no list: send [] if the provider lists none")
    if len(models) > MOST_MODELS:
        raise Refused(f"listing has {len(models)} models, and {MOST_MODELS} are the most")
    return [_listed(model, number) for number, model in enumerate(models)]


def _listed(model: Any, number: int) -> Document:
    if not isinstance(model, dict):
        raise Refused(f"'models' holds, at {number}, what is no object")
    where = f"model {model.get('model_id', number)!r:.80}"
    check_plain(model, where)
    _refuse_unknown(model, Listed, where)
    if not isinstance(model_id := model.get("model_id"), str):
        raise Refused(f"'models' holds, at {number}, one whose 'model_id' is no text")
    check_name("model_id", model_id)
    return {"raw": {}, **{name: value for name, value in model.items() if value is not None}}


def _object(body: bytes, most_values: int = MOST_VALUES, most_objects: int = MOST_OBJECTS) -> Document:
    _check_count(body, most_values, most_objects)
    with _decoding("a JSON object"):
        return _objects.decode(body)


def _check_count(body: bytes, most_values: int, most_objects: int) -> None:
    """Raise `Refused` for a body that has too much in it, counted without decoding it: what texts hold counts, too."""
    if body.count(b",") >= most_values:
        raise Refused(f"document has more than {most_values} values: make it smaller", 400)
    if body.count(b"[") + body.count(b"{") > most_objects:
        raise Refused(f"document has more than {most_objects} objects and lists: make it smaller", 400)


@contextmanager
def _decoding(wanted: str) -> Iterator[None]:
    """Turn whatever a decoder of JSON raises into `Refused`."""
    try:
        yield
    except (msgspec.DecodeError, ValueError) as error:
        # ValueError: not UTF-8, or an integer of thousands of digits.
        raise Refused(f"body is not {wanted}: {error}", 400) from error
    except RecursionError as error:
        raise Refused(f"body is not {wanted}: it is nested too deeply", 400) from error


@contextmanager
def _following() -> Iterator[None]:
    """Refuse what a decoder could just follow into its depth, and whatever looks at it next can't."""
    try:
        yield
    except RecursionError as error:
        raise Refused("document is nested too deeply: make it flat") from error


@contextmanager
def _about(outcome_id: str) -> Iterator[None]:
    """Say of which outcome it was, if one is refused."""
    try:
        yield
    except Refused as refused:
        refused.id = outcome_id
        raise
