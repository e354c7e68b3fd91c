"""The spool's files, changed between runs."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llmbench.stores.base import StoreError, StoreUnusable
from llmbench.stores.spool import Spool
from tests.stores.spooling import QUICK, SetClock, begun, contents, crashed_spool, filled, opened_spool, reopened


def _flip(path: Path, offset: int, bits: int = 0xFF) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


class TestDamage:
    """Files that were changed between runs."""

    async def test_sound(self, tmp_path: Path) -> None:
        """A crash is no damage: all rows are there, and nothing is moved aside."""
        folder, ids = await crashed_spool(tmp_path, 5, checkpointed=5)
        assert await reopened(folder) == ([], set(ids), set())
        assert sorted(file.name for file in folder.iterdir()) == ["spool.db", "spool.lock"]

    @pytest.mark.parametrize("seed", range(8))
    async def test_byte_flips(self, tmp_path: Path, seed: int) -> None:
        """Three wrong bytes anywhere: the set is moved aside as it is, what is whole is saved, the rest is counted."""
        async with opened_spool(tmp_path / "live") as spool:
            ids = {item.outcome.id for item in await filled(spool, 60)}
        path = tmp_path / "live" / "spool.db"
        chance = random.Random(seed)
        for _ in range(3):
            _flip(path, chance.randrange(100, path.stat().st_size))
        before = path.read_bytes()

        damages, waiting, quarantined = await reopened(tmp_path / "live")
        assert waiting <= ids
        if damages:
            (damage,) = damages
            assert (tmp_path / "live" / damage.aside).read_bytes() == before
            assert damage.salvaged == len(waiting)
            assert damage.doubtful == len(quarantined)
            assert damage.unreadable is not None
            assert damage.unreadable + damage.salvaged + damage.doubtful >= 60
        else:
            assert len(waiting) + len(quarantined) == 60

    async def test_broken_page(self, tmp_path: Path) -> None:
        """A page that is lost costs the rows on it and no others; the message counts them, until it is acknowledged."""
        async with opened_spool(tmp_path) as spool:
            ids = {item.outcome.id for item in await filled(spool, 40)}
        path = tmp_path / "spool.db"
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2 // 4096 * 4096)
            file.write(bytes(4096))

        (damage,), waiting, _ = await reopened(tmp_path)
        assert waiting < ids
        assert (damage.salvaged, damage.unreadable) == (len(waiting), 40 - len(waiting))
        assert f"{len(waiting)} salvaged, {40 - len(waiting)} unreadable" in str(damage)
        async with opened_spool(tmp_path) as spool:
            assert spool.damages == [damage]
            await spool.acknowledge_damage()
            assert (await spool.counts()).damages == 0
        assert (await reopened(tmp_path))[0] == []
        assert (tmp_path / damage.aside).exists()

    async def test_cut_log(self, tmp_path: Path) -> None:
        """A log that lost its end lost rows that were recorded: they are counted, and the others are there."""
        folder, ids = await crashed_spool(tmp_path, 10, checkpointed=10)
        log = folder / "spool.db-wal"
        cut = log.read_bytes()[: log.stat().st_size // 2]
        log.write_bytes(cut)

        (damage,), waiting, _ = await reopened(folder)
        assert set(ids[:10]) <= waiting < set(ids)
        assert (damage.salvaged, damage.unreadable) == (len(waiting), 20 - len(waiting))
        assert "its log was cut or is gone" in damage.what
        assert (folder / f"{damage.aside}-wal").read_bytes() == cut

    @pytest.mark.parametrize("empty", [True, False])
    async def test_missing_log(self, tmp_path: Path, empty: bool) -> None:
        """The same if the log is gone, or has nothing in it."""
        folder, ids = await crashed_spool(tmp_path, 7, checkpointed=4)
        (folder / "spool.db-wal").unlink()
        if empty:
            (folder / "spool.db-wal").touch()

        (damage,), waiting, _ = await reopened(folder)
        assert waiting == set(ids[:4])
        assert (damage.salvaged, damage.unreadable) == (4, 7)

    @pytest.mark.parametrize("left", [None, b"", b"SQLite format 3\0", b"\xff" * 8192])
    async def test_file_is_gone(self, tmp_path: Path, left: bytes | None) -> None:
        """A file that is missing, empty or no database: its log is moved aside with it, and what that has is saved.

        A log has the whole of it once the spool has grown, as then its first page has changed.
        """
        folder, ids = await crashed_spool(tmp_path, 12)
        (folder / "spool.db").unlink()
        if left is not None:
            (folder / "spool.db").write_bytes(left)
        log = (folder / "spool.db-wal").read_bytes()

        (damage,), waiting, _ = await reopened(folder)
        assert waiting == set(ids)
        assert (damage.salvaged, damage.unreadable) == (12, 0)
        assert (folder / f"{damage.aside}-wal").read_bytes() == log

    async def test_all_is_gone(self, tmp_path: Path) -> None:
        """A spool of which nothing is left where rows were recorded is not begun anew in silence."""
        async with opened_spool(tmp_path) as spool:
            await filled(spool, 3)
        (tmp_path / "spool.db").unlink()
        (damage,), waiting, _ = await reopened(tmp_path)
        assert waiting == set()
        assert "spool.db is gone" in str(damage)
        assert "0 salvaged, an unknown number unreadable" in str(damage)

    async def test_cut_file(self, tmp_path: Path) -> None:
        """A file that lost its end is salvaged as far as it goes."""
        async with opened_spool(tmp_path) as spool:
            await filled(spool, 60)
        os.truncate(tmp_path / "spool.db", (tmp_path / "spool.db").stat().st_size * 2 // 3)
        (damage,), waiting, quarantined = await reopened(tmp_path)
        assert damage.salvaged == len(waiting) > 0
        assert damage.doubtful == len(quarantined)
        assert damage.unreadable
        assert damage.unreadable + damage.salvaged + damage.doubtful >= 60

    async def test_changed_content(self, tmp_path: Path) -> None:
        """A damaged row in a damaged file is kept in quarantine, as it is; its attempts and states are kept, too."""
        async with opened_spool(tmp_path) as spool:
            first, second, third = (item.outcome.id for item in await filled(spool, 3))
            await spool.delivered([second])
            await spool.quarantine(third, "rejected")
            spool.opened(attempt := begun())
        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("UPDATE outcomes SET body = x'7b7d', tries = 'many' WHERE id = ?", (first,))
        spool = Spool(tmp_path, limits=QUICK, clock=SetClock())
        assert await spool.open() == [attempt.outcome]
        counts = await spool.counts()
        assert (counts.quarantined, counts.delivered) == ({"rejected": 1, "undecodable": 1}, 1)
        assert (spool.damages[0].salvaged, spool.damages[0].doubtful, spool.damages[0].unreadable) == (2, 1, 0)
        await spool.close()

    @pytest.mark.parametrize("table", ["attempts", "history"])
    async def test_history(self, tmp_path: Path, table: str) -> None:
        """What was recorded of each model is known after damage to something else, and else is found out anew."""
        async with opened_spool(tmp_path) as spool:
            await filled(spool, 6)
            before = await spool.history()
        path = tmp_path / "spool.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        with path.open("r+b") as file:
            file.seek((root - 1) * 4096)
            file.write(b"\xff" * 4096)
        async with opened_spool(tmp_path) as spool:
            assert [(damage.salvaged, damage.unreadable) for damage in spool.damages] == [(6, 0)]
            assert await spool.history() == before
            assert len(before) == 2

    async def test_history_that_was_changed(self, tmp_path: Path) -> None:
        """A model whose row says nonsense has no past, and gets one with its next outcome."""
        async with opened_spool(tmp_path) as spool:
            await filled(spool, 2)
        with closing(sqlite3.connect(tmp_path / "spool.db")) as connection, connection:
            connection.execute("UPDATE history SET past = '[]'")
        async with opened_spool(tmp_path) as spool:
            assert await spool.history() == []
            await filled(spool, 1)
            assert len(await spool.history()) == 1

    async def test_index_that_disagrees(self, tmp_path: Path) -> None:
        """An index that does not have all rows would hide them from delivery: that is damage, and nothing is lost."""
        async with opened_spool(tmp_path) as spool:
            ids = {item.outcome.id for item in await filled(spool, 4)}
        with closing(sqlite3.connect(tmp_path / "spool.db", isolation_level=None)) as connection:
            (root,) = connection.execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'outcomes_by_state'"
            ).fetchone()
        path = tmp_path / "spool.db"
        page = path.read_bytes()[(root - 1) * 4096 : root * 4096]
        _flip(path, (root - 1) * 4096 + page.rindex(b"waiting"), 0x20)
        (damage,), waiting, _ = await reopened(tmp_path)
        assert waiting == ids
        assert "index" in damage.what

    async def test_interrupted_salvage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A start that dies while it salvages is carried on by the next one, with the same outcome."""
        folder, ids = await crashed_spool(tmp_path, 6, checkpointed=3)
        (folder / "spool.db-wal").unlink()
        for broken in ("_move", "_salvage", "_put_in_place"):
            with monkeypatch.context() as patch:
                patch.setattr(f"llmbench.stores.spool_salvage.{broken}", _no_room)
                with pytest.raises(StoreError, match="can't be opened"):
                    await Spool(folder).open()
        (damage,), waiting, _ = await reopened(folder)
        assert waiting == set(ids[:3])
        assert (damage.stage, damage.salvaged, damage.unreadable) == ("done", 3, 6)

    @pytest.mark.parametrize(
        ("pragma", "words"), [("user_version = 99", "version 99"), ("application_id = 7", "another")]
    )
    async def test_not_ours(self, tmp_path: Path, pragma: str, words: str) -> None:
        """A file of a newer llmbench, or of another program, is refused and left untouched."""
        async with opened_spool(tmp_path) as spool:
            await filled(spool, 1)
        with closing(sqlite3.connect(tmp_path / "spool.db", isolation_level=None)) as connection:
            connection.execute(f"PRAGMA {pragma}")
        before = contents(tmp_path)
        with pytest.raises(StoreUnusable, match=words):
            await Spool(tmp_path).open()
        assert contents(tmp_path) == before


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device", "spool.db.new")
