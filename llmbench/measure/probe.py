"""Whether this machine's kernel really stamps what a TCP socket receives: some sandboxes only seem to."""

from __future__ import annotations

import socket
import time

from llmbench.measure.stamps import ANCILLARY_BYTES, SO_TIMESTAMPNS, kernel_stamps_available

_SECONDS = 2.0
_PATIENCE = 0.5
"""The kernel switches stamping on some milliseconds after it was asked to, and does not say when."""
_PAUSE = 0.005


def kernel_stamps_work() -> bool:
    """Say whether a byte that comes over the loopback interface comes with the kernel's stamp.

    Raises `OSError` where there is no loopback interface.
    """
    if not kernel_stamps_available():
        return False
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), _SECONDS) as client,
        server.accept()[0] as peer,
    ):
        try:
            client.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        except OSError:  # a network stack that is not the kernel's
            return False
        return _stamped_in_time(peer, client)


def _stamped_in_time(peer: socket.socket, client: socket.socket) -> bool:
    end = time.monotonic() + _PATIENCE
    while not _stamped(peer, client):
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE)
    return True


def _stamped(peer: socket.socket, client: socket.socket) -> bool:
    peer.sendall(b"x")
    _, ancillary, _, _ = client.recvmsg(1, ANCILLARY_BYTES)
    return any((level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS) for level, kind, _ in ancillary)
