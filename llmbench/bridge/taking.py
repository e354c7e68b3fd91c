"""What becomes of a body that was let in: read, checked, stored, answered. Wherever that is done, by one of these.

An `Order` and what is `Taken` are bytes and plain values, so that the work can be done in another process
(`llmbench.bridge.process`): reading and encoding documents takes the interpreter from an event loop that measures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

import anyio
import msgspec
from anyio.abc import TaskStatus

from llmbench.bridge import documents
from llmbench.bridge.intake import Intake, IntakeFull
from llmbench.bridge.refusals import Foreign, Refused, Sender
from llmbench.bridge.replies import ErrorAnswer
from llmbench.ingestion import BatchAnswer, CatalogAnswer, ItemAnswer
from llmbench.messages import Envelope
from llmbench.secrets import Redactor
from llmbench.stores.apart import Apart, one_at_a_time
from llmbench.stores.base import Store, StoreError, Verdict

T = TypeVar("T")

What = Literal["run", "error", "batch", "catalog"]

_DECODED_AT_ONCE = 8 * 1024
"""A body up to this size is decoded in well under a millisecond; a larger one would hold up what else the loop does."""

_STATUS = {"stored": 200, "duplicate": 200, "conflict": 409, "rejected": 422}
_RETRY_SECONDS = 5.0
_WRITERS = 2
"""So that one write is laid out while the other one waits for the disk."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A body to be taken. ``runner`` is whose outcomes the key is for, None if it is anybody's; ``now`` is UTC."""

    what: What
    runner: str | None
    now: datetime
    body: bytes


class Taken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to an order: what the sender gets, as JSON, and what the program wants to know.

    ``items`` counts documents by what became of them. ``retry_after`` is in seconds. ``fault`` says, for the log, why
    the store took nothing.
    """

    status: int
    body: bytes
    items: dict[str, int] = {}
    retry_after: float | None = None
    fault: str | None = None


class Taker(Protocol):
    """Takes orders while it runs."""

    @property
    def problem(self) -> str | None:
        """Why nothing is taken, None if it is."""
        ...

    async def take(self, order: Order) -> Taken:
        """Return what became of it; whatever that is, it is no exception."""
        ...

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Do the work, until cancelled; tell when it can begin."""
        ...


def put_off(reason: str, seconds: float = _RETRY_SECONDS, fault: str | None = None) -> Taken:
    """Return the answer for a sender who is to come again: nothing is known of what was sent."""
    return Taken(status=503, body=_json(ErrorAnswer(reason)), retry_after=seconds, fault=fault)


class StoreTaker:
    """Takes orders into a store. ``answer_seconds`` is how long a sender waits for that."""

    problem: str | None = None

    def __init__(self, store: Store, *, answer_seconds: float, redactor: Redactor, apart: Apart | None = None) -> None:
        self._store = store
        self._intake = Intake(store, writers=_WRITERS)
        self._answer_seconds = answer_seconds
        self._redactor = redactor
        self._apart = apart or one_at_a_time()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await self._intake.run()

    async def take(self, order: Order) -> Taken:
        try:
            with anyio.fail_after(self._answer_seconds):
                return await self._take(order)
        except TimeoutError:
            return put_off("the store took too long: send it again")
        except IntakeFull as error:
            return put_off(f"{error}: send it again later")
        except StoreError as error:
            why = f"the store takes nothing: {error}"
            return put_off(
                "the store takes nothing now: send it again later", error.retry_after or _RETRY_SECONDS, fault=why
            )

    async def _take(self, order: Order) -> Taken:
        try:
            match order.what:
                case "run":
                    return await self._single(await self._read(documents.read_run, order))
                case "error":
                    return await self._single(await self._read(documents.read_error, order))
                case "batch":
                    return await self._batch(await self._read(documents.read_batch, order), order)
                case "catalog":
                    return await self._catalog(order)
        except Refused as refused:
            counted = {"rejected": 1} if order.what in ("run", "error") else {}
            return Taken(status=refused.status, body=_json(self._refusal(refused)), items=counted)

    async def _read(self, read: Callable[[bytes, Sender, datetime], T], order: Order) -> T:
        sender = Sender(order.runner, self._redactor)
        if len(order.body) <= _DECODED_AT_ONCE:
            return read(order.body, sender, order.now)
        return await self._apart(read, order.body, sender, order.now)

    async def _single(self, envelope: Envelope) -> Taken:
        (verdict,) = await self._intake.put([envelope])
        if verdict.status == "unknown":
            late = put_off("the store did not say what became of it: send it again")
            return msgspec.structs.replace(late, items={"unknown": 1})
        return Taken(status=_STATUS[verdict.status], body=_json(_item(verdict)), items={verdict.status: 1})

    async def _batch(self, items: Sequence[Envelope | Refused], order: Order) -> Taken:
        if items and all(isinstance(item, Foreign) for item in items):
            # Then the key is the wrong one, and no document is.
            reason = next(item.reason for item in items if isinstance(item, Foreign))
            advice = "use that runner's key, or correct runner.id"
            return Taken(status=403, body=_json(ErrorAnswer(f"this key is another runner's: {reason}; {advice}")))
        verdicts = iter(await self._intake.put([item for item in items if isinstance(item, Envelope)]))
        results = [self._refusal(item) if isinstance(item, Refused) else _item(next(verdicts)) for item in items]
        counted: dict[str, int] = dict(Counter(str(result.status) for result in results))
        return Taken(status=200, body=_json(BatchAnswer(results=results, runner=order.runner)), items=counted)

    async def _catalog(self, order: Order) -> Taken:
        listing = await self._read(documents.read_catalog, order)
        try:
            recorded = await self._store.put_listing(listing)
        except ValueError as error:
            refused = ItemAnswer(id=None, status="rejected", reason=self._redactor.redact(str(error)))
            return Taken(status=422, body=_json(refused))
        left_out = [_item(verdict) for verdict in recorded.refused]
        return Taken(
            status=200, body=_json(CatalogAnswer(accepted=len(listing.models) - len(left_out), refused=left_out))
        )

    def _refusal(self, refused: Refused) -> ItemAnswer:
        # What it quotes of the document may be the secret for which it is refused.
        return ItemAnswer(id=refused.id, status="rejected", reason=self._redactor.redact(refused.reason))


def _item(verdict: Verdict) -> ItemAnswer:
    return ItemAnswer(id=verdict.id, status=verdict.status, reason=verdict.reason)


def _json(body: Any) -> bytes:
    return msgspec.json.encode(body)
