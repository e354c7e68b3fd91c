"""The server: the bridge's application on a listening socket, in the event loop that everything else runs in."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator

import anyio
import uvicorn
from litestar import Litestar

from llmbench.actors.supervision import ActorDown
from llmbench.bridge.connection import connection_class

logger = logging.getLogger(__name__)

_BACKLOG = 128
_MOST_CONNECTIONS = 1024
_KEEP_ALIVE_SECONDS = 15
_GRACE_SECONDS = 5
_TAKEN_REST_SECONDS = 60.0

Address = tuple[str, int]


def parse_listen(listen: str) -> Address:
    """Return host and port of a text such as ``127.0.0.1:8787`` or ``[::1]:8787``. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    number = int(port)
    if not host or number > 65_535:
        raise ValueError(f"{listen!r} is not an address and a port, such as '127.0.0.1:8787'")
    return host.removeprefix("[").removesuffix("]"), number


class _Uvicorn(uvicorn.Server):
    """uvicorn as a guest: signals are somebody else's, and streams that never end by themselves are told to end."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None], on_ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._on_ending = on_ending

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise RuntimeError("the bridge's application could not be started") from error
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_ending()
        await super().shutdown(sockets)
        self.cut_off()

    def cut_off(self) -> None:
        """End every request and every connection."""
        for task in self.server_state.tasks:
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class Server:
    """Serves until stopped. Requests under way may then finish, for five seconds; `run` may be called again."""

    def __init__(
        self, app: Litestar, listen: str, *, max_body: int, on_ending: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        self._wanted = parse_listen(listen)
        self._on_ending = on_ending
        self._connection = connection_class(max_body)
        self._serving: _Uvicorn | None = None
        self._stopped = False
        self._listener: socket.socket | None = None
        self.grace_seconds = float(_GRACE_SECONDS)
        """How long requests may take to finish."""
        self.started = anyio.Event()
        """Set once it listens."""
        self.address: Address | None = None
        """Where it listens, once it does."""

    @property
    def stopping(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """End `run`, gracefully."""
        self._stopped = True
        if self._serving is not None:
            self._serving.should_exit = True

    def abort(self) -> None:
        """End `run` without waiting for requests."""
        self.stop()
        if self._serving is not None:
            self._serving.cut_off()

    async def listen(self) -> Address:
        """Take the port, if it is not taken yet: connections wait from now on. Raises `ActorDown`."""
        if self._listener is None:
            self._listener = await self._bound()
        host, port = self._listener.getsockname()[:2]
        return host, port

    async def run(self) -> None:
        """Serve until `stop` or cancellation, both of which let requests finish. Raises `ActorDown`."""
        self.address = await self.listen()
        listener, self._listener = self._listener, None
        assert listener is not None
        with contextlib.closing(listener):
            if not self._stopped:
                await self._serve(listener)

    async def _serve(self, listener: socket.socket) -> None:
        self._serving = serving = _Uvicorn(self._config(), self.started.set, self._on_ending)
        async with anyio.create_task_group() as group:
            group.start_soon(_end_when_cancelled, serving)
            with anyio.CancelScope(shield=True):
                await serving.serve(sockets=[listener])
            group.cancel_scope.cancel()

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            http=self._connection,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",  # what it warns of is strangers' to cause
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )

    async def _bound(self) -> socket.socket:
        host, port = self._wanted
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise self._down(f"its name is not known ({error.strerror})") from error
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            taken = error.errno == errno.EADDRINUSE
            raise self._down("another program has this port" if taken else f"{error.strerror}") from error
        return listener

    def _down(self, why: str) -> ActorDown:
        host, port = self._wanted
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        what_to_do = "choose an address of this machine and a port that is free (--listen, or listen under [server])"
        return ActorDown(f"the HTTP side can't listen on {place}: {why}; {what_to_do}", _TAKEN_REST_SECONDS)


async def _end_when_cancelled(serving: uvicorn.Server) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        serving.should_exit = True
