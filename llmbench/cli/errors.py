"""`llmbench errors`: the failures of a window, counted, each group with a message and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from llmbench.cli import output
from llmbench.cli.context import load_config, with_store
from llmbench.cli.exits import ExitCode
from llmbench.cli.models_common import age
from llmbench.cli.results import refuse_unknown_provider, since, spelled
from llmbench.config import Config
from llmbench.reports.errors import ErrorLine, error_lines
from llmbench.stores.base import ErrorQuery, Store

_MOST = 30
"""So many counts are shown unless more are asked for."""


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    lines = with_store(config, lambda store: _find(config, store, options))
    if not lines:
        output.note(_nothing(options))
    elif options.json:
        for line in lines[: options.most]:
            output.json_line(line)
    else:
        _print(options.by, lines, options.most or _MOST)
    return ExitCode.OK


async def _find(config: Config, store: Store, options: argparse.Namespace) -> list[ErrorLine]:
    query = ErrorQuery(by=options.by, since=since(options.since), provider=options.provider)
    groups = await store.error_groups(query)
    if not groups and options.provider is not None:
        await refuse_unknown_provider(config, store, options.provider)
    return error_lines(options.by, [(group.count, group.newest) for group in groups])


def _print(by: str, lines: Sequence[ErrorLine], most: int) -> None:
    columns = ("count", "share", by, "last", "message, and what to do")
    rows = [row for line in lines[:most] for row in _rows(by, line)]
    output.table(columns, rows, right=(0, 1), wrap=(2, 4))
    if len(lines) > most:
        failures = sum(line.count for line in lines[most:])
        output.note(f"{len(lines) - most} smaller counts, {failures} failures in all, are left out: --limit shows more")


def _rows(by: str, line: ErrorLine) -> list[tuple[str, ...]]:
    name = {
        "provider": line.provider,
        "model": line.sample_model,
        "kind": line.error_kind,
        "fingerprint": (line.fingerprint or "")[:8],
    }[by]
    share = f"{100 * line.share:.1f}%"
    where = "" if by == "model" else f"{line.sample_model}: "
    return [
        (str(line.count), share, name or "-", age(line.last_seen), f"{where}{line.sample_message}"),
        ("", "", "", "", f"-> {line.advice}"),
    ]


def _nothing(options: argparse.Namespace) -> str:
    of = "" if options.provider is None else f" of provider {options.provider!r}"
    return f"no failure{of} is stored from the last {spelled(options.since)}; a longer --since looks further back"
