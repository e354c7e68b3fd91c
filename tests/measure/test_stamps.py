"""The stamped byte stream, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import perf_counter_ns

import anyio
import pytest

from llmbench.measure.stamps import Read, StampedStream, kernel_stamps_available
from tests.measure.support import MS, Inbox, open_sockets, stall, tcp_pair

on_linux = pytest.mark.skipif(not kernel_stamps_available(), reason="only Linux stamps TCP reads")
both_clocks = pytest.mark.parametrize("kernel", [pytest.param(True, marks=on_linux, id="kernel"), False])
LARGE = 8 * 1024 * 1024


class Line:
    """A stamped stream, what it received, and the plain socket at the other end."""

    def __init__(self, ours: socket.socket, peer: socket.socket, *, kernel: bool = True) -> None:
        self.inbox = Inbox()
        self.peer = peer
        self.stream = StampedStream(ours, self.inbox, kernel=kernel)

    async def read(self) -> Read:
        """Wait for the first read and return it."""
        await self.inbox.count(1)
        return self.inbox.reads[0][0]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with tcp_pair() as pair:
        yield pair


Ends = tuple[socket.socket, socket.socket]


def receive_all(peer: socket.socket, count: int) -> bytes:
    """Read so many bytes, or up to the end."""
    received = bytearray()
    while len(received) < count:
        data = peer.recv(1 << 20)
        if not data:
            break
        received += data
    return bytes(received)


# stamps


@both_clocks
async def test_a_read_is_stamped_with_its_arrival(ends: Ends, kernel: bool) -> None:
    """The stamp lies between the send and the moment at which the bytes surfaced, and says whose clock it is."""
    line = Line(*ends, kernel=kernel)
    before = perf_counter_ns()
    line.peer.send(b"hello")
    read = await line.read()
    assert before - MS < read.stamp_ns <= perf_counter_ns()
    assert (line.inbox.data, read.kernel) == (b"hello", kernel)
    line.stream.close()


@on_linux
async def test_the_kernel_stamps_while_the_loop_is_away(ends: Ends) -> None:
    """Bytes that waited 100 ms to be read carry the time at which they came, and how long they waited."""
    line = Line(*ends)
    line.peer.send(b"hello")
    sent = perf_counter_ns()
    stall(0.1)
    read = await line.read()
    assert read.stamp_ns < sent + 50 * MS
    assert read.wait_ns > 50 * MS
    line.stream.close()


async def test_the_user_clock_stamps_when_the_bytes_surface(ends: Ends) -> None:
    """Without the kernel's help a stall is inside the stamp, and the doubt covers it."""
    line = Line(*ends, kernel=False)
    line.peer.send(b"hello")
    sent = perf_counter_ns()
    stall(0.05)
    read = await line.read()
    assert read.stamp_ns >= sent + 50 * MS
    assert read.stamp_ns - read.doubt_ns <= sent
    assert (read.kernel, read.wait_ns) == (False, 0)
    line.stream.close()


@both_clocks
async def test_segments_that_queued_up_are_one_read_in_doubt(ends: Ends, kernel: bool) -> None:
    """Two segments 60 ms apart, while the loop is away, come as one read; its doubt covers the older one."""
    line = Line(*ends, kernel=kernel)
    line.peer.send(b"one")
    first_sent = perf_counter_ns()
    stall(0.06)
    second_sent = perf_counter_ns()
    line.peer.send(b"two")
    read = await line.read()
    assert [data for _read, data in line.inbox.reads] == [b"onetwo"]
    assert read.stamp_ns >= second_sent - MS
    assert read.doubt_ns >= 60 * MS
    assert read.stamp_ns - read.doubt_ns <= first_sent
    line.stream.close()


async def test_a_read_behind_a_wait_leaves_little_doubt(ends: Ends) -> None:
    """When the loop was waiting for just these bytes, nothing can have queued up before (median of nine)."""
    line = Line(*ends)
    for number in range(9):
        await anyio.sleep(0.005)
        line.peer.send(b"x")
        await line.inbox.count(number + 1)
    doubts = sorted(read.doubt_ns for read, _data in line.inbox.reads)
    assert doubts[4] < MS
    line.stream.close()


@on_linux
async def test_stamps_of_one_stream_never_run_backwards(ends: Ends) -> None:
    """A hundred segments have a hundred stamps in order."""
    line = Line(*ends)
    for number in range(100):
        line.peer.send(b"x")
        await line.inbox.count(number + 1)
    stamps = [read.stamp_ns for read, _data in line.inbox.reads]
    assert stamps == sorted(stamps)
    line.stream.close()


# writing


async def test_a_write_is_stamped_behind_the_send(ends: Ends) -> None:
    """The stamp lies between the call and its return, and the peer has the bytes."""
    line = Line(*ends)
    before = perf_counter_ns()
    line.stream.write(b"hello")
    assert before <= line.stream.last_write_ns <= perf_counter_ns()
    assert line.peer.recv(10) == b"hello"
    line.stream.close()


async def test_what_the_kernel_does_not_take_is_kept_and_sent(ends: Ends) -> None:
    """8 MiB and a bit to a peer that reads late arrive whole and in order; `drained` waits for the last byte."""
    line = Line(*ends)
    data = bytes(range(256)) * (LARGE // 256)
    line.stream.write(data)
    line.stream.write(b"the end")
    undrained = perf_counter_ns()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line.stream.drained)
        received = await anyio.to_thread.run_sync(receive_all, line.peer, LARGE + 7)
    assert received == data + b"the end"
    assert line.stream.last_write_ns > undrained
    line.stream.close()


async def test_drained_returns_at_once_if_nothing_is_unsent(ends: Ends) -> None:
    """A small request is out with its write."""
    line = Line(*ends)
    line.stream.write(b"hello")
    with anyio.fail_after(1):
        await line.stream.drained()
    line.stream.close()


async def test_a_reset_ends_the_wait_for_a_large_write(ends: Ends) -> None:
    """Whoever waits for the last byte is told that the connection is lost."""
    line = Line(*ends)
    line.stream.write(bytes(LARGE))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, reset, line.peer)
        with anyio.fail_after(5), pytest.raises(ConnectionError):
            await line.stream.drained()
    line.stream.close()


async def test_closing_ends_the_wait_for_a_large_write(ends: Ends) -> None:
    """Whoever waits for the last byte is told that this side gave up."""
    line = Line(*ends)
    line.stream.write(bytes(LARGE))

    async def close() -> None:
        line.stream.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close)
        with pytest.raises(ConnectionAbortedError):
            await line.stream.drained()


async def test_writing_to_a_lost_connection_is_an_error(ends: Ends) -> None:
    """Behind a reset the kernel refuses, and so does `write`."""
    line = Line(*ends)
    reset(line.peer)
    await line.inbox.until(lambda: line.inbox.ends)
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        line.stream.write(b"hello")
    line.stream.close()


# ends


def reset(peer: socket.socket) -> None:
    """Close with RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.close()


async def test_a_fin_is_an_end_without_an_error(ends: Ends) -> None:
    """What came before it is delivered first, and the end is told once."""
    line = Line(*ends)
    line.peer.send(b"last words")
    line.peer.close()
    await line.inbox.until(lambda: line.inbox.ends)
    assert (line.inbox.data, line.inbox.ends) == (b"last words", [None])
    line.stream.close()


async def test_a_reset_is_an_end_with_its_error(ends: Ends) -> None:
    """The operating system's word for it is handed on."""
    line = Line(*ends)
    reset(line.peer)
    await line.inbox.until(lambda: line.inbox.ends)
    (error,) = line.inbox.ends
    assert isinstance(error, ConnectionResetError)
    line.stream.close()


async def test_closing_twice_is_harmless(ends: Ends) -> None:
    """The socket is gone after the first time, and the receiver hears nothing more."""
    before = open_sockets()
    line = Line(*ends)
    line.peer.send(b"too late")
    line.stream.close()
    line.stream.close()
    assert len(open_sockets()) == len(before) - 1
    await anyio.sleep(0.01)
    assert (line.inbox.reads, line.inbox.ends) == ([], [])


async def test_a_closed_streams_descriptor_can_be_used_again() -> None:
    """The next connection gets the same number, and is read as if it were the first."""
    numbers = set()
    for _ in range(3):
        with tcp_pair() as (ours, peer):
            line = Line(ours, peer)
            numbers.add(ours.fileno())
            peer.send(b"hello")
            await line.inbox.count(1)
            assert line.inbox.data == b"hello"
            line.stream.close()
    assert len(numbers) == 1


async def test_closing_with_reset_tells_the_peer_so(ends: Ends) -> None:
    """The peer's next read fails, where an ordinary close would look like an end."""
    line = Line(*ends)
    line.stream.close(reset=True)
    with pytest.raises(ConnectionResetError):
        line.peer.recv(1)


async def test_the_peer_sees_an_ordinary_close_as_an_end(ends: Ends) -> None:
    """FIN, with nothing unread."""
    line = Line(*ends)
    line.stream.close()
    assert line.peer.recv(1) == b""
