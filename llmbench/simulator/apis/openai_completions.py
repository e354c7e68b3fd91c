"""OpenAI's legacy Completions, which its ``*-instruct`` models have to this day.

Source: OpenAI's API reference, "Completions (legacy)".
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
    needs_stream,
    placeholder,
    token_limit,
)
from llmbench.simulator.flavours import request_id
from llmbench.simulator.problems import Problem, Subject, error_object

_DEFAULT_BUDGET = 16
"""The real API's default for ``max_tokens``."""


class Completions:
    """``POST …/completions``."""

    def refuse(self, call: Call) -> Problem | None:
        return first_problem(
            _not_a_chat_model(call),
            token_limit(call.body, "max_tokens"),
            None if call.body.get("prompt") else bad_request("you must provide a prompt parameter", "prompt"),
            needs_stream(call.body),
        )

    def budget(self, call: Call) -> int | None:
        limit = call.body.get("max_tokens")
        return limit if isinstance(limit, int) else _DEFAULT_BUDGET

    def prompt(self, call: Call) -> object:
        return call.body.get("prompt")

    def stream(self, call: Call, plan: Plan) -> EventStream:
        return CompletionStream(call, plan)


def _not_a_chat_model(call: Call) -> Problem | None:
    if not call.flavour.openai_rules or call.behaviour.instruct:
        return None
    message = (
        "This is a chat model and not supported in the v1/completions endpoint."
        " Did you mean to use v1/chat/completions?"
    )
    return Problem("no_model", message=message, param="model")


class CompletionStream:
    """The chunks of one answer. The format knows no reasoning."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan
        options = call.body.get("stream_options")
        self._usage_asked = isinstance(options, dict) and options.get("include_usage") is True
        self._visible = Template(self._chunk(placeholder()))

    def opening(self) -> bytes:
        return self.filler() if self._call.flavour.always_comments else b""

    def filler(self) -> bytes:
        return b": %b\n\n" % self._call.flavour.comment.encode()

    def hollow(self) -> bytes:
        return self._chunk("")

    def reasoning(self, text: bytes) -> bytes:
        return b""

    def turn(self) -> bytes:
        return b""

    def visible(self, text: bytes) -> bytes:
        return self._visible.fill(text)

    def finish(self) -> bytes:
        asked_apart = self._usage_asked and self._call.flavour.usage != "finish"
        with_reason = self._plan.report_usage and not asked_apart
        more = {"usage": self._usage()} if with_reason and self._call.flavour.usage == "finish" else {}
        last = self._chunk("", "length" if self._plan.exhausted else "stop", **more)
        if asked_apart and self._plan.report_usage:
            last += data_event(self._payload([], usage=self._usage()))
        return last

    def terminator(self) -> bytes:
        return b"data: [DONE]\n\n"

    def error(self, problem: Problem, *, first: bool) -> bytes:
        subject = Subject(self._call.model, "", request_id(self._call.flavour, self._call.sequence))
        return data_event({"error": error_object(self._call.flavour.errors, problem, subject)})

    def error_text(self, text: str) -> bytes:
        return data_event({"error": text})

    def _chunk(self, text: str, finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
        return data_event(self._payload([choice], **more))

    def _payload(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": f"cmpl-sim{self._call.sequence:020d}",
            "object": "text_completion",
            "created": self._call.created,
            "choices": choices,
            "model": self._call.model,
            **more,
        }

    def _usage(self) -> dict[str, int]:
        plan = self._plan
        return {
            "prompt_tokens": plan.input,
            "completion_tokens": plan.output,
            "total_tokens": plan.input + plan.output,
        }
