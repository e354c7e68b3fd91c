"""`llmbench spool`: what is recorded and not stored yet, and what the store would not take."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import msgspec

from llmbench.actors.spool_requests import (
    MOST_ROWS,
    AskAcknowledge,
    AskDiscard,
    AskFind,
    AskPage,
    AskRetry,
    AskStatus,
    Status,
)
from llmbench.cli import output
from llmbench.cli.context import load_config
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.models_common import age
from llmbench.cli.spool_access import Ask, NoSpool, asking
from llmbench.config import Config
from llmbench.stores.spool import Kept
from llmbench.stores.spool_rows import State

_ROWS = 50
"""So many rows are in a table unless more are asked for."""


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    if options.action == "retry" and bool(options.ids) == options.all:
        raise CommandError("retry needs ids, or --all in their place")
    try:
        return anyio.run(_run, config, options)
    except NoSpool as error:
        output.note(str(error))
        return ExitCode.UNHEALTHY if getattr(options, "ids", None) else ExitCode.OK


async def _run(config: Config, options: argparse.Namespace) -> int:
    async with asking(config) as ask:
        return await _ACTIONS[options.action](config, ask, options)


async def _status(config: Config, ask: Ask, options: argparse.Namespace) -> int:
    status = (await ask(AskStatus())).status
    assert status is not None, "that is what was asked for"
    if options.json:
        output.json_line(_document(config, status))
    else:
        output.table(("what", "how it is"), _told(config, status), wrap=1)
    counts = status.counts
    needed = counts.quarantined or status.damages or counts.level == "paused"
    return ExitCode.UNHEALTHY if needed else ExitCode.OK


def _document(config: Config, status: Status) -> dict[str, Any]:
    counts: dict[str, Any] = msgspec.to_builtins(status.counts)
    return {
        "folder": str(config.spool_folder),
        **counts,
        "damages": status.damages,
        "delivery": status.delivery,
    }


def _told(config: Config, status: Status) -> Iterator[tuple[str, str]]:
    counts, delivery = status.counts, status.delivery
    yield "spool", str(config.spool_folder)
    oldest = f", the oldest recorded {age(counts.oldest)}" if counts.waiting else ""
    yield "waiting", f"{counts.waiting}{oldest}"
    yield "delivered", f"{counts.delivered}, kept for a while"
    yield "in flight", str(counts.in_flight)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.quarantined.items())
    yield "quarantine", f"{reasons}: llmbench spool list" if reasons else "empty"
    used = f"{counts.used_bytes / 2**20:.1f} of {counts.cap_bytes / 2**20:.0f} MB"
    full = "" if counts.level == "ok" else f": {counts.level}"
    yield "room", f"{used} taken, {counts.file_bytes / 2**20:.1f} MB on the disk{full}"
    for damage in status.damages:
        yield "damage", f"{damage}; once you know, llmbench spool acknowledge"
    if delivery is None:
        yield "delivery", "no engine has the spool"
    else:
        reason = "" if delivery.reason is None else f": {delivery.reason}"
        yield "delivery", f"{delivery.status} ({age(delivery.at)}){reason}"
    yield "SQLite", counts.sqlite_version


async def _list(config: Config, ask: Ask, options: argparse.Namespace) -> int:
    most = options.most or (None if options.json else _ROWS)
    rows: list[Kept] = []
    more = False
    async for kept in _rows(ask, options.state):
        if most is not None and len(rows) == most:
            more = True
            break
        if options.json:
            output.json_line(_listed(kept))
        rows.append(kept)
    if not rows:
        output.note(f"no outcome is {options.state}")
    elif not options.json:
        columns = ("recorded", "id", "model", "why", "the store's words")
        output.table(columns, map(_row, rows), wrap=(2, 4))
    if more:
        output.note(f"only the first {most} are shown: --limit shows more")
    return ExitCode.OK


async def _rows(ask: Ask, state: State) -> AsyncIterator[Kept]:
    after = 0
    while page := (await ask(AskPage(state, after))).rows:
        for kept in page:
            yield kept
        after = page[-1].seq


def _row(kept: Kept) -> tuple[str, ...]:
    why = kept.reason or (f"{kept.tries} tries" if kept.tries else "-")
    return age(kept.recorded_at), kept.id, _model(kept) or "-", why, kept.error or "-"


def _listed(kept: Kept) -> dict[str, Any]:
    document = {name: getattr(kept, name) for name in kept.__struct_fields__ if name not in ("seq", "body")}
    return document | {"model": _model(kept)}


class _Named(msgspec.Struct, frozen=True):
    provider: str
    model_name: str


class _Body(msgspec.Struct, frozen=True):
    outcome: _Named


def _model(kept: Kept) -> str | None:
    """Return whose outcome it is, None if the body does not tell."""
    try:
        named = msgspec.json.decode(kept.body, type=_Body).outcome
    except ValueError:
        return None
    return f"{named.provider}/{named.model_name}"


async def _retry(config: Config, ask: Ask, options: argparse.Namespace) -> int:
    if options.all:
        released = await _count(ask, AskRetry())
        status = (await ask(AskStatus())).status
        left = status.counts.quarantined.get("conflict", 0) if status is not None else 0
        output.line(f"{released} due again")
        if left:
            output.note(f"{left} stay in quarantine: outcomes with the id of another one are never sent")
        return ExitCode.OK
    ids = list(dict.fromkeys(options.ids))
    released = sum([await _count(ask, AskRetry(some)) for some in _batches(ids)])
    output.line(f"{released} due again")
    if released == len(ids):
        return ExitCode.OK
    output.note(
        f"{len(ids) - released} not: only what is in quarantine can be sent again, and of that no conflict; "
        "llmbench spool list shows what is there"
    )
    return ExitCode.UNHEALTHY


async def _count(ask: Ask, request: AskRetry | AskDiscard | AskAcknowledge) -> int:
    return (await ask(request)).count or 0


def _batches(ids: list[Any]) -> Iterator[list[Any]]:
    return (ids[n : n + MOST_ROWS] for n in range(0, len(ids), MOST_ROWS))


async def _export(config: Config, ask: Ask, options: argparse.Namespace) -> int:
    count = 0
    if options.output is None:
        async for kept in _rows(ask, options.state):
            output.text(_as_recorded(kept))
            count += 1
    else:
        with _new_file(options.output, config.spool_folder, force=options.force) as file:
            async for kept in _rows(ask, options.state):
                file.write(_as_recorded(kept))
                count += 1
    output.note(f"{count} outcomes written")
    return ExitCode.OK


def _as_recorded(kept: Kept) -> str:
    """Return the body as a line; what is no JSON is put into some, as base64."""
    try:
        msgspec.json.decode(kept.body)
        text = kept.body.decode()
    except ValueError:
        return msgspec.json.encode({"id": kept.id, "unreadable": kept.body}).decode() + "\n"
    return text.replace("\n", " ") + "\n"  # between tokens: within a string there is none


@contextmanager
def _new_file(path: Path, spool: Path, *, force: bool) -> Iterator[IO[str]]:
    """Open a file for its owner alone, and see to it that all is on the disk at the end. Raises CommandError."""
    if spool.resolve() in path.absolute().parent.resolve().joinpath(path.name).parents:
        raise CommandError(f"'{path}' is in the spool's own folder: name a file somewhere else")
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise CommandError(f"'{path}' is there already: name another file, or add --force to replace it") from error
    except OSError as error:
        raise CommandError(f"'{path}' can't be written: {error.strerror}", ExitCode.UNREACHABLE) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            yield file
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise CommandError(f"'{path}' can't be written: {error.strerror}", ExitCode.UNREACHABLE) from error


async def _discard(config: Config, ask: Ask, options: argparse.Namespace) -> int:
    ids = list(dict.fromkeys(options.ids))
    rows = [kept for some in _batches(ids) for kept in (await ask(AskFind(some))).rows]
    for kept in rows:
        output.text(_as_recorded(kept))
    unknown = [one for one in ids if one not in {kept.id for kept in rows}]
    if unknown:
        output.note(f"not in quarantine: {', '.join(unknown)}")
    if not rows:
        output.note("nothing was deleted")
        return ExitCode.UNHEALTHY
    if not options.yes:
        raise CommandError(f"nothing was deleted: add --yes to delete these {len(rows)} outcomes for good")
    gone = sum([await _count(ask, AskDiscard(some)) for some in _batches([kept.seq for kept in rows])])
    output.note(f"{gone} outcomes deleted")
    return ExitCode.UNHEALTHY if unknown else ExitCode.OK


async def _acknowledge(config: Config, ask: Ask, options: argparse.Namespace) -> int:
    count = await _count(ask, AskAcknowledge())
    output.note(f"{count} damages acknowledged; what was moved aside is in '{config.spool_folder}' still")
    return ExitCode.OK


_ACTIONS: dict[str, Callable[[Config, Ask, argparse.Namespace], Awaitable[int]]] = {
    "status": _status,
    "list": _list,
    "retry": _retry,
    "export": _export,
    "discard": _discard,
    "acknowledge": _acknowledge,
}
