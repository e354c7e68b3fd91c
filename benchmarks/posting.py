"""A process that does nothing but post batches of outcomes to a bridge, over connections that stay open.

It costs little: a batch is one text, prepared beforehand, into which fresh ids are put. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence

import msgspec

from llmbench.ids import new_outcome_id
from llmbench.ingestion import batch_of, wire_form
from tests.stores.documents import envelope, failure, moment, sample

BATCH = 100
RUNNER = "runner-1"
"""The runner of `tests.stores.documents`."""

_MODELS = 20
_FAILURES = 10
"""One outcome in so many is a failure."""
_NICE = 5
_STORED = b'"status":"stored"'


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """``began``: which batches were acknowledged whole, by number. ``refused``: the first of the other answers.

    ``latencies`` are in seconds, from when a batch should have been sent; ``seconds`` is how long all of it took.
    """

    prefix: str
    began: list[int]
    latencies: list[float]
    seconds: float
    refused: list[str]
    cpu: float

    def ids(self) -> list[str]:
        """Return the ids of all that was acknowledged."""
        return [identity(self.prefix, BATCH * batch + n) for batch in self.began for n in range(BATCH)]


def identity(prefix: str, number: int) -> str:
    return f"{prefix}{number:012x}"


class _Batches:
    """Bodies of batches, each with ids that no other has."""

    def __init__(self) -> None:
        self.prefix = new_outcome_id()[:12]
        self._made = 0
        self._pieces = _pieces()

    def next(self) -> tuple[int, bytes]:
        number, self._made = self._made, self._made + 1
        ids = [identity(self.prefix, BATCH * number + n).encode() for n in range(BATCH)]
        parts = [part for pair in zip(self._pieces, ids, strict=False) for part in pair]
        return number, b"".join([*parts, self._pieces[-1]])


def _pieces() -> list[bytes]:
    """Return what stands around the ids in the body of a batch."""
    outcomes = []
    for number in range(BATCH):
        changes = {"model_name": f"model-{number % _MODELS}", "run_ts": moment(number / 60), "runner_id": RUNNER}
        outcomes.append(failure(**changes) if number % _FAILURES == 0 else sample(**changes))
    body = batch_of([wire_form(envelope(outcome)) for outcome in outcomes])
    pieces = []
    for outcome in outcomes:
        before, _, body = body.partition(outcome.id.encode())
        pieces.append(before)
    return [*pieces, body]


class _Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head = head

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        self._writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode())
        self._writer.write(body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)


class _Load:
    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = (
            f"POST /ingest/batch HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-API-Key: {key}\r\n"
            "Content-Type: application/json\r\n"
        )
        self._batches = _Batches()
        self._idle: list[_Client] = []
        self.began: list[int] = []
        self.latencies: list[float] = []
        self.refused: list[str] = []

    @property
    def prefix(self) -> str:
        return self._batches.prefix

    async def connect(self, connections: int) -> None:
        for _ in range(connections):
            self._idle.append(_Client(*await asyncio.open_connection("127.0.0.1", self._port), self._head))

    async def closed(self, clients: int, seconds: float) -> None:
        """Post as fast as answers come, with so many batches under way at any time."""
        end = time.perf_counter() + seconds

        async def one() -> None:
            while time.perf_counter() < end:
                await self._post(time.perf_counter())

        await asyncio.gather(*(one() for _ in range(clients)))

    async def offered(self, rate: float, seconds: float) -> None:
        """Post so many outcomes a second, whether answers come or not."""
        start, batches = time.perf_counter(), int(rate * seconds / BATCH)
        tasks = []
        for number in range(batches):
            due = start + number * BATCH / rate
            await asyncio.sleep(due - time.perf_counter())
            tasks.append(asyncio.create_task(self._post(due)))
        await asyncio.gather(*tasks)

    async def _post(self, due: float) -> None:
        if not self._idle:
            await self.connect(1)
        client = self._idle.pop()
        number, body = self._batches.next()
        status, answer = await client.post(body)
        self._idle.append(client)
        if status == 200 and answer.count(_STORED) == BATCH:
            self.began.append(number)
            self.latencies.append(time.perf_counter() - due)
        else:
            self.refused.append(f"HTTP {status}: {answer[:200].decode()}")


async def _run(port: int, key: str, clients: int, rate: float, seconds: float) -> Result:
    load = _Load(port, key)
    await load.connect(clients)
    start, cpu = time.perf_counter(), time.process_time()
    await (load.offered(rate, seconds) if rate else load.closed(clients, seconds))
    return Result(
        prefix=load.prefix,
        began=load.began,
        latencies=load.latencies,
        seconds=time.perf_counter() - start,
        refused=load.refused[:3],
        cpu=time.process_time() - cpu,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.0, help="outcomes a second; 0: as fast as answers come")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args(arguments)
    os.nice(_NICE)  # whom it waits for goes first
    result = asyncio.run(_run(options.port, options.key, options.clients, options.rate, options.seconds))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main()
