"""The catalogue as the engine last read it, for when the store does not answer: at its start, or for a while.

It is kept beside the spool. A worklist that comes over HTTP may be used for six hours after it was given, as its
runners have always done; the catalogue of a database for as long as that does not answer.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from llmbench.cli.context import listed_models, seed_catalogue
from llmbench.config import Config
from llmbench.files import replace_file
from llmbench.messages import Model
from llmbench.stores.base import Store, StoreError, StoreUnusable

logger = logging.getLogger("llmbench.engine")

_WORKLIST_LASTS = timedelta(hours=6)
_NOTE_AGAIN = timedelta(minutes=10)


class Outdated(StoreError):
    """The store does not answer, and what it last told is too old to go by: nothing is to be measured."""


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    """The file: the enabled ``models`` of a ``store``, as they were at a time."""

    store: str
    at: datetime
    models: list[Model]


class Catalogue:
    """The enabled models, from the store if it answers, else as they are remembered."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._file = config.spool_folder / "catalogue.json"
        self._lasts = _WORKLIST_LASTS if config.store.kind == "http" else None
        self._known: _Note | None = None
        self._told = False

    async def enabled(self) -> list[Model]:
        """Return the enabled models. Raises `StoreUnusable`, and `StoreError` if nothing is known of them."""
        try:
            models = await seed_catalogue(self._config, self._store)
        except StoreUnusable:
            raise
        except StoreError as error:
            return await self._remembered(error)
        if self._told:
            logger.info("the catalogue can be read again")
            self._told = False
        await self._remember(models)
        return models

    async def _remember(self, models: list[Model]) -> None:
        now = datetime.now(UTC)
        known = self._known
        if known is not None and known.models == models and now - known.at < _NOTE_AGAIN:
            return
        self._known = _Note(store=self._store.description, at=now, models=models)
        try:
            await anyio.to_thread.run_sync(replace_file, self._file, msgspec.json.encode(self._known))
        except OSError as error:
            logger.warning("the catalogue can't be kept for a start without the store: %s", error)

    async def _remembered(self, error: StoreError) -> list[Model]:
        known = self._known = self._known or await anyio.to_thread.run_sync(_read, self._file, self._store.description)
        if known is None:
            return self._listed(error)
        age = datetime.now(UTC) - known.at
        if self._lasts is not None and abs(age) > self._lasts:  # of a time to come: the clock was ahead, nobody knows
            hours = self._lasts.total_seconds() / 3600
            raise Outdated(f"{error}; what it last told to measure is older than {hours:g} hours, and not used")
        self._tell(f"the models are those that it had at {known.at:%Y-%m-%d %H:%M} UTC", error)
        return known.models

    def _listed(self, error: StoreError) -> list[Model]:
        listed = listed_models(self._config)
        if not (listed or self._config.worklist):
            raise error
        self._tell("the models are those that config.toml and the environment list, since no others are known", error)
        return listed

    def _tell(self, what: str, error: StoreError) -> None:
        if not self._told:
            self._told = True
            logger.error("the catalogue can't be read, %s: %s", what, error)


def _read(path: Path, store: str) -> _Note | None:
    """Return what was noted of this store, None if that is nothing."""
    try:
        note = msgspec.json.decode(path.read_bytes(), type=_Note)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s can't be read, and is not used: %s", path, error)
        return None
    return note if note.store == store else None
