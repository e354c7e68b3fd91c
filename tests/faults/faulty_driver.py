"""The fork server of `engine_driver` for engines with a fault, which the file ``fault`` beside the log names.

``kill POINT`` kills the engine at a named point, and ``limit RESOURCE AMOUNT`` sets a limit of the system for it. The
file ``hit`` is made there when the point is reached or the limit is set. Without the file there is no fault. An engine
waits for no longer than a test can: for a file that is locked, between two attempts, and at its end.
"""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from llmbench.actors import delivery, sink, supervisor
from llmbench.actors.attempt import Attempt
from llmbench.measure.transport import StartGate
from llmbench.stores import spool_rows, spool_salvage, spool_schema, spool_writer
from llmbench.stores.spool import Spool
from llmbench.stores.sqlite import SQLiteStore
from tests.faults import engine_driver


def hit() -> None:
    Path("hit").touch()


def kill(*_: object, **__: object) -> NoReturn:
    hit()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody outlives this")


def at_request() -> None:
    """As the request is to be sent: its attempt is open, and noted."""

    class Deadly(StartGate):
        turn = kill

    real = Attempt.__init__

    def dying(self: Attempt, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **more | {"gate": Deadly()})

    Attempt.__init__ = dying  # type: ignore[method-assign]


def at_first_token() -> None:
    real = Attempt.__init__

    def dying(self: Attempt, *arguments: Any, **more: Any) -> None:
        real(self, *arguments, **more | {"on_text": kill})

    Attempt.__init__ = dying  # type: ignore[method-assign]


def around(name: str, *, after: bool) -> None:
    """Before or after this step of the spool's, the first time that there are three outcomes."""
    real: Callable[[sqlite3.Connection], None] = getattr(spool_schema, name)

    def dying(connection: sqlite3.Connection) -> None:
        due = spool_rows.last_seq(connection) >= 3
        if due and not after:
            kill()
        real(connection)
        if due:
            kill()

    setattr(spool_schema, name, dying)


def around_checkpoint(*, after: bool) -> None:
    spool_writer._LOG_BYTES = 0
    around("checkpoint", after=after)


def in_place_of(owner: Any, name: str) -> None:
    setattr(owner, name, kill)


POINTS: dict[str, Callable[[], None]] = {
    "request": at_request,
    "first-token": at_first_token,
    "before-commit": lambda: around("commit", after=False),
    "after-commit": lambda: around("commit", after=True),
    "after-ack": lambda: in_place_of(Spool, "delivered"),
    "before-checkpoint": lambda: around_checkpoint(after=False),
    "after-checkpoint": lambda: around_checkpoint(after=True),
    "creation": lambda: in_place_of(spool_salvage, "_put_in_place"),
    "salvage": lambda: in_place_of(spool_salvage, "_copy_history"),
}


def limit(name: str, amount: str) -> None:
    """Limit a resource; of address space, to so much more than is in use."""
    number = int(amount)
    if name == "AS":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        number += pages * resource.getpagesize()
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (number, number))
    hit()


def with_fault(words: Sequence[str]) -> None:
    match words:
        case ["kill", point]:
            POINTS[point]()
        case ["limit", name, amount]:
            limit(name, amount)


def run_with_fault(log: str) -> NoReturn:
    os.chdir(Path(log).parent)
    fault = Path("fault")
    with_fault(fault.read_text().split() if fault.exists() else ())
    engine_driver.run_as_engine(log)


if __name__ == "__main__":
    assert SQLiteStore.__init__.__kwdefaults__ is not None
    SQLiteStore.__init__.__kwdefaults__["busy_timeout"] = 0.2
    delivery._RETRY_FIRST = sink._RETRY_FIRST = 0.05
    delivery._RETRY_LONGEST = sink._RETRY_LONGEST = delivery._BLOCKED_SECONDS = 0.2
    delivery._LOOK_AGAIN_SECONDS = 0.3
    supervisor._DRAIN_SECONDS = 1.0
    engine_driver.serve(run_with_fault)
