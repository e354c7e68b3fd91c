"""The bridge's workers, as the program starts them: what they are told, what they survive, how they end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import anyio
import httpx
import msgspec
import pytest

from llmbench.bridge.process import Crew, Patience
from llmbench.cli.taking import packed, taker_for, unpacked
from llmbench.config import Config, load
from llmbench.ingestion import batch_of, wire_form
from llmbench.messages import Sample
from tests.bridge.working import order
from tests.cli.conftest import COMMAND, Program
from tests.e2e.program import turns
from tests.stores.documents import envelope, sample

GOOD = sorted((Path(__file__).parents[1] / "config_good").glob("*.toml"))
KEY = "shared-key-0123456789"
SECONDS = 60.0
ONCE = Patience(start=SECONDS, first_pause=1000.0)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_worker_has_the_programs_configuration(path: Path) -> None:
    """Whatever the file says comes out equal."""
    config = load(path, {"HOME": "/home/somebody"})
    assert unpacked(packed(config)) == config


def test_paths_may_be_of_any_bytes(tmp_path: Path) -> None:
    """A folder whose name is no UTF-8 is one all the same."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    config = load(None, {"XDG_DATA_HOME": str(folder)})
    assert unpacked(packed(config)).database == folder / "llmbench" / "llmbench.db"


class Serving(NamedTuple):
    """A bridge that runs: its process, and a client with a key."""

    process: subprocess.Popen[str]
    client: httpx.Client

    def workers(self) -> set[int]:
        """Return the ids of its workers."""
        return children(self.process.pid)

    def until_others(self, gone: set[int]) -> None:
        """Wait until there are two workers, none of them one of these, and what is sent is taken."""
        next(None for _ in turns(SECONDS) if len(now := self.workers()) == 2 and not now & gone)
        next(None for _ in turns(SECONDS) if self.client.get("/readyz").is_success)

    def ended(self, *signals: tuple[int, signal.Signals]) -> tuple[int, str, str]:
        """Send signals to processes; return exit code, log and errors."""
        for pid, number in signals:
            os.kill(pid, number)
        log, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, log, errors


def children(pid: int) -> set[int]:
    """Return the processes that this one has started, from any of its threads, and that are not over."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found.update(map(int, task.read_text().split()))
    return set(filter(is_there, found))


def is_there(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return re.search(r"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    return False


@contextmanager
def serving(program: Program, *, command: Sequence[str] = COMMAND, **variables: str) -> Iterator[Serving]:
    """Run the bridge alone, with a key that all runners share."""
    environment = program.environment(INGEST_API_KEY=KEY, **variables)
    with program.started("ingest", "--listen", "127.0.0.1:0", command=command, env=environment) as process:
        assert process.stdout is not None
        found = next(found for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        with httpx.Client(base_url=found[0], headers=headers, timeout=SECONDS, trust_env=False) as client:
            assert client.get("/readyz").is_success
            yield Serving(process, client)


def sent(bridge: Serving, *runs: Sample) -> str:
    """Send runs, and return what became of them, if that is the same of all."""
    answer = bridge.client.post("/ingest/batch", content=batch_of([wire_form(envelope(run)) for run in runs]))
    assert answer.status_code == 200, answer.text
    (status,) = {one["status"] for one in msgspec.json.decode(answer.content)["results"]}
    return str(status)


def test_two_workers_and_no_secret_to_be_seen(program: Program) -> None:
    """Neither the key nor what is stored where stands on their command lines."""
    with serving(program) as bridge:
        assert sent(bridge, sample()) == "stored"
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in bridge.workers()]
        code, log, errors = bridge.ended((bridge.process.pid, signal.SIGTERM))
    assert len(lines) == 2
    assert (code, errors) == (0, "")
    assert all(KEY not in text and str(program.database) not in text for text in lines)
    assert KEY not in log


def test_killed_workers_are_replaced(program: Program) -> None:
    """Both at once: soon it takes outcomes again, and knows those that it took before."""
    run = sample()
    with serving(program) as bridge:
        assert sent(bridge, run) == "stored"
        for pid in (gone := bridge.workers()):
            os.kill(pid, signal.SIGKILL)
        bridge.until_others(gone)
        assert sent(bridge, run) == "duplicate"
        code, log, errors = bridge.ended((bridge.process.pid, signal.SIGTERM))
    assert (code, errors) == (0, "")
    assert log.count("was ended by SIGKILL; it is started again in") == 2
    assert "the process that takes outcomes runs again" in log


@pytest.mark.parametrize("moment", ["idle", "frozen"])
def test_no_worker_outlives_the_program(program: Program, moment: str) -> None:
    """When it is killed, they end by themselves; those that were frozen do, too, once they go on."""
    with serving(program) as bridge:
        workers = bridge.workers()
        for pid in workers if moment == "frozen" else ():
            os.kill(pid, signal.SIGSTOP)
        bridge.process.kill()
        bridge.process.wait(SECONDS)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        next(None for _ in turns(SECONDS) if not any(map(is_there, workers)))
        assert bridge.process.communicate()[1] == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_everybody_lets_requests_finish(program: Program, number: signal.Signals) -> None:
    """As service managers and terminals send it: what is half sent by then is taken, and answered."""
    body = wire_form(envelope(run := sample()))
    head = f"POST /ingest HTTP/1.1\r\nHost: b\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
    with serving(program) as bridge:
        address = bridge.client.base_url
        with socket.create_connection((address.host, address.port or 0), timeout=SECONDS) as connection:
            connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body[:100])
            assert bridge.client.get("/healthz").is_success, "what was sent before has been read"
            for pid in (everybody := bridge.workers() | {bridge.process.pid}):
                os.kill(pid, number)
            assert bridge.process.stdout is not None
            assert number.name in bridge.process.stdout.readline()
            connection.sendall(body[100:])
            answer = connection.makefile("rb").read()
        code, _, errors = bridge.ended()
        assert not any(map(is_there, everybody - {bridge.process.pid}))
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert answer.endswith(b'{"id":"%s","status":"stored"}' % run.id.encode())
    assert (code, errors) == (0, "")


def test_frozen_workers_do_not_keep_it_from_ending(program: Program) -> None:
    """They are killed, and it is over in a few seconds."""
    with serving(program) as bridge:
        for pid in (workers := bridge.workers()):
            os.kill(pid, signal.SIGSTOP)
        began = monotonic()
        code, _, _ = bridge.ended((bridge.process.pid, signal.SIGTERM))
        assert monotonic() - began < 15
        assert (code, [pid for pid in workers if is_there(pid)]) == (0, [])


def test_what_lies_in_the_folder_is_not_run(program: Program) -> None:
    """A folder may have files in it that are named like parts of the program."""
    for name in ("anyio", "llmbench", "socket"):
        (program.home / f"{name}.py").write_text("raise SystemExit('this is somebody else')")
    with serving(program, command=(sys.executable, "-P", "-m", "llmbench")) as bridge:
        assert sent(bridge, sample()) == "stored"


def test_bodies_up_to_the_limit(program: Program) -> None:
    """The largest body that may come gets to a worker and back; a larger one is refused."""
    program.configure("[server]\nmax_body_kb = 8192\n")
    with serving(program) as bridge:
        body = batch_of([wire_form(envelope(run := sample()))])
        whole = b"[" + b" " * (8192 * 1024 - len(body)) + body[1:]
        assert bridge.client.post("/ingest/batch", content=whole).json()["results"][0]["id"] == run.id
        assert bridge.client.post("/ingest/batch", content=whole + b" ").status_code == 413


def problem_of(config: Config) -> str | None:
    """Return the problem of workers with this configuration."""

    async def look(crew: Crew) -> str | None:
        async with anyio.create_task_group() as group:
            await group.start(crew.run)
            problem = crew.problem
            if problem is None:
                assert (await crew.take(order(b"{}"))).status == 400
            group.cancel_scope.cancel()
        return problem

    return anyio.run(look, taker_for(config, measuring=False, patience=ONCE))


def test_a_worker_that_can_not_use_the_store(tmp_path: Path) -> None:
    """It says why, which is what the program tells and logs."""
    (tmp_path / "llmbench" / "llmbench.db").mkdir(parents=True)
    problem = problem_of(load(None, {"XDG_DATA_HOME": str(tmp_path)}))
    assert problem is not None
    assert problem.startswith("the process that takes outcomes can't do its work: ")
    assert "llmbench.db" in problem


def test_a_worker_names_no_secret(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Not even one that the driver of a database would quote."""
    uri = "mongodb://somebody:s3cret-pa55word@127.0.0.1:notaport/x"
    monkeypatch.setenv("MONGODB_URI", uri)
    problem = problem_of(load(None, {"MONGODB_URI": uri}))
    assert problem is not None
    assert "MONGODB_URI" in problem
    assert "s3cret" not in problem + capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have niceness for it")
@pytest.mark.parametrize(("measuring", "policy"), [(True, "SCHED_IDLE"), (False, "SCHED_OTHER")])
def test_workers_give_way_to_whoever_measures(tmp_path: Path, measuring: bool, policy: str) -> None:
    """Beside an engine they run only while nobody else wants to."""

    async def policies(crew: Crew) -> list[int]:
        before = children(os.getpid())
        async with anyio.create_task_group() as group:
            await group.start(crew.run)
            found = [os.sched_getscheduler(pid) for pid in children(os.getpid()) - before]
            group.cancel_scope.cancel()
        return found

    config = load(None, {"XDG_DATA_HOME": str(tmp_path)})
    found = anyio.run(policies, taker_for(config, measuring=measuring, patience=ONCE))
    assert found == [getattr(os, policy)] * 2


def test_a_worker_whose_program_is_gone_ends(tmp_path: Path) -> None:
    """Before it was told anything, and after."""
    setup = packed(load(None, {"XDG_DATA_HOME": str(tmp_path)}))
    for told in (b"", len(setup).to_bytes(4, "big") + setup):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(told)
            ours.shutdown(socket.SHUT_WR)
            command = [sys.executable, "-m", "llmbench.cli.taking", "alone", str(theirs.fileno())]
            done = subprocess.run(
                command, pass_fds=[theirs.fileno()], timeout=SECONDS, check=False, capture_output=True
            )
        assert (done.returncode, done.stderr) == (0, b"")
