"""`llmbench bench`: what it prints is what it stored, and it says how certain the difference is."""

from __future__ import annotations

import msgspec

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import KEY, SECONDS, Place


def test_json_prints_exactly_the_stored_documents(place: Place) -> None:
    """Good run or failed, each line is the document as the store has it, and as ``results --json`` prints it."""
    good, bad = unique(), unique("ttft2-gap1-truncate2")
    place.configure(groq=[])
    bench = place.run("bench", f"groq/{good}", f"groq/{bad}", "--runs", "2", "--json")
    results = place.run("results", "--json", env={})

    stored = [msgspec.json.encode(outcome).decode() for outcome in place.outcomes()]  # in the order of their keys
    assert bench.code == 1, "two of the four runs failed"
    assert len(stored) == 4
    assert sorted(bench.out.splitlines()) == sorted(results.out.splitlines()) == sorted(stored)
    assert {outcome.sample_role for outcome in place.outcomes()} == {"bench"}
    assert KEY not in bench.out + bench.err


def test_two_models_are_compared_with_their_intervals(place: Place) -> None:
    """A table that fits 80 columns on standard output, progress on standard error, and a verdict for each figure."""
    fast, slow = unique("ttft20-gap1", "f-"), unique("ttft150-gap10", "s-")
    place.configure(groq=[], together=[])
    done = place.run("bench", f"groq/{fast}", f"together/{slow}", "--runs", "6")

    assert done.code == 0
    table, _, verdicts = done.out.partition("medians with their 95 % intervals")
    assert all(len(line) <= 80 for line in table.splitlines())
    assert table.count("6/6") == 2
    assert verdicts.split("\n")[1:3] == [
        f"time to first token: groq/{fast} is best; its interval is apart from all others",
        f"tokens per second: groq/{fast} is best; its interval is apart from all others",
    ]
    assert done.err.count("/12  ") == 12


def test_a_refused_key_is_not_tried_again_and_again(place: Place, simulator: SpawnedSimulator) -> None:
    """One request finds out; the table tells of one failed run, and the rest is said not to have been made."""
    name = unique("401")
    place.configure(groq=[])
    done = place.run("bench", f"groq/{name}", "--runs", "5")

    assert done.code == 1
    assert len(simulator.requests(model=name)) == 1
    assert "0/1" in done.out
    assert "1 auth" in done.out
    assert "groq: 4 runs were not made: auth: " in done.err


def test_a_reader_that_has_seen_enough_ends_it(place: Place, simulator: SpawnedSimulator) -> None:
    """``| head -1``: it makes no further runs, stores what it made, says nothing about it, and ends."""
    name = unique("ttft50-gap1")
    place.configure(groq=[])
    with place.started("bench", f"groq/{name}", "--runs", "1000", "--json") as process:
        assert process.stdout is not None
        first = msgspec.json.decode(process.stdout.readline())
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
        code = process.wait(SECONDS)

    assert code == 128 + 13
    assert "Traceback" not in told
    assert first["_id"] in {outcome.id for outcome in place.outcomes()}
    assert 1 <= len(place.outcomes()) == len(simulator.requests(model=name)) < 1000


def test_a_missing_key_is_said_before_anything_is_run(place: Place) -> None:
    """Nothing is measured if one of the models could not be; the exit code is 2."""
    place.configure(groq=[], together=[])
    done = place.run("bench", f"groq/{unique()}", f"together/{unique()}", env={"GROQ_API_KEY": KEY})

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("llmbench: together: environment variable 'TOGETHER_API_KEY' is not set: set it")
    assert not place.database.exists()


def test_the_demo_needs_nothing_and_shows_every_provider(place: Place) -> None:
    """No configuration, no keys: all of its providers are in the table with figures, and the exit code is 0."""
    done = place.run("demo", env={})
    rows = [line.split() for line in done.out.splitlines()]

    assert done.code == 0
    assert "11 simulated providers" in done.err
    assert "stored in llmbench-demo.db" in done.err
    for name in (
        "openai",
        "anthropic",
        "bedrock",
        "vertex",
        "groq",
        "together",
        "fireworks",
        "deepinfra",
        "cerebras",
        "openrouter",
        "local",
    ):
        found = [row for row in rows if row and row[0] == name]
        assert found
        assert all(row[2] == "ok" and float(row[3]) > 0 and float(row[4]) > 0 for row in found)
    assert all(len(line) <= 80 for line in done.out.splitlines())
    place.database = place.folder / "llmbench-demo.db"
    assert len(place.samples()) == len(place.outcomes()) == sum(bool(row) and row[2:3] == ["ok"] for row in rows)
