"""Taking orders in processes of their own, so that no event loop that measures ever waits for documents to be read.

The two sides talk over a pair of connected sockets (`llmbench.bridge.frames`). A worker may be killed at any time: it
keeps nothing, who waits for it is told to come again, and another one is started. It ends when its side is at an end
of file, which it is, too, once the program that started it was killed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence

import anyio
import msgspec
from anyio.abc import Process, TaskStatus, UNIXSocketStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from llmbench.bridge.frames import Answer, Ask, Ready, Told, Unfit, decode_told, encode, frames, send_frame
from llmbench.bridge.taking import Order, Taken, put_off

logger = logging.getLogger(__name__)

_BUFFER = 512 * 1024
_KILLED_SECONDS = 5.0
"""How long is waited for a process that was killed: one that waits for a dead disk does not even end then."""

_PROCESS = "the process that takes outcomes"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited for a worker, in seconds.

    ``answer``: for an answer; it has to be longer than the worker itself takes to give up. ``start``: until the
    program begins all the same. ``end``: for its end, before it is killed. Between two starts it is ``first_pause``,
    which doubles up to ``longest_pause``, and begins anew after a worker that lived for ``sound``.
    """

    answer: float = 30.0
    start: float = 10.0
    end: float = 5.0
    first_pause: float = 0.2
    longest_pause: float = 30.0
    sound: float = 60.0


class ProcessTaker:
    """Takes orders through a worker, which is started again when it ends.

    ``command`` starts it; the number of its socket is added. ``setup`` is what it is told first.
    """

    def __init__(self, command: Sequence[str], setup: bytes, patience: Patience | None = None) -> None:
        self._command = list(command)
        self._setup = setup
        self._patience = patience or Patience()
        self._worker: _Worker | None = None
        self._begun = anyio.Event()
        self.problem: str | None = f"{_PROCESS} has not begun yet"
        self.under_way = 0
        """Orders that are not answered yet."""

    @property
    def working(self) -> bool:
        """Whether there is a worker that has said that it takes orders, and has not ended."""
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
        asked = anyio.current_time()
        with anyio.move_on_after(self._patience.answer):
            return await worker.ask(order) or self._nobody()
        fault = f"{_PROCESS} took too long for one"
        if worker.heard < asked:
            # Not even others' answers came: it is stuck, and would be for the next one.
            fault = f"{_PROCESS} is stuck, and is killed"
            if self._worker is worker:
                self._worker, self.problem = None, fault
            worker.kill()
        return put_off("the bridge took too long: send it again", fault=fault)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep a worker, until cancelled. Tells that orders can come once it takes them, or could not be started."""
        self._begun = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(self._run)
            with anyio.move_on_after(self._patience.start):
                await self._begun.wait()
            task_status.started()

    async def _run(self) -> None:
        pause = self._patience.first_pause
        while True:
            began = anyio.current_time()
            self.problem = await self._run_one()
            self._begun.set()
            if anyio.current_time() - began > self._patience.sound:
                pause = self._patience.first_pause
            logger.error("%s; it is started again in %.1f s", self.problem, pause)
            await anyio.sleep(pause)
            pause = min(self._patience.longest_pause, pause * 2)

    async def _run_one(self) -> str:
        """Start a worker, and return how it ended."""
        try:
            worker = await _started(self._command)
        except OSError as error:
            return f"{_PROCESS} can't be started ({error})"
        try:
            await worker.run(self._setup, lambda: self._well(worker))
        finally:
            self._worker, self.problem = None, f"{_PROCESS} has ended"
            with anyio.CancelScope(shield=True):
                await worker.end(self._patience.end)
        return f"{_PROCESS} {worker.how_it_ended()}"

    def _well(self, worker: _Worker) -> None:
        if self._begun.is_set():
            logger.info("%s runs again", _PROCESS)
        self._worker, self.problem = worker, None
        self._begun.set()

    def _nobody(self) -> Taken:
        return put_off("the bridge could not take it: send it again", fault=self.problem)


class Crew:
    """Several workers as one taker: an order goes to the one that has the least to do."""

    def __init__(self, takers: Sequence[ProcessTaker]) -> None:
        self._takers = list(takers)

    @property
    def problem(self) -> str | None:
        """None while one of them works: it does the others' work, too."""
        problems = [taker.problem for taker in self._takers]
        return None if None in problems else problems[0]

    async def take(self, order: Order) -> Taken:
        taker = min(self._takers, key=lambda one: (not one.working, one.under_way))
        return await taker.take(order)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as starting:
                for taker in self._takers:
                    starting.start_soon(group.start, taker.run)
            task_status.started()


async def _started(command: Sequence[str]) -> _Worker:
    """Start a worker, with its end of a pair of sockets. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with theirs, contextlib.ExitStack() as unless_started:
        unless_started.enter_context(ours)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        process = await _opened([*command, str(theirs.fileno())], theirs)
        unless_started.pop_all()
    return _Worker(process, await UNIXSocketStream.from_socket(ours))


async def _opened(command: Sequence[str], theirs: socket.socket) -> Process:
    # In a session of its own, so that Ctrl-C in a terminal is the program's alone, which lets requests finish first.
    return await anyio.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )


class _Pending:
    def __init__(self, order: Order) -> None:
        self.order = order
        self.done = anyio.Event()
        self.taken: Taken | None = None


class _Worker:
    """A worker that runs, as it is seen from here."""

    def __init__(self, process: Process, stream: UNIXSocketStream) -> None:
        self._process = process
        self._stream = stream
        self._waiting: dict[int, _Pending] = {}
        self._last = 0
        self._unfit: str | None = None
        self._out: MemoryObjectSendStream[int]
        self._numbers: MemoryObjectReceiveStream[int]
        # What waits is bounded by the requests that may be under way.
        self._out, self._numbers = anyio.create_memory_object_stream[int](math.inf)
        self.heard = -math.inf
        """When it said something last, as `anyio.current_time` has it."""

    async def ask(self, order: Order) -> Taken | None:
        """Return the answer, None if the worker ended before it gave one."""
        self._last = number = self._last + 1
        self._waiting[number] = pending = _Pending(order)
        try:
            self._out.send_nowait(number)
            await pending.done.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return None
        finally:
            del self._waiting[number]
        return pending.taken

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def run(self, setup: bytes, on_ready: Callable[[], None]) -> None:
        """Carry orders and answers until nothing more comes from the worker."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._send, setup)
            async for frame in frames(self._stream):
                try:
                    told = decode_told(frame)
                except msgspec.DecodeError as error:
                    self._unfit = f"it says what is not understood ({error}): is it of another version?"
                    self.kill()
                    break
                self._heard(told, on_ready)
            group.cancel_scope.cancel()

    async def _send(self, setup: bytes) -> None:
        try:
            await send_frame(self._stream, setup)
            async for number in self._numbers:
                # Encoded only now, and not at all if nobody waits for it any more: bodies may be large.
                if (pending := self._waiting.get(number)) is not None:
                    await send_frame(self._stream, encode(Ask(number, pending.order)))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # it has ended, which whoever reads finds, too

    def _heard(self, told: Told, on_ready: Callable[[], None]) -> None:
        self.heard = anyio.current_time()
        match told:
            case Answer(number, taken):
                if (pending := self._waiting.get(number)) is not None:
                    pending.taken = taken
                    pending.done.set()
            case Ready():
                on_ready()
            case Unfit(reason):
                self._unfit = reason

    async def end(self, seconds: float) -> None:
        """Let it end, for so long, and kill it then. Whoever waits for an answer gets none."""
        self._out.close()
        self._numbers.close()
        for pending in self._waiting.values():
            pending.done.set()
        await self._stream.aclose()
        with anyio.move_on_after(seconds):
            await self._process.wait()
        self.kill()
        with anyio.move_on_after(_KILLED_SECONDS):
            await self._process.wait()

    def how_it_ended(self) -> str:
        """Return that as the end of a sentence."""
        if self._unfit is not None:
            return f"can't do its work: {self._unfit}"
        match self._process.returncode:
            case None:
                return "can't be ended"
            case code if code < 0:
                return f"was ended by {_name_of(-code)}"
            case code:
                return f"has ended with exit code {code}"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
