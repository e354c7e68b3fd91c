"""What runners and the bridge say to each other: the bodies of the ingest routes and of the worklist.

A document goes over the wire flat, as it is stored, with one key more: ``publish`` (true if it is left out) says
whether a run belongs to the public collection. An answer has a verdict for each item, in the order of the items.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from llmbench.messages import Envelope

KEY_HEADER = "X-API-Key"
"""What outcomes are sent with; the worklist is asked for with ``Authorization: Bearer``. The bridge takes either."""

UNPUBLISHED = b',"publish":false}'
"""How a document ends that is not for the public collection."""

ItemStatus = Literal["stored", "duplicate", "conflict", "rejected", "unknown"]


class ItemAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one document. ``id`` is the document's, derived if it had none; None if it was no document.

    ``stored`` and ``duplicate`` say that it is durable. ``unknown``: ask again, with the same document.
    """

    id: str | None
    status: ItemStatus
    reason: str | None = None


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to ``POST /ingest/batch``: an item for each document, in their order.

    ``runner`` is whose outcomes the key is for; None, which is left out, for a key that is good for any runner's.
    """

    results: list[ItemAnswer]
    runner: str | None = None


class CatalogAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``POST /ingest/catalog``: how many models were noted, and those that could not be."""

    accepted: int
    refused: list[ItemAnswer] = []


class Worklist(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``GET /runner-config``: what a runner is to measure of one provider, and how often.

    ``model_metadata`` has the fields of `llmbench.messages.Model` that a row has besides provider and id, by id.
    """

    schema_version: int = 1
    provider: str
    interval_minutes: float
    models: list[str]
    model_metadata: dict[str, dict[str, Any]] = {}
    generated_at: datetime


def wire_form(envelope: Envelope) -> bytes:
    """Return an outcome as JSON for the wire: the stored document, and ``publish``, as its last, if that is false.

    Keys are in order, so that a bridge can tell at once that the document is its own canonical form.
    """
    text = msgspec.json.encode(envelope.outcome, order="deterministic")
    return text if envelope.publish else text[:-1] + UNPUBLISHED


def batch_of(documents: Sequence[bytes]) -> bytes:
    """Return the body of ``POST /ingest/batch`` for documents in their wire form: a JSON array."""
    return b"[" + b",".join(documents) + b"]"
