"""From a file and the environment to the effective configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from llmbench.config import providers, remapping
from llmbench.config.check import ConfigError, Problem, check, read
from llmbench.config.effective import Config
from llmbench.config.environment import Environment, config_file, data_folder, database_file, secret_variables
from llmbench.config.providers import ResolvedProvider
from llmbench.config.tables import (
    BUILT_IN,
    HttpTable,
    ProfileTable,
    ServerTable,
    SpoolTable,
    SqliteTable,
    StoreTable,
    Tables,
    profile_of,
)
from llmbench.messages import Profile
from llmbench.providers.presets import PRESETS
from llmbench.secrets import Secrets


def find(env: Mapping[str, str], cwd: Path | None) -> Path | None:
    """Return the file to load if none is named: ./config.toml, else the one in the platform's configuration folder.

    ``cwd`` is None if the current folder was deleted. The answer None means that there is neither file. Raises
    `ConfigError` if one of the places can't be looked into.
    """
    for path in (*([] if cwd is None else [cwd / "config.toml"]), config_file(env)):
        try:
            if path.exists():
                return path
        except OSError as error:
            raise ConfigError([f"{path}: can't be looked for ({error.strerror}): name a file"]) from error
    return None


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """Return the configuration of this file (None: the built-in defaults) with the environment's overrides.

    Relative paths in the file start from its folder. Raises `ConfigError` with every problem there is.
    """
    tables, walked = check(read(path) if path else {}, Tables)
    folder = path.parent if path else Path()
    known = tuple(dict.fromkeys((*PRESETS, *tables.providers)))
    enabled = tuple(name for name in known if name in tables.providers and tables.providers[name].enabled)
    overriding = Environment(env, known, enabled, tables.store)
    found = _with_rules(walked, tables, folder)
    problems = [f"{path}: {problem.key} {problem.text}" for problem in found] + overriding.problems
    if problems:
        raise ConfigError(_redacted(problems, tables, env))
    return _effective(path, tables, {name: _provider(name, tables, folder, overriding) for name in known}, overriding)


def _with_rules(walked: list[Problem], tables: Tables, folder: Path) -> list[Problem]:
    """Return the problems of single values and those that the rules find, each key's once."""
    profiles = tuple(dict.fromkeys((*BUILT_IN, *tables.profiles)))
    wrong = {problem.key for problem in walked}
    ruled = (
        problem
        for name, table in tables.providers.items()
        for problem in providers.problems(name, table, profiles, folder)
    )
    bridge = providers.file_problems(tables.store.http.ca_file, "store.http", folder)
    return walked + [
        problem
        for problem in (*ruled, *_claiming(tables), *bridge, *remapping.problems(tables.tui.keys))
        if problem.key not in wrong
    ]


def _claiming(tables: Tables) -> Iterator[Problem]:
    if tables.schedule.claim == "region" and tables.runner.region is None:
        yield Problem("schedule.claim", "is 'region', but this runner has none: set runner.region")


def _redacted(problems: Iterable[str], tables: Tables, env: Mapping[str, str]) -> list[str]:
    """Return the sentences without any secret that was put into the file by mistake."""
    http = tables.store.http
    stores = (tables.store.mongo.uri_env, http.key_env, http.worklist_key_env)
    named = (*stores, *(table.api_key_env for table in tables.providers.values()))
    redactor = Secrets(env).redactor(secret_variables(named))
    return [redactor.redact(problem) for problem in problems]


def _provider(name: str, tables: Tables, folder: Path, overriding: Environment) -> ResolvedProvider:
    resolved = providers.resolve(name, tables.providers.get(name), folder)
    return msgspec.structs.replace(resolved, enabled=name in overriding.enabled)


def _effective(
    path: Path | None, tables: Tables, resolved: Mapping[str, ResolvedProvider], overriding: Environment
) -> Config:
    fresh = overriding.fresh_minutes or tables.schedule.fresh_minutes
    return Config(
        source=path,
        runner=tables.runner,
        schedule=msgspec.structs.replace(tables.schedule, fresh_minutes=fresh),
        store=_store(path, tables.store, overriding),
        spool=_spool(path, tables.spool, overriding.env),
        server=_server(path, tables.server, overriding.env),
        tui=tables.tui,
        profiles=_profiles(tables),
        providers=resolved,
        worklist=overriding.worklist,
        store_problems=overriding.store_problems(),
        overrides=overriding.overrides(),
    )


def _profiles(tables: Tables) -> dict[str, Profile]:
    given = {name: ProfileTable() for name in BUILT_IN} | tables.profiles
    return {name: profile_of(name, table) for name, table in given.items()}


def _spool(path: Path | None, spool: SpoolTable, env: Mapping[str, str]) -> SpoolTable:
    return msgspec.structs.replace(spool, folder=_placed(path, spool.folder, data_folder(env) / "spool"))


def _server(path: Path | None, server: ServerTable, env: Mapping[str, str]) -> ServerTable:
    return msgspec.structs.replace(server, keys_file=_placed(path, server.keys_file, data_folder(env) / "keys.json"))


def _placed(path: Path | None, given: str, default: Path) -> str:
    """Return where something lies: as the file says, from its own folder, or the default."""
    return str(providers.located(given, path.parent) if path and given else default)


def _store(path: Path | None, store: StoreTable, overriding: Environment) -> StoreTable:
    return msgspec.structs.replace(
        store,
        kind=overriding.store_kind(),
        sqlite=SqliteTable(path=_placed(path, store.sqlite.path, database_file(overriding.env))),
        mongo=msgspec.structs.replace(store.mongo, database=overriding.mongo_database),
        http=_http(path, overriding.http),
    )


def _http(path: Path | None, http: HttpTable) -> HttpTable:
    return msgspec.structs.replace(
        http, ca_file=_placed(path, http.ca_file, Path(http.ca_file)) if http.ca_file else None
    )
