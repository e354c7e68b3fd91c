"""What may be asked of a spool by whoever looks after it, and how it is answered.

While an engine runs, nobody else can open its spool: then the questions go through its desk, as lines of JSON. Else
who asks opens the spool and answers them in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from llmbench.messages import StoreState
from llmbench.stores.spool import Damage, Kept, Spool, SpoolCounts
from llmbench.stores.spool_rows import State

SOCKET = "spool.sock"
MOST_ROWS = 100
"""So many rows are in a page, and so many ids in a request: neither the engine nor its spool is held up by more."""

LONGEST_REQUEST = 64 * 1024

_Seq = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Ids = Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=MOST_ROWS)]


class AskStatus(msgspec.Struct, frozen=True, tag="status", tag_field="ask", forbid_unknown_fields=True):
    """How is it?"""


class AskPage(msgspec.Struct, frozen=True, tag="page", tag_field="ask", forbid_unknown_fields=True):
    """The rows of a state from the one after this ``seq`` on, in the order they were recorded."""

    state: State
    after: _Seq = 0
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = MOST_ROWS


class AskFind(msgspec.Struct, frozen=True, tag="find", tag_field="ask", forbid_unknown_fields=True):
    """The rows in quarantine with these ids."""

    ids: _Ids


class AskRetry(msgspec.Struct, frozen=True, tag="retry", tag_field="ask", forbid_unknown_fields=True):
    """Let these be due again, or, if there are no ids, all that are in quarantine; never conflicting ones."""

    ids: _Ids | None = None


class AskDiscard(msgspec.Struct, frozen=True, tag="discard", tag_field="ask", forbid_unknown_fields=True):
    """Delete these rows of the quarantine for good."""

    seqs: Annotated[list[_Seq], Meta(max_length=MOST_ROWS)]


class AskAcknowledge(msgspec.Struct, frozen=True, tag="acknowledge", tag_field="ask", forbid_unknown_fields=True):
    """A person knows of the damage."""


Request = AskStatus | AskPage | AskFind | AskRetry | AskDiscard | AskAcknowledge


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a spool is. ``delivery`` is how its engine gets on with the store; None if no engine has it."""

    counts: SpoolCounts
    damages: list[Damage]
    delivery: StoreState | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for: rows, a status, or how many rows or damages it concerned."""

    rows: list[Kept] = []
    status: Status | None = None
    count: int | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the desk's answer: a row of it, the rest of it, which is the last line, or why there is none."""

    row: Kept | None = None
    answer: Answer | None = None
    error: str | None = None


_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def decoded(line: bytes) -> Request:
    """Return the request in a line. Raises `ValueError`."""
    try:
        return _requests.decode(line)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


async def answered(spool: Spool, request: Request, delivery: Callable[[], StoreState | None] | None = None) -> Answer:
    """Do what is asked. Raises what the spool raises."""
    match request:
        case AskStatus():
            told = None if delivery is None else delivery()
            return Answer(status=Status(counts=await spool.counts(), damages=spool.damages, delivery=told))
        case AskPage(state, after, limit):
            return Answer(rows=await spool.page(state, after, limit))
        case AskFind(ids):
            return Answer(rows=await spool.quarantined(ids))
        case AskRetry(ids):
            return Answer(count=await (spool.release_all() if ids is None else spool.release_quarantined(ids)))
        case AskDiscard(seqs):
            return Answer(count=await spool.discard(seqs))
        case AskAcknowledge():
            count = len(spool.damages)
            await spool.acknowledge_damage()
            return Answer(count=count)


def lines_of(answer: Answer) -> Iterator[bytes]:
    """Yield an answer as it goes over the wire: a line for each row, and one for the rest."""
    for row in answer.rows:
        yield msgspec.json.encode(Line(row=row)) + b"\n"
    yield msgspec.json.encode(Line(answer=msgspec.structs.replace(answer, rows=[]))) + b"\n"
