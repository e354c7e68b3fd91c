"""The effective configuration as TOML, for people and for `load`: names of secrets, never their values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from llmbench.config.effective import Config
from llmbench.config.environment import MODELS
from llmbench.config.providers import KINDS_OF_KEY, ResolvedProvider
from llmbench.config.tables import PROFILE_FIELDS, ProviderTable
from llmbench.messages import Profile
from llmbench.providers.presets import CLOUD_KINDS
from llmbench.secrets import Redactor, Secrets


def show(config: Config, env: Mapping[str, str]) -> str:
    """Return the effective configuration as TOML that `load` reads back to the same one.

    Comments say which environment variable overrides a key, and whether a key variable is set. Providers that are
    neither enabled nor in the file are named in a comment.
    """
    return "\n".join(_Page(config, env).lines()) + "\n"


class _Page:
    def __init__(self, config: Config, env: Mapping[str, str]) -> None:
        self._config = config
        self._secrets = Secrets(env)
        self._redactor: Redactor = self._secrets.redactor(config.secret_variables())

    def lines(self) -> Iterator[str]:
        yield from self._heading()
        yield from self._struct("runner", self._config.runner)
        yield from self._struct("schedule", self._config.schedule)
        yield from self._table("store", [("kind", self._config.store.kind)])
        yield from self._struct("store.sqlite", self._config.store.sqlite)
        yield from self._struct("store.mongo", self._config.store.mongo)
        yield from self._struct("store.http", self._config.store.http)
        yield from self._struct("spool", self._config.spool)
        yield from self._struct("server", self._config.server)
        yield from self._struct("tui", self._config.tui)
        for profile in self._config.profiles.values():
            yield from self._table(f"profiles.{profile.id}", _profile_items(profile))
        for provider in self._config.providers.values():
            if provider.configured or provider.enabled:
                yield from self._table(f"providers.{provider.name}", _provider_items(provider))

    def _heading(self) -> Iterator[str]:
        source = "the built-in defaults" if self._config.source is None else self._toml(str(self._config.source))
        yield f"# Effective configuration: {source}, overridden by the environment."
        if self._config.worklist:
            yield f"# {MODELS} replaces the catalogue: {', '.join(map(str, self._config.worklist))}"
        for problem in self._config.store_problems:
            yield f"# The store can't be opened: {problem}"
        idle = [p.name for p in self._config.providers.values() if not (p.configured or p.enabled)]
        if idle:
            yield f"# Known, not configured: {', '.join(idle)}"

    def _struct(self, table: str, struct: msgspec.Struct) -> Iterator[str]:
        return self._table(table, msgspec.structs.asdict(struct).items())

    def _table(self, table: str, items: Iterable[tuple[str, Any]]) -> Iterator[str]:
        yield ""
        yield f"[{table}]"
        for key, value in items:
            if value is None:
                yield f"# {key} is not set"
            else:
                yield f"{key} = {self._toml(value)}{self._comment(f'{table}.{key}', value)}"

    def _comment(self, key: str, value: Any) -> str:
        if key.endswith((".api_key_env", ".uri_env", ".key_env", ".worklist_key_env")):
            return f"  # {'set' if self._secrets.is_set(value) else 'not set'}" if value else "  # no key is sent"
        pattern = "providers.*.enabled" if key.startswith("providers.") and key.endswith(".enabled") else key
        variable = self._config.overrides.get(pattern)
        return f"  # from the environment variable {variable}" if variable else ""

    def _toml(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{_string(key)} = {self._toml(item)}" for key, item in value.items()) + "}"
        if isinstance(value, Sequence) and not isinstance(value, str):
            return "[" + ", ".join(map(self._toml, value)) + "]"
        if isinstance(value, str | Path):
            return _string(self._redactor.redact(str(value)))
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return json.dumps(value)


def _profile_items(profile: Profile) -> Iterator[tuple[str, Any]]:
    for key, field in PROFILE_FIELDS.items():
        value = getattr(profile, field)
        yield key, "unset" if value is None else value


def _provider_items(provider: ResolvedProvider) -> Iterator[tuple[str, Any]]:
    for key in ProviderTable.__struct_fields__:
        if provider.kind not in KINDS_OF_KEY.get(key, (provider.kind,)) or _decided_elsewhere(provider, key):
            continue
        value = getattr(provider, key)
        yield key, "" if key == "api_key_env" and value is None else value


def _decided_elsewhere(provider: ResolvedProvider, key: str) -> bool:
    """Say whether the cloud's own rules decide what the file leaves open: the address, the credentials."""
    return provider.kind in CLOUD_KINDS and key in ("base_url", "api_key_env") and not getattr(provider, key)


def _string(text: str) -> str:
    """Return a TOML basic string: JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
