"""Foreign bytes in, outcomes out, strictly: what is not taken is `Refused`, and nothing else is ever raised.

A document comes in the wire form of `llmbench.ingestion`. One with an ``_id`` is llmbench's own, and is taken as it is
or not at all; one without is an earlier runner's, of which `llmbench.bridge.earlier` makes an outcome.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from llmbench.bridge.refusals import Refused, Sender
from llmbench.lifecycle import Listing
from llmbench.messages import Envelope, Failure, Sample

__all__ = ["MOST_ITEMS", "Refused", "Sender", "read_batch", "read_catalog", "read_error", "read_run"]

MOST_ITEMS = 1000
"""So many documents may come in one batch."""


def read_run(body: bytes, sender: Sender, now: datetime) -> Envelope:
    """Return the run in the body of ``POST /ingest``. Raises `Refused`."""
    document = _object(body)
    publish = document.pop("publish", True)
    return Envelope(outcome=_converted(document, Sample), publish=publish)


def read_error(body: bytes, sender: Sender, now: datetime) -> Envelope:
    """Return the failed run in the body of ``POST /ingest/error``. Raises `Refused`."""
    document = _object(body)
    publish = document.pop("publish", True)
    return Envelope(outcome=_converted(document, Failure), publish=publish)


def read_batch(body: bytes, sender: Sender, now: datetime, most: int = MOST_ITEMS) -> list[Envelope | Refused]:
    """Return each run, good or failed, in the body of ``POST /ingest/batch``, or why it is not taken, in their order.

    Raises `Refused` for a body that is no JSON array, or has more items than ``most``.
    """
    try:
        items = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refused(f"body is no JSON array: {error}", 400) from error
    return [_item(bytes(item), sender, now) for item in items]


def read_catalog(body: bytes, sender: Sender, now: datetime) -> Listing:
    """Return the listing in the body of ``POST /ingest/catalog``. Raises `Refused`."""
    document = {"finished_at": now, "status": "ok", **_object(body)}
    try:
        return msgspec.convert(document, Listing)
    except msgspec.ValidationError as error:
        raise Refused(f"listing is not as it should be: {error}") from error


def _item(item: bytes, sender: Sender, now: datetime) -> Envelope | Refused:
    try:
        failed = "stage" in _object(item)
        return (read_error if failed else read_run)(item, sender, now)
    except Refused as refused:
        return refused


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Refused(f"body is no JSON object: {error}", 400) from error


def _converted(document: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise Refused(f"document is not as it should be: {error}") from error
