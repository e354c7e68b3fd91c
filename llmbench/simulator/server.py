"""The simulator itself: a listening socket on loopback and the connections that come in on it."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType

import anyio
from anyio.abc import TaskGroup

from llmbench.measure.stamps import StampedStream, prepare_stamping
from llmbench.simulator.connection import Connection
from llmbench.simulator.pacing import Pacer
from llmbench.simulator.record import Counts, Ended, RequestLog, RequestRecord
from llmbench.simulator.reply import Reply, Request
from llmbench.simulator.router import Router

_BACKLOG = 4096
_ACCEPTS_A_TURN = 64
_HANDSHAKE_SECONDS = 10.0
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RECOVERY_SECONDS = 0.1


class SimulatorError(Exception):
    """The simulator can't start as asked; the message says why and what to do."""


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return the TLS context of a server with these files. Raises `SimulatorError`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SimulatorError(f"the certificate {certificate!r} with the key {key!r} can't be used: {error}") from error
    return context


def _loopback_address(host: str) -> str:
    """Return ``host`` as an address, or raise `SimulatorError` unless it is loopback."""
    text = "127.0.0.1" if host == "localhost" else host
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(text).is_loopback:
            return text
    raise SimulatorError(
        f"the host {host!r} is not a loopback address; the simulator trusts everyone who can reach it,"
        " so give it 127.0.0.1, ::1 or localhost"
    )


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SimulatorError(
                f"port {port} on {address} is taken; choose another one, or 0 for any free port"
            ) from error
        raise SimulatorError(f"the simulator can't listen on {address} port {port}: {error.strerror}") from error
    return listener


class Simulator:
    """Providers with known behaviour on one port: ``async with Simulator() as sim``, then ``sim.url``.

    It needs a `WatchedEventLoop`, best a `PacedEventLoop`. ``keen`` spends CPU on waking up in time; ``on_ended`` gets
    each record that is complete. Raises `SimulatorError` on entering.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        keen: bool = False,
        on_ended: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._tls = tls
        self._keen = keen
        self._log = RequestLog(on_ended)
        self._router = Router(self._log)
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._listener: socket.socket | None = None
        self._pacer: Pacer | None = None
        self._group: TaskGroup | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Simulator:
        address = _loopback_address(self._host)
        self._listener = _listen(address, self._wanted_port)
        self._stack.callback(self._listener.close)
        prepare_stamping()
        self._pacer = Pacer(keen=self._keen)
        self._group = await self._stack.enter_async_context(anyio.create_task_group())
        self._group.start_soon(self._accept, self._listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._group is not None
        self._group.cancel_scope.cancel()
        for connection in list(self._connections):
            connection.close()
        self.pacer.close()
        await self._stack.aclose()

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._listener is not None, "enter the simulator first"
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The root of all its addresses, such as ``http://127.0.0.1:4711``; a provider's base is a path below it."""
        address = _loopback_address(self._host)
        return f"{'https' if self._tls else 'http'}://{f'[{address}]' if ':' in address else address}:{self.port}"

    @property
    def requests(self) -> Sequence[RequestRecord]:
        """The latest requests, in the order of their arrival."""
        return self._log.records

    @property
    def counts(self) -> Counts:
        """How many requests there were, and how their answers ended."""
        return self._log.counts

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    # what a connection needs

    @property
    def pacer(self) -> Pacer:
        """What fires the answers' steps."""
        assert self._pacer is not None, "enter the simulator first"
        return self._pacer

    def answer(self, request: Request) -> Reply:
        """Return the answer to a request."""
        return self._router.answer(request)

    def ended(self, record: RequestRecord, ended: Ended) -> None:
        """Record how an answer ended."""
        self._log.end(record, ended)

    def close_when_drained(self, connection: Connection) -> None:
        """Close a connection once the kernel has taken all that was written."""
        assert self._group is not None
        self._group.start_soon(self._drain, connection)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is closed."""
        self._connections.discard(connection)

    @staticmethod
    async def _drain(connection: Connection) -> None:
        assert connection.stream is not None
        with contextlib.suppress(OSError):  # the client may be gone already
            await connection.stream.drained()
        connection.close()

    # accepting

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await anyio.wait_readable(listener)
            try:
                self._accept_waiting(listener)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # the client gave up before it was accepted
                await anyio.sleep(_RECOVERY_SECONDS)  # out of descriptors: those in use have to be closed first

    def _accept_waiting(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            sock, _address = listener.accept()
            self._accepted += 1
            connection = Connection(self, self._accepted)
            _send_without_pacing(sock)
            connection.stream = StampedStream(sock, connection)
            self._connections.add(connection)
            if self._tls is not None:
                assert self._group is not None
                self._group.start_soon(self._handshake, connection, self._tls)

    @staticmethod
    async def _handshake(connection: Connection, context: ssl.SSLContext) -> None:
        assert connection.stream is not None
        try:
            with anyio.fail_after(_HANDSHAKE_SECONDS):
                await connection.stream.start_tls(context, None, server_side=True)
        except (OSError, TimeoutError):
            connection.close()


def _send_without_pacing(sock: socket.socket) -> None:
    """Have segments leave when they are written: BBR, where it is the default, holds them back to spread them."""
    if hasattr(socket, "TCP_CONGESTION"):
        with contextlib.suppress(OSError):  # a kernel without Reno is still a simulator
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
