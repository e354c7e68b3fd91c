"""Which module serves which provider, and when an SDK is imported."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from llmbench.providers.presets import PRESETS
from llmbench.providers.registry import load_sdks, open_provider
from tests.measure.support import open_sockets
from tests.runs import KEY, job, opened, profile, settings

NOWHERE = "http://127.0.0.1:9/v1"
SDKS = ("openai", "anthropic", "aioboto3")


def modules_after(code: str) -> set[str]:
    """Return which SDKs a fresh interpreter has imported after running ``code``."""
    script = f"{code}\nimport sys\nprint(*[name for name in {SDKS!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(PRESETS))
async def test_each_preset_has_its_family(name: str) -> None:
    """Anthropic and the clouds their own, all the others OpenAI's."""
    own = {"anthropic": "AnthropicMessages", "bedrock": "Bedrock", "vertex": "Vertex"}
    provider = open_provider(settings(name, NOWHERE), KEY)
    assert type(provider).__name__ == own.get(name, "OpenAIFamily")
    assert (provider.name, provider.endpoint) == (name, NOWHERE)
    await provider.close()


def test_the_registry_imports_no_sdk() -> None:
    """An SDK takes seconds to import and stops the event loop for that long: the lane does it before it opens."""
    assert modules_after("import llmbench.providers.registry, llmbench.actors.attempt") == set()


def test_only_the_sdks_that_are_needed_are_loaded() -> None:
    """A runner of local servers has no use for Anthropic's."""
    load = "from llmbench.providers.registry import load_sdks; load_sdks(%s)"
    assert modules_after(load % "['openai-compatible', 'openai']") == {"openai"}
    assert modules_after(load % "['anthropic']") == {"anthropic"}
    assert modules_after(load % "['bedrock']") == {"aioboto3"}


def test_loading_leaves_the_collector_as_it_was() -> None:
    """It is off only meanwhile."""
    assert gc.isenabled()
    load_sdks(["openai", "anthropic"])
    assert gc.isenabled()
    gc.disable()
    try:
        load_sdks(["openai"])
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["openai", "groq", "anthropic"])
async def test_warming_up_touches_no_network(name: str) -> None:
    """Nobody listens at the address, and the warm-up doesn't mind: it answers itself."""
    before = open_sockets()
    async with opened(name, NOWHERE):
        assert open_sockets() <= before


@pytest.mark.parametrize(
    ("provider", "model_id", "mode"),
    [
        ("openai", "gpt-4o", "chat"),
        ("openai", "o3-mini", "responses"),
        ("openai", "o1", "responses"),
        ("openai", "gpt-5-nano", "responses"),
        ("openai", "gpt-3.5-turbo-instruct", "completions"),
        ("groq", "o3-mini", "chat"),
        ("together", "meta/Llama-3-8b-instruct", "chat"),
        ("anthropic", "claude-x", "messages"),
    ],
)
async def test_the_api_follows_from_the_models_id(provider: str, model_id: str, mode: str) -> None:
    """At OpenAI itself by prefix and suffix; elsewhere a name means nothing."""
    async with opened(provider, NOWHERE) as client:
        assert client.prepare(job(provider, model_id, profile()).model, profile(), "x").mode == mode
