"""Each fault word does what the menu says, seen on a plain socket."""

from __future__ import annotations

import gzip
import select
import socket
import time
from email.utils import parsedate_to_datetime

import msgspec
import pytest

from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.record import RequestRecord
from tests.simulator.support import (
    Response,
    ask,
    ask_chat,
    chat,
    connected,
    parse,
    read_response,
    read_until,
    request_bytes,
)

QUICK = "ttft5-gap1"
CHAT = "/openai/v1/chat/completions"


def _silent(sock: socket.socket, seconds: float) -> bool:
    """Whether nothing at all happens on the socket for so long."""
    return not select.select([sock], [], [], seconds)[0]


def _record(simulator: SpawnedSimulator, model: str) -> RequestRecord:
    """Return the latest request for a model, once its end is known."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        record = simulator.requests(model=model)[-1]
        if record.ended is not None:
            return record
    raise AssertionError(f"the request for {model} never ended")


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("400", 400, None),
        ("401", 401, "invalid_api_key"),
        ("402", 402, "billing_hard_limit_reached"),
        ("403", 403, "unsupported_country_region_territory"),
        ("404", 404, "model_not_found"),
        ("429", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("500", 500, None),
        ("502", 502, None),
        ("503", 503, None),
        ("529", 529, None),
    ],
)
def test_a_status_word_answers_with_the_providers_error(
    simulator: SpawnedSimulator, word: str, status: int, code: str | None
) -> None:
    """The status, a JSON body with OpenAI's code, and the request recorded as a fault."""
    response = ask_chat(simulator, f"sim-{word}")
    assert response.status == status
    assert response.json()["error"]["code"] == code
    assert response.headers["content-type"] == "application/json"
    assert _record(simulator, f"sim-{word}").ended == "fault"


def test_retry_after_comes_in_every_spelling(simulator: SpawnedSimulator) -> None:
    """Seconds, a date ahead of the response's own, junk, a negative number; and none unless asked for."""

    def retry_after(word: str) -> str:
        return ask_chat(simulator, f"sim-429-{word}").headers["retry-after"]

    assert retry_after("retry7") == "7"
    assert retry_after("retry1.5") == "1.5"
    assert retry_after("retryjunk") == "soon"
    assert retry_after("retryneg") == "-5"
    dated = ask_chat(simulator, "sim-429-retrydate30").headers
    ahead = parsedate_to_datetime(dated["retry-after"]) - parsedate_to_datetime(dated["date"])
    assert 29 <= ahead.total_seconds() <= 31
    assert "retry-after" not in ask_chat(simulator, "sim-429").headers


def test_errorobj_is_an_error_in_place_of_the_first_event(simulator: SpawnedSimulator) -> None:
    """The status is 200 and the stream holds one error object, of the kind that a status word chooses."""
    response = ask_chat(simulator, f"sim-errorobj-429-{QUICK}")
    assert (response.status, response.complete) == (200, True)
    (event,) = response.events()
    assert event["error"]["code"] == "rate_limit_exceeded"
    assert b"[DONE]" not in response.body


def test_errorstr_is_an_error_that_is_only_a_string(simulator: SpawnedSimulator) -> None:
    """Some servers say no more than that."""
    assert ask_chat(simulator, f"sim-errorstr-{QUICK}").events() == [{"error": "upstream failed"}]


def test_errormid_is_an_error_behind_tokens(simulator: SpawnedSimulator) -> None:
    """So many tokens, the error, no terminator."""
    response = ask_chat(simulator, f"sim-errormid3-{QUICK}")
    assert len(response.texts()) == 3
    assert response.events()[-1]["error"]["type"] == "server_error"
    assert response.complete
    assert b"[DONE]" not in response.body


def test_errormid_has_the_providers_own_form(simulator: SpawnedSimulator) -> None:
    """Groq says it in x_groq, OpenRouter in a chunk that finishes with ``error``."""
    groq = ask_chat(simulator, f"sim-errormid1-{QUICK}", "groq").events()[-1]
    openrouter = ask_chat(simulator, f"sim-errormid1-{QUICK}", "openrouter").events()[-1]
    assert groq["x_groq"]["error"] == "Internal Server Error"
    assert openrouter["choices"][0]["finish_reason"] == "error"
    assert openrouter["error"]["code"] == 500


def test_errorbody_is_json_in_place_of_a_stream(simulator: SpawnedSimulator) -> None:
    """Status 200, a JSON body, an error in it."""
    response = ask_chat(simulator, "sim-errorbody")
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.json()["error"]["type"] == "server_error"


def test_stall_is_silence_on_an_open_connection(simulator: SpawnedSimulator) -> None:
    """After N tokens nothing more comes, and the connection stays."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat(f"sim-stall2-{QUICK}")))
        received = read_until(sock, b" river")
        assert _silent(sock, 0.3)
    assert len(parse(received).texts()) == 2
    record = _record(simulator, f"sim-stall2-{QUICK}")
    assert (record.ended, len(record.writes_ns)) == ("fault", 2)


def test_silent_sends_the_head_alone(simulator: SpawnedSimulator) -> None:
    """The head comes at once, then nothing."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat("sim-silent")))
        assert read_until(sock, b"\r\n\r\n").endswith(b"\r\n\r\n")
        assert _silent(sock, 0.3)


def test_noanswer_says_nothing(simulator: SpawnedSimulator) -> None:
    """The request is read and recorded; not a byte comes back."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat("sim-noanswer")))
        assert _silent(sock, 0.3)
    assert _record(simulator, "sim-noanswer").status is None


def test_hangup_closes_without_an_answer(simulator: SpawnedSimulator) -> None:
    """The request is read and recorded, then the connection ends, also one that has served before."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat(f"sim-tok1-{QUICK}")))
        assert parse(read_response(sock)).complete
        sock.sendall(request_bytes(CHAT, chat("sim-hangup")))
        assert sock.recv(1000) == b""
    assert _record(simulator, "sim-hangup").ended == "fault"


def test_truncate_is_a_fin_in_the_middle(simulator: SpawnedSimulator) -> None:
    """After N tokens the connection ends in good order, the body does not."""
    response = ask_chat(simulator, f"sim-truncate3-{QUICK}")
    assert (len(response.texts()), response.complete) == (3, False)


def test_reset_is_a_rst_in_the_middle(simulator: SpawnedSimulator) -> None:
    """After N tokens reading raises, as a reset does."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat(f"sim-reset3-{QUICK}")))
        read_until(sock, b" turns")
        with pytest.raises(ConnectionResetError):
            sock.recv(1000)


def test_badchunk_breaks_the_transfer_coding(simulator: SpawnedSimulator) -> None:
    """After N tokens a chunk's length is no number."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat(f"sim-badchunk1-{QUICK}")))
        received = read_response(sock)
    assert received.endswith(b"\r\nnot a length\r\n")
    assert len(parse(received).texts()) == 1


def test_badjson_breaks_one_event(simulator: SpawnedSimulator) -> None:
    """The N-th token's event can't be decoded; those around it can."""
    response = ask_chat(simulator, f"sim-badjson3-tok5-{QUICK}")
    data = [line[6:] for line in response.body.splitlines() if line.startswith(b"data: {")]
    broken = [index for index, line in enumerate(data) if not _is_json(line)]
    assert broken == [3]  # the role comes before the first token
    assert response.body.endswith(b"data: [DONE]\n\n")


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        return False
    return True


def test_empty_ends_properly_without_a_token(simulator: SpawnedSimulator) -> None:
    """Role, finish reason, terminator; usage counts nothing."""
    response = ask_chat(simulator, f"sim-empty-{QUICK}", stream_options={"include_usage": True})
    assert response.texts() == []
    assert [event["choices"][0]["finish_reason"] for event in response.events()[:-1]] == [None, "stop"]
    assert response.events()[-1]["usage"]["completion_tokens"] == 0
    assert response.body.endswith(b"data: [DONE]\n\n")


def test_noend_has_a_finish_reason_and_no_terminator(simulator: SpawnedSimulator) -> None:
    """HTTP ends as it should, the format does not."""
    response = ask_chat(simulator, f"sim-noend-tok2-{QUICK}")
    assert response.events()[-1]["choices"][0]["finish_reason"] == "stop"
    assert response.complete
    assert b"[DONE]" not in response.body


def test_usage_can_be_missing_or_wrong(simulator: SpawnedSimulator) -> None:
    """nousage says nothing, wrongcount and negcount say what is not so."""

    def usage(word: str) -> dict[str, int] | None:
        events = ask_chat(simulator, f"sim-tok2-{word}-{QUICK}", stream_options={"include_usage": True}).events()
        usage: dict[str, int] | None = events[-1].get("usage")
        return usage

    assert usage("nousage") is None
    wrong, negative = usage("wrongcount77"), usage("negcount")
    assert wrong is not None
    assert wrong["completion_tokens"] == 77
    assert negative is not None
    assert negative["completion_tokens"] == -5


def test_html_is_a_page(simulator: SpawnedSimulator) -> None:
    """With 200, or any status."""
    for word, status in (("html", 200), ("html404", 404), ("html503", 503)):
        response = ask_chat(simulator, f"sim-{word}")
        assert (response.status, response.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert response.body.startswith(b"<!doctype html>")


def test_redirect_points_to_another_host(simulator: SpawnedSimulator) -> None:
    """302 with a Location elsewhere, on a port of one's choice if wanted."""
    assert ask_chat(simulator, "sim-redirect").headers["location"] == f"http://elsewhere.invalid{CHAT}"
    response = ask_chat(simulator, "sim-redirect4711")
    assert (response.status, response.headers["location"]) == (302, f"http://localhost:4711{CHAT}")


def test_nocontent_is_204_without_a_body(simulator: SpawnedSimulator) -> None:
    """No length, no type, no body."""
    response = ask_chat(simulator, "sim-nocontent")
    assert (response.status, response.body) == (204, b"")
    assert "content-length" not in response.headers


def test_badgzip_compresses_in_spite_of_identity(simulator: SpawnedSimulator) -> None:
    """The body says that it is gzip, and is."""
    path, body = CHAT, chat(f"sim-badgzip-tok3-{QUICK}")
    response = ask(simulator, path, body, {"accept-encoding": "identity"})
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(response.body).endswith(b"data: [DONE]\n\n")


def test_bighead_sends_a_mebibyte_of_headers(simulator: SpawnedSimulator) -> None:
    """The head is larger than any client should take."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat(f"sim-bighead-tok1-{QUICK}")))
        head, _, _ = read_response(sock).partition(b"\r\n\r\n")
    assert len(head) > 1024 * 1024


def test_flood_is_one_event_without_an_end(simulator: SpawnedSimulator) -> None:
    """So many MiB and no line end."""
    for word, size in (("flood", 2), ("flood3", 3)):
        response = ask_chat(simulator, f"sim-{word}-{QUICK}")
        assert len(response.body.rpartition(b"\n")[2]) == size * 1024 * 1024 + len(b"data: ")
        assert response.complete


def test_comments_come_before_the_first_token(simulator: SpawnedSimulator) -> None:
    """Comments, role-only and empty deltas fill the wait; none of them is a token."""
    response = ask_chat(simulator, "sim-comments-ttft40-gap1-tok2")
    before, _, _ = response.body.partition(b" the")
    assert before.count(b": keep-alive\n\n") == 3
    assert before.count(b'"delta":{"role":"assistant","content":""}') == 4
    assert before.count(b'"delta":{}') == 3
    assert response.texts() == [" the", " river"]


def test_drip_takes_its_time(simulator: SpawnedSimulator) -> None:
    """The body comes byte by byte: after 300 ms there are only a few."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat("sim-drip-ttft1")))
        read_until(sock, b"\r\n\r\n")
        received = b""
        started = time.monotonic()
        while time.monotonic() - started < 0.3:
            received += sock.recv(100)
    assert 1 <= len(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + received).body) <= 8


def test_crlf_streams_hold_the_same_events(simulator: SpawnedSimulator) -> None:
    """Line ends are CRLF throughout, and the tokens are those of any other stream."""
    response = ask_chat(simulator, f"sim-crlf-tok20-{QUICK}")
    assert response.body.count(b"\n") == response.body.count(b"\r\n") > 40
    assert len(response.texts()) == 20
    assert response.body.endswith(b"data: [DONE]\r\n\r\n")


def test_unicode_tokens_are_not_escaped(simulator: SpawnedSimulator) -> None:
    """Line separators that only careless readers split on are in the text as they are."""
    response = ask_chat(simulator, f"sim-unicode-tok6-{QUICK}")
    assert response.texts() == [" caf\u00e9", " l\u2028s", " p\u2029s", " n\u0085l", " \u6f22\u5b57", " \U0001f680"]
    assert "\u2028".encode() in response.body


def test_echo_repeats_the_key(simulator: SpawnedSimulator) -> None:
    """An error message holds the key in full, alone as a 401, or with the status asked for."""
    alone = ask_chat(simulator, "sim-echo")
    with_status = ask_chat(simulator, "sim-echo-500")
    assert (alone.status, with_status.status) == (401, 500)
    for response in (alone, with_status):
        assert "Bearer sk-test-0123456789" in response.json()["error"]["message"]


def test_hostile_text_is_in_the_message_and_not_in_the_framing(simulator: SpawnedSimulator) -> None:
    """Markup, escape sequences and line ends reach whoever decodes the JSON, in a stream too."""
    body = ask_chat(simulator, "sim-hostile").json()
    (event,) = ask_chat(simulator, f"sim-hostile-errorobj-{QUICK}").events()
    for message in (body["error"]["message"], event["error"]["message"]):
        assert "[@click=app.quit]" in message
        assert "\x1b[31m" in message
        assert "\x00" in message


def test_latehead_keeps_the_head_back(simulator: SpawnedSimulator) -> None:
    """The head comes together with the first bytes of the body; otherwise it comes at once."""
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat("sim-latehead-errorobj-ttft300")))
        assert _silent(sock, 0.1)
        assert b"data: " in read_until(sock, b"\r\n\r\n")
    with connected(simulator.url) as sock:
        sock.sendall(request_bytes(CHAT, chat("sim-errorobj-ttft300")))
        assert b"data: " not in read_until(sock, b"\r\n\r\n")


def test_stamped_tokens_say_when_they_were_written(simulator: SpawnedSimulator) -> None:
    """The text of a token is the very stamp in the record."""
    response = ask_chat(simulator, f"sim-stamp-tok5-{QUICK}")
    stamps = [int(text.strip().removeprefix("t")) for text in response.texts()]
    assert stamps == _record(simulator, f"sim-stamp-tok5-{QUICK}").writes_ns.tolist()
    assert stamps == sorted(set(stamps))


def test_a_burst_is_one_segment(simulator: SpawnedSimulator) -> None:
    """Eight tokens in bursts of four are two writes."""
    response: Response = ask_chat(simulator, f"sim-burst4-tok8-{QUICK}")
    assert len(response.texts()) == 8
    assert len(_record(simulator, f"sim-burst4-tok8-{QUICK}").writes_ns) == 2
