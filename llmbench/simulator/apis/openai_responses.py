"""OpenAI's Responses, as reasoning models are asked. There is no ``[DONE]``: the last event is the terminator.

Source: OpenAI's API reference, "Responses" and "Streaming events".
"""

from __future__ import annotations

from typing import Any

import msgspec

from llmbench.simulator.apis.base import (
    Call,
    EventStream,
    Plan,
    bad_request,
    first_problem,
    named_event,
    needs_stream,
    placeholder,
    token_limit,
)
from llmbench.simulator.apis.openai_chat import is_reasoning_model
from llmbench.simulator.flavours import request_id
from llmbench.simulator.problems import Problem, Subject, error_object


class Responses:
    """``POST …/responses``."""

    def refuse(self, call: Call) -> Problem | None:
        return first_problem(
            None if call.body.get("input") else bad_request("Missing required parameter: 'input'.", "input"),
            token_limit(call.body, "max_output_tokens"),
            _unsupported(call),
            needs_stream(call.body),
        )

    def budget(self, call: Call) -> int | None:
        limit = call.body.get("max_output_tokens")
        return limit if isinstance(limit, int) else None

    def prompt(self, call: Call) -> object:
        return call.body.get("input")

    def stream(self, call: Call, plan: Plan) -> EventStream:
        return ResponseStream(call, plan)


def _unsupported(call: Call) -> Problem | None:
    if not call.flavour.openai_rules:
        return None
    names = ["max_tokens", "max_completion_tokens"]
    if is_reasoning_model(call.model):
        names.append("temperature")
    for name in names:
        if call.body.get(name) is not None:
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            return bad_request(message, name, "unsupported_parameter")
    return None


class _Numbered:
    """A delta event, encoded once but for its text and its sequence number."""

    __slots__ = ("_parts",)

    def __init__(self, payload: dict[str, Any]) -> None:
        marker = placeholder().encode()
        event = named_event({**payload, "sequence_number": placeholder(), "delta": placeholder()})
        head, middle, tail = event.split(marker)
        self._parts = (head[:-1], middle[1:], tail)  # the number goes in without the marker's quotes

    def fill(self, number: int, text: bytes) -> bytes:
        head, middle, tail = self._parts
        return b"%b%d%b%b%b" % (head, number, middle, text, tail)


class ResponseStream:
    """The events of one answer: at most a reasoning item, then a message."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan
        self._number = 0
        self._texts: list[bytes] = []
        self._summary: list[bytes] = []
        self._output: list[dict[str, Any]] = []
        suffix = f"sim{call.sequence:020d}"
        self._response_id, self._message_id, self._reasoning_id = f"resp_{suffix}", f"msg_{suffix}", f"rs_{suffix}"
        place = {"item_id": self._message_id, "output_index": 1 if plan.reasoning else 0, "content_index": 0}
        self._visible = _Numbered({"type": "response.output_text.delta", **place, "logprobs": []})
        place = {"item_id": self._reasoning_id, "output_index": 0, "summary_index": 0}
        self._reasoning = _Numbered({"type": "response.reasoning_summary_text.delta", **place})

    def opening(self) -> bytes:
        events = self._event("response.created", response=self._response("in_progress"))
        events += self._event("response.in_progress", response=self._response("in_progress"))
        if self._plan.reasoning:
            return events + self._open_reasoning()
        return events + self._open_message() if self._plan.visible else events

    def filler(self) -> bytes:
        return b": keep-alive\n\n"

    def hollow(self) -> bytes:
        return self._event("response.in_progress", response=self._response("in_progress"))

    def reasoning(self, text: bytes) -> bytes:
        self._summary.append(text)
        return self._reasoning.fill(self._next(), text)

    def turn(self) -> bytes:
        return self._close_reasoning() + self._open_message()

    def visible(self, text: bytes) -> bytes:
        self._texts.append(text)
        return self._visible.fill(self._next(), text)

    def finish(self) -> bytes:
        if self._plan.visible:
            return self._close_message()
        return self._close_reasoning() if self._plan.reasoning else b""

    def terminator(self) -> bytes:
        if self._plan.exhausted:
            details = {"reason": "max_output_tokens"}
            response = self._response("incomplete", incomplete_details=details, usage=self._usage())
            return self._event("response.incomplete", response=response)
        return self._event("response.completed", response=self._response("completed", usage=self._usage()))

    def error(self, problem: Problem, *, first: bool) -> bytes:
        subject = Subject(self._call.model, "", request_id(self._call.flavour, self._call.sequence))
        error = error_object(self._call.flavour.errors, problem, subject)
        code = str(error.get("code") or error.get("type"))
        if first:
            return self._event("error", code=code, message=error["message"], param=problem.param)
        failed = self._response("failed", error={"code": code, "message": error["message"]})
        return self._event("response.failed", response=failed)

    def error_text(self, text: str) -> bytes:
        return self._event("error", code=None, message=text, param=None)

    def _next(self) -> int:
        number = self._number
        self._number += 1
        return number

    def _event(self, kind: str, **fields: Any) -> bytes:
        return named_event({"type": kind, "sequence_number": self._next(), **fields})

    def _open_reasoning(self) -> bytes:
        item = {"id": self._reasoning_id, "type": "reasoning", "summary": []}
        part = {"type": "summary_text", "text": ""}
        place = {"item_id": self._reasoning_id, "output_index": 0, "summary_index": 0}
        return self._event("response.output_item.added", output_index=0, item=item) + self._event(
            "response.reasoning_summary_part.added", **place, part=part
        )

    def _close_reasoning(self) -> bytes:
        text = _unescape(self._summary)
        part = {"type": "summary_text", "text": text}
        item = {"id": self._reasoning_id, "type": "reasoning", "summary": [part]}
        self._output.append(item)
        place = {"item_id": self._reasoning_id, "output_index": 0, "summary_index": 0}
        return (
            self._event("response.reasoning_summary_text.done", **place, text=text)
            + self._event("response.reasoning_summary_part.done", **place, part=part)
            + self._event("response.output_item.done", output_index=0, item=item)
        )

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id, "output_index": len(self._output), "content_index": 0}

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _open_message(self) -> bytes:
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = self._message("in_progress", [])
        return self._event("response.output_item.added", output_index=len(self._output), item=item) + self._event(
            "response.content_part.added", **self._place(), part=part
        )

    def _close_message(self) -> bytes:
        text = _unescape(self._texts)
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = self._message("incomplete" if self._plan.exhausted else "completed", [part])
        events = self._event("response.output_text.done", **self._place(), text=text, logprobs=[])
        events += self._event("response.content_part.done", **self._place(), part=part)
        events += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        return events

    def _response(self, status: str, **more: Any) -> dict[str, Any]:
        return {
            "id": self._response_id,
            "object": "response",
            "created_at": self._call.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": self._call.body.get("max_output_tokens"),
            "metadata": {},
            "model": self._call.model,
            "output": list(self._output),
            "parallel_tool_calls": True,
            "reasoning": self._call.body.get("reasoning") or {"effort": None, "summary": None},
            "service_tier": "default",
            "store": self._call.body.get("store", True),
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": None,
            **more,
        }

    def _usage(self) -> dict[str, Any] | None:
        plan = self._plan
        if not plan.report_usage:
            return None
        return {
            "input_tokens": plan.input,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": plan.output,
            "output_tokens_details": {"reasoning_tokens": plan.reasoning},
            "total_tokens": plan.input + plan.output,
        }


def _unescape(texts: list[bytes]) -> str:
    return msgspec.json.decode(b'"%b"' % b"".join(texts), type=str)
