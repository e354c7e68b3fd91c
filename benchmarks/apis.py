"""The APIs that are benchmarked: the provider as the engine opens it, and the loop that most programs write instead."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from llmbench.config import ResolvedProvider
from llmbench.config.providers import resolve
from llmbench.config.tables import ProviderTable
from llmbench.simulator import credentials

PROMPT = "Count."
Texts = AsyncIterator[tuple[int, str]]
"""When a chunk surfaced (`perf_counter_ns`), and its visible text, which may be empty."""
Ask = Callable[[str, int], Texts]
"""From a model and a number of tokens to the chunks of one stream."""


class Api(NamedTuple):
    """One API. ``path`` is its base below the simulator's root; ``plain`` opens what the plain loop asks with."""

    provider: str
    path: str
    prefix: str
    plain: Callable[[str], AbstractAsyncContextManager[Ask]]

    def settings(self, root: str, streams: int, ca_file: str | None) -> ResolvedProvider:
        """Return the provider at the simulator, without limits of its own."""
        table = ProviderTable(
            kind="openai-compatible" if self.provider == "local" else None,
            base_url=f"{root}/{self.path}",
            requests_per_minute=100_000.0,
            concurrency=streams,
            ca_file=ca_file,
        )
        return resolve(self.provider, table, Path())


@contextmanager
def simulated_credentials(root: str) -> Iterator[None]:
    """Let the clouds' SDKs find the simulator's credentials."""
    with (
        tempfile.TemporaryDirectory() as folder,
        credentials.in_environment(credentials.environment(Path(folder), root)),
    ):
        yield


@asynccontextmanager
async def _openai(url: str) -> AsyncIterator[Ask]:
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=300) as client:

        async def ask(model: str, tokens: int) -> Texts:
            stream = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": PROMPT}],
                max_tokens=tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
            async for chunk in stream:
                now = time.perf_counter_ns()
                yield now, (chunk.choices[0].delta.content or "") if chunk.choices else ""

        yield ask


@asynccontextmanager
async def _bedrock(url: str) -> AsyncIterator[Ask]:
    import aioboto3
    from aiobotocore.config import AioConfig

    config = AioConfig(retries={"total_max_attempts": 1}, read_timeout=300, max_pool_connections=2000)
    async with aioboto3.Session().client("bedrock-runtime", endpoint_url=url, config=config) as client:

        async def ask(model: str, tokens: int) -> Texts:
            messages = [{"role": "user", "content": [{"text": PROMPT}]}]
            answer = await client.converse_stream(
                modelId=model, messages=messages, inferenceConfig={"maxTokens": tokens}
            )
            async for event in answer["stream"]:
                now = time.perf_counter_ns()
                yield now, event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")

        yield ask


@asynccontextmanager
async def _gemini(url: str) -> AsyncIterator[Ask]:
    import google.auth
    from google import genai
    from google.genai import types

    found, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    client = genai.Client(
        vertexai=True,
        project=project,
        location="us-central1",
        credentials=found,
        http_options=types.HttpOptions(base_url=url, api_version="v1", timeout=300_000),
    )

    async def ask(model: str, tokens: int) -> Texts:
        config = types.GenerateContentConfig(max_output_tokens=tokens)
        stream = await client.aio.models.generate_content_stream(model=model, contents=PROMPT, config=config)
        async for chunk in stream:
            now = time.perf_counter_ns()
            yield now, chunk.text or ""

    try:
        yield ask
    finally:
        await client.aio.aclose()


@asynccontextmanager
async def _vertex_claude(url: str) -> AsyncIterator[Ask]:
    import anthropic

    client: Any = anthropic.AsyncAnthropicVertex(
        region="us-east5", project_id=credentials.PROJECT, base_url=f"{url}/v1", max_retries=0, timeout=300
    )

    async def ask(model: str, tokens: int) -> Texts:
        messages = [{"role": "user", "content": PROMPT}]
        stream = await client.messages.create(model=model, max_tokens=tokens, messages=messages, stream=True)
        async for event in stream:
            now = time.perf_counter_ns()
            yield now, event.delta.text if event.type == "content_block_delta" else ""

    async with client:
        yield ask


APIS: Mapping[str, Api] = {
    "chat": Api("local", "local/v1", "", _openai),
    "bedrock": Api("bedrock", "bedrock", "us.amazon.nova-", _bedrock),
    "gemini": Api("vertex", "vertex", "gemini-", _gemini),
    "claude on vertex": Api("vertex", "vertex", "claude-", _vertex_claude),
}
