"""`llmbench models check`: what the rules say against the ids that are measured. It changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from llmbench.catalog import Finding
from llmbench.cli import output
from llmbench.cli.context import listed_models
from llmbench.cli.exits import ExitCode
from llmbench.cli.models_change import FORCED
from llmbench.cli.models_common import advice, check_provider, finding_of
from llmbench.config import Config
from llmbench.messages import Model
from llmbench.naming import fold, key_of
from llmbench.stores.base import Store

Found = tuple[Model, Finding]


async def check(config: Config, store: Store, options: argparse.Namespace) -> int:
    """Say what is wrong with ids; UNHEALTHY if an enabled model's is, and nobody has added it on purpose."""
    models = await _models(config, store, options)
    found = [(model, finding) for model in models if (finding := finding_of(config, model)) is not None]
    if options.json:
        for model, finding in found:
            output.json_line(_document(model, finding))
    else:
        _print(found, len(models))
    wrong = any(model.enabled and not _forced(model) for model, _finding in found)
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
    state = "disabled" if not model.enabled else "forced" if _forced(model) else "enabled"
    name = f"{model.provider}/{model.model_id}"
    return [(state, name), ("", finding.reason), ("", f"-> {advice(model, finding)}")]


def _document(model: Model, finding: Finding) -> dict[str, Any]:
    return {
        "provider": model.provider,
        "model_id": model.model_id,
        "enabled": model.enabled,
        "forced": _forced(model),
        "problem": finding.problem,
        "reason": finding.reason,
        "right": finding.right,
    }


def _forced(model: Model) -> bool:
    """Say whether somebody added the model although the rules were against it: then that is no news."""
    return (model.notes or "").startswith(FORCED)
