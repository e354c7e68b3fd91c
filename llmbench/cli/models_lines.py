"""`llmbench models export` and `import`: the catalogue as JSON lines, one row each, all its fields."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from llmbench.cli import output
from llmbench.cli.context import seed_if_allowed
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.models_change import FORCED
from llmbench.cli.models_common import check_profile, check_provider, finding_of, request_finding, sentence
from llmbench.cli.models_import import Import, Line, LineVerdict, Status
from llmbench.config import Config
from llmbench.config.check import check_text
from llmbench.config.tables import ModelId
from llmbench.error_text import visible
from llmbench.messages import Model
from llmbench.naming import fold, key_of
from llmbench.stores.base import Store

_FIELDS = [field.encode_name for field in msgspec.structs.fields(Model)]
_LISTED = ("effective_profile", "last_success", "failures_in_a_row")
"""Fields that `models list` adds to those of a row."""

_BATCH = 500
_TOLD: dict[Status, str] = {
    "added": "added",
    "exists": "is there already and stays as it is",
    "replaced": "changed",
    "unchanged": "is as the line says",
    "refused": "refused",
}


class LineError(Exception):
    """A line that can't be taken, and why."""


async def export(config: Config, store: Store, options: argparse.Namespace) -> int:
    """Write the rows, ordered by provider and id; fields that are not set are left out.

    Of several spellings of a model the enabled one is first: an import takes the first and leaves out the others.
    """
    await seed_if_allowed(config, store)
    found = await store.models(provider=options.provider)
    models = sorted(found, key=lambda model: (key_of(model), not model.enabled))
    if not models and options.provider is not None:
        check_provider(config, options.provider)
    for model in models:
        output.json_line(model)
    return ExitCode.OK


async def take(config: Config, store: Store, options: argparse.Namespace) -> int:
    """Take lines one after the other, each on its own account; UNHEALTHY if one was refused."""
    counts: Counter[Status] = Counter()
    taking = Import(store, await store.models(), replace=options.replace)
    lines = _lines(options.file)
    while part := list(islice(lines, _BATCH)):
        for verdict in await taking.take([_read_line(config, options, *line) for line in part]):
            counts[verdict.status] += 1
            _tell(options, verdict)
    told = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no line with a model in it"
    output.note(f"{told} ({_name(options.file)})")
    return ExitCode.UNHEALTHY if counts["refused"] else ExitCode.OK


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else f"'{path}'"


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Return the lines that are not blank, with their numbers. Raises CommandError if the file can't be read."""
    for number, line in enumerate(_read(path).split(b"\n"), 1):
        content = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if content:
            yield number, content


def _read(path: Path) -> bytes:
    if str(path) == "-" and sys.stdin is None:
        raise CommandError("standard input can't be read: it is closed")
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise CommandError(f"{_name(path)} can't be read: {error.strerror}; name a file of JSON lines") from error


def _read_line(config: Config, options: argparse.Namespace, number: int, content: bytes) -> Line | LineVerdict:
    named: dict[str, Any] = {}
    try:
        model, said = _decoded(content, named)
        _check(config, model, force=options.force)
    except LineError as error:
        return LineVerdict(line=number, status="refused", reason=str(error), **named)
    return Line(number=number, model=model, said=said)


def _decoded(content: bytes, named: dict[str, Any]) -> tuple[Model, frozenset[str]]:
    """Return what a line says, and the fields that it names; raises LineError.

    ``named`` tells which model it is of as soon as that is known.
    """
    try:
        said = msgspec.json.decode(content, type=dict[str, Any])
        twice = _said_twice(content)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise LineError(f"is no JSON object ({error}): write a model on each line, as models export does") from error
    named.update({name: said[name] for name in ("provider", "model_id") if isinstance(said.get(name), str)})
    if twice is not None:
        raise LineError(f"says {twice!r:.80} twice: take one out")
    if listed := [name for name in said if name in _LISTED]:
        raise LineError(f"has a field {listed[0]!r}, which models list adds: take the lines of llmbench models export")
    if unknown := [name for name in said if name not in _FIELDS]:
        raise LineError(f"has a field {unknown[0]!r:.80}, which no model has: take it out")
    usual: dict[str, Any] = {"enabled": True, "deprecated": False}
    if "created_at" not in said:  # a line of an export has it, and keeps what it says of its origin
        usual |= {"created_at": datetime.now(UTC), "source": "import"}
    try:
        return msgspec.convert({**usual, **said}, Model), frozenset(said)
    except msgspec.ValidationError as error:
        raise LineError(f"does not describe a model: {error}") from error


def _said_twice(content: bytes) -> str | None:
    """Return a name that an object of a line says more than once, at any depth: the last would hold silently."""
    twice: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        twice.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)

    json.loads(content, object_pairs_hook=note)
    return next(iter(twice), None)


def _check(config: Config, model: Model, *, force: bool) -> None:
    """Hold a model that would be measured to what `models add` holds it to. Raises LineError."""
    if not model.provider or "/" in model.provider:
        raise LineError("names no provider")
    if (wrong := check_text(model.model_id, ModelId)[1]) is not None:
        raise LineError(f"has an id that {wrong}")
    if (found := request_finding(model)) is not None:
        raise LineError(f"{found.reason}: take it out")
    if not model.enabled:
        return
    try:
        check_provider(config, fold(model.provider))
        if model.profile is not None:
            check_profile(config, model.profile)
    except CommandError as error:
        raise LineError(str(error)) from error
    finding = finding_of(config, model)
    if finding is not None and not force and not (model.notes or "").startswith(FORCED):
        raise LineError(f"{sentence(model, finding)}, or import it all the same with --force")


def _tell(options: argparse.Namespace, verdict: LineVerdict) -> None:
    if options.json:
        output.json_line(verdict)
        return
    name = f" {verdict.provider or '?'}/{verdict.model_id}" if verdict.model_id else ""
    reason = f": {verdict.reason}" if verdict.reason else ""
    output.line(visible(f"line {verdict.line}:{name} {_TOLD[verdict.status]}{reason}"))
