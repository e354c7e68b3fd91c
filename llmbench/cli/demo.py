"""`llmbench demo`: every provider, simulated on this machine and measured through its real SDK; no keys needed."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmbench.actors.plans import Batch
from llmbench.cli import output
from llmbench.cli.bench import batch_exit, run_batch
from llmbench.cli.context import load_config, open_store, profile_for, seed_catalogue, store_errors
from llmbench.cli.engine import make_lane, run_measuring, warm_up
from llmbench.logs import current_stderr, logging_to
from llmbench.messages import Failure, Outcome
from llmbench.providers.presets import CLOUD_KINDS
from llmbench.simulator import credentials
from llmbench.simulator.spawn import spawn_simulator

_DATABASE = Path("llmbench-demo.db")
KEY_VARIABLE = "LLMBENCH_DEMO_KEY"

MODELS = {
    "openai": (
        "gpt-4o-mini-sim-ttft180-gap11",
        "o3-mini-sim-reason400-tok200",
        "gpt-3.5-sim-gap8-instruct",
    ),
    "anthropic": ("claude-haiku-sim-ttft320-gap13",),
    "bedrock": ("us.anthropic.claude-haiku-sim-ttft340-gap12", "us.amazon.nova-sim-ttft190-gap7"),
    "vertex": (
        "gemini-flash-sim-ttft170-gap6",
        "claude-haiku-sim-ttft330-gap13",
        "meta/llama-70b-sim-ttft220-gap10-maas",
    ),
    "groq": ("llama-8b-sim-ttft60-gap3",),
    "together": ("llama-70b-sim-ttft210-gap9",),
    "fireworks": ("deepseek-sim-ttft240-gap10",),
    "deepinfra": ("qwen-72b-sim-ttft280-gap14",),
    "cerebras": ("llama-70b-sim-ttft70-burst4",),
    "openrouter": ("mistral-sim-ttft260-gap12",),
    "local": ("tiny-sim-ttft25-gap20",),
}
"""What is simulated: a model's name says how it behaves (``llmbench simulate --menu``)."""

_PATHS = {"anthropic": "anthropic", "bedrock": "bedrock", "vertex": "vertex"}
"""Where a provider's base URL ends below the simulator's root; all others end in ``<name>/v1``."""


def run(options: argparse.Namespace) -> int:
    if options.tui:
        from llmbench.cli import demo_watched  # and with it what draws

        return demo_watched.run(options)
    database = (options.db or _DATABASE).absolute()
    with (
        spawn_simulator() as simulator,
        tempfile.TemporaryDirectory(prefix="llmbench-demo-") as folder,
        logging_to(current_stderr(), json=False, level=logging.WARNING),
    ):
        clouds = credentials.environment(Path(folder), simulator.url)
        path = Path(folder) / "config.toml"
        path.write_text(configuration(simulator.url, database), encoding="utf-8")
        with credentials.in_environment(clouds):
            env = {KEY_VARIABLE: "demo-key-for-the-simulator", **clouds}
            return run_measuring(lambda: _demo(path, database, env, as_json=options.json))


def configuration(url: str, database: Path, listed: Mapping[str, Sequence[str]] = MODELS) -> str:
    """Return a config.toml that points every provider at the simulator; ``listed`` are its models."""
    parts = [f"[store.sqlite]\npath = {_quoted(str(database))}\n"]
    for name, models in listed.items():
        path = _PATHS.get(name, f"{name}/v1")
        lines = [
            f"[providers.{name}]",
            f"base_url = {_quoted(f'{url}/{path}')}",
            "requests_per_minute = 600",
            f"models = [{', '.join(map(_quoted, models))}]",
        ]
        if name not in CLOUD_KINDS:
            lines.append(f"api_key_env = {_quoted('' if name == 'local' else KEY_VARIABLE)}")
        if name == "local":
            lines.insert(1, 'kind = "openai-compatible"')
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


async def _demo(path: Path, database: Path, env: Mapping[str, str], *, as_json: bool) -> int:
    config = load_config(path, env)
    providers = config.enabled_providers()
    lanes = [make_lane(settings, env) for settings in providers]
    output.note(f"{len(providers)} simulated providers on this machine, through their real SDKs")
    await warm_up(lanes)
    async with open_store(config) as store:
        with store_errors():
            models = await seed_catalogue(config, store)
        simulated = {model for names in MODELS.values() for model in names}
        runs = [(model, profile_for(config, model)) for model in models if model.model_id in simulated]
        batch = Batch(runs, "demo")
        outcomes, signalled = await run_batch(config, env, lanes, store, batch, as_json=as_json)
    if outcomes and not as_json:
        _print_table(outcomes)
    output.note(f"stored in {_shown(database)}")
    return batch_exit(batch, outcomes, signalled)


def _shown(database: Path) -> str:
    here = Path.cwd()
    return str(database.relative_to(here) if database.is_relative_to(here) else database)


def _print_table(outcomes: list[Outcome]) -> None:
    ordered = sorted(outcomes, key=lambda outcome: (outcome.provider, outcome.model_name))
    output.table(("provider", "model", "outcome", "TTFT ms", "tok/s"), map(_row, ordered), right=(3, 4), wrap=1)


def _row(outcome: Outcome) -> tuple[str, str, str, str, str]:
    if isinstance(outcome, Failure):
        return outcome.provider, outcome.model_name, f"failed: {outcome.error_kind}", "-", "-"
    return (
        outcome.provider,
        outcome.model_name,
        outcome.outcome,
        output.milliseconds(outcome.time_to_first_token),
        output.number(outcome.tokens_per_second),
    )
