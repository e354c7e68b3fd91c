"""What the dashboard asks for the past: the configured store and the spool of the engine, where they are at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import anyio

from llmbench.actors.spool_requests import Answer, Request
from llmbench.cli.context import make_store
from llmbench.cli.exits import CommandError
from llmbench.cli.spool_access import ask_engine
from llmbench.config import Config
from llmbench.hosts import is_loopback
from llmbench.stores.base import Store
from llmbench.tui.connection import SocketWay, Way
from llmbench.tui.history import History, HistoryError, SpoolAsk
from llmbench.tui.incoming import place_of

_FILE: Final = "SQLite file "


@asynccontextmanager
async def past_of(config: Config, env: Mapping[str, str], way: Way, *, ours: bool) -> AsyncIterator[History]:
    """Yield what answers questions on the past of the engine at the other end, and closes the store in the end.

    ``ours``: the engine is that of this configuration, unless it tells that it stores elsewhere.
    """
    store, reason = _store(config, env)
    whose = Whose(store.description, near=isinstance(way, SocketWay), ours=ours) if store is not None else _nobody
    fresh = timedelta(minutes=config.schedule.fresh_minutes)
    history = History(store, reason_without=reason, refuses=whose, spool_ask=_spool(way), fresh=fresh)
    try:
        yield history
    finally:
        with anyio.CancelScope(shield=True):
            await history.close()


def _store(config: Config, env: Mapping[str, str]) -> tuple[Store | None, str | None]:
    """Return the configured store, to be looked at only, or why it can't be asked."""
    try:
        return make_store(config, env, read_only=True), None
    except CommandError as error:
        return None, str(error)


def _nobody(_place: str | None) -> None:
    return None


class Whose:
    """Says why the store ``own`` is not to be asked about an engine that tells where it stores.

    ``near``: the engine is on this machine, so that the same words mean the same place. ``ours``: it is taken for the
    engine of this store until it tells.
    """

    def __init__(self, own: str, *, near: bool, ours: bool) -> None:
        self._own = place_of(own)
        self._near = near
        self._ours = ours

    def __call__(self, place: str | None) -> str | None:
        if place is None:
            return None if self._ours else f"the engine has not told yet where it stores; here it is {self._own}"
        if not self._same(place):
            return (
                f"this engine stores in {place}, but the config.toml here names {self._own}, where its past is not: "
                "start the viewer with that engine's config.toml"
            )
        if not self._near and _on_one_machine(place):
            return (
                f"this engine stores in {place} of its own machine, which need not be this one, so that over HTTP no "
                "past of it is shown: start the viewer there, without a URL"
            )
        return None

    def _same(self, place: str) -> bool:
        return place == self._own or _same_file(place, self._own)


def _same_file(one: str, other: str) -> bool:
    """Say whether two stores are one SQLite file under two names."""
    if not (one.startswith(_FILE) and other.startswith(_FILE)):
        return False
    try:
        return Path(one.removeprefix(_FILE)).samefile(other.removeprefix(_FILE))
    except OSError:
        return False


def _on_one_machine(place: str) -> bool:
    """Say whether a store's description may mean another store on each machine.

    That is a file, a server at this host, or one that it does not name (it has a socket's path, say).
    """
    _, named, hosts = place.rpartition(" at ")
    return place.startswith(_FILE) or not named or any(is_loopback(_host(one)) for one in hosts.split(","))


def _host(place: str) -> str:
    """Return the host of ``host``, ``host:port``, ``[address]`` or ``[address]:port``."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place.partition(":")[0].rstrip(".").lower()


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
