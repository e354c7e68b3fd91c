"""The spool's desk: answers what people ask of the spool of a running engine, through a Unix socket beside it.

Only processes of the same user are answered. A request is a line of JSON, `llmbench.actors.spool_requests` says which;
whoever sends anything else is told so, and cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
from anyio.abc import TaskStatus

from llmbench.actors.local_socket import Connection, LocalSocket, Refused
from llmbench.actors.spool_requests import LONGEST_REQUEST, SOCKET, Line, answered, decoded, lines_of
from llmbench.error_text import clean
from llmbench.messages import StoreState
from llmbench.stores.base import StoreError
from llmbench.stores.spool import Spool, SpoolFailed


class SpoolDesk:
    """The desk of an open spool. ``delivery`` tells how its engine gets on with the store."""

    def __init__(self, spool: Spool, folder: Path, delivery: Callable[[], StoreState | None]) -> None:
        self._spool = spool
        self._delivery = delivery
        self._socket = LocalSocket(
            folder, SOCKET, self._talk, _refusal, whose="spool", purpose="llmbench spool can't ask this engine"
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; the spool has to be open as long. Raises ActorDown if there can be no socket."""
        await self._socket.run(task_status=task_status)

    async def _talk(self, connection: Connection) -> None:
        while (line := await connection.line(LONGEST_REQUEST)) is not None:
            await self._answer(connection, line)

    async def _answer(self, connection: Connection, line: bytes) -> None:
        try:
            answer = await answered(self._spool, decoded(line), self._delivery)
        except ValueError as error:
            raise Refused(f"this is no request: {clean(str(error))}") from error
        except (StoreError, SpoolFailed, OSError) as error:
            raise Refused(str(error)) from error
        for part in lines_of(answer):  # line by line: in between, the engine gets on
            await connection.send(part)


def _refusal(sentence: str) -> bytes:
    return msgspec.json.encode(Line(error=sentence)) + b"\n"
