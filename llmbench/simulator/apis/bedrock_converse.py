"""Amazon Bedrock's ConverseStream. Source: the Bedrock Runtime API reference, "ConverseStream".

Its events are frames (`eventstream`), each with a JSON payload that ends in a padding member ``p``.
"""

from __future__ import annotations

import re
import string
from typing import Any

from llmbench.simulator import eventstream
from llmbench.simulator.apis.base import Call, EventStream, Plan, bad_request, encode, first_problem, placeholder
from llmbench.simulator.eventstream import FrameTemplate, encode_headers, frame
from llmbench.simulator.problems import Problem, Subject, message_of, type_of

_PADDING = string.ascii_letters + string.digits
_ONLY_BY_PROFILE = re.compile(r"anthropic\..*")
"""Ids of models that answer through an inference profile only, whose id has a geography in front."""
_NO_USER_MESSAGE = (
    "A conversation must start with a user message. Try again with a conversation that starts with a user message."
)
_THREE_EFFORTS = ("low", "medium", "high")
_REASONING = (
    (
        re.compile(r"anthropic\.claude-"),
        {
            "thinking.type": ("enabled", "disabled", "adaptive"),
            "thinking.display": ("summarized", "omitted"),
            "output_config.effort": (*_THREE_EFFORTS, "xhigh", "max"),
        },
    ),
    (
        re.compile(r"amazon\.nova-2-"),
        {"reasoningConfig.type": ("enabled", "disabled"), "reasoningConfig.maxReasoningEffort": _THREE_EFFORTS},
    ),
    (re.compile(r"openai\.gpt-oss-"), {"reasoning_effort": _THREE_EFFORTS}),
)
"""What each family takes among ``additionalModelRequestFields``."""
_ONLY_ADAPTIVE = re.compile(r"anthropic\.claude-(?:opus-4-7|fable|mythos)")
_HIDES_THINKING = re.compile(r"anthropic\.claude-(?:fable|mythos|(?:opus|sonnet|haiku)-(?:4-[7-9]|[5-9]))")
"""Claude since 4.7 sends the signature of its thinking, and no text unless that is asked for."""
_IN_STREAM = {
    "internalServerException",
    "modelStreamErrorException",
    "modelTimeoutException",
    "serviceUnavailableException",
    "throttlingException",
    "validationException",
}
"""The exceptions that a stream can hold; any other is ``modelStreamErrorException`` there."""


class ConverseStream:
    """``POST …/model/{modelId}/converse-stream``."""

    def refuse(self, call: Call) -> Problem | None:
        return first_problem(
            _needs_profile(call.model),
            _needs_messages(call.body),
            _token_limit(call.body),
            _unknown_reasoning(call),
        )

    def budget(self, call: Call) -> int | None:
        limit: int | None = call.body.get("inferenceConfig", {}).get("maxTokens")
        return limit

    def prompt(self, call: Call) -> object:
        return [call.body.get("system"), call.body.get("messages")]

    def stream(self, call: Call, plan: Plan) -> EventStream:
        return ConverseEvents(call, plan)


def _needs_profile(model: str) -> Problem | None:
    if _ONLY_BY_PROFILE.fullmatch(model) is None:
        return None
    return bad_request(
        f"Invocation of model ID {model} with on-demand throughput isn\u2019t supported. Retry your request with the ID"
        " or ARN of an inference profile that contains this model."
    )


def _violation(value: str, path: str, constraint: str) -> Problem:
    return bad_request(
        f"1 validation error detected: Value {value} at '{path}' failed to satisfy constraint: Member must {constraint}"
    )


def _needs_messages(body: dict[str, Any]) -> Problem | None:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return _violation("null", "messages", "not be null")
    if not messages:
        return bad_request(_NO_USER_MESSAGE)
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), list):
            return _violation("null", f"messages.{number}.member.content", "not be null")
    return None


def _token_limit(body: dict[str, Any]) -> Problem | None:
    config = body.get("inferenceConfig", {})
    if not isinstance(config, dict):
        return bad_request("Unexpected field type")
    value = config.get("maxTokens")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        return bad_request(f"{type(value).__name__.upper()} value cannot be converted to Integer")
    if value < 1:
        return _violation(f"'{value}'", "inferenceConfig.maxTokens", "have value greater than or equal to 1")
    return None


def _more(call: Call, path: str) -> object:
    """Return what stands at a dotted path in the fields that only some models know."""
    value: object = call.body.get("additionalModelRequestFields")
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _unknown_reasoning(call: Call) -> Problem | None:
    known = next((known for ids, known in _REASONING if ids.search(call.model)), {})
    for path, words in known.items():
        value = _more(call, path)
        if path == "thinking.type" and _ONLY_ADAPTIVE.search(call.model):
            words = ("adaptive",)
        if value is not None and value not in words:
            wanted = " or ".join(f"'{word}'" for word in words)
            return bad_request(f"The model returned the following errors: {path}: Input should be {wanted}")
    return None


def _event_headers(event: str) -> bytes:
    return encode_headers({":event-type": event, ":content-type": "application/json", ":message-type": "event"})


def _padded(payload: dict[str, Any]) -> bytes:
    """Return the payload with padding, which hides from an eavesdropper how long a token is."""
    return encode({**payload, "p": _PADDING[: 8 + len(payload) * 7]})


def _event(event: str, **payload: Any) -> bytes:
    return frame(_event_headers(event), _padded(payload))


class ConverseEvents:
    """The frames of one answer: at most a block of reasoning, then a block of text."""

    content_type = eventstream.CONTENT_TYPE

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan
        self._text_block = 1 if plan.reasoning else 0
        self._visible = self._template({"text": placeholder()}, self._text_block)
        hidden = _HIDES_THINKING.search(call.model) and _more(call, "thinking.display") != "summarized"
        self._hides_reasoning = bool(hidden)
        self._reasoning = self._template({"reasoningContent": {"text": placeholder()}}, 0)

    @staticmethod
    def _template(delta: dict[str, Any], block: int) -> FrameTemplate:
        payload = _padded({"contentBlockIndex": block, "delta": delta})
        return FrameTemplate(_event_headers("contentBlockDelta"), *payload.split(placeholder().encode()))

    def opening(self) -> bytes:
        return _event("messageStart", role="assistant")

    def filler(self) -> bytes:
        """Frames have no comments: this is an event of a type that no client knows, as a later API may send it."""
        return _event("simulatedPing")

    def hollow(self) -> bytes:
        return _event("contentBlockDelta", contentBlockIndex=0, delta={"text": ""})

    def reasoning(self, text: bytes) -> bytes:
        return b"" if self._hides_reasoning else self._reasoning.fill(text)

    def turn(self) -> bytes:
        delta = {"reasoningContent": {"signature": "c2ltdWxhdGVk"}}
        return _event("contentBlockDelta", contentBlockIndex=0, delta=delta) + self._stop(0)

    def visible(self, text: bytes) -> bytes:
        return self._visible.fill(text)

    def finish(self) -> bytes:
        reason = "max_tokens" if self._plan.exhausted else "end_turn"
        return self._stop_last_block() + _event("messageStop", stopReason=reason)

    def terminator(self) -> bytes:
        metadata: dict[str, Any] = {"metrics": {"latencyMs": self._latency_ms()}}
        if self._plan.report_usage:
            metadata["usage"] = self._usage()
        return _event("metadata", **metadata)

    def error(self, problem: Problem, *, first: bool) -> bytes:
        errors = self._call.flavour.errors
        name = type_of(errors, problem)
        name = name[:1].lower() + name[1:]
        payload = {"message": message_of(errors, problem, Subject(self._call.model, "", ""))}
        headers = {
            ":exception-type": name if name in _IN_STREAM else "modelStreamErrorException",
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        return frame(encode_headers(headers), encode(payload))

    def error_text(self, text: str) -> bytes:
        headers = {":error-code": "InternalError", ":error-message": text, ":message-type": "error"}
        return frame(encode_headers(headers), b"")

    @staticmethod
    def _stop(block: int) -> bytes:
        return _event("contentBlockStop", contentBlockIndex=block)

    def _stop_last_block(self) -> bytes:
        if self._plan.visible:
            return self._stop(self._text_block)
        return self.turn() if self._plan.reasoning else b""

    def _latency_ms(self) -> int:
        return round((self._plan.prompt_seconds + self._plan.completion_seconds) * 1000)

    def _usage(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "inputTokens": plan.input,
            "outputTokens": plan.output,
            "totalTokens": plan.input + plan.output,
            "cacheReadInputTokens": 0,
            "cacheWriteInputTokens": 0,
            "serverToolUsage": {},
        }
