"""The model catalogue in the embedded store, on a connection that the caller owns.

A model is kept whole, as canonical JSON; the columns beside it are what it is found by.
"""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from llmbench.messages import Model
from llmbench.naming import absent, fold, folded
from llmbench.stores.base import ModelChanges, ModelExists, UnknownModel
from llmbench.stores.canonical import canonical_json
from llmbench.stores.sqlite_schema import transaction

# Among several disabled spellings, the one asked for; an enabled one is the model in any case.
_FIND = """
SELECT rowid, document FROM models WHERE provider = :provider AND model_id = :model_id
ORDER BY enabled DESC, model_id = :model_id COLLATE BINARY DESC, rowid DESC LIMIT 1
"""

_IN_PLACE = """
SELECT document FROM models WHERE provider = :provider AND model_id = :model_id
AND (model_id = :model_id COLLATE BINARY OR (enabled AND :enabled))
ORDER BY model_id = :model_id COLLATE BINARY DESC, enabled DESC, rowid DESC LIMIT 1
"""

_NOT_DISABLED: dict[str, Any] = {
    "disabled_reason": None,
    "disabled_at": None,
    "disabled_by": None,
    "disabled_class": None,
    "recheck_after": None,
}

_decoder = msgspec.json.Decoder(Model)


def models(connection: sqlite3.Connection, provider: str | None, enabled: bool | None) -> list[Model]:
    """Return the catalogue, or the part of it that is asked for."""
    rows = connection.execute(
        """
        SELECT document FROM models WHERE provider = ifnull(:provider, provider) AND enabled = ifnull(:enabled, enabled)
        ORDER BY provider, model_id
        """,
        {"provider": provider, "enabled": enabled},
    )
    return [_decoder.decode(document) for (document,) in rows]


def model(connection: sqlite3.Connection, provider: str, model_id: str) -> Model:
    """Return one model. Raises `UnknownModel`."""
    return _known(connection, provider, model_id)[1]


def add(connection: sqlite3.Connection, new: Model) -> Model:
    """Add a model, or bring a disabled one back. Raises `ModelExists`.

    What the new one says replaces what the disabled row said; what it leaves open, the spelling of the id and the
    time of creation stay.
    """
    with transaction(connection, "IMMEDIATE"):
        found = _find(connection, new.provider, new.model_id)
        if found is None:
            return _insert(connection, new)
        row, existing = found
        if existing.enabled:
            raise ModelExists(existing)
        return _update(connection, row, _merged(existing, new))


def _merged(existing: Model, new: Model) -> Model:
    said = {name: value for name, value in msgspec.structs.asdict(new).items() if value is not None}
    kept = {"provider": existing.provider, "created_at": existing.created_at}
    cleared = _NOT_DISABLED if new.enabled else {}
    return msgspec.structs.replace(existing, **{**said, **kept, **cleared})


def put(connection: sqlite3.Connection, new: Model) -> Model | None:
    """Add a row as it is, or return the one in its place; see `llmbench.stores.base.Store.put_model`."""
    with transaction(connection, "IMMEDIATE"):
        names = {"provider": new.provider, "model_id": new.model_id, "enabled": new.enabled}
        if found := connection.execute(_IN_PLACE, names).fetchone():
            there: Model = _decoder.decode(found[0])
            return there
        _insert(connection, new)
        return None


def seed(connection: sqlite3.Connection, models: Sequence[Model]) -> list[Model]:
    """Add those of which there is no row; see `llmbench.stores.base.Store.seed_models`."""
    with transaction(connection, "IMMEDIATE"):
        there = {folded(*names) for names in connection.execute("SELECT provider, model_id FROM models")}
        return [_insert(connection, new) for new in absent(models, there)]


def enable(connection: sqlite3.Connection, provider: str, model_id: str) -> Model:
    """Enable a model. The reason why it was disabled goes, as it holds no longer; the rest of the row stays."""
    with transaction(connection, "IMMEDIATE"):
        row, existing = _known(connection, provider, model_id)
        if existing.enabled:
            return existing
        return _update(connection, row, msgspec.structs.replace(existing, enabled=True, **_NOT_DISABLED))


def disable(
    connection: sqlite3.Connection, provider: str, model_id: str, *, reason: str, by: str, at: datetime
) -> Model:
    """Disable a model. If it was disabled before, this is the reason from now on."""
    with transaction(connection, "IMMEDIATE"):
        row, existing = _known(connection, provider, model_id)
        why = {**_NOT_DISABLED, "disabled_reason": reason, "disabled_by": by, "disabled_at": at}
        return _update(connection, row, msgspec.structs.replace(existing, enabled=False, **why))


def change(connection: sqlite3.Connection, provider: str, model_id: str, changes: ModelChanges) -> Model:
    """Set fields of a row. Raises `UnknownModel`, and `TypeError` for a field that is none of `ModelChanges`."""
    if other := changes.keys() - ModelChanges.__annotations__.keys():
        raise TypeError(f"{', '.join(sorted(other))} of a model can't be changed like this")
    with transaction(connection, "IMMEDIATE"):
        row, existing = _known(connection, provider, model_id)
        changed = msgspec.structs.replace(existing, **changes)
        return existing if changed == existing else _update(connection, row, changed)


def _find(connection: sqlite3.Connection, provider: str, model_id: str) -> tuple[int, Model] | None:
    found = connection.execute(_FIND, {"provider": provider, "model_id": model_id}).fetchone()
    return None if found is None else (found[0], _decoder.decode(found[1]))


def _known(connection: sqlite3.Connection, provider: str, model_id: str) -> tuple[int, Model]:
    found = _find(connection, provider, model_id)
    if found is None:
        raise UnknownModel(provider, model_id, _similar(connection, provider, model_id))
    return found


def _similar(connection: sqlite3.Connection, provider: str, model_id: str) -> list[str]:
    ids = connection.execute("SELECT model_id FROM models WHERE provider = ?", (provider,))
    spelled = {fold(known): known for (known,) in ids}
    return [spelled[match] for match in difflib.get_close_matches(fold(model_id), spelled)]


def _insert(connection: sqlite3.Connection, new: Model) -> Model:
    connection.execute(
        "INSERT INTO models (provider, model_id, enabled, document) VALUES (?, ?, ?, ?)",
        (new.provider, new.model_id, new.enabled, canonical_json(new).decode()),
    )
    return new


def _update(connection: sqlite3.Connection, row: int, changed: Model) -> Model:
    connection.execute(
        "UPDATE models SET model_id = ?, enabled = ?, document = ? WHERE rowid = ?",
        (changed.model_id, changed.enabled, canonical_json(changed).decode(), row),
    )
    return changed
