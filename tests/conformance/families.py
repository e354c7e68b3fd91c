"""The families that the suite puts through every scenario: one line each.

What sets a family apart is in the scenarios, under its name or its mode; a new one begins with all that hold for its
mode, and for everyone.
"""

from __future__ import annotations

from tests.runs import CHAT, COMPLETIONS, CONVERSE, GEMINI, MESSAGES, RESPONSES, VERTEX_CLAUDE, VERTEX_MAAS, Family

COMPATIBLE = tuple(
    Family("chat", name, "maker/")
    for name in ("groq", "together", "fireworks", "deepinfra", "cerebras", "openrouter", "local")
)
"""One format, and each provider's own errors, reasoning and usage; ``local`` has no preset."""

FAMILIES = (CHAT, RESPONSES, COMPLETIONS, MESSAGES, CONVERSE, GEMINI, VERTEX_CLAUDE, VERTEX_MAAS, *COMPATIBLE)

PATHS = (CHAT, MESSAGES, CONVERSE, GEMINI, VERTEX_CLAUDE)
"""One family for each SDK's way to the socket: openai, anthropic, aioboto3, google-genai, anthropic for Vertex."""
