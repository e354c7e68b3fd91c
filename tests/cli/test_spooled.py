"""The engine's spool from the outside: what a failure of it means for the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.spooled import left_over, open_spool
from llmbench.config import Config, load
from llmbench.stores.spool import SpoolFailed
from tests.configs import write
from tests.stores.documents import envelope, failure


async def test_a_spool_that_failed_unnoticed_is_no_fault_of_llmbench(tmp_path: Path) -> None:
    """The first who notices may be the last look at it; the exit code is that of a failed spool."""
    config = load(write(tmp_path, f'[spool]\nfolder = "{tmp_path / "spool"}"\n'), {})
    with pytest.raises(CommandError, match="start llmbench again") as caught:
        await _last_look(config)
    assert caught.value.code == ExitCode.SPOOL


async def _last_look(config: Config) -> None:
    async with open_spool(config) as spool:
        (config.spool_folder / "spool.db").rename(config.spool_folder / "elsewhere.db")
        with pytest.raises(SpoolFailed):
            await spool.put([envelope(failure())])
        await left_over(spool)
