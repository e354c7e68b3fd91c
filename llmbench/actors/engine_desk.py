"""The engine's desk: lets its owner watch it and give it orders, through a Unix socket in its spool's folder.

Only processes of the same user are answered. `llmbench.actors.engine_requests` says what may be asked; whoever sends
anything else is told so, and cut off. Who watches never makes the engine wait: what it is too slow for is lost and
counted, and if it reads nothing at all for half a minute, it is cut off.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import msgspec
from anyio.abc import TaskStatus

from llmbench.actors.bus import Bus
from llmbench.actors.engine_requests import ENGINE_SOCKET, LONGEST_REQUEST, EngineAnswer, EngineRequest, Order, Watch
from llmbench.actors.local_socket import Connection, LocalSocket, Refused
from llmbench.bridge.live import HEARTBEAT
from llmbench.bridge.parts import HEARTBEAT_SECONDS, STUCK_SECONDS, Parts
from llmbench.error_text import clean

logger = logging.getLogger(__name__)

Obey = Callable[[Order], Awaitable[EngineAnswer]]

_LAST_WORDS_SECONDS = 0.5

_requests: msgspec.json.Decoder[EngineRequest] = msgspec.json.Decoder(EngineRequest)


class EngineDesk:
    """The desk of an engine. ``obey`` does what is ordered; ``heartbeat`` and ``stuck`` are seconds."""

    def __init__(
        self,
        bus: Bus,
        folder: Path,
        obey: Obey,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        stuck: float = STUCK_SECONDS,
    ) -> None:
        self._bus = bus
        self._obey = obey
        self._heartbeat = heartbeat
        self._stuck = stuck
        self._socket = LocalSocket(
            folder,
            ENGINE_SOCKET,
            self._talk,
            _refusal,
            whose="engine",
            purpose="llmbench tui can't attach to this engine",
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled. Raises ActorDown if there can be no socket."""
        await self._socket.run(task_status=task_status)

    async def _talk(self, connection: Connection) -> None:
        while (line := await connection.line(LONGEST_REQUEST)) is not None:
            request = _decoded(line)
            if isinstance(request, Watch):
                await self._show(connection, request)
                return
            await connection.send(_line(await self._obeyed(request)))

    async def _obeyed(self, order: Order) -> EngineAnswer:
        """Have it done. What goes wrong with one order is told to whoever gave it, and ends nothing else."""
        try:
            return await self._obey(order)
        except Exception as error:  # the seam where a bug met by an order becomes its answer, and a line of the log
            name = order.__struct_config__.tag
            logger.exception("the order %s failed", name)
            return EngineAnswer(error=f"{name} failed: {type(error).__name__}; the engine's log says more")

    async def _show(self, connection: Connection, watch: Watch) -> None:
        """Send what happens until the other side has ended, or the bus has."""
        async with anyio.create_task_group() as group:

            async def until_ended() -> None:
                with contextlib.suppress(OSError):
                    await connection.until_ended()
                group.cancel_scope.cancel()

            group.start_soon(until_ended)
            with self._bus.watch(progress=watch.progress) as events, contextlib.suppress(OSError):
                await self._send(connection, Parts(events, heartbeat=self._heartbeat))
            group.cancel_scope.cancel()

    async def _send(self, connection: Connection, parts: Parts) -> None:
        part: bytes | None = HEARTBEAT
        while part is not None:
            await connection.send(part, self._stuck)
            try:
                part = await parts.next()
            except anyio.get_cancelled_exc_class():
                await _send_last(connection, parts)
                raise


async def _send_last(connection: Connection, parts: Parts) -> None:
    """Tell who watches how it ended."""
    with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
        await connection.send(await parts.ready(), _LAST_WORDS_SECONDS)


def _decoded(line: bytes) -> EngineRequest:
    try:
        return _requests.decode(line)
    except (ValueError, RecursionError) as error:
        why = "JSON is nested too deeply" if isinstance(error, RecursionError) else clean(str(error))
        raise Refused(f"this is no request: {why}") from error


def _line(answer: EngineAnswer) -> bytes:
    return msgspec.json.encode(answer) + b"\n"


def _refusal(sentence: str) -> bytes:
    return _line(EngineAnswer(error=sentence))
