"""Anthropic's Messages. Source: Anthropic's API reference, "Messages" and "Streaming messages"."""

from __future__ import annotations

from typing import Any

from llmbench.simulator.apis.base import (
    Call,
    EventStream,
    Plan,
    Template,
    bad_request,
    first_problem,
    named_event,
    needs_stream,
    placeholder,
)
from llmbench.simulator.flavours import request_id
from llmbench.simulator.problems import Problem, Subject, error_body


class Messages:
    """``POST …/messages``."""

    def refuse(self, call: Call) -> Problem | None:
        return first_problem(_needs_max_tokens(call.body), _needs_messages(call.body), needs_stream(call.body))

    def budget(self, call: Call) -> int | None:
        limit: int = call.body["max_tokens"]
        return limit

    def prompt(self, call: Call) -> object:
        return call.body.get("messages")

    def stream(self, call: Call, plan: Plan) -> EventStream:
        return MessageStream(call, plan)


def _needs_max_tokens(body: dict[str, Any]) -> Problem | None:
    value = body.get("max_tokens")
    if value is None:
        return bad_request("max_tokens: Field required", "max_tokens")
    if not isinstance(value, int) or isinstance(value, bool):
        return bad_request("max_tokens: Input should be a valid integer", "max_tokens")
    if value < 1:
        return bad_request("max_tokens: Input should be greater than or equal to 1", "max_tokens")
    return None


def _needs_messages(body: dict[str, Any]) -> Problem | None:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return bad_request("messages: Field required", "messages")
    return None if messages else bad_request("messages: at least one message is required", "messages")


class MessageStream:
    """The events of one answer: at most a thinking block, then a text block."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan
        self._block = 0
        self._visible = self._delta("text_delta", "text", 1 if plan.reasoning else 0)
        self._reasoning = self._delta("thinking_delta", "thinking", 0)

    @staticmethod
    def _delta(kind: str, field: str, index: int) -> Template:
        delta = {"type": kind, field: placeholder()}
        return Template(named_event({"type": "content_block_delta", "index": index, "delta": delta}))

    def opening(self) -> bytes:
        start = named_event({"type": "message_start", "message": self._message()})
        if self._plan.reasoning:
            start += self._start_block({"type": "thinking", "thinking": "", "signature": ""})
        elif self._plan.visible:
            start += self._start_block({"type": "text", "text": ""})
        return start + self.filler()

    def filler(self) -> bytes:
        return named_event({"type": "ping"})

    def hollow(self) -> bytes:
        return b": keep-alive\n\n" + self.filler()

    def reasoning(self, text: bytes) -> bytes:
        return self._reasoning.fill(text)

    def turn(self) -> bytes:
        ended = self._stop_thinking()
        self._block = 1
        return ended + self._start_block({"type": "text", "text": ""})

    def visible(self, text: bytes) -> bytes:
        return self._visible.fill(text)

    def finish(self) -> bytes:
        delta = {"stop_reason": "max_tokens" if self._plan.exhausted else "end_turn", "stop_sequence": None}
        event: dict[str, Any] = {"type": "message_delta", "delta": delta}
        if self._plan.report_usage:
            event["usage"] = self._usage()
        return self._stop_last_block() + named_event(event)

    def terminator(self) -> bytes:
        return named_event({"type": "message_stop"})

    def error(self, problem: Problem, *, first: bool) -> bytes:
        subject = Subject(self._call.model, "", request_id(self._call.flavour, self._call.sequence))
        return named_event(error_body("anthropic", problem, subject))

    def error_text(self, text: str) -> bytes:
        return named_event({"type": "error", "error": text})

    def _start_block(self, block: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_start", "index": self._block, "content_block": block})

    def _stop_block(self) -> bytes:
        return named_event({"type": "content_block_stop", "index": self._block})

    def _stop_thinking(self) -> bytes:
        delta = {"type": "signature_delta", "signature": "c2ltdWxhdGVk"}
        return named_event({"type": "content_block_delta", "index": 0, "delta": delta}) + self._stop_block()

    def _stop_last_block(self) -> bytes:
        if self._plan.visible:
            return self._stop_block()
        return self._stop_thinking() if self._plan.reasoning else b""

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "id": f"msg_sim{self._call.sequence:020d}",
            "type": "message",
            "role": "assistant",
            "model": self._call.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        if self._plan.report_usage:
            message["usage"] = {**self._input_usage(), "output_tokens": 1, "service_tier": "standard"}
        return message

    def _input_usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self._plan.input,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        }

    def _usage(self) -> dict[str, Any]:
        usage = {**self._input_usage(), "output_tokens": self._plan.output}
        if self._plan.reasoning:
            usage["output_tokens_details"] = {"thinking_tokens": self._plan.reasoning}
        return usage
