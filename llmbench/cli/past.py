"""What the dashboard asks for the past: the configured store and the spool of the engine, where they are at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from llmbench.actors.spool_requests import Answer, Request
from llmbench.cli.context import make_store
from llmbench.cli.exits import CommandError
from llmbench.cli.spool_access import ask_engine
from llmbench.config import Config
from llmbench.stores.base import Store
from llmbench.tui.connection import SocketWay, Way
from llmbench.tui.history import History, HistoryError, SpoolAsk


@asynccontextmanager
async def past_of(config: Config, env: Mapping[str, str], way: Way) -> AsyncIterator[History]:
    """Yield what answers questions on the past of the engine at the other end, and closes the store in the end."""
    store, reason = _store(config, env, way)
    fresh = timedelta(minutes=config.schedule.fresh_minutes)
    history = History(store, reason_without=reason, spool_ask=_spool(way), fresh=fresh)
    try:
        yield history
    finally:
        with anyio.CancelScope(shield=True):
            await history.close()


def _store(config: Config, env: Mapping[str, str], way: Way) -> tuple[Store | None, str | None]:
    """Return the configured store, or why it can't be asked of this engine."""
    if not isinstance(way, SocketWay) and config.store.kind == "sqlite":
        return None, f"the past is in the store of the engine at {way.address}: configure that store here to see it"
    try:
        return make_store(config, env), None
    except CommandError as error:
        return None, str(error)


def _spool(way: Way) -> SpoolAsk | None:
    if not isinstance(way, SocketWay):
        return None
    folder = way.path.parent

    async def ask(request: Request) -> Answer:
        try:
            return await ask_engine(folder, request)
        except CommandError as error:
            raise HistoryError(str(error)) from error

    return ask
