"""A TCP proxy in the place of a slow link: what goes up passes at a rate, and the link may break."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.memory import MemoryObjectSendStream

_PIECE = 4096


class SlowLink:
    """The link from ``port`` to a server's. ``up`` counts the bytes that passed upwards, of all connections.

    Every piece goes up ``late`` seconds after it came, and at ``rate`` bytes a second; both may be changed meanwhile.
    """

    def __init__(self, server: int, bytes_a_second: float) -> None:
        self.port = 0
        self.up = 0
        self.breaks_at = math.inf
        """Once so many bytes have passed upwards, every connection that sends more is cut."""
        self.rate = bytes_a_second
        self.late = 0.0
        self._server = server

    async def pass_on(self, client: SocketStream) -> None:
        server = await anyio.connect_tcp("127.0.0.1", self._server)
        async with client, server, anyio.create_task_group() as group:
            group.start_soon(self._down, server, client)
            await self._up(client, server)
            group.cancel_scope.cancel()

    async def _up(self, client: SocketStream, server: SocketStream) -> None:
        to_send, waiting = anyio.create_memory_object_stream[tuple[float, bytes]](math.inf)
        async with to_send, waiting, anyio.create_task_group() as group:
            group.start_soon(self._take, client, to_send)
            try:
                async for due, piece in waiting:
                    await anyio.sleep_until(due)
                    await anyio.sleep(len(piece) / self.rate)
                    self.up += len(piece)
                    await server.send(piece)
                    if self.up >= self.breaks_at:
                        break
            except anyio.BrokenResourceError:
                pass
            group.cancel_scope.cancel()

    async def _take(self, client: SocketStream, to_send: MemoryObjectSendStream[tuple[float, bytes]]) -> None:
        with to_send:
            try:
                while True:
                    piece = await client.receive(_PIECE)
                    await to_send.send((anyio.current_time() + self.late, piece))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    async def _down(self, server: SocketStream, client: SocketStream) -> None:
        try:
            async for piece in server:
                await client.send(piece)
        except anyio.BrokenResourceError:
            return


@asynccontextmanager
async def slow_link(server: int, bytes_a_second: float) -> AsyncIterator[SlowLink]:
    """Open a link to the server's port on this machine; it ends with the block."""
    link = SlowLink(server, bytes_a_second)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as group:
        link.port = listener.extra(SocketAttribute.local_port)
        group.start_soon(listener.serve, link.pass_on)
        yield link
        group.cancel_scope.cancel()
