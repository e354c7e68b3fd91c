"""The rules of the records about models that hold in every store: which are one, and what putting one again changes."""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from llmbench.lifecycle import CatalogEntry, DeprecationSnapshot, DiscoveryRun, Listing, ModelStatus, R, Record
from llmbench.naming import Key, absent, fold, key_of
from llmbench.stores.base import Recorded, Verdict
from llmbench.stores.canonical import UnstorableError, canonical_form

RecordKey = tuple[str, ...]

_FINEST = 1000
"""In microseconds: dates of records are in milliseconds in every store, so that one is the same after a copy."""


def record_key(record: Record) -> RecordKey:
    """Return what tells a record from others of its kind."""
    match record:
        case DiscoveryRun():
            return fold(record.provider), record.started_at.isoformat()
        case DeprecationSnapshot():
            return *key_of(record), record.deprecation_date.isoformat()
        case _:
            return key_of(record)


def name_of(record: Record) -> str:
    """Return what a person calls a record by."""
    if isinstance(record, DiscoveryRun):
        return f"{record.provider} at {record.started_at:%Y-%m-%d %H:%M:%S}"
    return f"{record.provider}/{record.model_id}"


def order(record: Record) -> tuple[Any, ...]:
    """Return what records are sorted by: runs newest first, all others by provider, then model."""
    if isinstance(record, DiscoveryRun):
        return (-record.started_at.timestamp(), fold(record.provider))
    return record_key(record)


def storable(record: R) -> R:
    """Return a record as it will be read back, its dates in milliseconds. Raises `UnstorableError`."""
    if not record.provider or (not isinstance(record, DiscoveryRun) and not record.model_id):
        raise UnstorableError(f"{type(record).__name__} names no model or no provider")
    if isinstance(record, ModelStatus):
        record = msgspec.structs.replace(
            record,
            created_at=record.created_at or record.computed_at,
            last_updated=_later(record.computed_at, record.last_updated),
        )
    read_back: R = canonical_form(_dated(record, type(record).__name__))[1]
    return read_back


def _later(one: datetime, other: datetime | None) -> datetime:
    # One without a time zone is refused further on, by its name.
    return other if other is not None and (other.tzinfo is None or one.tzinfo is None or other > one) else one


def _dated(value: Any, name: str) -> Any:
    """Return a Struct with all its dates in UTC and cut. Dates in free-form objects are not what JSON has."""
    match value:
        case datetime():
            if value.tzinfo is None:
                raise UnstorableError(f"{name} has no time zone; every date is aware UTC")
            moment = value.astimezone(UTC)
            return moment.replace(microsecond=moment.microsecond // _FINEST * _FINEST)
        case list():
            return [_dated(one, name) for one in value]
        case msgspec.Struct():
            fields = msgspec.structs.asdict(value).items()
            return msgspec.structs.replace(value, **{key: _dated(one, f"{name}.{key}") for key, one in fields})
        case _:
            return value


def joined(known: R, new: R) -> R:
    """Return what is to be stored when a record is put and one with its key is known; the known one if nothing changes.

    Of an entry the newer one holds, first and last sight are the widest. A newer status replaces an older one, but for
    the time when the first was made. Runs and snapshots never change. Names of providers stay as they were spelled.
    """
    match known, new:
        case CatalogEntry(), CatalogEntry():
            first = min(known.first_seen_at, new.first_seen_at)
            held = new if new.last_seen_at > known.last_seen_at else known
            return msgspec.structs.replace(held, provider=known.provider, first_seen_at=first)
        case ModelStatus(), ModelStatus() if new.computed_at >= known.computed_at:
            made = known.created_at or new.created_at
            return msgspec.structs.replace(new, provider=known.provider, created_at=made)
        case _:
            return known


def unchanged(known: Record, new: Record) -> Verdict:
    """Return the verdict on a record that changed nothing."""
    if isinstance(new, DiscoveryRun | DeprecationSnapshot) and _content(known) != _content(new):
        return Verdict(name_of(new), "conflict", f"{name_of(new)} is stored with other content, which was kept")
    return Verdict(name_of(new), "duplicate")


def _content(record: Record) -> Record:
    if not isinstance(record, DeprecationSnapshot):
        return record
    named = {"provider": fold(record.provider), "model_id": fold(record.model_id)}
    return msgspec.structs.replace(record, **named, created_at=record.deprecation_date)


def entries_of(listing: Listing, ours: Container[Key]) -> list[CatalogEntry]:
    """Return an entry for each model of a listing, the first of those that are one; ``ours`` are keys of `models`."""
    entries = absent((_entry(listing, number) for number in range(len(listing.models))), ())
    return [msgspec.structs.replace(entry, in_our_db=key_of(entry) in ours) for entry in entries]


def _entry(listing: Listing, number: int) -> CatalogEntry:
    model = listing.models[number]
    return CatalogEntry(
        provider=listing.provider,
        model_id=model.model_id,
        first_seen_at=listing.finished_at,
        last_seen_at=listing.finished_at,
        in_our_db=False,
        raw=model.raw,
        name=model.name,
        chat=model.chat,
        unfit_reason=model.unfit_reason,
    )


def run_of(listing: Listing, stored: Sequence[CatalogEntry]) -> DiscoveryRun:
    """Return the run of a listing whose entries are stored like this.

    New are those that were first seen now: so it is the same run when the same listing is put again after a crash.
    """
    run = DiscoveryRun(
        provider=listing.provider,
        started_at=listing.started_at,
        finished_at=listing.finished_at,
        status=listing.status,
        raw_count=len(listing.models),
        accepted_count=len(stored),
        new_count=0,
        pagination_complete=listing.pagination_complete,
        error=listing.error,
        source_version=listing.source_version,
    )
    run = storable(run)
    return msgspec.structs.replace(run, new_count=sum(one.first_seen_at == run.finished_at for one in stored))


def recorded(run: DiscoveryRun, verdicts: Sequence[Verdict]) -> Recorded:
    return Recorded(run, [verdict for verdict in verdicts if not verdict.acknowledged])
