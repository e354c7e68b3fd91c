"""The engine's spool from the outside: what a failure of it means for the program."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
import msgspec
import pytest

from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.remembered import Catalogue, Outdated
from llmbench.cli.spooled import left_over, open_spool
from llmbench.config import Config, load
from llmbench.stores.base import Store, StoreError
from llmbench.stores.spool import Spool, SpoolFailed
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


async def test_an_engine_starts_though_somebody_looks_at_its_spool(tmp_path: Path) -> None:
    """``llmbench spool`` has the lock for a moment; whoever keeps it is named."""
    config = load(write(tmp_path, f'[spool]\nfolder = "{tmp_path / "spool"}"\n'), {})
    first = Spool(config.spool_folder)
    await first.open()
    async with anyio.create_task_group() as group:
        group.start_soon(_close_soon, first)
        async with open_spool(config) as spool:
            assert spool.recorded == 0
            with pytest.raises(CommandError, match="is in use by the process with the id"):
                await anyio.to_thread.run_sync(anyio.run, _have, config)


async def _close_soon(spool: Spool) -> None:
    await anyio.sleep(0.3)
    await spool.close()


async def _have(config: Config) -> None:
    async with open_spool(config):
        raise AssertionError("two have it")


async def test_a_worklist_from_the_future_is_not_used(tmp_path: Path) -> None:
    """It was noted while the clock was ahead: how old it is, nobody knows."""
    config = load(write(tmp_path, f'[spool]\nfolder = "{tmp_path / "spool"}"\n[store]\nkind = "http"\n'), {})
    config.spool_folder.mkdir()
    note = {"store": "a bridge", "at": datetime.now(UTC) + timedelta(days=365), "models": []}
    (config.spool_folder / "catalogue.json").write_bytes(msgspec.json.encode(note))
    with pytest.raises(Outdated, match="no route"):
        await Catalogue(config, cast("Store", _Away())).enabled()


class _Away:
    description = "a bridge"

    async def seed_models(self, models: object) -> None:
        raise StoreError("no route")
