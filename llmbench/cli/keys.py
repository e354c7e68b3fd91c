"""`llmbench keys`: who may talk to the bridge. A key is shown once, when it is made; only its digest is kept."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from llmbench.bridge import keys
from llmbench.cli import output
from llmbench.cli.context import load_config
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.models_common import age


def run(options: argparse.Namespace) -> int:
    config = load_config(options.config)
    try:
        return _ACTIONS[options.action](Path(config.server.keys_file), options)
    except (keys.KeysUnusable, keys.KeyRefused) as error:
        raise CommandError(str(error)) from error


def _new(path: Path, options: argparse.Namespace) -> int:
    key, secret = keys.new(path, options.runner, options.scope, datetime.now(UTC))
    output.line(secret.reveal())
    variables = [name for name, scope in keys.SHARED.items() if scope in key.scopes]
    where = f"put it into {' and '.join(variables)} of that runner's environment" if variables else "keep it"
    output.note(
        f"a key of {key.runner} for {_listed(key)}: {where}; it is not kept here and can't be shown again "
        f"(llmbench keys revoke {key.id} takes it back)"
    )
    return ExitCode.OK


def _list(path: Path, options: argparse.Namespace) -> int:
    found = keys.read(path)
    if options.json:
        for key in found:
            output.json_line(_document(key))
    elif found:
        rows = [(key.id, key.runner, _listed(key), age(key.created_at), _state(key)) for key in found]
        output.table(("id", "runner", "allows", "made", "state"), rows, wrap=(1, 2))
    if not found:
        output.note("no key was made yet: llmbench keys new RUNNER makes one")
    return ExitCode.OK


def _document(key: keys.Key) -> dict[str, Any]:
    """Return a key without its digest, which is nobody's business."""
    document: dict[str, Any] = msgspec.to_builtins(key)
    del document["digest"]
    return document


def _listed(key: keys.Key) -> str:
    return ",".join(key.scopes)


def _state(key: keys.Key) -> str:
    return "valid" if key.revoked_at is None else f"revoked {age(key.revoked_at)}"


def _revoke(path: Path, options: argparse.Namespace) -> int:
    key = keys.revoke(path, options.key, datetime.now(UTC))
    output.line(f"key {key.id} of {key.runner} is revoked")
    return ExitCode.OK


_ACTIONS: dict[str, Callable[[Path, argparse.Namespace], int]] = {"new": _new, "list": _list, "revoke": _revoke}
