"""`llmbench models check`: what is wrong with the rows that are measured, first with their ids. It changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from llmbench.catalog import Finding
from llmbench.cli import output
from llmbench.cli.context import listed_models
from llmbench.cli.exits import ExitCode
from llmbench.cli.models_change import FORCED
from llmbench.cli.models_common import advice, check_provider, findings_of
from llmbench.config import Config
from llmbench.messages import Model
from llmbench.naming import fold, key_of
from llmbench.stores.base import Store

Found = tuple[Model, Finding]


async def check(config: Config, store: Store, options: argparse.Namespace) -> int:
    """Say what is wrong with rows; UNHEALTHY if one of them is enabled, and nobody has added it on purpose."""
    models = await _models(config, store, options)
    found = [(model, finding) for model in models for finding in findings_of(config, model)]
    if options.json:
        for model, finding in found:
            output.json_line(_document(model, finding))
    else:
        _print(found, len(models))
    wrong = any(_state(model, finding) == "enabled" for model, finding in found)
    return ExitCode.UNHEALTHY if wrong else ExitCode.OK


async def _models(config: Config, store: Store, options: argparse.Namespace) -> list[Model]:
    """Return the rows to check, and what config.toml lists and will be in the catalogue with the next start."""
    rows = await store.models()
    known = {key_of(model) for model in rows}
    candidates = rows + [model for model in listed_models(config) if key_of(model) not in known]
    wanted = fold(options.provider or "")
    own = [model for model in candidates if not wanted or fold(model.provider) == wanted]
    if not own and options.provider is not None:
        check_provider(config, options.provider)
    chosen = [model for model in own if model.enabled or options.all]
    return sorted(chosen, key=key_of)


def _print(found: Iterable[Found], checked: int) -> None:
    rows = [row for model, finding in found for row in _rows(model, finding)]
    if rows:
        output.table(("state", "model, what is wrong, and what to do"), rows, wrap=1)
    else:
        output.line(f"OK: {checked} {'id' if checked == 1 else 'ids'} checked")


def _rows(model: Model, finding: Finding) -> list[tuple[str, str]]:
    name = f"{model.provider}/{model.model_id}"
    return [(_state(model, finding), name), ("", finding.reason), ("", f"-> {advice(model, finding)}")]


def _document(model: Model, finding: Finding) -> dict[str, Any]:
    return {
        "provider": model.provider,
        "model_id": model.model_id,
        "enabled": model.enabled,
        "forced": _forced(model, finding),
        "problem": finding.problem,
        "reason": finding.reason,
        "right": finding.right,
    }


def _state(model: Model, finding: Finding) -> str:
    return "disabled" if not model.enabled else "forced" if _forced(model, finding) else "enabled"


def _forced(model: Model, finding: Finding) -> bool:
    """Say whether somebody added the model although the rules were against its id: then that is no news."""
    return finding.problem in ("wrong_id", "unfit") and (model.notes or "").startswith(FORCED)
