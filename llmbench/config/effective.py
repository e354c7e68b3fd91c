"""The effective configuration: what the rest of the program asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from llmbench.config.check import ConfigError, listed, nearest, quote
from llmbench.config.environment import ModelRef, secret_variables
from llmbench.config.providers import ResolvedProvider, unknown_provider
from llmbench.config.tables import RunnerTable, ScheduleTable, ServerTable, SpoolTable, StoreTable, TuiTable
from llmbench.messages import Profile
from llmbench.secrets import SecretError, Secrets

_NONE_ENABLED = (
    "no provider is enabled: set a provider's key variable, such as OPENAI_API_KEY, and enabled = true in its table "
    "of config.toml, or BENCHMARK_PROVIDERS=openai in the environment ('llmbench demo' needs no key)"
)


class UnknownProvider(ConfigError):
    """No provider of this name is known or configured. The message names the nearest one, and all."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__([unknown_provider(name, known)])
        self.name = name


class UnknownProfile(ConfigError):
    """No profile of this name is built in or configured. The message names the nearest one, or all."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        meant = nearest(name, known)
        super().__init__([f"profile {quote(name)} is unknown: use {repr(meant) if meant else listed(known)}"])
        self.name = name


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The effective configuration.

    ``source`` is the file it came from, None if there was none. ``providers`` holds every provider that has a preset
    or a table, enabled or not. ``worklist`` is what BENCHMARK_MODELS lists: the models to run in the place of the
    catalogue's; empty if the catalogue decides. ``store_problems`` are for commands that open the store: sentences
    that say why it can't be the one that is asked for. ``overrides`` maps keys to the environment
    variables that override them, ``providers.*.enabled`` standing for every provider's.
    """

    source: Path | None
    runner: RunnerTable
    schedule: ScheduleTable
    store: StoreTable
    spool: SpoolTable
    server: ServerTable
    tui: TuiTable
    profiles: Mapping[str, Profile]
    providers: Mapping[str, ResolvedProvider]
    worklist: tuple[ModelRef, ...]
    store_problems: tuple[str, ...]
    overrides: Mapping[str, str]

    @property
    def spool_folder(self) -> Path:
        """The absolute path of the folder that holds the spool."""
        return Path(self.spool.folder)

    @property
    def database(self) -> Path:
        """The absolute path of the SQLite store's file."""
        return Path(self.store.sqlite.path)

    def provider(self, name: str) -> ResolvedProvider:
        """Return a provider, enabled or not. Raises `UnknownProvider`."""
        if name not in self.providers:
            raise UnknownProvider(name, tuple(self.providers))
        return self.providers[name]

    def enabled_providers(self) -> list[ResolvedProvider]:
        return [provider for provider in self.providers.values() if provider.enabled]

    def profile(self, name: str) -> Profile:
        """Return a profile. Raises `UnknownProfile`."""
        if name not in self.profiles:
            raise UnknownProfile(name, tuple(self.profiles))
        return self.profiles[name]

    def secret_variables(self) -> tuple[str, ...]:
        """Return the names of all environment variables whose values must not be seen, for `Secrets.redactor`."""
        keys = (provider.api_key_env for provider in self.providers.values())
        http = self.store.http
        return secret_variables((self.store.mongo.uri_env, http.key_env, http.worklist_key_env, *keys))

    def start_problems(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """Return why measuring can't start, or not with every enabled provider.

        None is enabled; or a sentence for each whose key variable isn't set, or holds what can't be a key.
        """
        enabled = self.enabled_providers()
        if not enabled:
            return (_NONE_ENABLED,)
        return tuple(self._key_problems(enabled, Secrets(env)))

    def _key_problems(self, enabled: list[ResolvedProvider], secrets: Secrets) -> Iterator[str]:
        prefix = f"{self.source}: " if self.source else ""
        for provider in enabled:
            try:
                if provider.api_key_env is not None:
                    secrets.require(provider.api_key_env)
            except SecretError as error:
                key = f"{prefix}providers.{provider.name}.api_key_env"
                yield f"{key}: {error}, or take the provider out with enabled = false"
