"""Bedrock's ConverseStream as the simulator has it, seen on a plain socket."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from botocore.eventstream import ChecksumMismatch

from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.flavours import flavour_of, request_id, sequence_of
from tests.simulator.bedrock import QUICK, conversation, converse, frames, texts
from tests.simulator.support import ask_chat


def test_an_answer_in_its_order(simulator: SpawnedSimulator) -> None:
    """Start, deltas, the block's end, the stop reason, and last of all usage and times."""
    response = converse(simulator, f"us.anthropic.claude-sim-{QUICK}-v1%3A0")
    assert (response.status, response.complete) == (200, True)
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    events = frames(response.body)
    assert [event.kind for event in events] == [
        "messageStart", *["contentBlockDelta"] * 3, "contentBlockStop", "messageStop", "metadata",
    ]  # fmt: skip
    assert {event.headers["content-type"] for event in events} == {"application/json"}
    assert all(event.json().pop("p") for event in events)
    assert texts(events) == [" the", " river", " turns"]
    assert events[-2].json()["stopReason"] == "max_tokens"
    usage = events[-1].json()["usage"]
    assert (usage["outputTokens"], usage["totalTokens"]) == (3, usage["inputTokens"] + 3)
    assert events[-1].json()["metrics"] == {"latencyMs": 8}


def test_the_model_of_an_arn_is_recorded_decoded(simulator: SpawnedSimulator) -> None:
    """An ARN's slash is encoded in the path; aliases and the record have it as it is."""
    arn = f"arn:aws:bedrock:us-east-1:0:inference-profile/us.anthropic.claude-sim-{QUICK}"
    response = converse(simulator, arn.replace(":", "%3A").replace("/", "%2F"), conversation(1))
    assert response.status == 200
    record = simulator.requests(model=arn)[-1]
    assert (record.provider, record.sequence) == ("bedrock", sequence_of(response.headers["x-amzn-requestid"]))


def test_stamps_are_those_of_the_record(simulator: SpawnedSimulator) -> None:
    """A frame is made at the moment of its write, with the stamp in it."""
    model = "sim-stamp-ttft4-gap1"
    stamps = [int(text.strip(" t")) for text in texts(frames(converse(simulator, model, conversation(9)).body))]
    assert stamps == simulator.requests(model=model)[-1].writes_ns.tolist()
    assert len(stamps) == 9


def test_reasoning_is_a_block_of_its_own(simulator: SpawnedSimulator) -> None:
    """Text, a signature, the block's end; then the visible text, in a block with the next number."""
    model = f"sim-rtok2-tok2-{QUICK}"
    events = frames(converse(simulator, model, conversation(9)).body)
    deltas = [event.json() for event in events if event.kind == "contentBlockDelta"]
    assert [delta["contentBlockIndex"] for delta in deltas] == [0, 0, 0, 1, 1]
    assert [delta["delta"]["reasoningContent"].get("text") for delta in deltas[:3]] == [" the", " river", None]
    assert events[-2].json()["stopReason"] == "end_turn"
    assert events[-1].json()["usage"]["outputTokens"] == 4
    assert len(simulator.requests(model=model)[-1].reasoning_writes_ns) == 2


def test_reasoning_that_eats_the_budget(simulator: SpawnedSimulator) -> None:
    """There is no visible text, and the reason to stop is the limit."""
    events = frames(converse(simulator, f"sim-budget-{QUICK}").body)
    assert texts(events) == []
    assert [event.kind for event in events[-3:]] == ["contentBlockStop", "messageStop", "metadata"]
    assert events[-2].json()["stopReason"] == "max_tokens"


@pytest.mark.parametrize(("word", "count"), [("wrongcount99", 99), ("negcount", -5)])
def test_usage_may_be_wrong(simulator: SpawnedSimulator, word: str, count: int) -> None:
    """The faults of usage are the same as elsewhere."""
    assert frames(converse(simulator, f"sim-{word}-{QUICK}").body)[-1].json()["usage"]["outputTokens"] == count


def test_usage_may_be_missing(simulator: SpawnedSimulator) -> None:
    """The last event then has only the times."""
    assert frames(converse(simulator, f"sim-nousage-{QUICK}").body)[-1].json().keys() == {"metrics", "p"}


def test_an_answer_may_lack_its_metadata(simulator: SpawnedSimulator) -> None:
    """``noend``: the reason to stop is the last that comes, and the body ends properly."""
    response = converse(simulator, f"sim-noend-{QUICK}")
    assert response.complete
    assert frames(response.body)[-1].kind == "messageStop"


def test_an_answer_may_be_empty(simulator: SpawnedSimulator) -> None:
    """``empty``: no block at all."""
    kinds = [event.kind for event in frames(converse(simulator, f"sim-empty-{QUICK}").body)]
    assert kinds == ["messageStart", "messageStop", "metadata"]


def test_what_a_client_must_skip(simulator: SpawnedSimulator) -> None:
    """``comments``: events of a type that no client knows, and deltas with nothing in them."""
    events = frames(converse(simulator, f"sim-comments-{QUICK}").body)
    assert [event.kind for event in events[1:7]] == ["simulatedPing", "contentBlockDelta"] * 3
    assert texts(events) == ["", "", "", " the", " river", " turns"]


def test_several_tokens_in_one_frame_and_several_frames_in_one_write(simulator: SpawnedSimulator) -> None:
    """``chunk`` and ``burst`` are as elsewhere, and so is ``unicode``."""
    assert texts(frames(converse(simulator, f"sim-chunk2-{QUICK}").body)) == [" the river", " turns"]
    assert texts(frames(converse(simulator, f"sim-burst2-unicode-{QUICK}").body)) == [
        " caf\u00e9",
        " l\u2028s",
        " p\u2029s",
    ]


def test_a_payload_may_be_no_json(simulator: SpawnedSimulator) -> None:
    """``badjson``: the frame around it is sound, and so are those behind it."""
    events = frames(converse(simulator, f"sim-badjson2-{QUICK}").body)
    assert [event.payload.endswith(b"}") for event in events] == [True, True, False, True, True, True, True]


def test_a_checksum_may_be_wrong(simulator: SpawnedSimulator) -> None:
    """``badcrc``: in the one frame, with nothing else changed."""
    sound = converse(simulator, f"sim-{QUICK}").body
    spoilt = converse(simulator, f"sim-badcrc2-{QUICK}").body
    assert sum(one != other for one, other in zip(sound, spoilt, strict=True)) == 1
    with pytest.raises(ChecksumMismatch):
        frames(spoilt)


def test_an_answer_may_end_between_frames_and_inside_one(simulator: SpawnedSimulator) -> None:
    """``truncate`` and ``reset`` leave whole frames, ``cutevent`` half of one behind them."""
    for word in ("truncate2", "reset2"):
        response = converse(simulator, f"sim-{word}-{QUICK}")
        assert (len(frames(response.body)), response.complete) == (3, False)
    whole, cut = (converse(simulator, f"sim-{word}-{QUICK}") for word in ("truncate2", "cutevent2"))
    assert len(frames(cut.body)) == 3
    assert 40 < len(cut.body) - len(whole.body) < 140
    assert not cut.complete


def test_an_events_middle_may_be_the_end_elsewhere_too(simulator: SpawnedSimulator) -> None:
    """``cutevent`` is for every format."""
    response = ask_chat(simulator, f"sim-cutevent2-{QUICK}")
    assert (len(response.body.split(b"\n\n")[-1]) > 40, response.complete) == (True, False)


def test_a_frame_may_announce_more_than_anyone_wants(simulator: SpawnedSimulator) -> None:
    """``flood``: the length field says how much would come."""
    body = converse(simulator, f"sim-flood1-{QUICK}").body
    start = int.from_bytes(body[:4])
    assert int.from_bytes(body[start : start + 4]) == len(body) - start + 4 > 1024 * 1024


def test_a_body_may_be_compressed_unasked(simulator: SpawnedSimulator) -> None:
    """``badgzip``: the frames are inside."""
    response = converse(simulator, f"sim-badgzip-{QUICK}")
    assert response.headers["content-encoding"] == "gzip"
    assert texts(frames(gzip.decompress(response.body))) == [" the", " river", " turns"]


def test_words_that_mean_nothing_here_are_refused(simulator: SpawnedSimulator) -> None:
    """Frames have no line ends, and the other formats no checksums."""
    refused = converse(simulator, f"sim-crlf-{QUICK}")
    assert refused.status == 400
    assert "'crlf'" in refused.json()["message"]
    refused = ask_chat(simulator, f"sim-badcrc1-{QUICK}")
    assert refused.status == 400
    assert "'badcrc'" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "status", "exception", "message"),
    [
        ("sim-400", 400, "ValidationException", "Malformed input request"),
        ("sim-401", 403, "UnrecognizedClientException", "The security token included in the request is invalid."),
        ("sim-402", 403, "AccessDeniedException", "INVALID_PAYMENT_INSTRUMENT"),
        ("sim-403", 403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
        ("sim-404", 404, "ResourceNotFoundException", "Could not resolve the foundation model"),
        ("sim-408", 408, "ModelTimeoutException", "Model has timed out"),
        ("sim-424", 424, "ModelErrorException", "The model encountered an unexpected error"),
        ("sim-429", 429, "ThrottlingException", "Too many requests, please wait before trying again."),
        ("sim-quota", 429, "ThrottlingException", "Too many tokens per day, please wait before trying again."),
        ("sim-500", 500, "InternalServerException", "Try your request again."),
        ("sim-502", 502, None, "Bad Gateway"),
        ("sim-503", 503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        ("sim-529", 429, "ModelNotReadyException", "Model is not ready for inference."),
        ("claude-9", 400, "ValidationException", "The provided model identifier is invalid."),
        ("sim-tftt5", 400, "ValidationException", "'tftt5'"),
        ("anthropic.claude-sim", 400, "ValidationException", "model ID anthropic.claude-sim with on-demand"),
    ],
)  # fmt: skip
def test_an_error_in_front_of_the_stream(
    simulator: SpawnedSimulator, model: str, status: int, exception: str | None, message: str
) -> None:
    """The status, the exception's name in its header, the message as AWS words it, and the request's id."""
    response = converse(simulator, model)
    assert response.status == status
    name = response.headers.get("x-amzn-errortype", "").partition(":http://internal.amazon.com/coral/")[0]
    assert (name or None) == exception
    assert message in response.json()["message"]
    assert sequence_of(response.headers["x-amzn-requestid"]) > 0


@pytest.mark.parametrize(
    ("words", "exception"),
    [
        ("errormid2", "internalServerException"),
        ("errormid2-400", "validationException"),
        ("errormid2-403", "modelStreamErrorException"),
        ("errormid2-408", "modelTimeoutException"),
        ("errormid2-424", "modelStreamErrorException"),
        ("errormid2-429", "throttlingException"),
        ("errormid2-503", "serviceUnavailableException"),
    ],
)
def test_an_error_inside_the_stream(simulator: SpawnedSimulator, words: str, exception: str) -> None:
    """An exception in a frame of its own, named as the stream's model has it, and nothing behind it."""
    response = converse(simulator, f"sim-{words}-{QUICK}")
    *before, last = frames(response.body)
    assert texts(before) == [" the", " river"]
    assert (last.headers["message-type"], last.kind) == ("exception", exception)
    assert last.json()["message"]
    assert response.complete


def test_an_error_in_place_of_the_first_event(simulator: SpawnedSimulator) -> None:
    """``errorobj`` is an exception, ``errorstr`` AWS's error without a model, ``errorbody`` JSON with status 200."""
    (event,) = frames(converse(simulator, f"sim-errorobj-429-{QUICK}").body)
    assert event.kind == "throttlingException"
    (event,) = frames(converse(simulator, f"sim-errorstr-{QUICK}").body)
    assert event.headers == {
        "error-code": "InternalError", "error-message": "upstream failed", "message-type": "error",
    }  # fmt: skip
    response = converse(simulator, "sim-errorbody-429")
    assert (response.status, response.json()["message"][:17]) == (200, "Too many requests")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Value null at 'messages' failed to satisfy constraint: Member must not be null"),
        ({"messages": []}, "A conversation must start with a user message."),
        ({"messages": ["hi"]}, "Value null at 'messages.1.member.content'"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "Value null at 'messages.1.member.content'"),
        (conversation(0), "Value '0' at 'inferenceConfig.maxTokens'"),
        (conversation(inferenceConfig={"maxTokens": "9"}), "STR value cannot be converted to Integer"),
        (conversation(inferenceConfig=[]), "Unexpected field type"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    simulator: SpawnedSimulator, body: dict[str, Any], message: str
) -> None:
    """With AWS's words for a value that breaks a constraint."""
    response = converse(simulator, f"sim-{QUICK}", body or b"{}")
    assert response.status == 400
    assert message in response.json()["message"]


def more(**fields: Any) -> dict[str, Any]:
    return conversation(additionalModelRequestFields=fields)


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (
            "us.anthropic.claude-opus-4-6",
            {"output_config": {"effort": "minimal"}},
            "output_config.effort: Input should",
        ),
        ("us.anthropic.claude-opus-4-6", {"thinking": {"type": "on"}}, "'enabled' or 'disabled' or 'adaptive'"),
        ("us.anthropic.claude-opus-4-7", {"thinking": {"type": "disabled"}}, "Input should be 'adaptive'"),
        ("us.amazon.nova-2-lite", {"reasoningConfig": {"maxReasoningEffort": "xhigh"}}, "maxReasoningEffort"),
        ("openai.gpt-oss-20b", {"reasoning_effort": "none"}, "reasoning_effort: Input should be 'low' or"),
    ],
)
def test_an_effort_that_the_family_does_not_know_is_refused(
    simulator: SpawnedSimulator, model: str, fields: dict[str, Any], message: str
) -> None:
    """Each family has words of its own; other models take no notice."""
    response = converse(simulator, f"{model}-sim-{QUICK}", more(**fields))
    assert response.status == 400
    assert message in response.json()["message"]
    assert converse(simulator, f"us.meta.llama-sim-{QUICK}", more(**fields)).status == 200


def test_thinking_is_hidden_unless_it_is_asked_for(simulator: SpawnedSimulator) -> None:
    """Claude since 4.7 sends the signature in its place; the version before shows it unasked."""
    words = f"sim-rtok2-tok1-{QUICK}"
    shown = [
        [delta["reasoningContent"].popitem()[0] for delta in deltas_of(response.body) if "reasoningContent" in delta]
        for response in (
            converse(simulator, f"us.anthropic.claude-opus-4-7-{words}", more(thinking={"type": "adaptive"})),
            converse(simulator, f"us.anthropic.claude-opus-4-7-{words}", more(thinking={"display": "summarized"})),
            converse(simulator, f"us.anthropic.claude-opus-4-6-{words}"),
        )
    ]
    assert shown == [["signature"], ["text", "text", "signature"], ["text", "text", "signature"]]


def deltas_of(body: bytes) -> list[dict[str, Any]]:
    return [event.json()["delta"] for event in frames(body) if event.kind == "contentBlockDelta"]


def test_the_limit_may_be_left_out(simulator: SpawnedSimulator) -> None:
    """The answer then has as many tokens as the model's name says."""
    body = {"messages": conversation()["messages"]}
    assert len(texts(frames(converse(simulator, f"sim-tok4-{QUICK}", body).body))) == 4


@pytest.mark.parametrize("provider", ["anthropic", "openai", "vertex", "bedrock"])
def test_a_requests_id_says_its_number(provider: str) -> None:
    """Whatever the provider's ids look like."""
    assert sequence_of(request_id(flavour_of(provider), 1234)) == 1234


@pytest.mark.parametrize("identity", ["", "00000000-0000-4000-8000-", "8b4b7c3e-1111-4222-8333-123456789abz"])
def test_another_id_has_no_number(identity: str) -> None:
    """It is not mistaken for one of the simulator's."""
    with pytest.raises(ValueError, match="invalid literal"):
        sequence_of(identity)
