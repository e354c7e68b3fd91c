"""Legacy Completions streams."""

from __future__ import annotations

from llmbench.wire.events import End, Event, Finish, Identity, StreamFault, TextDelta, Usage
from llmbench.wire.openai_completions import CompletionsDecoder
from tests.wire.streams import COMPLETIONS
from tests.wire.support import data, events_of


def decoded(body: bytes) -> list[Event]:
    return events_of(CompletionsDecoder(), [body])


def test_a_completion_gives_its_text_and_its_account() -> None:
    """The text is that of `choices[].text`; all else is as in a chat chunk."""
    assert decoded(COMPLETIONS) == [
        Identity(response_id="cmpl-9x", served_model="gpt-3.5-turbo-instruct:20230824-v2"),
        TextDelta("\n\nRivers"),
        TextDelta(" move"),
        Finish("length"),
        Usage(input_tokens=4, output_tokens=64, total_tokens=68),
        End(),
    ]


def test_a_choice_without_text_is_no_token() -> None:
    """Null and missing text, and a chat delta where it does not belong, are nothing to see."""
    assert decoded(data({"choices": [{"text": None}, {}, {"delta": {"content": "a"}}]})) == []


def test_an_error_is_a_fault() -> None:
    """Errors are those of a chat stream."""
    assert decoded(data({"error": {"message": "no", "code": "x"}})) == [StreamFault(message="no", code="x")]
