"""Gemini's streamGenerateContent, as Vertex AI has it.

A chunk is a whole response object; the one with the finish reason is the last, there is no terminator. Source: Google
Cloud's reference, "GenerateContentResponse" and "GenerationConfig".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from llmbench.simulator.apis.base import (
    Call,
    EventStream,
    Plan,
    Template,
    bad_request,
    data_event,
    first_problem,
    placeholder,
)
from llmbench.simulator.behaviour import MAX_TOKENS
from llmbench.simulator.flavours import request_id
from llmbench.simulator.problems import Problem, Subject, error_object

_BODY = {
    "cachedContent": str, "contents": list, "generationConfig": dict, "labels": dict, "modelArmorConfig": dict,
    "safetySettings": list, "systemInstruction": dict, "toolConfig": dict, "tools": list,
}  # fmt: skip
_CONFIG = {
    "audioTimestamp": bool, "candidateCount": int, "frequencyPenalty": float, "logprobs": int, "maxOutputTokens": int,
    "mediaResolution": str, "presencePenalty": float, "responseLogprobs": bool, "responseMimeType": str,
    "responseModalities": list, "responseSchema": dict, "routingConfig": dict, "seed": int, "speechConfig": dict,
    "stopSequences": list, "temperature": float, "thinkingConfig": dict, "topK": float, "topP": float,
}  # fmt: skip
_THINKING = {"includeThoughts": bool, "thinkingBudget": int, "thinkingLevel": str}
_TYPE_NAMES = {
    bool: "TYPE_BOOL", int: "TYPE_INT32", float: "TYPE_DOUBLE", str: "TYPE_STRING", list: "list", dict: "message",
}  # fmt: skip
_RANGES = {"maxOutputTokens": (1, MAX_TOKENS + 1), "temperature": (0, 2.0001)}
Fields = dict[str, Any]


class GenerateContent:
    """``POST …/publishers/google/models/{model}:streamGenerateContent?alt=sse``."""

    def refuse(self, call: Call) -> Problem | None:
        return _misshapen(call) or _out_of_range(_config(call))

    def budget(self, call: Call) -> int | None:
        limit = _config(call).get("maxOutputTokens")
        return limit if isinstance(limit, int) else None

    def prompt(self, call: Call) -> object:
        return _camel(call.body).get("contents")

    def stream(self, call: Call, plan: Plan) -> EventStream:
        return GeminiStream(call, plan)


def _camel(fields: object) -> Fields:
    """Return an object's fields by their JSON names, for Google takes those of its protocol buffers too."""
    if not isinstance(fields, dict):
        return {}
    return {re.sub("_([a-z])", lambda match: match[1].upper(), name): value for name, value in fields.items()}


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)


def _config(call: Call) -> Fields:
    return _camel(_camel(call.body).get("generationConfig"))


def _thinking(call: Call) -> Fields:
    return _camel(_config(call).get("thinkingConfig"))


def _misshapen(call: Call) -> Problem | None:
    return first_problem(
        _needs_sse(call),
        _wrong_field(call.body, _BODY, ""),
        _wrong_field(_config(call), _CONFIG, "generation_config."),
        _wrong_field(_thinking(call), _THINKING, "generation_config.thinking_config."),
        _wrong_contents(_camel(call.body).get("contents")),
    )


def _needs_sse(call: Call) -> Problem | None:
    """Without it the real API answers with one long JSON list, which the simulator does not."""
    if call.query.get("alt") != "sse":
        return bad_request("The simulator only streams server-sent events: add ?alt=sse to the address.", "alt")
    return None


def _wrong_field(fields: Fields, types: Mapping[str, type], prefix: str) -> Problem | None:
    """Object to a field that does not exist, or whose value has the wrong type."""
    for name, value in _camel(fields).items():
        path = prefix + _snake(name)
        if name not in types:
            at = f" at '{prefix[:-1]}'" if prefix else ""
            return bad_request(f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.', path)
        if value is not None and not _has_type(value, types[name]):
            return bad_request(f"Invalid value at '{path}' ({_TYPE_NAMES[types[name]]}), {value!r}", path)
    return None


def _has_type(value: object, kind: type) -> bool:
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _wrong_contents(contents: object) -> Problem | None:
    if not isinstance(contents, list) or not contents:
        return bad_request("Unable to submit request because at least one contents field is required.", "contents")
    for content in contents:
        if not isinstance(content, dict) or content.get("role") not in ("user", "model"):
            return bad_request("Please use a valid role: user, model.", "contents")
        if not isinstance(content.get("parts"), list) or not content["parts"]:
            return bad_request("Unable to submit request because it must include at least one parts field.", "contents")
    return None


def _out_of_range(config: Fields) -> Problem | None:
    for name, (low, high) in _RANGES.items():
        value = config.get(name)
        if value is not None and not low <= value < high:
            message = (
                f"Unable to submit request because it has a {name} value of {value} but the supported range is from"
                f" {low} (inclusive) to {high} (exclusive). Update the value and try again."
            )
            return bad_request(message, f"generation_config.{_snake(name)}")
    return None


class GeminiStream:
    """The chunks of one answer. Thoughts are counted always and shown only if asked for."""

    content_type = "text/event-stream"

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan
        self._about = {
            "modelVersion": call.model,
            "createTime": datetime.fromtimestamp(call.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
            "responseId": f"sim{call.sequence:020d}",
        }
        self._visible = Template(self._chunk([{"text": placeholder()}]))
        shown = _thinking(call).get("includeThoughts") is True
        self._reasoning = Template(self._chunk([{"text": placeholder(), "thought": True}])) if shown else None

    def opening(self) -> bytes:
        return b""

    def filler(self) -> bytes:
        return b": keep-alive\n\n"

    def hollow(self) -> bytes:
        return self._chunk([{"text": ""}]) + self._chunk([])

    def reasoning(self, text: bytes) -> bytes:
        return self._reasoning.fill(text) if self._reasoning else b""

    def turn(self) -> bytes:
        return b""

    def visible(self, text: bytes) -> bytes:
        return self._visible.fill(text)

    def finish(self) -> bytes:
        return b""

    def terminator(self) -> bytes:
        """Return the chunk with the finish reason: the format has no other end. A blocked prompt has no candidates."""
        if self._call.behaviour.fails_with("blocked"):
            feedback = {"blockReason": "PROHIBITED_CONTENT"}
            return data_event({"promptFeedback": feedback, "usageMetadata": self._counts(), **self._about})
        reason = "MAX_TOKENS" if self._plan.exhausted else "STOP"
        return self._chunk([{"text": ""}] if self._plan.visible else [], finish=reason, usage=self._counts())

    def error(self, problem: Problem, *, first: bool) -> bytes:
        subject = Subject(self._call.model, "", request_id(self._call.flavour, self._call.sequence))
        return data_event({"error": error_object("google", problem, subject)})

    def error_text(self, text: str) -> bytes:
        return data_event({"error": text})

    def _chunk(self, parts: list[Fields], *, finish: str | None = None, usage: Fields | None = None) -> bytes:
        content: Fields = {"role": "model", "parts": parts} if parts else {"role": "model"}
        candidate: Fields = {"content": content, "finishReason": finish} if finish else {"content": content}
        payload: Fields = {"candidates": [candidate]}
        if self._plan.report_usage:
            payload["usageMetadata"] = {**(usage or {}), "trafficType": "ON_DEMAND"}
        return data_event({**payload, **self._about})

    def _counts(self) -> Fields:
        """Return the token counts; as everywhere in protocol buffers, a zero is left out."""
        plan = self._plan
        counts = {
            "promptTokenCount": plan.input,
            "candidatesTokenCount": plan.output - plan.reasoning,
            "thoughtsTokenCount": plan.reasoning,
            "totalTokenCount": plan.input + plan.output,
        }
        return {name: count for name, count in counts.items() if count}
