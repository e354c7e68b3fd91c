"""The byte stream whose every read carries the time at which its bytes reached the host.

On Linux the kernel says when (``SO_TIMESTAMPNS``, see socket(7)), whatever the event loop was doing then; elsewhere,
and for a read to which the kernel gave no time, the stamp is taken in Python as the bytes surface, and says so.
All times are `time.perf_counter_ns`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import Iterator
from time import perf_counter_ns, time_ns
from typing import NamedTuple, Protocol

from llmbench.measure.loopwatch import LoopWatch, current_watch

SO_TIMESTAMPNS = 35
"""asm-generic/socket.h; Python's socket module does not name it. The control message has the same number."""

_TIMESPEC = struct.Struct("@ll")
ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
_READ_BYTES = 256 * 1024
"""Large reads, so that segments that queued together show up together instead of in slices with one stamp."""

_OFFSET_NOISE_NS = 20_000
_OFFSET_STEP_NS = 1_000_000
_INTERRUPTED_SEND_NS = 60_000


class Read(NamedTuple):
    """One read of the socket; everything decoded from it shares this object.

    ``stamp_ns`` is when its newest bytes arrived; its oldest arrived at most ``doubt_ns`` before they were read, and
    ``wait_ns`` is how long the newest waited to be read (0 on the user clock, which can't know).
    """

    stamp_ns: int
    doubt_ns: int
    wait_ns: int
    kernel: bool


class Receiver(Protocol):
    """What a `StampedStream` hands its bytes to, from the loop's reader callback: nothing slow in here."""

    def received(self, read: Read, data: bytes | memoryview) -> None:
        """Take bytes. A memoryview is valid only during the call."""
        ...

    def ended(self, error: Exception | None) -> None:
        """The peer closed its side (None), or reading failed. Called at most once."""
        ...


class KernelClock:
    """Converts the kernel's CLOCK_REALTIME stamps to `perf_counter_ns`, and notices a step of the wall clock."""

    def __init__(self) -> None:
        self._offset_ns = self._measure()
        self._stepped_ns = 0
        self.steps = 0
        """How often the wall clock was found to have been stepped by more than a millisecond."""

    @staticmethod
    def _measure() -> int:
        """Return CLOCK_REALTIME - CLOCK_MONOTONIC from the tightest of three readings."""
        best_width, best_offset = sys.maxsize, 0
        for _ in range(3):
            before = perf_counter_ns()
            wall = time_ns()
            after = perf_counter_ns()
            if after - before < best_width:
                best_width, best_offset = after - before, wall - (before + after) // 2
        return best_offset

    def to_monotonic(self, seconds: int, nanoseconds: int, now_ns: int, floor_ns: int) -> int | None:
        """Return the stamp on the monotonic clock, or None if the wall clock was stepped since.

        A stamp can't be later than ``now_ns``, taken just before, nor earlier than ``floor_ns``, the stamp before it.
        One from before the latest step that was found is on a clock that no longer exists, whichever stream found it.
        """
        offset = time_ns() - now_ns
        drift = offset - self._offset_ns
        if not -_OFFSET_NOISE_NS < drift < _OFFSET_NOISE_NS:
            offset = self._measure()
            if abs(offset - self._offset_ns) > _OFFSET_STEP_NS:
                self._offset_ns = offset
                self._stepped_ns = now_ns
                self.steps += 1
                return None
        self._offset_ns = offset
        stamp = seconds * 1_000_000_000 + nanoseconds - offset
        if stamp < self._stepped_ns:
            return None
        return stamp if floor_ns <= stamp <= now_ns else min(max(stamp, floor_ns), now_ns)


def kernel_stamps_available() -> bool:
    """Whether this platform's kernel stamps TCP reads for us."""
    return sys.platform == "linux"


class _Stamping:
    """What the streams of one process share: the read buffer, the kernel's clock, and a socket that keeps stamping on.

    The kernel begins to stamp packets when the first socket asks for it, and stops with the last, both lazily; an
    idle socket that asks all the time keeps the first reads of a new connection from coming without a stamp.
    """

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self.clock = KernelClock()
        self.anchor: socket.socket | None = None
        if kernel_stamps_available():
            self.anchor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.anchor.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            atexit.register(self.anchor.close)


_stamping: _Stamping | None = None


def prepare_stamping() -> None:
    """Switch the kernel's stamps on ahead of the first connection; harmless if they are on."""
    global _stamping
    if _stamping is None:
        _stamping = _Stamping()


class StampedStream:
    """A connected socket, read from a persistent reader callback and stamped; optionally TLS inside.

    The stream owns the socket. `write` is for requests and answers of moderate size: what the kernel does not take at
    once is kept and sent when it can.
    """

    def __init__(self, sock: socket.socket, receiver: Receiver, *, kernel: bool = True) -> None:
        prepare_stamping()
        assert _stamping is not None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._kernel = kernel and kernel_stamps_available()
        if self._kernel:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._sock = sock
        self._receiver: Receiver | None = receiver
        self._loop = asyncio.get_running_loop()
        self._watch: LoopWatch = current_watch()
        self._buffer = _stamping.buffer
        self._clock = _stamping.clock
        self._last_stamp_ns = 0
        self._unsent = bytearray()
        self._drained: asyncio.Future[None] | None = None
        self._tls: _Tls | None = None
        self.closed = False
        self.last_write_ns = 0
        """When the kernel had taken the last byte of the latest complete write."""
        self.last_write_began_ns = 0
        """When that last byte's send began: a peer that answered before `last_write_ns` had it in between."""
        self._loop.add_reader(sock.fileno(), self._readable)

    # reading

    def _readable(self) -> None:
        try:
            count, ancillary, _flags, _address = self._sock.recvmsg_into((self._buffer,), ANCILLARY_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(error)
            return
        if count == 0:
            self._end(None)
            return
        read = self._stamp(ancillary)
        data = self._buffer[:count]
        if self._tls is None:
            if self._receiver is not None:
                self._receiver.received(read, data)
        else:
            self._decrypt(self._tls, read, data)

    def _stamp(self, ancillary: list[tuple[int, int, bytes]]) -> Read:
        now = perf_counter_ns()
        doubt = now - self._watch.blind_since_ns
        if ancillary and self._kernel:
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            stamp = self._clock.to_monotonic(seconds, nanoseconds, now, self._last_stamp_ns)
            if stamp is not None:
                self._last_stamp_ns = stamp
                return Read(stamp, doubt, now - stamp, kernel=True)
        self._last_stamp_ns = now
        return Read(now, doubt, 0, kernel=False)

    def _end(self, error: Exception | None) -> None:
        if not self.closed:
            self._loop.remove_reader(self._sock.fileno())
        self._fail_waiters(error or ConnectionResetError("the peer closed the connection"))
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.ended(error)

    def _fail_waiters(self, error: Exception) -> None:
        for waiter in (self._drained, self._tls.done if self._tls is not None else None):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # nobody may be waiting any more; that is no error

    # writing

    def write(self, data: bytes) -> None:
        """Send ``data``, all at once if the kernel takes it. Raises OSError if the connection is gone."""
        self._send(self._tls.encrypt(data) if self._tls is not None else data)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        sent = self._send_stamped(data)
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _send_stamped(self, data: bytes | bytearray) -> int:
        """Send what the kernel takes now, and keep the time. Raises OSError if the connection is gone.

        The stamp is taken right behind the call, unless that took far longer than a send does: then this process was
        interrupted, most likely once the bytes were out (the peer woke up, another thread took the interpreter), and
        the time before the call is the better one.
        """
        before = perf_counter_ns()
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        after = perf_counter_ns()
        self.last_write_began_ns = before
        self.last_write_ns = after if after - before < _INTERRUPTED_SEND_NS else before
        return sent

    def _writable(self) -> None:
        try:
            sent = self._send_stamped(self._unsent)
        except OSError as error:
            self._loop.remove_writer(self._sock.fileno())
            self._end(error)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())
            if self._drained is not None and not self._drained.done():
                self._drained.set_result(None)

    async def drained(self) -> None:
        """Wait until the kernel has taken all that was written. Raises OSError if the connection is lost."""
        if self._unsent:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None

    # TLS

    async def start_tls(
        self, context: ssl.SSLContext, server_hostname: str | None, *, server_side: bool = False
    ) -> None:
        """Do the TLS handshake; from then on, bytes in and out are plain text. Raises ssl.SSLError or OSError."""
        self._tls = _Tls(context, server_hostname, server_side=server_side, done=self._loop.create_future())
        self._handshake(self._tls)
        await self._tls.done

    def _handshake(self, tls: _Tls) -> None:
        try:
            finished = tls.step()
            self._send_pending(tls)
        except (ssl.SSLError, OSError) as error:
            with contextlib.suppress(OSError):  # the alert that tells the peer why; it may be gone
                self._send_pending(tls)
            self._fail_waiters(error)
            return
        if finished and not tls.done.done():
            tls.done.set_result(None)

    def _send_pending(self, tls: _Tls) -> None:
        if pending := tls.outgoing.read():
            self._send(pending)

    def _decrypt(self, tls: _Tls, read: Read, data: memoryview) -> None:
        tls.incoming.write(data)
        if not tls.done.done():
            self._handshake(tls)
            if not tls.done.done() or tls.done.exception() is not None:
                return
        try:
            for plain in tls.plain():
                if self._receiver is None:
                    return
                self._receiver.received(read, plain)
            if not self.closed:
                self._send_pending(tls)
        except OSError as error:  # ssl.SSLError is one
            self._end(error)
            return
        if tls.closed_by_peer:
            self._end(None)

    def close(self, *, reset: bool = False) -> None:
        """Close the socket at once; ``reset`` drops what is unsent and sends RST. Closing twice is harmless."""
        if self.closed:
            return
        self.closed = True
        self._receiver = None
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            if reset:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._sock.close()
        self._fail_waiters(ConnectionAbortedError("the connection was closed on this side"))


class _Tls:
    """One TLS session over memory BIOs, so that it runs inside the reader callback, behind the stamp."""

    def __init__(
        self,
        context: ssl.SSLContext,
        server_hostname: str | None,
        *,
        server_side: bool,
        done: asyncio.Future[None],
    ) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.done = done
        self.closed_by_peer = False
        self._object = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=server_hostname
        )

    def step(self) -> bool:
        """Go on with the handshake; True once it is finished."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes) -> bytes:
        self._object.write(data)
        return self.outgoing.read()

    def plain(self) -> Iterator[bytes]:
        """Yield what can be decrypted now, a record an item. Raises ssl.SSLError at a bad one, behind the good ones."""
        while self.incoming.pending or self._object.pending():
            try:
                record = self._object.read(65536)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                record = b""
            if not record:
                self.closed_by_peer = True
                break
            yield record
