"""`llmbench --headless`: what it measures, what it says, and the exit code that tells how it went."""

from __future__ import annotations

import os
import pty
import re
from pathlib import Path

import anyio
import pytest

from llmbench.messages import Model
from llmbench.simulator import SpawnedSimulator
from llmbench.stores.sqlite import SQLiteStore
from tests.actors.engine import unique
from tests.e2e.program import KEY, KEYS, SECONDS, Place, Result
from tests.stores.documents import model

GROQ = [unique(name="groq-") for _ in range(3)]
TOGETHER = [unique(name="together-"), unique("500", name="together-")]


@pytest.fixture(scope="module")
def first(shared: Place) -> Result:
    """The first of two rounds in one place."""
    shared.configure(groq=GROQ, together=TOGETHER)
    return shared.run("--headless", "--once")


@pytest.fixture(scope="module")
def second(first: Result, shared: Place) -> Result:
    """The second round, a moment later."""
    assert first.code == 0
    return shared.run("--headless", "--once")


class TestOneRound:
    """``--headless --once`` on two providers, and once more a moment later."""

    def test_every_model_is_measured_once(self, first: Result, shared: Place, simulator: SpawnedSimulator) -> None:
        """Each enabled model has one outcome and one request; a run that failed is no fault of the engine's."""
        assert (first.code, first.err) == (0, "")
        assert {sample.model_name for sample in shared.samples()} == {*GROQ, TOGETHER[0]}
        (failed,) = shared.failures()
        assert (failed.model_name, failed.error_kind) == (TOGETHER[1], "transient_provider")
        for name in GROQ + TOGETHER:
            assert len(simulator.requests(model=name)) == 1

    def test_where_no_terminal_is_the_log_is_json_with_a_line_a_run(self, first: Result, shared: Place) -> None:
        """Every line parses; those of runs name the stored documents, and one stands for each."""
        assert len(first.runs()) == 5
        assert {line["id"]: line["model"] for line in first.runs()} == {
            outcome.id: outcome.model_name for outcome in shared.outcomes()
        }
        assert all({"ts", "level", "logger"} <= set(line) for line in first.lines())
        assert KEY not in first.out

    def test_it_says_what_it_does_and_how_it_went(self, first: Result) -> None:
        """Where it stores, how many models are due, and the sum at the end."""
        told = [line["message"] for line in first.lines() if "message" in line]

        assert re.fullmatch(r"llmbench \S+, SQLite file /.*/llmbench\.db", told[0])
        assert told[1] == "5 of 5 models are due (groq, together)"
        assert told[-1] == "ended: 5 outcomes recorded, 5 stored, 0 wait in the spool, 0 lost"

    def test_a_moment_later_nothing_is_due(self, second: Result, shared: Place, simulator: SpawnedSimulator) -> None:
        """What succeeded is fresh, what failed waits: no request is made, and that is a good end."""
        assert second.code == 0
        assert second.runs() == []
        assert any(line.get("message") == "0 of 5 models are due (groq, together)" for line in second.lines())
        assert len(shared.outcomes()) == 5
        assert sum(len(simulator.requests(model=name)) for name in GROQ + TOGETHER) == 5


def test_providers_and_limit_narrow_the_round(place: Place) -> None:
    """Two runs of the named provider's three; of the other neither its models nor its missing key matters."""
    groq, together = [unique(name="groq-") for _ in range(3)], [unique(name="together-")]
    place.configure(groq=groq, together=together)
    done = place.run("--headless", "--once", "--providers", "groq", "--limit", "2", env={"GROQ_API_KEY": KEY})

    assert done.code == 0
    assert {outcome.model_name for outcome in place.outcomes()} < set(groq)
    assert len(place.samples()) == len(done.runs()) == 2


def test_a_worklist_in_the_environment_replaces_the_catalogue(place: Place) -> None:
    """BENCHMARK_MODELS names what to run, in the catalogue or not, and nothing else runs."""
    listed, other = unique(name="listed-"), unique(name="other-")
    place.configure(groq=[listed])
    done = place.run("--headless", "--once", env=KEYS | {"BENCHMARK_MODELS": f"groq/{other}"})

    assert done.code == 0
    assert [sample.model_name for sample in place.samples()] == [other]


def test_on_a_terminal_the_log_is_for_people(place: Place) -> None:
    """Time of day, model, outcome, time to first token, speed; a failure with its kind; no JSON."""
    good, bad = unique(), unique("500")
    place.configure(groq=[good, bad])
    code, text = on_a_terminal(place, "--headless", "--once")

    assert code == 0
    time = r"(?m)^\d\d:\d\d:\d\d  "
    assert re.search(rf"{time}groq/{good}  ok  TTFT \d+ ms  [\d.]+ tok/s  16 tokens(  coarse)?\r$", text)
    assert re.search(rf"{time}warning: groq/{bad}  failed  transient_provider: .+\r$", text)
    assert '{"' not in text


def on_a_terminal(place: Place, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what stood there."""
    ours, theirs = pty.openpty()
    with place.started(*arguments, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65_536):
                shown += data
        except OSError:  # Linux's way to say that nobody has the terminal open any more
            pass
        finally:
            os.close(ours)
        return process.wait(SECONDS), shown.decode()


def test_a_lane_without_its_key_is_down_and_the_others_are_measured(place: Place) -> None:
    """The sentence names the variable and what to do; the other lane's runs are stored; the exit code is 1."""
    measured, missed = unique(), [unique(), unique()]
    place.configure(groq=[measured], together=missed)
    done = place.run("--headless", "--once", env={"GROQ_API_KEY": KEY})
    problems = [line["message"] for line in done.lines() if line["level"] == "error"]

    assert done.code == 1
    assert [outcome.model_name for outcome in place.outcomes()] == [measured]
    assert problems[0].startswith("together is down: environment variable 'TOGETHER_API_KEY' is not set: set it")
    assert any(problem.startswith("together: 2 runs were not made: ") for problem in problems)


class TestWhatCannotBegin:
    """Nothing is measured, nothing is stored; the sentence says what to do, and the exit code is 2."""

    def test_no_key_at_all(self, place: Place) -> None:
        """Every provider's variable is named."""
        place.configure(groq=["sim"], together=["sim"])
        done = place.run("--headless", "--once", env={})

        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("llmbench: no provider can be measured:\n")
        assert "groq: environment variable 'GROQ_API_KEY' is not set" in done.err
        assert "together: environment variable 'TOGETHER_API_KEY' is not set" in done.err
        assert not place.database.exists()

    def test_no_provider(self, place: Place) -> None:
        """Without any configuration one learns how to enable a provider, and of the demo."""
        done = place.run("--headless", env={})

        assert done.code == 2
        assert "no provider is enabled" in done.err
        assert "llmbench demo" in done.err

    def test_an_unknown_provider(self, place: Place) -> None:
        """The nearest known name is offered."""
        place.configure(groq=["sim"])
        done = place.run("--headless", "--once", "--providers", "grok")

        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("llmbench: provider 'grok' is unknown: use 'groq'")

    def test_an_empty_catalogue(self, place: Place) -> None:
        """One learns two ways to fill it."""
        place.configure(groq=[])
        done = place.run("--headless", "--once")

        assert done.code == 2
        assert "there is nothing to measure: the catalogue has no enabled model of groq" in done.err
        assert "llmbench models add" in done.err

    @pytest.mark.parametrize("obstacle", ["folder", "not a database", "file in the way"])
    def test_a_database_that_cannot_be_written(self, place: Place, obstacle: str) -> None:
        """Its path is named, whatever stands there, and what stands there is not touched."""
        path = _put_in_the_way(place, obstacle)
        done = place.run("--headless", "--once")

        assert (done.code, done.out) == (2, "")
        assert str(place.database) in done.err
        assert "Traceback" not in done.err
        assert path.is_dir() or path.read_bytes() == b"dear diary\n" * 100


def _put_in_the_way(place: Place, obstacle: str) -> Path:
    place.configure(groq=["sim"])
    if obstacle == "folder":
        place.database.mkdir()
        return place.database
    if obstacle == "file in the way":
        place.database = place.folder / "diary" / "llmbench.db"
        config = place.folder / "config.toml"
        config.write_text(config.read_text().replace('"llmbench.db"', '"diary/llmbench.db"'))
        path = place.folder / "diary"
    else:
        path = place.database
    path.write_bytes(b"dear diary\n" * 100)
    return path


def test_a_row_whose_provider_is_spelled_otherwise_is_measured(place: Place) -> None:
    """Its lane measures it and names the outcome; a disabled one stays so, though the file lists it; nothing is added.

    A bench finds the row, too.
    """
    on, off = unique(name="on-"), unique(name="off-")
    rows = [model(on, provider="Groq"), model(off, provider="GROQ", enabled=False)]
    anyio.run(_put_models, place.database, rows)
    place.configure(groq=[on, off])

    done = place.run("--headless", "--once")
    assert (done.code, done.err) == (0, "")
    assert [(sample.provider, sample.model_name) for sample in place.samples()] == [("groq", on)]
    listed = place.run("models", "list", "--json").lines()
    assert [(row["provider"], row["model_id"], row["enabled"]) for row in listed] == [
        ("GROQ", off, False),
        ("Groq", on, True),
    ]
    assert place.run("bench", f"groq/{on}", "--runs", "1").code == 0
    assert [sample.provider for sample in place.samples()] == ["groq", "groq"]


async def _put_models(database: Path, rows: list[Model]) -> None:
    store = SQLiteStore(database)
    await store.open()
    for row in rows:
        assert await store.put_model(row) is None
    await store.close()
