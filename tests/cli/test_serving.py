"""Which keys the HTTP side of a program lets in."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbench.cli.exits import CommandError
from llmbench.cli.serving import key_ring
from llmbench.config import load

KEY = "shared-key-0123456789"


def test_a_runners_own_key_lets_nobody_in(tmp_path: Path) -> None:
    """INGEST_API_KEY is shared by runners on the machine of a bridge; on a runner it is what that one sends."""
    env = {"INGEST_API_KEY": KEY, "XDG_DATA_HOME": str(tmp_path)}
    bridge, runner = load(None, env), load(None, env | {"INGEST_API_URL": "https://bench.example"})

    assert key_ring(bridge, env).find(KEY.encode()) is not None
    with pytest.raises(CommandError, match="no key is let in"):
        key_ring(runner, env)
