"""The fork server of `engine_driver` for engines on MongoDB, or at a bridge to it, with limits short enough for a test.

Of the program nothing is changed but how long it waits: for a server, between two attempts, after a second signal.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmbench.actors import delivery, sink, supervisor
from llmbench.cli import beginning, context
from llmbench.config import Config
from llmbench.stores.apart import Apart
from llmbench.stores.base import Store
from llmbench.stores.mongo import MongoStore
from llmbench.stores.mongo_client import Limits
from tests.faults import engine_driver

LIMITS = Limits(server_selection=0.3, connect=0.3, socket=1.5, question=1.0, put=1.5)
"""A server that works answers in time, on a machine that does other things as well."""


def impatient_store(config: Config, env: Mapping[str, str], apart: Apart, *, read_only: bool) -> Store:
    return MongoStore(context.mongo_address(config, env), LIMITS, apart=apart, read_only=read_only)


if __name__ == "__main__":
    context._mongo = impatient_store
    delivery._RETRY_FIRST = sink._RETRY_FIRST = beginning._FIRST = 0.05
    delivery._RETRY_LONGEST = sink._RETRY_LONGEST = beginning._LONGEST = delivery._BLOCKED_SECONDS = 0.2
    supervisor._ABORT_SECONDS = 0.2
    engine_driver.serve(engine_driver.run_as_engine)
