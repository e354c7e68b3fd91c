"""The environment variables that override config.toml, and the folders that the platform gives a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import platformdirs

from llmbench.config.check import check_text, describe, quote
from llmbench.config.providers import unknown_provider
from llmbench.config.tables import BridgeUrl, DatabaseName, HttpTable, Minutes, ModelId, StoreKind, StoreTable
from llmbench.providers.presets import PRESETS

PROVIDERS = "BENCHMARK_PROVIDERS"
MODELS = "BENCHMARK_MODELS"
FRESH_MINUTES = "FRESH_MINUTES"
STORE = "LLMBENCH_STORE"
MONGODB_URI = "MONGODB_URI"
MONGODB_DB = "MONGODB_DB"
INGEST_API_URL = "INGEST_API_URL"
RUNNER_CONFIG_URL = "RUNNER_CONFIG_URL"

_SECRET_VARIABLES = (
    MONGODB_URI,
    "INGEST_API_KEY",
    "RUNNER_CONFIG_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_BEARER_TOKEN_BEDROCK",
)

_KEYS = {
    FRESH_MINUTES: "schedule.fresh_minutes",
    STORE: "store.kind",
    MONGODB_DB: "store.mongo.database",
    INGEST_API_URL: "store.http.url",
    RUNNER_CONFIG_URL: "store.http.worklist_url",
    PROVIDERS: "providers.*.enabled",
}

Kind = Literal["sqlite", "mongo", "http"]


class ModelRef(msgspec.Struct, frozen=True):
    """A model of a provider, written ``provider/model_id``; the id may contain slashes itself."""

    provider: str
    model_id: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model_id}"


class Environment:
    """What the variables ask for. A variable that is empty counts as not set.

    ``enabled`` are the providers to be enabled, in their order; ``worklist`` the models of `MODELS`, each once;
    ``problems`` one sentence for each value that is wrong. ``store`` is the file's table.
    """

    def __init__(
        self, env: Mapping[str, str], known: Sequence[str], enabled_in_file: Sequence[str], store: StoreTable
    ) -> None:
        self.env = env
        self._store = store
        self.problems: list[str] = []
        self.fresh_minutes: float | None = self._value(FRESH_MINUTES, Minutes)
        self._store_kind: Kind | None = self._value(STORE, StoreKind)
        self.mongo_database: str = self._value(MONGODB_DB, DatabaseName) or store.mongo.database
        chosen = self._providers(known) if self._text(PROVIDERS) else tuple(enabled_in_file)
        self.http: HttpTable = msgspec.structs.replace(
            store.http,
            url=self._value(INGEST_API_URL, BridgeUrl) or store.http.url,
            worklist_url=self._value(RUNNER_CONFIG_URL, BridgeUrl) or store.http.worklist_url,
        )
        # Whose model an id is depends on the providers; if those are wrong, nothing can be said of the models.
        self.enabled = chosen or ()
        self.worklist = () if chosen is None else self._models()

    def overrides(self) -> dict[str, str]:
        """Return key of config.toml → variable that overrides it."""
        found = {key: name for name, key in _KEYS.items() if self._text(name)}
        asking = self._asks_for_mongo() or self._asks_for_http()
        if asking and not self._store_kind and not self._store.kind:
            found["store.kind"] = asking
        return found

    def store_kind(self) -> Kind:
        """Return the kind that is named, by `STORE` or else the file; else the one that the environment asks for."""
        if named := self._store_kind or self._store.kind:
            return named
        return "mongo" if self._asks_for_mongo() else "http" if self._asks_for_http() else "sqlite"

    def _asks_for_mongo(self) -> str:
        """Return the variable whose value asks for the MongoDB store, nothing if none does."""
        return next((name for name in (self._store.mongo.uri_env, MONGODB_URI) if self._text(name)), "")

    def _asks_for_http(self) -> str:
        """Return the variable whose value asks for the HTTP store, nothing if none does."""
        return INGEST_API_URL if self._text(INGEST_API_URL) else ""

    def store_problems(self) -> tuple[str, ...]:
        """Return why the store can't be the one that is asked for, a sentence each."""
        return (*self._two_stores(), *self._missing_uri(), *self._missing_url(), *self._unheard_worklist())

    def _missing_uri(self) -> tuple[str, ...]:
        variable = self._store.mongo.uri_env
        if self.store_kind() != "mongo" or self._text(variable):
            return ()
        what_to_do = "set it to the server's URI, such as mongodb://user:password@host:27017"
        return (f"environment variable {variable!r} is not set, and the MongoDB store is found by it: {what_to_do}",)

    def _missing_url(self) -> tuple[str, ...]:
        if self.store_kind() != "http" or self.http.url:
            return ()
        what_to_do = f"set environment variable {INGEST_API_URL!r}, or url under [store.http], to the bridge's URL"
        return (f"the HTTP store has no URL: {what_to_do}, such as https://bench.example:8787",)

    def _two_stores(self) -> tuple[str, ...]:
        """Never choose silently between two stores: rows would end up where nobody looks for them."""
        mongo, http = self._asks_for_mongo(), self._asks_for_http()
        if self._store_kind or self._store.kind or not (mongo and http):
            return ()
        choose = f"set {STORE}=mongo or {STORE}=http, or unset one of them"
        return (f"environment variables {mongo!r} and {http!r} ask for two stores: {choose}",)

    def _unheard_worklist(self) -> tuple[str, ...]:
        """Never measure silently what the file lists where somebody set up a worklist."""
        if self._store_kind or self._store.kind or self.store_kind() == "http" or not self._text(RUNNER_CONFIG_URL):
            return ()
        choose = f"set {INGEST_API_URL}, too, or unset it, or name the store with {STORE}"
        return (
            f"environment variable {RUNNER_CONFIG_URL!r} names a worklist, which only the HTTP store has: {choose}",
        )

    def _value(self, name: str, annotation: Any) -> Any:
        text = self._text(name)
        if not text:
            return None
        value, wrong = check_text(text, annotation)
        if wrong is not None:
            self._wrong(name, f"{wrong} (it overrides {_KEYS[name]})")
        return value

    def _providers(self, known: Sequence[str]) -> tuple[str, ...] | None:
        names = self._list(PROVIDERS)
        unknown = [name for name in names if name not in known]
        self.problems += [f"environment variable {PROVIDERS!r}: {unknown_provider(name, known)}" for name in unknown]
        if not names:
            self._wrong(PROVIDERS, "names no provider: list some, separated by commas, or unset it")
        return None if unknown or not names else names

    def _models(self) -> tuple[ModelRef, ...]:
        items = self._list(MODELS)
        if self._text(MODELS) and not items:
            self._wrong(MODELS, "names no model: list some, separated by commas, or unset it")
        found = map(self._model, items)
        return tuple(dict.fromkeys(model for model in found if model is not None))

    def _model(self, item: str) -> ModelRef | None:
        provider, _, model_id = item.partition("/")
        _, wrong = check_text(item, ModelId)
        if wrong is not None:
            self._wrong(MODELS, f"holds {quote(item)}, which can't be: write {describe(ModelId)}")
        elif provider in self.enabled and model_id:
            return ModelRef(provider, model_id)
        elif len(self.enabled) == 1:
            return ModelRef(self.enabled[0], item)
        else:
            self._wrong(MODELS, f"holds {quote(item)}: {self._which_provider()}")
        return None

    def _which_provider(self) -> str:
        if not self.enabled:
            return f"no provider is enabled: enable one, in config.toml or with {PROVIDERS}"
        return f"several providers are enabled, so write provider/model_id, with one of {', '.join(self.enabled)}"

    def _list(self, name: str) -> tuple[str, ...]:
        items = (part.strip() for part in self._text(name).split(","))
        return tuple(dict.fromkeys(item for item in items if item))

    def _text(self, name: str) -> str:
        return self.env.get(name, "").strip()

    def _wrong(self, name: str, text: str) -> None:
        self.problems.append(f"environment variable {name!r} {text}")


def secret_variables(key_variables: Iterable[str | None]) -> tuple[str, ...]:
    """Return the names of all variables that may hold a secret: these, the presets', and those of the stores.

    A preset's variable counts even where the file names another one: the SDKs know it, too.
    """
    presets = (preset.api_key_env for preset in PRESETS.values())
    return tuple(dict.fromkeys(name for name in (*key_variables, *presets, *_SECRET_VARIABLES) if name))


def config_file(env: Mapping[str, str]) -> Path:
    """Return where the platform keeps a user's config.toml of llmbench."""
    return _folder(env, "XDG_CONFIG_HOME", platformdirs.user_config_path) / "config.toml"


def database_file(env: Mapping[str, str]) -> Path:
    """Return where the platform keeps a user's data, for the SQLite store."""
    return data_folder(env) / "llmbench.db"


def data_folder(env: Mapping[str, str]) -> Path:
    """Return where the platform keeps a user's data of llmbench."""
    return _folder(env, "XDG_DATA_HOME", platformdirs.user_data_path)


def _folder(env: Mapping[str, str], variable: str, default: Callable[..., Path]) -> Path:
    # platformdirs asks os.environ, which is not always the environment that is being configured from.
    chosen = Path(env.get(variable, ""))
    return chosen / "llmbench" if chosen.is_absolute() else default("llmbench", appauthor=False)
