"""What the bridge says of itself at /openapi.json is true: schemathesis tries it out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from llmbench.bridge.description import description
from llmbench.stores.sqlite import SQLiteStore
from tests.bridge.serving import Running, running

SCHEMA = schemathesis.openapi.from_file(description().decode())
CHECKS = (not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance)
EXAMPLES = 15


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The bridge in a thread of its own, where an engine has live events to tell."""
    folder: Path = tmp_path_factory.mktemp("schema")
    with anyio.from_thread.start_blocking_portal() as portal:
        store = SQLiteStore(folder / "llmbench.db")
        portal.call(store.open)
        with portal.wrap_async_context_manager(running(store, folder, own_live=False)) as bridge:
            yield bridge
        portal.call(store.close)


@SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_route_keeps_its_word(case: Any, served: Running) -> None:
    """Whatever is sent, sound or not: no fault, and every answer is one that the description has for it."""
    scope = {"/runner-config": "worklist", "/metrics": "read", "/health": "read", "/live": "read"}
    case.headers = {**(case.headers or {}), "X-API-Key": served.keys[scope.get(case.path, "shared")]}
    case.call_and_validate(base_url=f"http://{served.host}:{served.port}", checks=CHECKS, timeout=10)
