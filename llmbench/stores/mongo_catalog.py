"""The model catalogue in MongoDB.

Rows are changed field by field: what else is in them, and what others write there, stays. That two spellings of a model
are never both enabled is up to a unique index, so that several programs may change the catalogue at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import anyio.to_thread
import msgspec
from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError

from llmbench.messages import Model
from llmbench.naming import Key, absent, fold, key_of
from llmbench.stores.base import ModelChanges, ModelExists, StoreError, UnknownModel
from llmbench.stores.canonical import canonical_form, in_milliseconds
from llmbench.stores.mongo_client import Database, Document, Limits
from llmbench.stores.mongo_documents import builtins_of, derived_id, encoded, fields_of, model_of
from llmbench.stores.mongo_schema import ANY_CASE, DUPLICATE_KEY, MODELS
from llmbench.stores.mongo_windows import NAME

_NOT_DISABLED: dict[str, Any] = dict.fromkeys(
    ("disabled_reason", "disabled_at", "disabled_by", "disabled_class", "recheck_after")
)
UNREADABLE: Document = {"$nor": [{"provider": NAME, "model_id": NAME}]}
"""The condition on documents that name no model; `model_of` says the same."""

_ATTEMPTS = 10
"""So often may another program change the same row in between."""


class _Row(msgspec.Struct, frozen=True):
    key: Any
    model: Model


async def models(database: Database, limits: Limits, provider: str | None, enabled: bool | None) -> list[Model]:
    """Return the catalogue, or the part of it that is asked for. A row that names no model is left out."""
    wanted: Document = {} if enabled is None else {"enabled": True if enabled else {"$ne": True}}
    cursor = database[MODELS].find(wanted, fields_of(Model), max_time_ms=limits.question_milliseconds)
    # Off the event loop: there may be many.
    return await anyio.to_thread.run_sync(_read, await cursor.to_list(None), provider)


def _read(documents: Iterable[Document], provider: str | None) -> list[Model]:
    found = [model for document in documents if (model := model_of(document))]
    if provider is not None:
        found = [model for model in found if fold(model.provider) == fold(provider)]
    return sorted(found, key=key_of)


async def unreadable(database: Database, limits: Limits) -> list[str]:
    """Return the keys of documents that name no model."""
    found = database[MODELS].find(UNREADABLE, ["_id"], max_time_ms=limits.question_milliseconds).sort("_id", 1)
    return [repr(document["_id"]) for document in await found.to_list(None)]


async def model(database: Database, limits: Limits, provider: str, model_id: str) -> Model:
    """Return one model. Raises `UnknownModel`."""
    return (await _known(database, limits, provider, model_id)).model


async def add(database: Database, limits: Limits, new: Model) -> Model:
    """Add a model, or bring a disabled one back. Raises `ModelExists`.

    What the new one says replaces what the disabled row said, the spelling of the id included; what it leaves open, and
    the time of creation, stay.
    """
    new = _storable(new)
    for _ in range(_ATTEMPTS):
        row = await _find(database, limits, new.provider, new.model_id)
        if row is not None and row.model.enabled:
            raise ModelExists(row.model)
        try:
            added = await _insert(database, new) if row is None else await _bring_back(database, row, new)
        except DuplicateKeyError:
            continue  # another program was first
        if added is not None:
            return added
    raise _contended(new)


async def _insert(database: Database, new: Model) -> Model:
    await database[MODELS].insert_one(builtins_of(new))
    return new


async def _bring_back(database: Database, row: _Row, new: Model) -> Model | None:
    said = {name: value for name, value in msgspec.structs.asdict(new).items() if value is not None}
    kept = {"provider", "created_at"}
    changes = {name: value for name, value in said.items() if name not in kept} | (_NOT_DISABLED if new.enabled else {})
    return await _set(database, row, changes, {"enabled": {"$ne": True}})


async def put(database: Database, limits: Limits, new: Model) -> Model | None:
    """Add a row as it is, or return the one in its place; see `llmbench.stores.base.Store.put_model`.

    Two programs that put the same disabled model at the same moment may both add it: no index forbids that.
    """
    new = _storable(new)
    for _ in range(_ATTEMPTS):
        rows = await _spellings(database, limits, new.provider, new.model_id)
        found = _likeliest([row for row in rows if _in_place(row.model, new)], new.model_id)
        if found is not None:
            return found.model
        try:
            await _insert(database, new)
        except DuplicateKeyError:
            continue  # another program has just added or enabled one
        return None
    raise _contended(new)


def _in_place(known: Model, new: Model) -> bool:
    return known.model_id == new.model_id or (known.enabled and new.enabled)


async def seed(database: Database, limits: Limits, new: Sequence[Model]) -> list[Model]:
    """Add those of which there is no row; see `llmbench.stores.base.Store.seed_models`.

    A row that is seeded has an ``_id`` that follows from its name. So one that another program has seeded and somebody
    has disabled since this one looked is not seeded again, which the unique index would let happen.
    """
    if not new:
        return []
    cursor = database[MODELS].find({}, ["provider", "model_id"], max_time_ms=limits.question_milliseconds)
    there = await anyio.to_thread.run_sync(_keys, await cursor.to_list(None))
    return await insert_seeds(database, absent(new, there))


def _keys(documents: Iterable[Document]) -> set[Key]:
    return {key_of(found) for document in documents if (found := model_of(document))}


async def insert_seeds(database: Database, new: Sequence[Model]) -> list[Model]:
    """Insert rows as `seed` does, and return those that nobody else had inserted."""
    seeds = [_storable(one) for one in new]
    try:
        if seeds:
            rows = [{"_id": derived_id(*key_of(one)), **builtins_of(one)} for one in seeds]
            await database[MODELS].insert_many(rows, ordered=False)
    except BulkWriteError as error:
        result: Document = dict(error.details or {})
        faults = {fault["index"]: fault["code"] for fault in result.get("writeErrors", ())}
        if result.get("writeConcernErrors") or set(faults.values()) != {DUPLICATE_KEY}:
            raise
        return [one for number, one in enumerate(seeds) if number not in faults]
    return seeds


async def enable(database: Database, limits: Limits, provider: str, model_id: str) -> Model:
    """Enable a model. The reason why it was disabled goes, as it holds no longer; the rest of the row stays."""
    for _ in range(_ATTEMPTS):
        row = await _known(database, limits, provider, model_id)
        if row.model.enabled:
            return row.model
        try:
            enabled = await _set(database, row, {"enabled": True, **_NOT_DISABLED})
        except DuplicateKeyError:
            continue  # another spelling was enabled at the same time
        if enabled is not None:
            return enabled
    raise _contended(row.model)


async def disable(
    database: Database, limits: Limits, provider: str, model_id: str, *, reason: str, by: str, at: datetime
) -> Model:
    """Disable a model. If it was disabled before, this is the reason from now on."""
    why = {**_NOT_DISABLED, "disabled_reason": reason, "disabled_by": by, "disabled_at": at}
    row = await _known(database, limits, provider, model_id)
    disabled = await _set(database, row, {"enabled": False, **why})
    return _there(disabled, row.model)


async def change(database: Database, limits: Limits, provider: str, model_id: str, changes: ModelChanges) -> Model:
    """Set fields of a row. Raises `UnknownModel`, and `TypeError` for a field that is none of `ModelChanges`."""
    if other := changes.keys() - ModelChanges.__annotations__.keys():
        raise TypeError(f"{', '.join(sorted(other))} of a model can't be changed like this")
    row = await _known(database, limits, provider, model_id)
    changed = _storable(msgspec.structs.replace(row.model, **changes))
    if changed == row.model:
        return row.model
    return _there(await _set(database, row, {name: getattr(changed, name) for name in changes}), row.model)


def _storable(new: Model) -> Model:
    """Return the model as it will be read back. Raises `UnstorableError`."""
    cut = in_milliseconds(new)
    text, read_back = canonical_form(cut)
    encoded(builtins_of(cut), text)
    return read_back


async def _set(
    database: Database, row: _Row, changes: dict[str, Any], condition: Document | None = None
) -> Model | None:
    """Set these fields of a row, None taking one away; return the row, None if it does not meet the condition."""
    taken = {name: "" for name, value in changes.items() if value is None}
    given = {name: value for name, value in changes.items() if value is not None}
    update = {operator: fields for operator, fields in (("$set", given), ("$unset", taken)) if fields}
    # The driver's annotation leaves out that there may be none.
    found: Document | None = await database[MODELS].find_one_and_update(
        {"_id": row.key, **(condition or {})}, update, fields_of(Model), return_document=ReturnDocument.AFTER
    )
    return None if found is None else model_of(found)


def _there(found: Model | None, asked: Model) -> Model:
    if found is None:
        raise UnknownModel(asked.provider, asked.model_id)  # deleted by hand just now
    return found


def _contended(asked: Model) -> StoreError:
    return StoreError(f"{asked.provider}/{asked.model_id} is being changed by other programs; try again")


async def _find(database: Database, limits: Limits, provider: str, model_id: str) -> _Row | None:
    return _likeliest(await _spellings(database, limits, provider, model_id), model_id)


async def _spellings(database: Database, limits: Limits, provider: str, model_id: str) -> list[_Row]:
    """Return the rows of a model in whatever spelling, oldest first."""
    cursor = database[MODELS].find(
        {"provider": provider, "model_id": model_id},
        fields_of(Model),
        collation=ANY_CASE,
        max_time_ms=limits.question_milliseconds,
    )
    return [
        _Row(document["_id"], found)
        for document in await cursor.sort("_id", 1).to_list(None)
        if (found := model_of(document))
    ]


def _likeliest(rows: list[_Row], model_id: str) -> _Row | None:
    """Return of several spellings the enabled one, else the one asked for, else the newest."""
    return max(rows, key=lambda row: (row.model.enabled, row.model.model_id == model_id, rows.index(row)), default=None)


async def _known(database: Database, limits: Limits, provider: str, model_id: str) -> _Row:
    row = await _find(database, limits, provider, model_id)
    if row is None:
        ids = [found.model_id for found in await models(database, limits, provider, None)]
        raise UnknownModel(provider, model_id, _similar(ids, model_id))
    return row


def _similar(ids: list[str], model_id: str) -> list[str]:
    spelled = {fold(known): known for known in ids}
    return [spelled[match] for match in difflib.get_close_matches(fold(model_id), spelled)]
