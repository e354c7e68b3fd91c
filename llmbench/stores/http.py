"""The HTTP store: a bridge takes outcomes for the store behind it, and may say what is to be measured.

It is for runners that can't, or must not, reach the database. A bridge tells nothing of what is stored: whatever asks
for that raises `StoreUnusable`, with the place to ask. What is sent and what answers mean is in `http_delivery` and
`http_answers`, the wire format in `llmbench.ingestion`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, NoReturn, Unpack

import anyio.to_thread
import msgspec

from llmbench.ingestion import CatalogAnswer
from llmbench.lifecycle import Listing, R, Record
from llmbench.messages import Envelope, Model, Outcome
from llmbench.naming import fold, folded, key_of
from llmbench.stores.base import (
    ErrorGroup,
    ErrorQuery,
    ErrorRollup,
    ModelChanges,
    ModelHistory,
    ModelSummary,
    ModelTally,
    OutcomeQuery,
    Page,
    Part,
    Recorded,
    StoreUnusable,
    UnknownModel,
    Verdict,
)
from llmbench.stores.canonical import UnstorableError
from llmbench.stores.http_answers import Judge
from llmbench.stores.http_client import (
    HttpSettings,
    Limits,
    Reply,
    Wire,
    ingest_endpoint,
    worklist_endpoint,
)
from llmbench.stores.http_delivery import Delivery, Room, prepared
from llmbench.stores.http_worklist import Catalogue, ListedModels, Worklists
from llmbench.stores.leases import Leases, Unshared
from llmbench.stores.records import entries_of, run_of, storable
from llmbench.stores.trends import Trend, TrendQuery

__all__ = ["HTTPStore", "HttpSettings", "Limits"]


class Tried(NamedTuple):
    """How a bridge took an empty batch: whether at all, and whose outcomes it says the key is for."""

    taken: bool
    runner: str | None


class HTTPStore:
    """A `Store` behind a bridge, for one event loop. Calls may overlap.

    Nothing is tried again here: who calls decides when. A put that is cancelled, or whose answer does not come, leaves
    unknown what became of it; putting it again is safe, as the ids tell.
    """

    def __init__(self, settings: HttpSettings, limits: Limits | None = None) -> None:
        self._endpoint = ingest_endpoint(settings)
        self.description = str(self._endpoint)
        self._settings = settings
        self._limits = limits or Limits()
        self._wire = Wire(settings, self._limits)
        self._room = Room(self._limits.total)
        self._catalogue: Catalogue = ListedModels(settings.seeds)

    async def open(self) -> None:
        """Get ready; the bridge need not be there yet. Raises `StoreUnusable` for a URL that can't be used."""
        await self._wire.open()
        worklist = worklist_endpoint(self._settings)
        if worklist is not None:
            self._catalogue = Worklists(worklist, self._wire, self._settings.providers)

    async def close(self) -> None:
        """Close the connections. Open requests fail."""
        await self._wire.close()

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        """Have a batch stored, slice by slice. What the bridge does not name is ``unknown``."""
        # Encoding is for another thread, so that it does not hold up streams that are being measured.
        batch = await anyio.to_thread.run_sync(prepared, items)
        return await Delivery(self._wire, self._endpoint, self._room).send(batch)

    async def put_nothing(self) -> Tried:
        """Have an empty batch stored, to try address and key. Raises as `put`."""
        reply = await self._wire.post(self._endpoint, "/ingest/batch", b"[]")
        judge = Judge(self._endpoint, self._wire)
        return Tried(isinstance(judge.verdicts([], reply), list), judge.runner(reply))

    async def models(self, *, provider: str | None = None, enabled: bool | None = None) -> list[Model]:
        """Return what is to be measured: what the bridge says, if there is a worklist, or what was seeded.

        Raises `StoreError` if the bridge can't tell now, and `StoreUnusable` if it won't: then what it said before
        holds no longer.
        """
        found = await self._catalogue.models(provider)
        return sorted((model for model in found if enabled in (None, model.enabled)), key=key_of)

    async def unreadable_models(self) -> list[str]:
        """Return the entries of the worklist that `models` left out when it last asked, and why."""
        return list(self._catalogue.unreadable)

    async def model(self, provider: str, model_id: str) -> Model:
        known = {key_of(model): model for model in await self.models(provider=provider)}
        if found := known.get(folded(provider, model_id)):
            return found
        spelled = {fold(model.model_id): model.model_id for model in known.values()}
        raise UnknownModel(
            provider, model_id, [spelled[match] for match in difflib.get_close_matches(fold(model_id), spelled)]
        )

    async def seed_models(self, models: Sequence[Model]) -> list[Model]:
        """Add models for as long as the store is there; where there is a worklist, it alone decides."""
        return self._catalogue.seed(models)

    async def add_model(self, model: Model) -> Model:
        self._no_catalogue()

    async def put_model(self, model: Model) -> Model | None:
        self._no_catalogue()

    async def enable_model(self, provider: str, model_id: str) -> Model:
        self._no_catalogue()

    async def disable_model(self, provider: str, model_id: str, *, reason: str, by: str, at: datetime) -> Model:
        self._no_catalogue()

    async def change_model(self, provider: str, model_id: str, **changes: Unpack[ModelChanges]) -> Model:
        self._no_catalogue()

    async def history(self) -> list[ModelHistory]:
        """Return nothing: a bridge does not tell. What this runner measured, its spool knows."""
        return []

    async def put_listing(self, listing: Listing) -> Recorded:
        """Have a listing noted. Raises `ValueError` for one that can't be stored, or is refused as it is."""
        run = run_of(listing, [])
        refused, sent = _sendable(listing)
        body = await anyio.to_thread.run_sync(msgspec.json.encode, sent)
        answer = self._catalog_answer(await self._wire.post(self._endpoint, "/ingest/catalog", body))
        refused += [
            Verdict(one.id or "a model", "rejected", self._wire.said(one.reason or one.status))
            for one in answer.refused
        ]
        return Recorded(msgspec.structs.replace(run, accepted_count=answer.accepted, new_count=None), refused)

    def _catalog_answer(self, reply: Reply) -> CatalogAnswer:
        judge = Judge(self._endpoint, self._wire)
        if 200 <= reply.status < 300:
            return judge.decoded(reply, CatalogAnswer)
        if reply.status in (400, 413, 422):
            raise ValueError(f"the listing was refused by {judge.refusal(reply)}")
        raise judge.failure(reply)

    async def outcomes(self, query: OutcomeQuery) -> list[Outcome]:
        self._no_answer("outcomes")

    async def rollups(self, *, since: datetime | None = None) -> list[ErrorRollup]:
        self._no_answer("counted errors")

    async def put_rollup(self, rollup: ErrorRollup) -> bool:
        self._no_answer("counted errors")

    async def page(self, part: Part, *, after: Any = None, size: int) -> Page:
        self._no_answer("outcomes")

    async def records(
        self, kind: type[R], *, provider: str | None = None, model_id: str | None = None, limit: int | None = None
    ) -> list[R]:
        self._no_answer("records about models")

    async def put_records(self, records: Sequence[Record]) -> list[Verdict]:
        self._no_answer("records about models")

    async def counts(self) -> dict[Part, int]:
        self._no_answer("how much is stored")

    async def error_groups(self, query: ErrorQuery) -> list[ErrorGroup]:
        self._no_answer("errors")

    async def tallies(self, *, since: datetime | None = None) -> list[ModelTally]:
        self._no_answer("how models did")

    async def summary(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> list[ModelSummary]:
        self._no_answer("how models did")

    async def trends(self, query: TrendQuery) -> list[Trend]:
        self._no_answer("how figures went over time")

    def leases(self, runner: str, term: float) -> Leases:
        """Return leases that grant everything: a bridge knows of no other runner."""
        return Unshared()

    def _no_answer(self, what: str) -> NoReturn:
        raise StoreUnusable(
            f"{self.description} takes outcomes and can't be asked about {what}: ask where the store behind it can be "
            "reached, with MONGODB_URI or the path of its SQLite file"
        )

    def _no_catalogue(self) -> NoReturn:
        if self._settings.worklist_url is not None:
            raise StoreUnusable(
                f"{self.description} says what is to be measured and can't be told: change the models where the store "
                "behind it can be reached, with MONGODB_URI or the path of its SQLite file"
            )
        raise StoreUnusable(
            f"{self.description} keeps no models for this runner: list those that are to be measured in config.toml, "
            "or set RUNNER_CONFIG_URL to ask the bridge"
        )


def _sendable(listing: Listing) -> tuple[list[Verdict], Listing]:
    """Return the models of a listing that can't be stored, and the listing without them."""
    refused: dict[str, Verdict] = {}
    for entry in entries_of(listing, ()):
        try:
            storable(entry)
        except UnstorableError as error:
            refused[entry.model_id] = Verdict(f"{listing.provider}/{entry.model_id}", "rejected", str(error))
    models = [model for model in listing.models if model.model_id not in refused]
    return list(refused.values()), msgspec.structs.replace(listing, models=models)
