"""The record of requests: what it keeps, what it forgets, what it never shows."""

from __future__ import annotations

from array import array

import pytest

from llmbench.simulator import SpawnedSimulator, record
from llmbench.simulator.record import RequestLog, RequestRecord, decode_records, digest, encoder, without_secrets
from tests.simulator.support import ask, ask_chat, chat

QUICK = "ttft5-gap1"


def _record(sequence: int, *, body_bytes: int = 10, model: str = "sim", provider: str = "openai") -> RequestRecord:
    return RequestRecord(
        sequence=sequence,
        method="POST",
        path="/",
        headers={},
        body_bytes=body_bytes,
        arrival_ns=sequence,
        arrival_clock="kernel",
        connection=1,
        model=model,
        provider=provider,
    )


def _log(count: int, body_bytes: int = 10) -> RequestLog:
    log = RequestLog()
    for _ in range(count):
        log.add(_record(log.next_sequence(), body_bytes=body_bytes))
    return log


def test_a_request_is_recorded_in_full(simulator: SpawnedSimulator) -> None:
    """Who asked whom for what, when it came, when it was answered, how it ended."""
    model = f"sim-tok3-rtok2-{QUICK}"
    ask_chat(simulator, model, "groq", max_tokens=30)
    seen = simulator.requests(model=model, provider="groq")[-1]
    assert (seen.method, seen.path, seen.status) == ("POST", "/groq/v1/chat/completions", 200)
    assert seen.body == chat(model, max_tokens=30)
    assert (len(seen.reasoning_writes_ns), len(seen.writes_ns)) == (2, 3)
    writes = [time for write in zip(seen.writes_ns, seen.written_ns, strict=True) for time in write]
    times = [seen.arrival_ns, seen.head_written_ns, *seen.reasoning_writes_ns, *writes]
    assert seen.end_written_ns is not None
    assert seen.end_written_ns >= writes[-2]
    assert times == sorted(time for time in times if time is not None)
    assert seen.ended == "complete"


def test_keys_are_never_in_the_record(simulator: SpawnedSimulator) -> None:
    """A secret header is a digest: the same for the same key, and the key is nowhere."""
    secret = "sk-canary-4711"
    for _ in range(2):
        headers = {"authorization": f"Bearer {secret}", "x-api-key": secret}
        ask(simulator, "/groq/v1/chat/completions", chat(f"sim-tok1-{QUICK}"), headers)
    first, second = simulator.requests()[-2:]
    assert first.headers["authorization"] == second.headers["authorization"] == digest(f"Bearer {secret}")
    assert first.headers["x-api-key"] == digest(secret)
    assert secret.encode() not in ask(simulator, "/_sim/requests", method="GET").body


def test_requests_are_selected_by_number_provider_and_model(simulator: SpawnedSimulator) -> None:
    """``since`` is the number after which one wants to see what came."""
    since = simulator.counts().requests
    ask_chat(simulator, f"sim-tok1-{QUICK}", "together")
    ask_chat(simulator, f"sim-tok2-{QUICK}", "together")
    ask_chat(simulator, f"sim-tok2-{QUICK}", "cerebras")
    assert [seen.sequence for seen in simulator.requests(since=since)] == [since + 1, since + 2, since + 3]
    assert [seen.provider for seen in simulator.requests(since=since, model=f"sim-tok2-{QUICK}")] == [
        "together",
        "cerebras",
    ]
    assert len(simulator.requests(since=since, provider="together")) == 2
    assert simulator.requests(since=since + 3) == []


def test_control_pages_say_what_is_wrong(simulator: SpawnedSimulator) -> None:
    """A bad number, a bad alias or an unknown page is refused."""
    assert ask(simulator, "/_sim/requests?since=x", method="GET").status == 400
    assert ask(simulator, "/_sim/alias", b"[1]").status == 400
    assert ask(simulator, "/_sim/nothing", method="GET").status == 404


def test_control_pages_are_not_recorded(simulator: SpawnedSimulator) -> None:
    """Looking at the record does not change it."""
    before = simulator.counts().requests
    simulator.requests()
    assert simulator.counts().requests == before


def test_an_alias_changes_a_model_in_mid_run(simulator: SpawnedSimulator) -> None:
    """The same name behaves as another from now on, as when a key is revoked."""
    model = f"sim-alias-{QUICK}".replace("-alias", "-tok4")
    assert ask_chat(simulator, model, "deepinfra").status == 200
    simulator.alias(model, "sim-401")
    assert ask_chat(simulator, model, "deepinfra").status == 401
    simulator.alias(model, model)
    assert ask_chat(simulator, model, "deepinfra").status == 200


def test_the_oldest_records_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the cap a new record displaces the oldest; the counts go on."""
    monkeypatch.setattr(record, "MAX_RECORDS", 3)
    log = _log(5)
    assert [seen.sequence for seen in log.records] == [3, 4, 5]
    assert log.counts.requests == 5


def test_large_bodies_displace_more_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are capped in bytes too, but the newest is always kept."""
    monkeypatch.setattr(record, "MAX_BYTES", 100_000)
    assert len(_log(50, body_bytes=20_000).records) < 10
    assert len(_log(2, body_bytes=1_000_000).records) == 1


def test_stamps_count_towards_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long answer's stamps weigh in once it has ended."""
    monkeypatch.setattr(record, "MAX_BYTES", 100_000)
    log = _log(10)
    longest = log.records[-1]
    longest.writes_ns.extend(range(12_000))
    log.end(longest, "complete")
    assert list(log.records) == [longest]


def test_only_the_first_ending_counts() -> None:
    """A client that leaves a stalled stream does not undo that it stalled."""
    log = _log(2)
    log.end(log.records[0], "fault")
    log.end(log.records[0], "client_closed")
    assert (log.counts.fault, log.counts.client_closed, log.counts.running) == (1, 0, 1)


def test_a_reset_forgets_what_is_running() -> None:
    """An answer that began before a reset is in no count afterwards."""
    log = _log(1)
    old = log.records[0]
    log.reset()
    log.end(old, "complete")
    assert log.counts == record.Counts()
    assert log.next_sequence() == 1


def test_records_survive_their_json() -> None:
    """What is read over HTTP is what was recorded, stamps included."""
    seen = _record(1)
    seen.writes_ns = array("q", [1, 2, 3])
    assert decode_records(encoder.encode([seen])) == [seen]


def test_odd_bodies_are_recorded_as_they_came(simulator: SpawnedSimulator) -> None:
    """Numbers that no encoder would write again, line ends between the values, no JSON at all."""
    since = simulator.counts().requests
    for body in (b'{"model":\n"gpt-9", "n":' + b"9" * 40 + b"}", b"{", b"[" * 100_000):
        assert ask(simulator, "/together/v1/chat/completions", body).status in (400, 404)
    first, *others = simulator.requests(since=since)
    assert first.body == {"model": "gpt-9", "n": int("9" * 40)}
    assert b"\n" not in encoder.encode(first)
    assert [(seen.body, seen.model) for seen in others] == [(None, None)] * 2


def test_empty_secrets_stay_empty() -> None:
    """A missing key is not made to look like one."""
    assert without_secrets([("authorization", ""), ("accept", "x")]) == {"authorization": "", "accept": "x"}
