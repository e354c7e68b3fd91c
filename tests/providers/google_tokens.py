"""What tests of Google's credentials share: a token endpoint that obeys, and the provider with its parts in reach."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
from anyio.abc import ByteStream

from llmbench.actors.attempt import Attempt
from llmbench.providers.registry import open_provider
from llmbench.providers.vertex import Vertex
from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord
from tests.clouds import google_account
from tests.measure.support import read_request, serving
from tests.runs import GEMINI, Family, attempt, base_url, job, profile, settings

QUICK = "ttft1-gap0-tok8"
FILE = "GOOGLE_APPLICATION_CREDENTIALS"


class TokenServer:
    """A token endpoint that obeys: it counts, keeps what it was asked, and waits to be let go on."""

    def __init__(self) -> None:
        self.url = ""
        self.forms: list[dict[str, list[str]]] = []
        self.status = "200 OK"
        self.lifetime = 3599
        self.free = anyio.Event()
        self.free.set()
        self.asked = anyio.Event()

    @property
    def last_token(self) -> str:
        return f"ya29.tests-{len(self.forms):020}"

    async def answer(self, stream: ByteStream) -> None:
        request = await read_request(stream)
        self.forms.append(parse_qs(request.partition(b"\r\n\r\n")[2].decode()))
        body: dict[str, Any] = {"access_token": self.last_token, "expires_in": self.lifetime, "token_type": "Bearer"}
        if self.status != "200 OK":
            body = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
        self.asked.set()
        await self.free.wait()
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {self.status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        await stream.send(head.encode() + data)


@asynccontextmanager
async def token_server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    async with serving(server.answer) as server.url:
        yield server


def account_file(simulator: SpawnedSimulator, path: Path, **changes: object) -> Path:
    """Write a service account's file; a field that is changed to None is left out."""
    document = json.loads(google_account(f"{simulator.url}/vertex/token").read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    return path


@asynccontextmanager
async def vertex(simulator: SpawnedSimulator, **more: Any) -> AsyncIterator[Vertex]:
    """Open the provider and have it look for its credentials."""
    provider = open_provider(settings("vertex", base_url(simulator.url, "vertex"), **more), None)
    assert isinstance(provider, Vertex)
    try:
        await provider.check()
        yield provider
    finally:
        await provider.close()


def run_of(provider: Vertex, words: str = QUICK, family: Family = GEMINI) -> Attempt:
    return attempt(provider, job("vertex", family.model(words), profile(max_tokens=8)))


def bearers(simulator: SpawnedSimulator, since: int) -> list[str]:
    """Return the digests of the tokens that the API was sent."""
    return [request.headers["authorization"] for request in asked(simulator, since)]


def asked(simulator: SpawnedSimulator, since: int) -> list[RequestRecord]:
    return [request for request in simulator.requests(since=since) if request.model]


def ends_in(provider: Vertex, seconds: float) -> None:
    """Let the present token end so soon."""
    provider._credentials._source.expiry = (datetime.now(UTC) + timedelta(seconds=seconds)).replace(tzinfo=None)
