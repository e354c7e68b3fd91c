"""Chat Completions streams, as each provider writes them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmbench.wire.events import (
    End,
    Event,
    Finish,
    Identity,
    ProviderTimings,
    ReasoningDelta,
    StreamFault,
    TextDelta,
    Usage,
)
from llmbench.wire.openai_chat import ChatDecoder
from tests.wire.streams import CEREBRAS, CHAT_FLAVOURS, DEEPINFRA, DONE, FIREWORKS, GROQ, OPENAI, TOGETHER, chat, chunk
from tests.wire.support import data, events_of, of_type, reasoning, visible


def decoded(*bodies: bytes) -> list[Event]:
    """Return the events of a body that arrives all at once."""
    return events_of(ChatDecoder(), [b"".join(bodies)])


def said(*chunks: dict[str, Any]) -> list[Event]:
    """Return the events of bare chunks: those that say nothing of their own identity."""
    return decoded(*map(data, chunks))


def bare(delta: dict[str, Any] | None, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, **choice}]}


def test_an_openai_stream_gives_its_text_and_its_account() -> None:
    """Identity first, a text event for each visible chunk, then reason, counts and end."""
    assert decoded(OPENAI) == [
        Identity(
            response_id="chatcmpl-AbC123",
            served_model="gpt-4o-mini-2024-07-18",
            system_fingerprint="fp_51db84afab",
            service_tier="default",
        ),
        TextDelta("Rivers"),
        TextDelta(" move."),
        Finish("length"),
        Usage(input_tokens=21, output_tokens=64, reasoning_tokens=12, cached_input_tokens=0, total_tokens=85),
        End(),
    ]


def test_groq_reports_usage_twice_and_its_own_times() -> None:
    """`x_groq.usage` comes with the finish reason, `usage` after it; both name their source and carry times."""
    groq = Usage(input_tokens=44, output_tokens=9, total_tokens=53, source="x_groq.usage")
    times = {"queue_time": 0.0523, "prompt_time": 0.0021, "completion_time": 0.0123, "total_time": 0.0144}

    assert decoded(GROQ) == [
        Identity(response_id="chatcmpl-AbC123", served_model="some-model", system_fingerprint="fp_g1"),
        ReasoningDelta("The user wants"),
        TextDelta("Rivers"),
        Finish("stop"),
        groq,
        ProviderTimings(times),
        msgspec.structs.replace(groq, source="usage"),
        ProviderTimings(times),
        End(),
    ]


def test_cerebras_reports_times_beside_its_usage() -> None:
    """`time_info` is in seconds; its `created`, a date, is no duration."""
    assert decoded(CEREBRAS)[1:] == [
        ReasoningDelta("Hm."),
        TextDelta("Rivers"),
        Finish("stop"),
        Usage(input_tokens=20, output_tokens=30, cached_input_tokens=16, total_tokens=50),
        ProviderTimings({"queue_time": 0.00026, "prompt_time": 0.0164, "completion_time": 0.15, "total_time": 0.172}),
        End(),
    ]


@pytest.mark.parametrize(
    ("body", "finish", "usage"),
    [
        (
            TOGETHER,
            "eos",
            Usage(input_tokens=10, output_tokens=3, reasoning_tokens=1, cached_input_tokens=8, total_tokens=13),
        ),
        (FIREWORKS, "length", Usage(input_tokens=11, output_tokens=5, cached_input_tokens=0, total_tokens=16)),
        (DEEPINFRA, "stop", Usage(input_tokens=12, output_tokens=2, total_tokens=14)),
    ],
    ids=["together", "fireworks", "deepinfra"],
)
def test_usage_is_taken_from_the_chunk_that_finishes(body: bytes, finish: str, usage: Usage) -> None:
    """Providers that send usage with the finish reason are understood as well."""
    assert decoded(body)[-3:] == [Finish(finish), usage, End()]


@pytest.mark.parametrize("flavour", CHAT_FLAVOURS)
def test_every_flavour_is_read_whole(flavour: str) -> None:
    """Each provider's stream ends properly, with its usage, and holds nothing unknown."""
    decoder = ChatDecoder()
    events = events_of(decoder, [CHAT_FLAVOURS[flavour]])

    assert visible(events).startswith("Rivers")
    assert events[-1] == End()
    assert of_type(Usage, events)
    assert decoder.unknown_events == 0


def test_a_chunk_without_visible_text_is_no_token() -> None:
    """Role-only, null, empty and tool-call deltas, and a choice without a delta, give no text event."""
    deltas: list[dict[str, Any] | None] = [
        {"role": "assistant"},
        {"content": None},
        {"content": ""},
        {"content": []},
        {"content": None, "refusal": ""},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        {"reasoning": "", "reasoning_content": None},
        {},
        None,
    ]

    assert said(*map(bare, deltas), {"choices": [{}]}, {"choices": []}, {"choices": None, "usage": None}) == []


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"reasoning": "Hm."}, "Hm."),
        ({"reasoning_content": "Hm."}, "Hm."),
        ({"reasoning_content": "Hm.", "reasoning": "Hm."}, "Hm."),
        ({"reasoning_content": {"unknown": 1}, "reasoning": "Hm."}, "Hm."),
        ({"reasoning": {"text": "Hm."}}, "Hm."),
        ({"reasoning": {"content": "Hm."}}, "Hm."),
        ({"reasoning": [{"text": "H"}, "m."]}, "Hm."),
        ({"reasoning": {"effort": "low"}}, ""),
        ({"reasoning": 5}, ""),
        ({"reasoning_details": [{"text": "Hm."}]}, ""),
    ],
)
def test_reasoning_is_found_under_each_of_its_names(delta: dict[str, Any], expected: str) -> None:
    """Both names are one text, objects are tolerated, and none of it is visible."""
    events = said(bare(delta))

    assert reasoning(events) == expected
    assert visible(events) == ""
    assert len(events) == (expected != "")


def test_content_may_be_a_list_of_parts() -> None:
    """Parts of text are one visible chunk; parts of thinking are reasoning."""
    parts: list[Any] = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}, {"type": "text", "text": " So."}]},
        {"type": "text", "text": "Riv"},
        "ers",
        {"type": "image_url", "image_url": "data:…"},
        5,
    ]

    assert said(bare({"content": parts})) == [ReasoningDelta("Hm. So."), TextDelta("Rivers")]


def test_a_refusal_is_visible_text() -> None:
    """What a model says in refusing is an answer; with content beside it they are one chunk."""
    assert said(bare({"refusal": "I can't"}), bare({"content": "No: ", "refusal": "I can't"})) == [
        TextDelta("I can't"),
        TextDelta("No: I can't"),
    ]


def test_the_text_of_every_choice_counts_but_the_first_one_says_how_it_ended() -> None:
    """Only choice 0 (the default) gives a finish reason."""
    first = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}
    second = {"index": 1, "delta": {"content": "b"}, "finish_reason": "length"}
    unnumbered = {"delta": {"content": "c"}, "finish_reason": "eos"}

    assert said({"choices": [second, first]}, {"choices": [unnumbered]}) == [
        TextDelta("b"),
        TextDelta("a"),
        Finish("stop"),
        TextDelta("c"),
        Finish("eos"),
    ]


@pytest.mark.parametrize("reason", ["", None, 7, {}])
def test_a_finish_reason_that_is_no_word_is_none(reason: object) -> None:
    """Some servers send an empty reason with every chunk."""
    assert said(bare({"content": "a"}, finish_reason=reason)) == [TextDelta("a")]


def test_identity_is_told_when_first_seen_and_when_it_changes() -> None:
    """A value that is left out, or is no string, changes nothing; what is told is all that is known."""
    assert said(
        {"choices": [], "id": "one"},
        {"choices": [], "id": "one", "model": "m"},
        {"choices": [], "id": "one"},
        {"choices": [], "id": 7, "model": None, "system_fingerprint": [], "service_tier": ""},
        {"choices": [], "id": "two", "service_tier": "flex"},
    ) == [
        Identity(response_id="one"),
        Identity(response_id="one", served_model="m"),
        Identity(response_id="two", served_model="m", service_tier="flex"),
    ]


def test_usage_may_come_with_every_chunk() -> None:
    """Servers that keep a running count report it beside the text."""
    counts = {"prompt_tokens": 16, "completion_tokens": 20, "total_tokens": 36}

    assert said(bare({"content": "a"}) | {"usage": counts}) == [
        TextDelta("a"),
        Usage(input_tokens=16, output_tokens=20, total_tokens=36),
    ]


def test_usage_after_the_finish_reason_is_still_heard() -> None:
    """The chunk that carries usage comes after the one that ends the text, and before the end of the stream."""
    events = decoded(data(bare({}, finish_reason="stop")), data({"choices": [], "usage": {"total_tokens": 3}}), DONE)

    assert events == [Finish("stop"), Usage(total_tokens=3), End()]


def test_deepseek_names_its_cached_tokens_otherwise() -> None:
    """`prompt_cache_hit_tokens` are cached input tokens, unless OpenAI's own name is there too."""
    hits = {"prompt_tokens": 20, "prompt_cache_hit_tokens": 12, "prompt_cache_miss_tokens": 8}

    assert said({"choices": [], "usage": hits}) == [Usage(input_tokens=20, cached_input_tokens=12)]
    assert said({"choices": [], "usage": hits | {"prompt_tokens_details": {"cached_tokens": 4}}}) == [
        Usage(input_tokens=20, cached_input_tokens=4)
    ]


@pytest.mark.parametrize("insane", [-1, 2**53 + 1, 10**40, 1.5, 1e300, -0.5, True, "12", None, [], {}])
def test_an_insane_count_is_not_said(insane: object) -> None:
    """A count that can't be true is left out, and the sane ones beside it are kept."""
    usage = {"prompt_tokens": insane, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": insane}}

    assert said({"choices": [], "usage": usage}) == [Usage(output_tokens=7)]


@pytest.mark.parametrize("whole", [0, 12, 12.0, 2**53])
def test_a_whole_number_is_a_count(whole: float) -> None:
    """Zero, the largest exact number, and a float without a fraction are counts."""
    (usage,) = of_type(Usage, said({"choices": [], "usage": {"prompt_tokens": whole}}))

    assert usage.input_tokens == whole
    assert isinstance(usage.input_tokens, int)


@pytest.mark.parametrize("usage", [None, {}, [], "none", 5, {"prompt_tokens": -1}, {"cost": 0.1}])
def test_usage_that_says_nothing_is_no_event(usage: object) -> None:
    """An empty or foreign usage is passed over, and fails nothing."""
    decoder = ChatDecoder()

    assert events_of(decoder, [data(bare({"content": "a"}) | {"usage": usage})]) == [TextDelta("a")]


@pytest.mark.parametrize("insane", [-0.1, "fast", True, None, 1e300])
def test_an_insane_time_is_not_said(insane: object) -> None:
    """A duration that can't be true is left out, and the sane ones beside it are kept."""
    times = {"queue_time": insane, "prompt_time": 0, "total_time": 1.5}

    assert said({"choices": [], "time_info": times}) == [ProviderTimings({"prompt_time": 0.0, "total_time": 1.5})]
    assert said({"choices": [], "time_info": {"queue_time": insane}}) == []


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (
            {"error": {"message": "Overloaded", "type": "server_error", "param": None, "code": "overloaded"}},
            StreamFault(message="Overloaded", code="overloaded", type="server_error"),
        ),
        ({"error": {"message": "Slow down", "code": 429}}, StreamFault(message="Slow down", code="429")),
        ({"error": "Overloaded"}, StreamFault(message="Overloaded")),
        (
            {"error": "Overloaded", "code": "busy", "type": "capacity"},
            StreamFault(message="Overloaded", code="busy", type="capacity"),
        ),
        ({"error": {"detail": "Not Found"}}, StreamFault(message="Not Found")),
        (
            {"error": {"code": 503, "message": "Try later", "status": "UNAVAILABLE"}},
            StreamFault(message="Try later", code="503", type="UNAVAILABLE"),
        ),
        ({"error": {"code": True}}, StreamFault(message='{"error":{"code":true}}')),
        ({"error": [1]}, StreamFault(message='{"error":[1]}')),
        ({"error": True}, StreamFault(message='{"error":true}')),
        ({"choices": [], "x_groq": {"error": "over capacity"}}, StreamFault(message="over capacity")),
        ({"x_groq": {"id": "req", "error": {"message": "busy"}}}, StreamFault(message="busy")),
    ],
)
def test_an_error_in_the_stream_is_a_fault(payload: dict[str, Any], fault: StreamFault) -> None:
    """Error objects and strings of every make are faults, and the text before them is kept."""
    assert said(bare({"content": "a"}), payload) == [TextDelta("a"), fault]


def test_a_fault_comes_after_what_its_chunk_says() -> None:
    """A last chunk with text, a finish reason, counts and an error gives all of them, the fault last."""
    payload = bare({"content": "a"}, finish_reason="error") | {
        "usage": {"completion_tokens": 1},
        "error": {"code": 502, "message": "Upstream failed"},
    }

    assert decoded(data(payload), DONE) == [
        TextDelta("a"),
        Finish("error"),
        Usage(output_tokens=1),
        StreamFault(message="Upstream failed", code="502"),
        End(),
    ]


@pytest.mark.parametrize("nothing", [None, "", {}, [], False, 0])
def test_an_empty_error_is_none(nothing: object) -> None:
    """Servers that send an empty error field with every chunk mean no error."""
    assert said(bare({"content": "a"}) | {"error": nothing}) == [TextDelta("a")]


def test_an_event_that_says_nothing_known_is_counted() -> None:
    """JSON without any field of a chunk is of an unknown type: counted, and no error."""
    decoder = ChatDecoder()

    assert events_of(decoder, [data({}, "done"), data({"type": "ping"}), data({"choices": []})]) == []
    assert decoder.unknown_events == 2


@pytest.mark.parametrize("end", [b"data: [DONE]\n\n", b"data: [DONE]\n", b"data: [DONE]", b"data:[DONE] \r\n\r\n"])
def test_done_ends_the_stream_with_or_without_its_blank_line(end: bytes) -> None:
    """Real servers end with a terminator that lacks its blank line."""
    assert decoded(data(bare({"content": "a"})), end) == [TextDelta("a"), End()]


def test_what_follows_the_end_is_ignored() -> None:
    """After the terminator no bytes mean anything, in the same piece or a later one."""
    decoder = ChatDecoder()

    assert decoder.feed(DONE + data(bare({"content": "a"})) + b"data: {broken\n\n") == [End()]
    assert decoder.feed(data(bare({"content": "a"}))) == []
    assert decoder.finish() == []


def test_a_stream_of_only_the_terminator_has_no_text() -> None:
    """Zero tokens is a stream that ended properly and said nothing."""
    assert decoded(chat()) == [End()]
    assert visible(decoded(chat(chunk(delta={"role": "assistant"})))) == ""
