"""The official SDKs read from the tests' own streams what the decoders read from them."""

from __future__ import annotations

import anthropic
import httpx2
import openai
import pytest

from llmbench.wire.anthropic_messages import MessagesDecoder
from llmbench.wire.events import Finish, Identity, Usage
from llmbench.wire.openai_chat import ChatDecoder
from llmbench.wire.openai_completions import CompletionsDecoder
from llmbench.wire.openai_responses import ResponsesDecoder
from tests.wire.streams import CHAT_FLAVOURS, COMPLETIONS, MESSAGES, RESPONSES
from tests.wire.support import events_of, of_type, reasoning, visible


def answering(body: bytes) -> httpx2.Client:
    """Return a client that answers every request with ``body``."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    return httpx2.Client(transport=httpx2.MockTransport(answer), trust_env=False)


def openai_client(body: bytes) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url="http://127.0.0.1/v1", http_client=answering(body), max_retries=0)


@pytest.mark.parametrize("flavour", CHAT_FLAVOURS)
def test_chat_completions(flavour: str) -> None:
    """Text, counts, finish reason and id are those that the SDK reads."""
    body = CHAT_FLAVOURS[flavour]
    with openai_client(body) as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    (usage, *_) = [chunk.usage for chunk in reversed(chunks) if chunk.usage is not None]
    events = events_of(ChatDecoder(), [body])
    report = of_type(Usage, events)[-1]

    assert visible(events) == "".join(choice.delta.content or "" for choice in choices)
    assert report.input_tokens == usage.prompt_tokens
    assert report.output_tokens == usage.completion_tokens
    assert [event.reason for event in of_type(Finish, events)] == [c.finish_reason for c in choices if c.finish_reason]
    assert of_type(Identity, events)[-1].response_id == chunks[-1].id


def test_completions() -> None:
    """Text and counts are those that the SDK reads."""
    with openai_client(COMPLETIONS) as client:
        chunks = list(client.completions.create(model="m", prompt="p", stream=True))
    usage = chunks[-1].usage
    assert usage is not None
    events = events_of(CompletionsDecoder(), [COMPLETIONS])

    assert visible(events) == "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert of_type(Usage, events)[-1].output_tokens == usage.completion_tokens


def test_responses() -> None:
    """Text, reasoning and counts are those that the SDK reads, from events that it has classes for."""
    with openai_client(RESPONSES) as client:
        received = list(client.responses.create(model="m", input="i", stream=True))
    last = received[-1]
    assert isinstance(last, openai.types.responses.ResponseCompletedEvent)
    assert last.response.usage is not None
    events = events_of(ResponsesDecoder(), [RESPONSES])
    report = of_type(Usage, events)[-1]

    assert visible(events) == "".join(e.delta for e in received if e.type == "response.output_text.delta")
    assert reasoning(events) == "".join(e.delta for e in received if e.type == "response.reasoning_summary_text.delta")
    assert report.reasoning_tokens == last.response.usage.output_tokens_details.reasoning_tokens
    assert report.cached_input_tokens == last.response.usage.input_tokens_details.cached_tokens


def test_messages() -> None:
    """Text, thinking, counts and stop reason are those that the SDK accumulates."""
    with (
        anthropic.Anthropic(
            api_key="k", base_url="http://127.0.0.1", http_client=answering(MESSAGES), max_retries=0
        ) as client,
        client.messages.stream(model="m", max_tokens=64, messages=[]) as stream,
    ):
        message = stream.get_final_message()
    thinking, text = message.content
    assert isinstance(thinking, anthropic.types.ThinkingBlock)
    assert isinstance(text, anthropic.types.TextBlock)
    events = events_of(MessagesDecoder(), [MESSAGES])

    assert visible(events) == text.text
    assert reasoning(events) == thinking.thinking
    assert of_type(Usage, events)[-1].output_tokens == message.usage.output_tokens
    assert [event.reason for event in of_type(Finish, events)] == [message.stop_reason]
