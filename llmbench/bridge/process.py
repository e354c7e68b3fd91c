"""Taking orders in a process of its own, so that no event loop that measures ever waits for documents to be read.

The two sides talk over a pair of connected sockets. A frame is its length (4 bytes, big endian) and a msgpack document:
first the setup, then orders one way, and one `_Ready` and answers the other. The worker ends when its side
is at an end of file, which it is, too, once the program that started it was killed.
"""

from __future__ import annotations

import logging
import math
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

import anyio
import msgspec
from anyio.abc import Process, TaskStatus, UNIXSocketStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.bridge.replies import ErrorAnswer
from llmbench.bridge.taking import Order, Taken, Taker, put_off

logger = logging.getLogger(__name__)

_LENGTH = 4
_CHUNK = 256 * 1024
_BUFFER = 512 * 1024
_SLACK_SECONDS = 5.0
"""How much later than it should a worker may answer before it is taken for stuck."""
_START_SECONDS = 10.0
_END_SECONDS = 10.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0
_SOUND_SECONDS = 60.0


class _Ask(msgspec.Struct, frozen=True):
    number: int
    order: Order


class _Answer(msgspec.Struct, frozen=True, tag=True):
    number: int
    taken: Taken


class _Ready(msgspec.Struct, frozen=True, tag=True):
    pass


_FromWorker: TypeAlias = _Answer | _Ready

_encode = msgspec.msgpack.Encoder().encode
_asks = msgspec.msgpack.Decoder(_Ask)
_from_worker = msgspec.msgpack.Decoder[_FromWorker](_FromWorker)


class ProcessTaker:
    """Takes orders through a worker, which is started again when it dies.

    ``command`` starts it; the number of its socket is added. ``setup`` is what it is told first. ``answer_seconds`` is
    how long the worker may take for an answer.
    """

    def __init__(self, command: Sequence[str], setup: bytes, *, answer_seconds: float) -> None:
        self._command = list(command)
        self._setup = setup
        self._answer_seconds = answer_seconds
        self._worker: _Worker | None = None
        self.problem: str | None = None
        self._begun = anyio.Event()
        self.under_way = 0
        """Orders that are not answered yet."""

    @property
    def working(self) -> bool:
        return self._worker is not None

    async def take(self, order: Order) -> Taken:
        if self._worker is None:
            return self._nobody()
        self.under_way += 1
        try:
            return await self._through(self._worker, order)
        finally:
            self.under_way -= 1

    async def _through(self, worker: _Worker, order: Order) -> Taken:
        try:
            with anyio.fail_after(self._answer_seconds + _SLACK_SECONDS):
                return await worker.ask(order) or self._nobody()
        except TimeoutError:
            worker.kill()
            return put_off("the bridge took too long: send it again", fault="the bridge's worker is stuck: it is ended")

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._run)
            with anyio.move_on_after(_START_SECONDS):
                await self._begun.wait()
            task_status.started()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = anyio.current_time()
            try:
                await self._run_one()
            finally:
                self._worker = None
            pause = _FIRST_PAUSE if anyio.current_time() - began > _SOUND_SECONDS else pause
            self._begun.set()
            self.problem = "the process that takes outcomes has ended, and is started again"
            logger.error("%s in %.1f s: senders are told to come again", self.problem, pause)
            await anyio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def _run_one(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        with theirs:
            process = await _started([*self._command, str(theirs.fileno())], theirs)
        stream = await UNIXSocketStream.from_socket(ours)
        self._worker = _Worker(process, stream, self._well)
        await self._worker.run(self._setup)

    def _well(self) -> None:
        self._begun.set()
        if self.problem is not None:
            logger.info("the process that takes outcomes runs again")
        self.problem = None

    def _nobody(self) -> Taken:
        return put_off("the bridge could not take it: send it again", fault=self.problem)


async def _started(command: Sequence[str], theirs: socket.socket) -> Process:
    # In a session of its own, so that Ctrl-C in a terminal is the program's alone, which lets requests finish first.
    return await anyio.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )


class _Worker:
    """A worker that runs, as it is seen from here."""

    def __init__(self, process: Process, stream: UNIXSocketStream, on_ready: Callable[[], None]) -> None:
        self._process = process
        self._stream = stream
        self._on_ready = on_ready
        self._waiting: dict[int, _Pending] = {}
        self._last = 0
        self._out: MemoryObjectSendStream[bytes]
        self._pending: MemoryObjectReceiveStream[bytes]
        # What waits is bounded by the requests that may be under way.
        self._out, self._pending = anyio.create_memory_object_stream[bytes](math.inf)

    async def ask(self, order: Order) -> Taken | None:
        """Return the answer, None if the worker ended before it gave one."""
        self._last = number = self._last + 1
        self._waiting[number] = pending = _Pending()
        try:
            self._out.send_nowait(_encode(_Ask(number, order)))
            await pending.done.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return None
        finally:
            del self._waiting[number]
        return pending.taken

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def run(self, setup: bytes) -> None:
        """Carry orders and answers until the worker has ended; end it, if cancelled."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, setup)
                async for frame in frames(self._stream):
                    self._heard(_from_worker.decode(frame))
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def _send(self, setup: bytes) -> None:
        try:
            await send_frame(self._stream, setup)
            async for frame in self._pending:
                await send_frame(self._stream, frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # it has ended, which whoever reads finds, too

    def _heard(self, told: _FromWorker) -> None:
        match told:
            case _Answer(number, taken):
                if (pending := self._waiting.get(number)) is not None:
                    pending.taken = taken
                    pending.done.set()
            case _Ready():
                self._on_ready()

    async def _end(self) -> None:
        self._out.close()
        self._pending.close()
        for pending in self._waiting.values():
            pending.done.set()
        await self._stream.aclose()
        with anyio.move_on_after(_END_SECONDS):
            await self._process.wait()
        self.kill()
        await self._process.wait()
        if self._process.returncode:
            logger.warning("the process that takes outcomes ended with %d", self._process.returncode)


class _Pending:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.taken: Taken | None = None


async def send_frame(stream: UNIXSocketStream, payload: bytes) -> None:
    """Send one frame. Raises `anyio.BrokenResourceError` if the other side is gone."""
    await stream.send(len(payload).to_bytes(_LENGTH, "big"))
    await stream.send(payload)


async def frames(stream: UNIXSocketStream) -> AsyncIterator[bytes]:
    """Yield the payload of each frame until the other side ends; one that is cut off is left out."""
    buffer = bytearray()
    try:
        while True:
            buffer += await stream.receive(_CHUNK)
            while len(buffer) >= _LENGTH and len(buffer) >= (end := _LENGTH + int.from_bytes(buffer[:_LENGTH], "big")):
                yield bytes(memoryview(buffer)[_LENGTH:end])
                del buffer[:end]
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return


async def work(orders: AsyncIterator[bytes], stream: UNIXSocketStream, taker: Taker) -> None:
    """Be the worker: take what comes in frames, after the setup, until nothing more can."""
    out, answers = anyio.create_memory_object_stream[bytes](math.inf)

    async def send() -> None:
        async for frame in answers:
            await send_frame(stream, frame)

    async def answer(ask: _Ask) -> None:
        try:
            taken = await taker.take(ask.order)
        except Exception:  # a bug: its sender is told, and the others are not affected
            logger.exception("an order (%s) could not be taken: this is a fault of the bridge", ask.order.what)
            body = msgspec.json.encode(
                ErrorAnswer("this is a fault of the bridge: whoever runs it finds it in its log")
            )
            taken = Taken(status=500, body=body)
        out.send_nowait(_encode(_Answer(ask.number, taken)))

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        group.start_soon(taker.run)
        out.send_nowait(_encode(_Ready()))
        async for frame in orders:
            group.start_soon(answer, _asks.decode(frame))
        group.cancel_scope.cancel()


class Crew:
    """Several workers as one taker: an order goes to the one that has the least to do."""

    def __init__(self, takers: Sequence[ProcessTaker]) -> None:
        self._takers = list(takers)

    @property
    def problem(self) -> str | None:
        """The first worker's that has one: the others do its work, but they should not have to."""
        return next((taker.problem for taker in self._takers if taker.problem is not None), None)

    async def take(self, order: Order) -> Taken:
        taker = min(self._takers, key=lambda one: (not one.working, one.under_way))
        return await taker.take(order)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as starting:
                for taker in self._takers:
                    starting.start_soon(group.start, taker.run)
            task_status.started()
