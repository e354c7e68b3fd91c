"""A running engine's socket, from the other side: orders, and the frames of what happens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

import msgspec

from llmbench.actors.engine_requests import ENGINE_SOCKET, EngineAnswer, Order, Watch
from llmbench.actors.local_socket import address
from llmbench.bridge.live import Dropped, Frames, parse
from llmbench.messages import LiveEvent
from tests.e2e.program import SECONDS, Place

CHUNK = 64 * 1024


def folder_of(place: Place) -> Path:
    """Return where the engine of a place has its spool, and its socket."""
    return place.folder / ".local" / "share" / "llmbench" / "spool"


@contextmanager
def connected(folder: Path) -> Iterator[socket.socket]:
    """Connect to the engine, which may be starting."""
    end = monotonic() + SECONDS
    with socket.socket(socket.AF_UNIX) as near:
        near.settimeout(SECONDS)
        while True:
            try:
                with address(folder, ENGINE_SOCKET) as path:
                    near.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if monotonic() > end:
                    raise
                sleep(0.05)
        yield near


def ordered(folder: Path, order: Order) -> EngineAnswer:
    """Give an order, and return its answer."""
    with connected(folder) as near:
        send(near, line(order))
        return msgspec.json.decode(until_ended(near, b"\n"), type=EngineAnswer)


def send(near: socket.socket, data: bytes) -> None:
    """Send this; an engine that refuses may have ended already, and its answer is to be read all the same."""
    with suppress(BrokenPipeError, ConnectionResetError):
        near.sendall(data)


def line(asked: Order | Watch) -> bytes:
    return msgspec.json.encode(asked) + b"\n"


def until_ended(near: socket.socket, end: bytes | None = None) -> bytes:
    """Return what comes until the other side ends, or until there is this."""
    received = b""
    while end is None or end not in received:
        try:
            chunk = near.recv(CHUNK)
        except ConnectionResetError:
            break
        if not chunk:
            break
        received += chunk
    return received


class Viewer:
    """Watches through a connection that is open."""

    def __init__(self, near: socket.socket) -> None:
        self._near = near
        self._frames = Frames()
        self.events: list[LiveEvent | Dropped] = []
        send(near, line(Watch()))

    def until(self, condition: Callable[[LiveEvent | Dropped], bool]) -> LiveEvent | Dropped:
        """Read until an event that meets the condition; all that came is in `events`."""
        looked = len(self.events)
        while True:
            for event in self.events[looked:]:
                looked += 1
                if condition(event):
                    return event
            self._read()

    def until_ended(self) -> None:
        while self._read(strictly=False):
            pass

    def _read(self, *, strictly: bool = True) -> bool:
        chunk = self._near.recv(CHUNK)
        if not chunk and strictly:
            raise AssertionError(f"the engine ended the connection after {self.events[-3:]}")
        self.events += [told for frame in self._frames.feed(chunk) if (told := parse(frame)) is not None]
        return bool(chunk)
