"""What Vertex AI makes of others' formats: Claude's Messages and the Chat Completions of its open models.

Source: Google Cloud's documentation, "Claude models" and "Call open models with the Chat Completions API".
"""

from __future__ import annotations

import re

from llmbench.simulator.apis.anthropic_messages import Messages
from llmbench.simulator.apis.base import Call, bad_request, first_problem
from llmbench.simulator.apis.openai_chat import ChatCompletions
from llmbench.simulator.problems import Problem

_VERSION = re.compile(r"vertex-2023-10-16|\d{4}-\d\d-\d\d")
"""The one that is documented, or a date, as Anthropic's own SDK has it since its version 2."""


class VertexMessages(Messages):
    """``POST …/publishers/anthropic/models/{model}:streamRawPredict``: the version is in the body, the model is not."""

    def refuse(self, call: Call) -> Problem | None:
        return first_problem(_needs_version(call), _no_model_in_body(call), super().refuse(call))


def _needs_version(call: Call) -> Problem | None:
    version = call.body.get("anthropic_version")
    if version is None:
        return bad_request("anthropic_version: Field required", "anthropic_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        return bad_request("anthropic_version: Input should be 'vertex-2023-10-16'", "anthropic_version")
    return None


def _no_model_in_body(call: Call) -> Problem | None:
    return bad_request("model: Extra inputs are not permitted", "model") if "model" in call.body else None


class VertexChat(ChatCompletions):
    """``POST …/endpoints/openapi/chat/completions``: a model's name has its publisher in front."""

    def refuse(self, call: Call) -> Problem | None:
        if "/" not in call.model:
            return bad_request(f"Malformed publisher model '{call.model}': expected 'publisher/model'.", "model")
        return super().refuse(call)
