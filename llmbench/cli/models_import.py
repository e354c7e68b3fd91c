"""Lines into rows: many at a time, since a question for each would take the square of their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import msgspec

from llmbench.messages import Model
from llmbench.naming import Key, absent, key_of
from llmbench.stores.base import ModelChanges, Store, UnknownModel

Status = Literal["added", "exists", "replaced", "unchanged", "refused"]

_SETTABLE = ModelChanges.__annotations__.keys()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line that says something of a model, counted from 1. ``said`` are the fields that it names."""

    number: int
    model: Model
    said: frozenset[str]


class LineVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a line; lines are counted from 1."""

    line: int
    status: Status
    provider: str | None = None
    model_id: str | None = None
    reason: str | None = None


class Import:
    """Adds models of which there is no row. With ``replace``, sets the fields of the others that a person sets.

    ``rows`` is the catalogue as it is before; what this import changes is kept in mind, so that it is not read again.
    """

    def __init__(self, store: Store, rows: Sequence[Model], *, replace: bool) -> None:
        self._store = store
        self._replace = replace
        self._rows: dict[Key, list[Model]] = {}
        for row in rows:
            self._rows.setdefault(key_of(row), []).append(row)

    async def take(self, lines: Sequence[Line | LineVerdict]) -> list[LineVerdict]:
        """Return a verdict for each line, in order; those that have theirs already keep it."""
        added = await self._add([line.model for line in lines if isinstance(line, Line)])
        return [line if isinstance(line, LineVerdict) else await self._verdict(line, added) for line in lines]

    async def _add(self, models: Sequence[Model]) -> dict[Key, str | None]:
        """Add the first of each model that has no row. Returns the added ones, and the others that can't be stored."""
        new = absent(models, self._rows)
        try:
            return {key_of(model): None for model in await self._store.seed_models(new)}
        except ValueError:
            return {key_of(model): reason for model in new if (reason := await self._alone(model)) != ""}

    async def _alone(self, model: Model) -> str | None:
        """Add one model. Returns why it can't be stored, None if it was added, nothing if it is there."""
        try:
            return None if await self._store.seed_models([model]) else ""
        except ValueError as error:
            return str(error)

    async def _verdict(self, line: Line, added: dict[Key, str | None]) -> LineVerdict:
        key, reason = key_of(line.model), None
        status: Status = "exists"
        if key in added:
            reason = added.pop(key)  # it was the first line of this model; what comes behind finds the row there
            status = "added"
            if reason is None:
                self._rows[key] = [line.model]
        elif self._replace:
            try:
                status = await self._change(line)
            except UnknownModel:
                reason = "the row was deleted in this moment; try again"
            except ValueError as error:
                reason = str(error)
        name = {"provider": line.model.provider, "model_id": line.model.model_id}
        if reason is not None:
            return LineVerdict(line=line.number, status="refused", reason=f"can't be stored: {reason}", **name)
        return LineVerdict(line=line.number, status=status, **name)

    async def _change(self, line: Line) -> Status:
        """Set what a line says. Raises `UnknownModel`, and `ValueError` for what can't be stored."""
        rows = self._rows.get(key_of(line.model), [])
        known = rows[0] if len(rows) == 1 else await self._store.model(line.model.provider, line.model.model_id)
        said = {name: getattr(line.model, name) for name in sorted(_SETTABLE & line.said)}
        if all(getattr(known, name) == value for name, value in said.items()):
            return "unchanged"
        changes = cast("ModelChanges", said)
        changed = await self._store.change_model(known.provider, known.model_id, **changes)
        self._rows[key_of(line.model)] = [changed]
        return "unchanged" if changed == known else "replaced"
