"""Legacy Completions streams (``/v1/completions``): chunks as in Chat Completions, their text in ``choices[].text``.

Source: OpenAI's API reference, "Completions".
"""

from __future__ import annotations

import msgspec

from llmbench.wire.events import Event, TextDelta
from llmbench.wire.openai_chat import Choice, Chunk, ChunkDecoder


class _CompletionChoice(Choice, gc=False):
    text: str | None = None


class CompletionsDecoder(ChunkDecoder[_CompletionChoice]):
    """Decodes a legacy Completions stream."""

    _chunks = msgspec.json.Decoder(Chunk[_CompletionChoice])

    def _text(self, choice: _CompletionChoice, events: list[Event]) -> None:
        if choice.text:
            events.append(TextDelta(choice.text))
