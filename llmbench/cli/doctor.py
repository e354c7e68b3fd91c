"""`llmbench doctor`: everything that can be looked at without measuring and without changing anything."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
import msgspec

from llmbench.cli import output
from llmbench.cli.configuration import warnings
from llmbench.cli.context import http_settings, load_config, mongo_address
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.models_common import advice, own_findings
from llmbench.config import Config
from llmbench.messages import Model
from llmbench.providers.presets import CLOUD_KINDS
from llmbench.stores.base import StoreError, StoreUnusable
from llmbench.stores.findings import Finding, fail, ok, warn

_INDEX = "index "
_ROWS = 10
"""So many rows of the catalogue are told of one by one."""


def run(options: argparse.Namespace) -> int:
    found = list(examine(options.config, os.environ))
    if options.json:
        for one in found:
            output.json_line(one)
    else:
        output.table(("check", "state", "how it is, and what to do"), _rows(found), wrap=(0, 2))
    states = {one.state for one in found}
    if "unreachable" in states:
        return ExitCode.UNREACHABLE
    return ExitCode.UNHEALTHY if "fail" in states else ExitCode.OK


def _rows(found: Iterable[Finding]) -> Iterator[tuple[str, str, str]]:
    for one in _grouped(found):
        yield one.check, one.state, one.told
        if one.advice is not None:
            yield "", "", f"-> {one.advice}"


def _grouped(found: Iterable[Finding]) -> list[Finding]:
    """Put indexes of which the same is to be said into one row, in the place of the first."""
    groups: dict[object, list[Finding]] = {}
    for number, one in enumerate(found):
        same = (one.state, one.told, one.advice) if one.check.startswith(_INDEX) else number
        groups.setdefault(same, []).append(one)
    return [group[0] if len(group) == 1 else _together(group) for group in groups.values()]


def _together(group: Sequence[Finding]) -> Finding:
    first = group[0]
    names = "" if first.state == "ok" else f": {', '.join(one.check.removeprefix(_INDEX) for one in group)}"
    told = first.told.replace("is ", "are ", 1) + names
    return msgspec.structs.replace(first, check=f"{len(group)} indexes", told=told)


def examine(path: Path | None, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is found, the configuration first: with a wrong one nothing else but the machine can be looked at."""
    try:
        config = load_config(path, env)
    except CommandError as error:
        yield from (fail("configuration", problem) for problem in str(error).splitlines())
    else:
        yield from _configuration(config, env)
        yield from _credentials(config, env)
        yield from _store(config, env)
    yield _stamps()


def _configuration(config: Config, env: Mapping[str, str]) -> Iterator[Finding]:
    source = "the built-in defaults" if config.source is None else str(config.source)
    enabled = config.enabled_providers()
    if not enabled:
        yield from (fail("configuration", problem) for problem in config.start_problems(env))
        return
    yield ok("configuration", f"{source}; enabled: {', '.join(provider.name for provider in enabled)}")
    for warning in warnings(config, env):
        yield warn("model ids", warning, "correct config.toml; llmbench models check looks at the catalogue, too")


def _credentials(config: Config, env: Mapping[str, str]) -> Iterator[Finding]:
    from llmbench.cli.engine import make_lane, missing_credentials  # all that an engine needs

    for provider in config.enabled_providers():
        check = f"credentials of {provider.name}"
        problem = make_lane(provider, env).problem
        if problem is None and provider.kind in CLOUD_KINDS:
            problem = next(iter(anyio.run(missing_credentials, [provider])), None)
        if problem is not None:
            yield fail(check, problem.removeprefix(f"{provider.name}: "))
        elif provider.api_key_env is not None:
            yield ok(check, f"{provider.api_key_env} is set; whether it is right, a run tells")
        else:
            yield ok(check, "found" if provider.kind in CLOUD_KINDS else "none are needed")


def _store(config: Config, env: Mapping[str, str]) -> Iterator[Finding]:
    if config.store_problems:
        yield from (fail("store", problem) for problem in config.store_problems)
        return
    try:
        match config.store.kind:
            case "mongo":
                yield from _mongo(config, env)
            case "http":
                yield from _http(config, env)
            case _:
                yield from _sqlite(config)
    except (StoreUnusable, CommandError) as error:
        yield fail("store", str(error))
    except StoreError as error:
        yield Finding(check="store", state="unreachable", told=str(error))


def _mongo(config: Config, env: Mapping[str, str]) -> list[Finding]:
    from llmbench.stores import mongo_findings

    look = partial(mongo_findings.findings, mongo_address(config, env), judge=_judge(config))
    return anyio.run(look)


def _http(config: Config, env: Mapping[str, str]) -> list[Finding]:
    from llmbench.stores import http_findings

    look = partial(http_findings.findings, http_settings(config, env), config.runner.id, judge=_judge(config))
    return anyio.run(look)


def _sqlite(config: Config) -> list[Finding]:
    from llmbench.stores import sqlite_findings

    return sqlite_findings.findings(config.database, judge=_judge(config))


def _judge(config: Config) -> Callable[[Sequence[Model]], list[Finding]]:
    """Return what finds out what is wrong with the rows of enabled models, their ids excepted."""

    def judge(models: Sequence[Model]) -> list[Finding]:
        found = [(model, finding) for model in models for finding in own_findings(config, model)]
        warnings = [
            warn("models", f"{model.provider}/{model.model_id} {finding.reason}", advice(model, finding))
            for model, finding in found[:_ROWS]
        ]
        if len(found) > _ROWS:
            warnings.append(warn("models", f"and {len(found) - _ROWS} more", "llmbench models check lists them all"))
        return warnings

    return judge


def _stamps() -> Finding:
    from llmbench.measure.probe import kernel_stamps_work

    advice = "measure on a Linux machine whose sockets are its kernel's own; until then rows say clock = user"
    try:
        works = kernel_stamps_work()
    except OSError as error:
        return warn("kernel stamps", f"can't be tried ({error})", advice)
    if works:
        return ok("kernel stamps", "the kernel stamps what arrives")
    return warn("kernel stamps", "the kernel does not stamp what arrives", advice)
