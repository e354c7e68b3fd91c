"""OpenAI's Chat Completions, and what its many imitators do otherwise.

Source: OpenAI's API reference, "Chat" and "The chat completion chunk object"; the providers' references for the rest.
"""

from __future__ import annotations

from typing import Any

from llmbench.simulator.apis.base import (
    Call,
    EventStream,
    Plan,
    Template,
    bad_request,
    data_event,
    first_problem,
    needs_list,
    needs_stream,
    placeholder,
    token_limit,
)
from llmbench.simulator.flavours import request_id
from llmbench.simulator.problems import Problem, Subject, error_object

_REASONING_MODELS = ("o1", "o3", "o4", "gpt-5")


def is_reasoning_model(model: str) -> bool:
    """Whether OpenAI treats a model of this name as a reasoning model."""
    return model.startswith(_REASONING_MODELS)


class ChatCompletions:
    """``POST …/chat/completions``."""

    def refuse(self, call: Call) -> Problem | None:
        return first_problem(
            needs_list(call.body, "messages"),
            token_limit(call.body, "max_tokens", "max_completion_tokens"),
            _openai_rules(call) if call.flavour.openai_rules else None,
            needs_stream(call.body),
        )

    def budget(self, call: Call) -> int | None:
        limit = call.body.get("max_completion_tokens", call.body.get("max_tokens"))
        return limit if isinstance(limit, int) else None

    def prompt(self, call: Call) -> object:
        return call.body.get("messages")

    def stream(self, call: Call, plan: Plan) -> EventStream:
        return ChatStream(call, plan)


def _openai_rules(call: Call) -> Problem | None:
    body = call.body
    if call.behaviour.instruct:
        message = (
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
            " Did you mean to use v1/completions?"
        )
        return Problem("no_model", message=message, param="model")
    if "max_tokens" in body and "max_completion_tokens" in body:
        return bad_request(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", "max_tokens"
        )
    return _reasoning_rules(body) if is_reasoning_model(call.model) else None


def _reasoning_rules(body: dict[str, Any]) -> Problem | None:
    if "max_tokens" in body:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return bad_request(message, "max_tokens", "unsupported_parameter")
    temperature = body.get("temperature")
    if temperature is not None and temperature != 1:
        message = (
            f"Unsupported value: 'temperature' does not support {temperature} with this model."
            " Only the default (1) value is supported."
        )
        return bad_request(message, "temperature", "unsupported_value")
    return None


class ChatStream:
    """The chunks of one answer."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan
        self._id = f"chatcmpl-sim{call.sequence:020d}"
        options = call.body.get("stream_options")
        self._usage_asked = isinstance(options, dict) and options.get("include_usage") is True
        self._x_groq = call.flavour.usage == "x_groq" or call.behaviour.x_groq
        self._visible = Template(self._chunk({"content": placeholder()}))
        self._thinking = False
        reasoning = "content" if call.behaviour.think else call.flavour.reasoning
        self._reasoning = Template(self._chunk({reasoning: placeholder()})) if reasoning else None

    def opening(self) -> bytes:
        comment = self.filler() if self._call.flavour.always_comments else b""
        more: dict[str, Any] = {"x_groq": {"id": self._request_id()}} if self._x_groq else {}
        return comment + self._chunk({"role": "assistant", "content": ""}, **more)

    def filler(self) -> bytes:
        return b": %b\n\n" % self._call.flavour.comment.encode()

    def hollow(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""}) + self._chunk({"content": ""}) + self._chunk({})

    def reasoning(self, text: bytes) -> bytes:
        if self._reasoning is None:
            return b""
        if not self._call.behaviour.think or self._thinking:
            return self._reasoning.fill(text)
        self._thinking = True
        return self._reasoning.fill(b"<thi") + self._reasoning.fill(rb"nk>\n" + text)

    def turn(self) -> bytes:
        if not self._thinking:
            return b""
        return self._visible.fill(rb"\n</thi") + self._visible.fill(rb"nk>\n\n")

    def visible(self, text: bytes) -> bytes:
        return self._visible.fill(text)

    def finish(self) -> bytes:
        reason = "length" if self._plan.exhausted else "stop"
        last = self._chunk({}, finish_reason=reason, **self._extras())
        if self._usage_asked and self._plan.report_usage and self._call.flavour.usage != "finish":
            last += data_event(self._payload([], usage=self._usage()))
        return last

    def terminator(self) -> bytes:
        return b"data: [DONE]\n\n"

    def error(self, problem: Problem, *, first: bool) -> bytes:
        error = self._error_object(problem)
        match self._call.flavour.name:
            case "groq" if not first:
                return self._chunk({}, x_groq={"id": self._request_id(), "error": error["message"]})
            case "openrouter" if not first:
                return self._chunk({"content": ""}, finish_reason="error", error=error)
            case _:
                return data_event({"error": error})

    def error_text(self, text: str) -> bytes:
        return data_event({"error": text})

    def _error_object(self, problem: Problem) -> dict[str, Any]:
        subject = Subject(self._call.model, "", self._request_id())
        return error_object(self._call.flavour.errors, problem, subject)

    def _request_id(self) -> str:
        return request_id(self._call.flavour, self._call.sequence)

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        if self._usage_asked and self._call.flavour.openai_rules:
            more.setdefault("usage", None)
        return data_event(self._payload([choice], **more))

    def _payload(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._call.created,
            "model": self._call.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
            "choices": choices,
            **more,
        }

    def _extras(self) -> dict[str, Any]:
        """What the chunk with the finish reason holds beside it."""
        plan, extras = self._plan, dict[str, Any]()
        if self._call.flavour.usage == "finish" and plan.report_usage:
            extras["usage"] = self._usage()
        if self._x_groq:
            extras["x_groq"] = {"id": self._request_id()}
            if plan.report_usage:
                extras["x_groq"]["usage"] = {**self._usage(), **self._times()}
        if self._call.flavour.time_info or self._call.behaviour.time_info:
            extras["time_info"] = {**self._times(), "created": self._call.created}
        return extras

    def _usage(self) -> dict[str, Any]:
        plan = self._plan
        usage: dict[str, Any] = {
            "prompt_tokens": plan.input,
            "completion_tokens": plan.output,
            "total_tokens": plan.input + plan.output,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        if plan.reasoning or self._call.flavour.openai_rules:
            usage["completion_tokens_details"] = {"reasoning_tokens": plan.reasoning}
        return usage

    def _times(self) -> dict[str, float]:
        plan = self._plan
        return {
            "queue_time": 0.0005,
            "prompt_time": plan.prompt_seconds,
            "completion_time": plan.completion_seconds,
            "total_time": plan.prompt_seconds + plan.completion_seconds,
        }
