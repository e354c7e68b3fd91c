"""`llmbench spool`: with an engine that has the spool, and without one."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from llmbench.actors.spool_requests import SOCKET
from llmbench.messages import Envelope, Failure, Outcome, Sample
from llmbench.stores.spool import Spool
from tests.cli.conftest import SOURCES, Program, Result
from tests.stores.documents import envelope, failure, sample
from tests.stores.spooling import QUICK, begun

HOLD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import anyio
from llmbench.actors.spool_desk import SpoolDesk
from llmbench.messages import StoreState
from llmbench.stores.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]))
    await spool.open()
    state = StoreState(status="failing", at=datetime.now(UTC), waiting=1, reason="no route to \\x1b[31mhost")
    async with anyio.create_task_group() as group:
        if sys.argv[2] == "desk":
            await group.start(SpoolDesk(spool, Path(sys.argv[1]), lambda: state).run)
        print("open", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        group.cancel_scope.cancel()
    await spool.close()

anyio.run(main)
"""

HOSTILE = "422: no such \x1b[31mfield\u202e\n<b>"


@pytest.fixture
def folder(program: Program) -> Path:
    return program.home / "data" / "llmbench" / "spool"


class Rows:
    """What a spool holds in these tests: one waits, one is delivered, one rejected, one conflicts with what waits."""

    def __init__(self) -> None:
        self.waiting, self.delivered, self.rejected = (envelope(make()) for make in (sample, failure, sample))
        self.conflict = envelope(msgspec.structs.replace(self.waiting.outcome, model_name="another"))

    @property
    def ids(self) -> tuple[str, str, str]:
        return self.waiting.outcome.id, self.delivered.outcome.id, self.rejected.outcome.id


async def _fill(folder: Path, rows: Rows) -> None:
    spool = Spool(folder, limits=QUICK)
    await spool.open()
    await spool.put([rows.waiting, rows.delivered, rows.rejected, rows.conflict])
    await spool.delivered([rows.delivered.outcome.id])
    await spool.quarantine(rows.rejected.outcome.id, "rejected", HOSTILE)
    await spool.close()


@pytest.fixture
def rows(folder: Path) -> Rows:
    anyio.run(_fill, folder, made := Rows())
    return made


@pytest.fixture
def hold(folder: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Let another process have the spool, with its desk open or not."""
    processes = []

    def start(how: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", HOLD, str(folder), how]
        environment = {**os.environ, "PYTHONPATH": SOURCES}
        processes.append(process := subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in processes:
        with process:
            process.kill()


@pytest.fixture(params=["engine", "none"])
def held(request: pytest.FixtureRequest, rows: Rows, hold: Callable[[str], object]) -> bool:
    """Whether an engine has the spool; each test with this is made both ways."""
    if request.param == "engine":
        hold("desk")
    return bool(request.param == "engine")


def documents(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.lines()]


class TestStatus:
    """How is it?"""

    def test_told(self, program: Program, held: bool, narrow: Callable[[Result], None]) -> None:
        """What waits, what is in quarantine and why, and how delivery goes; a person is needed, so exit code 1."""
        result = program.run("spool", "status")
        assert (result.code, result.err) == (1, "")
        narrow(result)
        assert "1 conflict, 1 rejected" in result.out
        assert ("failing (0 s ago): no route to \\x1b[31mhost" in result.out) is held
        assert ("no engine has the spool" in result.out) is not held

    def test_json(self, program: Program, folder: Path, held: bool) -> None:
        """The same for programs."""
        (found,) = documents(program.run("spool", "status", "--json"))
        assert found["folder"] == str(folder)
        assert (found["waiting"], found["delivered"], found["in_flight"]) == (1, 1, 0)
        assert found["quarantined"] == {"conflict": 1, "rejected": 1}
        assert (found["level"], found["damages"], found["sqlite_version"]) == ("ok", [], sqlite3.sqlite_version)
        assert (found["delivery"] is not None) is held

    def test_well(self, program: Program, folder: Path) -> None:
        """Exit code 0 if nobody is needed; what an engine left open is recorded, and said."""

        async def leave() -> None:
            spool = Spool(folder, limits=QUICK)
            await spool.open()
            spool.opened(begun())
            await spool.close()

        anyio.run(leave)
        result = program.ok("spool", "status")
        assert "interrupted: 1" in result.err
        assert program.ok("spool", "status").err == ""

    @pytest.mark.parametrize("action", ["status", "list", "export", "acknowledge"])
    def test_none(self, program: Program, folder: Path, action: str) -> None:
        """Where there is no spool, none is made."""
        result = program.ok("spool", action)
        assert (result.out, "there is no spool in" in result.err) == ("", True)
        assert not folder.exists()

    @pytest.mark.parametrize("action", ["retry", "discard"])
    def test_none_with_ids(self, program: Program, folder: Path, action: str) -> None:
        """Ids are not in quarantine where there is no spool: that is said by the exit code, too."""
        result = program.run("spool", action, "f" * 24)
        assert (result.code, "there is no spool in" in result.err) == (1, True)
        assert not folder.exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder away takes root")
    def test_other_user(self, program: Program, folder: Path, rows: Rows) -> None:
        """Another user's spool is left alone, with a sentence."""
        os.chown(folder, 12345, -1)
        assert "belongs to the user with the id 12345" in program.refused("spool", "status")

    def test_engine_without_desk(self, program: Program, rows: Rows, hold: Callable[[str], Any]) -> None:
        """An engine that has the spool and does not answer is named."""
        process = hold("no desk")
        said = program.refused("spool", "status", code=3)
        assert f"in use by the process with the id {process.pid}, which does not answer" in said

    def test_engine_that_hangs_up(
        self, program: Program, folder: Path, rows: Rows, hold: Callable[[str], object]
    ) -> None:
        """Whatever is at the socket and speaks otherwise is no reason for a traceback."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / SOCKET))
            listener.listen()
            with program.started("spool", "status") as process:
                connection, _ = listener.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()
                _, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "does not answer" in err
        assert "Traceback" not in err

    def test_damage(self, program: Program, folder: Path, rows: Rows) -> None:
        """Damage is said until somebody acknowledges it."""
        (folder / "spool.db").write_bytes(b"no database, and long enough")
        result = program.run("spool", "status")
        assert result.code == 1
        assert "moved aside as" in " ".join(result.out.split())
        assert "1 damages acknowledged" in program.ok("spool", "acknowledge").err
        assert program.ok("spool", "status").code == 0

    def test_newer(self, program: Program, folder: Path, rows: Rows) -> None:
        """A newer llmbench's spool is left untouched."""
        with closing(sqlite3.connect(folder / "spool.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA user_version = 99")
        assert "use the newer llmbench" in program.refused("spool", "status")


class TestRows:
    """What is in it?"""

    def test_list(self, program: Program, rows: Rows, held: bool, narrow: Callable[[Result], None]) -> None:
        """What is in quarantine and why, foreign words made harmless."""
        result = program.ok("spool", "list")
        narrow(result)
        assert "rejected" in result.out
        assert "\\x1b[31mfield" in "".join(result.out.split())
        found = documents(program.ok("spool", "list", "--json"))
        assert [(one["id"], one["reason"], one["conflicting"]) for one in found] == [
            (rows.rejected.outcome.id, "rejected", False),
            (rows.waiting.outcome.id, "conflict", True),
        ]
        assert found[0]["model"] == "openai/gpt-4o-mini"
        limited = program.ok("spool", "list", "--json", "--limit", "1")
        assert (len(limited.lines()), "only the first 1" in limited.err) == (1, True)

    def test_states(self, program: Program, rows: Rows, held: bool) -> None:
        """What waits, and what was delivered; a word that is no state is refused."""
        for state, item in (("waiting", rows.waiting), ("delivered", rows.delivered)):
            (found,) = documents(program.ok("spool", "list", "--state", state, "--json"))
            assert found["id"] == item.outcome.id
        assert "must be waiting" in program.refused("spool", "list", "--state", "lost")

    def test_export(self, program: Program, rows: Rows, held: bool, tmp_path: Path) -> None:
        """The outcomes as they were recorded, to standard output or into a new file that only we can read."""
        exported = documents(program.ok("spool", "export", "--state", "waiting"))
        assert [_outcome(one) for one in exported] == [rows.waiting]
        target = tmp_path / "out.jsonl"
        assert program.ok("spool", "export", "--output", target).out == ""
        assert [_outcome(json.loads(line)) for line in target.read_text().splitlines()] == [
            rows.rejected,
            rows.conflict,
        ]
        assert target.stat().st_mode & 0o777 == 0o600
        assert "is there already" in program.refused("spool", "export", "--output", target)
        program.ok("spool", "export", "--state", "delivered", "--output", target, "--force")
        assert len(target.read_text().splitlines()) == 1

    def test_export_into_the_spool(self, program: Program, folder: Path, rows: Rows) -> None:
        """The spool's own files are not to be replaced, nor is what a link leads to."""
        before = (folder / "spool.db").read_bytes()
        said = program.refused("spool", "export", "--output", folder / "spool.db", "--force")
        assert "in the spool's own folder" in said
        (program.home / "link").symlink_to(folder / "spool.db")
        assert "can't be written" in program.refused(
            "spool", "export", "--output", program.home / "link", "--force", code=3
        )
        assert (folder / "spool.db").read_bytes() == before

    def test_unreadable_body(self, program: Program, folder: Path, rows: Rows) -> None:
        """A body that is no JSON is exported as base64, so that each line is JSON."""
        with closing(sqlite3.connect(folder / "spool.db")) as connection, connection:
            connection.execute("UPDATE outcomes SET body = x'ff00' WHERE id = ?", (rows.rejected.outcome.id,))
        assert documents(program.ok("spool", "export"))[0] == {"id": rows.rejected.outcome.id, "unreadable": "/wA="}
        assert "rejected" in program.ok("spool", "list").out


class TestRetry:
    """Another chance."""

    def test_one(self, program: Program, rows: Rows, held: bool) -> None:
        """What was rejected is due again; a conflict and an unknown id are not, and that is said."""
        result = program.run("spool", "retry", rows.rejected.outcome.id, rows.waiting.outcome.id, "f" * 24)
        assert (result.code, result.out) == (1, "1 due again\n")
        assert "2 not: " in result.err
        (status,) = documents(program.run("spool", "status", "--json"))
        assert (status["waiting"], status["quarantined"]) == (2, {"conflict": 1})

    def test_all(self, program: Program, rows: Rows, held: bool) -> None:
        """All but conflicts."""
        result = program.ok("spool", "retry", "--all")
        assert result.out == "1 due again\n"
        assert "1 stay in quarantine" in result.err

    @pytest.mark.parametrize("arguments", [(), ("--all", "f" * 24), ("with blank",)])
    def test_wrong(self, program: Program, rows: Rows, arguments: tuple[str, ...]) -> None:
        """Ids, or --all."""
        program.refused("spool", "retry", *arguments)


class TestDiscard:
    """The end."""

    def test_discard(self, program: Program, rows: Rows, held: bool) -> None:
        """Nothing is deleted without a word for it; what is deleted is written out before; only the quarantine's."""
        for options, code, left in (((), 2, 2), (("--yes",), 1, 0)):
            result = program.run("spool", "discard", *rows.ids, *options)
            assert result.code == code
            assert [_outcome(one) for one in documents(result)] == [rows.conflict, rows.rejected]
            (status,) = documents(program.run("spool", "status", "--json"))
            assert sum(status["quarantined"].values()) == left
        assert (status["waiting"], status["delivered"]) == (1, 1)

    @pytest.mark.parametrize("options", [(), ("--yes",)])
    def test_nothing_to_discard(self, program: Program, rows: Rows, held: bool, options: tuple[str, ...]) -> None:
        """For ids that are not in quarantine nobody is asked to say --yes."""
        result = program.run("spool", "discard", "f" * 24, *options)
        assert (result.code, result.out) == (1, "")
        assert "--yes" not in result.err
        assert "nothing was deleted" in result.err


def _outcome(body: dict[str, Any]) -> Envelope:
    outcome: Outcome = msgspec.convert(body["outcome"], {"sample": Sample, "failure": Failure}[body["kind"]])
    return Envelope(outcome=outcome, publish=body["publish"])
