"""What a runner without a catalogue is to measure: what a bridge says, or what config.toml lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from llmbench.messages import Model
from llmbench.naming import MODEL_ID, Key, absent, fold, folded, key_of
from llmbench.stores.base import StoreUnusable
from llmbench.stores.canonical import dates_of
from llmbench.stores.http_answers import Judge
from llmbench.stores.http_client import Endpoint, Wire

SCHEMA_VERSION = 1

_OWN_FIELDS = frozenset({"provider", "model_id"})
_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(Model)) - _OWN_FIELDS


class Catalogue(Protocol):
    """The models that a runner knows of. ``unreadable`` names the entries that `models` left out last."""

    unreadable: list[str]

    async def models(self, provider: str | None) -> list[Model]:
        """Return all, or a provider's; enabled or not, in no particular order."""
        ...

    def seed(self, models: Sequence[Model]) -> list[Model]:
        """Add those that are not there, where models may be added at all, and return them."""
        ...


class ListedModels:
    """What config.toml lists, kept in memory."""

    def __init__(self, models: Iterable[Model]) -> None:
        self.unreadable: list[str] = []
        self._models: dict[Key, Model] = {}
        self.seed(list(models))

    async def models(self, provider: str | None) -> list[Model]:
        return [model for model in self._models.values() if provider is None or fold(model.provider) == fold(provider)]

    def seed(self, models: Sequence[Model]) -> list[Model]:
        new = absent(models, self._models.keys())
        self._models.update((key_of(model), model) for model in new)
        return new


class _Worklist(msgspec.Struct):
    """`llmbench.ingestion.Worklist` as it is read: one bad entry must not keep the others from being measured."""

    provider: str
    models: list[Any]
    schema_version: int = SCHEMA_VERSION
    model_metadata: dict[str, Any] = {}


class Worklists:
    """What a bridge says is to be measured of some providers; it is asked each time, and alone decides."""

    def __init__(self, endpoint: Endpoint, wire: Wire, providers: Sequence[str]) -> None:
        self.unreadable: list[str] = []
        self._endpoint = endpoint
        self._wire = wire
        self._judge = Judge(endpoint, wire)
        self._providers = tuple(providers)
        self._first_seen: dict[Key, datetime] = {}

    async def models(self, provider: str | None) -> list[Model]:
        """Ask. Raises `StoreError` where the last answer is still good, `StoreUnusable` where it is not."""
        found: list[Model] = []
        unreadable: list[str] = []
        for name in self._providers if provider is None else (fold(provider),):
            for entry in self._entries(name, await self._ask(name)):
                if isinstance(entry, Model):
                    found.append(entry)
                else:
                    unreadable.append(entry)
        self.unreadable = unreadable
        return absent(found, ())

    def seed(self, models: Sequence[Model]) -> list[Model]:
        return []

    async def _ask(self, provider: str) -> _Worklist:
        reply = await self._wire.get(self._endpoint, "/runner-config", provider=provider)
        if not 200 <= reply.status < 300:
            raise self._judge.failure(reply)
        answer = self._judge.decoded(reply, _Worklist)
        if answer.schema_version != SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self._endpoint} has worklists of version {answer.schema_version}, and this llmbench reads version "
                f"{SCHEMA_VERSION}: update llmbench"
            )
        if fold(answer.provider) != fold(provider):
            raise StoreUnusable(
                f"{self._endpoint} was asked for the models of {provider!r} and answers for "
                f"{self._wire.said(answer.provider)!r}: correct {self._endpoint.setting}"
            )
        return answer

    def _entries(self, provider: str, worklist: _Worklist) -> Iterator[Model | str]:
        for model_id in worklist.models:
            try:
                yield self._model(provider, model_id, worklist.model_metadata)
            except (msgspec.ValidationError, ValueError) as error:
                yield self._wire.said(f"{provider}/{model_id}: {error}")

    def _model(self, provider: str, model_id: Any, metadata: dict[str, Any]) -> Model:
        if not isinstance(model_id, str) or not re.fullmatch(MODEL_ID, model_id):
            raise ValueError("a model id has 1 to 200 printable ASCII characters without spaces")
        seen = self._first_seen.setdefault(folded(provider, model_id), datetime.now(UTC))
        document: dict[str, Any] = {"enabled": True, "deprecated": False, "created_at": seen, "source": "worklist"}
        document |= _known(metadata.get(model_id, {}))
        return _in_utc(msgspec.convert(document | {"provider": provider, "model_id": model_id}, Model))


def _known(fields: Any) -> dict[str, Any]:
    """Return the fields that a row has; null says nothing."""
    if not isinstance(fields, dict):
        raise ValueError("its metadata is no object")  # noqa: TRY004  what is wrong is the entry's value
    return {name: value for name, value in fields.items() if name in _FIELDS and value is not None}


def _in_utc(model: Model) -> Model:
    """Return the row with its dates in UTC, which earlier bridges mean where they name no time zone."""
    dates = {name: date for name in dates_of(Model) if (date := getattr(model, name)) is not None}
    moved = {name: date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC) for name, date in dates.items()}
    return msgspec.structs.replace(model, **moved)
