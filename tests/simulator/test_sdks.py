"""The real SDKs, as their users have them, against the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import openai
import pytest

from llmbench.simulator import SpawnedSimulator
from tests.simulator.support import LIMIT

KEY = "sk-test-0123456789"


@pytest.fixture
async def openai_client(simulator: SpawnedSimulator) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK with its own HTTP client."""
    async with openai.AsyncOpenAI(
        base_url=f"{simulator.url}/openai/v1", api_key=KEY, max_retries=0, timeout=LIMIT
    ) as client:
        yield client


@pytest.fixture
async def anthropic_client(simulator: SpawnedSimulator) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The SDK with its own HTTP client."""
    async with anthropic.AsyncAnthropic(
        base_url=f"{simulator.url}/anthropic", api_key=KEY, max_retries=0, timeout=LIMIT
    ) as client:
        yield client


async def test_chat_streams_one_token_a_chunk(openai_client: openai.AsyncOpenAI) -> None:
    """Role first, then a delta for each token, the finish reason, and usage because it was asked for."""
    stream = await openai_client.chat.completions.create(
        model="sim-ttft5-gap1",
        messages=[{"role": "user", "content": "hello"}],
        max_tokens=5,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[1:6]] == [" the", " river", " turns", " south", " past"]
    assert chunks[6].choices[0].finish_reason == "length"
    assert chunks[7].choices == []
    assert chunks[7].usage is not None
    assert chunks[7].usage.completion_tokens == 5
    assert chunks[7].usage.total_tokens == chunks[7].usage.prompt_tokens + 5
    assert all(chunk.usage is None for chunk in chunks[:7])
    assert len(chunks) == 8


async def test_chat_says_stop_when_it_ends_before_the_limit(openai_client: openai.AsyncOpenAI) -> None:
    """Fewer tokens than allowed end with ``stop``, and no usage comes unasked."""
    stream = await openai_client.chat.completions.create(
        model="sim-ttft5-gap1-tok3",
        messages=[{"role": "user", "content": "hello"}],
        max_completion_tokens=50,
        stream=True,
    )
    chunks = [chunk async for chunk in stream]
    assert len(chunks) == 5
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is None


async def test_legacy_completions_stream_text(openai_client: openai.AsyncOpenAI) -> None:
    """An instruct model has the legacy API, with text in place of deltas."""
    stream = await openai_client.completions.create(
        model="sim-ttft5-gap1-instruct",
        prompt="Once",
        max_tokens=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    texts = [choice.text for chunk in chunks for choice in chunk.choices]
    assert texts == [" the", " river", " turns", ""]
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


async def test_responses_stream_reasoning_then_text(openai_client: openai.AsyncOpenAI) -> None:
    """The events come in the documented order, numbered without a gap, with usage in the last."""
    stream = await openai_client.responses.create(
        model="o3-sim-rtok2-ttft5-gap1-tok2", input="hello", max_output_tokens=10, stream=True, store=False
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(17))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == " the river"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == 4
    assert last.response.usage.output_tokens_details.reasoning_tokens == 2


async def test_responses_without_reasoning_have_one_item(openai_client: openai.AsyncOpenAI) -> None:
    """A model that does not reason goes straight to its message, and is incomplete at the limit."""
    stream = await openai_client.responses.create(
        model="sim-ttft5-gap1", input="hello", max_output_tokens=3, stream=True
    )
    events = [event async for event in stream]
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert [item.type for item in last.response.output] == ["message"]


async def test_responses_can_spend_all_on_reasoning(openai_client: openai.AsyncOpenAI) -> None:
    """With ``budget`` there is no visible text, the response is incomplete, and usage says where the tokens went."""
    stream = await openai_client.responses.create(
        model="gpt-5-sim-budget-ttft5-gap1", input="hello", max_output_tokens=6, stream=True
    )
    events = [event async for event in stream]
    assert not [event for event in events if event.type.startswith("response.output_text")]
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == 6
    assert last.response.usage.output_tokens_details.reasoning_tokens == 6


async def test_messages_stream_one_token_a_delta(anthropic_client: anthropic.AsyncAnthropic) -> None:
    """Anthropic's events come in their order, with cumulative usage in message_delta."""
    stream = await anthropic_client.messages.create(
        model="claude-sim-ttft5-gap1",
        max_tokens=3,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    delta = events[6]
    assert delta.type == "message_delta"
    assert delta.delta.stop_reason == "max_tokens"
    assert delta.usage.output_tokens == 3


async def test_messages_stream_thinking_before_text(anthropic_client: anthropic.AsyncAnthropic) -> None:
    """A thinking block comes before the text block; the SDK's own helper puts both together."""
    async with anthropic_client.messages.stream(
        model="claude-sim-rtok2-ttft5-gap1-tok2",
        max_tokens=50,
        messages=[{"role": "user", "content": "hello"}],
    ) as stream:
        message = await stream.get_final_message()
    thinking, text = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking == " the river"
    assert text.type == "text"
    assert text.text == " the river"
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 4


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ("groq", "reasoning"),
        ("together", "reasoning"),
        ("cerebras", "reasoning"),
        ("openrouter", "reasoning"),
        ("fireworks", "reasoning_content"),
        ("deepinfra", "reasoning_content"),
        ("my-vllm", "reasoning_content"),
    ],
)
async def test_providers_show_reasoning_in_their_own_field(
    simulator: SpawnedSimulator, provider: str, field: str
) -> None:
    """The same model shows its reasoning where this provider does, and its answer as content."""
    async with openai.AsyncOpenAI(
        base_url=f"{simulator.url}/{provider}/v1", api_key=KEY, max_retries=0, timeout=LIMIT
    ) as client:
        stream = await client.chat.completions.create(
            model="sim-rtok2-ttft5-gap1-tok1", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        deltas = [chunk.choices[0].delta async for chunk in stream if chunk.choices]
    assert [(delta.model_extra or {})[field] for delta in deltas[1:3]] == [" the", " river"]
    assert deltas[3].content == " the"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_openai_sdk_names_each_error(
    openai_client: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    """Each status word raises the SDK's own class, with the request id that was sent."""
    with pytest.raises(error) as caught:
        await openai_client.chat.completions.create(
            model=f"sim-{status}", messages=[{"role": "user", "content": "hello"}], stream=True
        )
    assert caught.value.status_code == status
    assert (caught.value.request_id or "").startswith("req_")
    assert caught.value.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
async def test_anthropic_sdk_names_each_error(
    anthropic_client: anthropic.AsyncAnthropic, status: int, kind: str
) -> None:
    """Each status word raises the SDK's error with Anthropic's own type."""
    with pytest.raises(anthropic.APIStatusError) as caught:
        await anthropic_client.messages.create(
            model=f"claude-sim-{status}", max_tokens=3, messages=[{"role": "user", "content": "hello"}], stream=True
        )
    assert (caught.value.status_code, caught.value.type) == (status, kind)
    assert (caught.value.request_id or "").startswith("req_")


async def test_errors_inside_a_stream_reach_the_sdks(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    """With errormid, the SDKs raise behind the tokens that came."""
    stream = await openai_client.chat.completions.create(
        model="sim-errormid2-ttft5-gap1", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    chunks = [await anext(stream) for _ in range(3)]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", " the", " river"]
    with pytest.raises(openai.APIError):
        await anext(stream)

    events = await anthropic_client.messages.create(
        model="claude-sim-errormid2-ttft5-gap1",
        max_tokens=9,
        messages=[{"role": "user", "content": "hello"}],
        stream=True,
    )
    assert [(await anext(events)).type for _ in range(4)][-2:] == ["content_block_delta"] * 2
    with pytest.raises(anthropic.APIStatusError) as caught:
        await anext(events)
    assert caught.value.type == "overloaded_error"


async def test_claude_on_vertex_streams_and_fails(simulator: SpawnedSimulator) -> None:
    """Anthropic's client for Vertex reads the stream and Google's error response."""
    async with anthropic.AsyncAnthropicVertex(
        region="us-east5",
        project_id="some-project",
        access_token=KEY,
        base_url=f"{simulator.url}/vertex/v1",
        max_retries=0,
        timeout=LIMIT,
    ) as client:
        async with client.messages.stream(
            model="claude-sim-rtok1-tok2-ttft5-gap1", max_tokens=9, messages=[{"role": "user", "content": "hello"}]
        ) as stream:
            assert await stream.get_final_text() == " the river"
        with pytest.raises(anthropic.RateLimitError):
            await client.messages.create(
                model="claude-sim-429", max_tokens=9, messages=[{"role": "user", "content": "hello"}], stream=True
            )


async def test_failed_responses_are_yielded(openai_client: openai.AsyncOpenAI) -> None:
    """In Responses an early error is an ``error`` event, a later one ends the response as failed."""
    first = await openai_client.responses.create(model="sim-errorobj-ttft5", input="hello", stream=True)
    later = await openai_client.responses.create(model="sim-errormid1-429-ttft5", input="hello", stream=True)
    assert [event.type async for event in first] == ["error"]
    last = [event async for event in later][-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.code == "rate_limit_exceeded"


async def test_models_are_listed(openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic) -> None:
    """Both SDKs read the lists; Anthropic's comes in pages."""
    ids = [model.id async for model in openai_client.models.list()]
    assert any(model.endswith("-instruct") for model in ids)
    assert any(model.startswith("o3-sim") for model in ids)
    assert (await openai_client.models.retrieve(ids[0])).id == ids[0]

    first = await anthropic_client.models.list(limit=2)
    assert (len(first.data), first.has_more) == (2, True)
    paged = [model.id async for model in anthropic_client.models.list(limit=1)]
    assert paged[:2] == [model.id for model in first.data]
    assert len(paged) == 3
