"""What most commands begin with: the configuration, the store, the catalogue that the configuration seeds."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import msgspec

from llmbench.catalog import reasons
from llmbench.cli import output
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.waiting import open_patiently
from llmbench.config import Config, ConfigError, ResolvedProvider, find, load
from llmbench.error_text import visible
from llmbench.messages import Model, Profile
from llmbench.naming import fold
from llmbench.providers.presets import RESPONSES_PREFIXES
from llmbench.secrets import SecretError, Secrets
from llmbench.stores.apart import Apart, in_a_thread
from llmbench.stores.base import Store, StoreError, StoreUnusable, UnknownModel

if TYPE_CHECKING:
    from llmbench.stores.http_client import HttpSettings
    from llmbench.stores.mongo_client import Address

T = TypeVar("T")

_INDEXES = logging.getLogger("llmbench.stores.mongo.indexes")

_BUDGETS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def load_config(path: Path | None, env: Mapping[str, str] | None = None) -> Config:
    """Return the configuration. Raises CommandError with every problem, a line each."""
    env = os.environ if env is None else env
    try:
        return load(path if path is not None else find(env, _folder()), env)
    except ConfigError as error:
        raise CommandError(str(error)) from error


def _folder() -> Path | None:
    """Return the current folder, None if it was deleted: then no file is in it."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


@asynccontextmanager
async def open_store(config: Config, *, wait: bool = False) -> AsyncIterator[Store]:
    """Open the configured store. Raises CommandError if it can't be used, or does not answer and is not waited for."""
    async with opened(make_store(config, os.environ), wait=wait) as store:
        yield store


@asynccontextmanager
async def opened(store: Store, *, wait: bool = False) -> AsyncIterator[Store]:
    """Yield a store, open, and close it at the end. Raises CommandError as `open_store` does."""
    with store_errors():
        await (open_patiently(store) if wait else store.open())
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


def make_store(
    config: Config,
    env: Mapping[str, str],
    providers: Sequence[str] | None = None,
    *,
    apart: Apart = in_a_thread,
    read_only: bool = False,
) -> Store:
    """Return the configured store, not open yet. Raises CommandError if it can't be the one that is asked for.

    ``providers`` are those whose worklists are asked for, where there are any; the enabled ones if None. ``apart`` says
    where work goes that would hold up the event loop. ``read_only``: for questions alone; nothing is made.
    """
    if config.store_problems:
        raise CommandError("\n".join(config.store_problems))
    match config.store.kind:
        case "mongo":
            return _mongo(config, env, apart, read_only=read_only)
        case "http":
            return _http(config, env, providers)
        case _:
            return _sqlite(config, read_only=read_only)


def _sqlite(config: Config, *, read_only: bool) -> Store:
    from llmbench.stores.sqlite import SQLiteStore

    return SQLiteStore(config.database, read_only=read_only)


def _http(config: Config, env: Mapping[str, str], providers: Sequence[str] | None) -> Store:
    from llmbench.stores.http import HTTPStore  # and with it the HTTP client, which other stores don't need

    return HTTPStore(http_settings(config, env, providers))


def http_settings(config: Config, env: Mapping[str, str], providers: Sequence[str] | None = None) -> HttpSettings:
    """Return where the HTTP store is, and its keys; ``providers`` as in `make_store`.

    Raises CommandError if a variable of one can't be used.
    """
    from llmbench.stores.http_client import HttpSettings, shown

    table, secrets = config.store.http, Secrets(env)
    if table.url is None:
        raise CommandError("\n".join(config.store_problems))
    try:
        key = secrets.require(table.key_env, f"the key that the bridge at {shown(table.url)} gave this runner")
        worklist_key = secrets.get(table.worklist_key_env)
    except SecretError as error:
        raise CommandError(str(error)) from error
    return HttpSettings(
        url=table.url,
        key=key,
        worklist_url=table.worklist_url,
        worklist_key=worklist_key,
        providers=tuple(_names(config) if providers is None else providers),
        seeds=tuple(listed_models(config)),
        ca_file=Path(table.ca_file) if table.ca_file else None,
        key_variable=table.key_env,
        worklist_key_variable=table.worklist_key_env,
    )


def _names(config: Config) -> list[str]:
    return [provider.name for provider in config.enabled_providers()]


def _mongo(config: Config, env: Mapping[str, str], apart: Apart, *, read_only: bool) -> Store:
    from llmbench.stores.mongo import MongoStore  # and with it the driver, which nothing else needs

    return MongoStore(mongo_address(config, env), apart=apart, read_only=read_only)


def mongo_address(config: Config, env: Mapping[str, str]) -> Address:
    """Return where the MongoDB store is. Raises CommandError if the variable of the URI can't be used."""
    from llmbench.stores.mongo_client import Address

    table = config.store.mongo
    try:
        uri = Secrets(env).require(table.uri_env, "the URI of the MongoDB server")
    except SecretError as error:
        raise CommandError(str(error)) from error
    return Address(uri=uri, database=table.database, variable=table.uri_env)


class store_errors:  # noqa: N801  reads as a function where it is used
    """Turns a store's errors into sentences and exit codes, as a context manager."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, StoreUnusable):
            raise CommandError(str(error)) from error
        if isinstance(error, StoreError):
            raise CommandError(str(error), ExitCode.UNREACHABLE) from error


def with_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """Run ``work`` on the open store, in an event loop of its own.

    What is wrong with indexes is for the engine's log and `llmbench doctor`, and not for each answer.
    """

    async def main() -> T:
        async with open_store(config) as store:
            with store_errors():
                return await work(store)

    with quiet_indexes():
        return anyio.run(main)


@contextmanager
def quiet_indexes() -> Iterator[None]:
    """Keep what a store says of its indexes off standard error."""
    level = _INDEXES.level
    _INDEXES.setLevel(logging.ERROR)
    try:
        yield
    finally:
        _INDEXES.setLevel(level)


async def seed_catalogue(config: Config, store: Store) -> list[Model]:
    """Add the models that config.toml lists and the catalogue has never had; return the enabled ones.

    A model that is in the catalogue already, in whatever spelling, stays as it is, disabled or not.
    """
    await store.seed_models(listed_models(config))
    return await store.models(enabled=True)


async def seed_if_allowed(config: Config, store: Store) -> None:
    """Do as `seed_catalogue` for a command that only reads: a user that may not write still sees what is there."""
    try:
        await store.seed_models(listed_models(config))
    except StoreUnusable as error:
        output.note(f"warning: what config.toml lists is not in the catalogue yet: {error}")


def listed_models(config: Config) -> list[Model]:
    """Return fresh rows for the models that config.toml lists."""
    return [
        new_model(provider.name, model_id, source="config")
        for provider in config.providers.values()
        for model_id in provider.models
    ]


def as_measured(model: Model) -> Model:
    """Return the row under its provider's name in the configuration, which is how its lane and its outcomes name it.

    Earlier systems wrote other spellings, such as ``OpenAI``; the row itself stays as it is.
    """
    return msgspec.structs.replace(model, provider=fold(model.provider))


def new_model(
    provider: str,
    model_id: str,
    *,
    source: str,
    profile: str | None = None,
    display_name: str | None = None,
    notes: str | None = None,
) -> Model:
    """Return a fresh, enabled row of the catalogue."""
    return Model(
        provider=provider,
        model_id=model_id,
        enabled=True,
        deprecated=False,
        created_at=datetime.now(UTC),
        source=source,
        profile=profile,
        display_name=display_name,
        notes=notes,
    )


def profile_for(config: Config, model: Model) -> Profile:
    """Return what to ask a model: its own profile, or its provider's, or by its id the reasoning or default one.

    A budget in the model's own request fields is the one that its runs are judged by.
    """
    provider = config.provider(fold(model.provider))
    profile = config.profile(model.profile or profile_name(provider, model.model_id))
    budgets = (value for key in _BUDGETS if isinstance(value := (model.request or {}).get(key), int))
    return msgspec.structs.replace(profile, max_tokens=next(budgets, profile.max_tokens))


def profile_name(provider: ResolvedProvider, model_id: str) -> str:
    """Return the profile's name for a model that has none of its own."""
    if provider.profile != "default":
        return provider.profile
    return "reasoning" if _reasons(provider, model_id) else "default"


def _reasons(provider: ResolvedProvider, model_id: str) -> bool:
    """Say whether a model reasons: what the file says of OpenAI's models counts, else what their ids tell."""
    if provider.kind == "openai" and provider.responses_prefixes != RESPONSES_PREFIXES:
        return model_id.startswith(provider.responses_prefixes)
    return reasons(provider.kind, model_id)


def unknown_model_error(error: UnknownModel) -> CommandError:
    """Return the sentence for a model that is not in the catalogue."""
    hint = f": did you mean {error.provider}/{visible(error.similar[0])}?" if error.similar else ""
    return CommandError(
        f"{error.provider}/{error.model_id} is not in the catalogue{hint}; "
        f"llmbench models list --provider {error.provider} shows what is, llmbench models add adds it"
    )
