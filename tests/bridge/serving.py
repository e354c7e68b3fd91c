"""The real bridge for tests: its application under uvicorn, on a port of this machine, with real keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
from anyio import to_thread
from anyio.abc import SocketStream

from llmbench.actors.bus import Bus
from llmbench.actors.server import Server
from llmbench.bridge.app import Bridge, make_app
from llmbench.bridge.health import StoreProbe
from llmbench.bridge.keys import KeyRing, Scope, new
from llmbench.bridge.metrics import Metrics
from llmbench.bridge.streaming import LiveStreams
from llmbench.bridge.taking import StoreTaker
from llmbench.config.tables import ServerTable
from llmbench.ingestion import BatchAnswer, ItemAnswer, batch_of, wire_form
from llmbench.messages import Envelope, Model
from llmbench.secrets import Redactor, Secret
from llmbench.stores.base import Store, StoreError, Verdict
from llmbench.stores.sqlite import SQLiteStore

JSON = {"Content-Type": "application/json"}
RUNNER = "runner-1"
"""The runner of `tests.stores.documents`, and of the bridge's key."""


class GatedStore(SQLiteStore):
    """The embedded store, with a gate that a test can close, and a fault that it can set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = anyio.Event()
        self.gate.set()
        self.arrived = anyio.Event()
        self.batches: list[int] = []
        self.fault: Exception | None = None

    def close_gate(self) -> None:
        """Have `put` wait from now on; `arrived` tells when one does."""
        self.gate, self.arrived = anyio.Event(), anyio.Event()

    async def put(self, items: Sequence[Envelope]) -> list[Verdict]:
        self.batches.append(len(items))
        self.arrived.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await super().put(items)

    async def models(self, *, provider: str | None = None, enabled: bool | None = None) -> list[Model]:
        if isinstance(self.fault, StoreError):
            raise self.fault
        return await super().models(provider=provider, enabled=enabled)


class Running:
    """A bridge that runs, and a client of it."""

    def __init__(
        self, server: Server, client: httpx.AsyncClient, bus: Bus, keys: Mapping[str, str], path: Path
    ) -> None:
        assert server.address is not None
        self.server = server
        self.client = client
        self.bus = bus
        self.keys = keys
        self.keys_path = path
        self.host, self.port = server.address

    def key(self, name: str = RUNNER) -> dict[str, str]:
        """Return the header that presents a key: a runner's own, or one named after its only scope."""
        return {"X-API-Key": self.keys[name]}

    async def post(self, path: str, body: bytes, key: str = RUNNER, **headers: str) -> httpx.Response:
        return await self.client.post(path, content=body, headers=self.key(key) | JSON | headers)

    async def put(self, *envelopes: Envelope, key: str = RUNNER) -> list[ItemAnswer]:
        """Send a batch that is taken, and return what became of each."""
        answer = await self.post("/ingest/batch", batch_of(list(map(wire_form, envelopes))), key)
        assert answer.status_code == 200, answer.text
        return msgspec.json.decode(answer.content, type=BatchAnswer).results

    async def get(self, path: str, key: str | None = None) -> httpx.Response:
        return await self.client.get(path, headers=self.key(key) if key is not None else {})

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp(self.host, self.port)

    async def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are on a connection of their own, and return what comes until the bridge closes it."""
        async with await self.connect() as stream:
            for part in parts:
                await stream.send(part)
            return await until_closed(stream)


async def until_closed(stream: SocketStream) -> bytes:
    """Return what comes until the other side ends the connection."""
    received = b""
    try:
        while True:
            received += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return received


def status_of(answer: bytes) -> int:
    """Return the status of an answer's bytes."""
    return int(answer.split(b" ", 2)[1])


def made_keys(path: Path) -> dict[str, str]:
    """Make keys: of two runners, for all but reading, and one for each scope."""
    wanted: dict[str, Sequence[Scope]] = {
        RUNNER: ("ingest", "worklist"),
        "runner-2": ("ingest", "worklist"),
        "ingest": ("ingest",),
        "worklist": ("worklist",),
        "read": ("read",),
    }
    return {name: new(path, name, scopes, datetime.now(UTC))[1].reveal() for name, scopes in wanted.items()}


@asynccontextmanager
async def running(store: Store, folder: Path, *, own_live: bool = True, **more: Any) -> AsyncIterator[Running]:
    """Run the bridge on a store that is open; ``more`` are of `Bridge`, or keys of the table [server]."""
    path = folder / "keys" / "keys.json"
    keys = await to_thread.run_sync(made_keys, path)
    shared = {"shared": "shared-key-of-earlier-runners"}
    table = {name: more.pop(name) for name in list(more) if name in ServerTable.__struct_fields__}
    bus, metrics = Bus(), Metrics()
    live = LiveStreams(bus.watch, metrics.dropped, **more.pop("streams", {})) if own_live else None
    taker = StoreTaker(
        store, answer_seconds=more.pop("answer_seconds", 25.0), redactor=more.pop("redactor", Redactor(()))
    )
    bridge = Bridge(
        store=store,
        taker=more.pop("taker", taker),
        keys=KeyRing(path, {"ingest": Secret(shared["shared"])}),
        server=ServerTable(**{"requests_per_second": 10_000, **table}),
        fresh_minutes=180.0,
        health=more.pop("health", None) or StoreProbe(store, kept=0.0),
        metrics=metrics,
        live=live,
        **more,
    )
    server = Server(
        make_app(bridge),
        "127.0.0.1:0",
        max_body=bridge.server.max_body_kb * 1024,
        on_ending=live.close if live is not None else lambda: None,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(server.run)
        await server.started.wait()
        assert server.address is not None
        url = f"http://{server.address[0]}:{server.address[1]}"
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
            yield Running(server, client, bus, keys | shared, path)
        group.cancel_scope.cancel()
