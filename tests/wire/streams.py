"""Bodies as providers send them, written for these tests: every field that a decoder must find or must pass over."""

from __future__ import annotations

from typing import Any

from tests.wire.support import data, typed

DONE = b"data: [DONE]\n\n"


def chunk(
    text: str | None = None, *, finish: str | None = None, delta: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a chat chunk with one choice, its delta given whole or by its text."""
    said = delta if delta is not None else ({} if text is None else {"content": text})
    choice = {"index": 0, "delta": said, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-AbC123",
        "object": "chat.completion.chunk",
        "created": 1762789632,
        "model": "some-model",
        "choices": [choice],
        **more,
    }


def chat(*chunks: dict[str, Any]) -> bytes:
    return b"".join(map(data, chunks)) + DONE


_OPENAI: dict[str, Any] = {
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_51db84afab",
    "usage": None,
}

OPENAI = chat(
    chunk(delta={"role": "assistant", "content": "", "refusal": None}, **_OPENAI, obfuscation="a1"),
    chunk("Rivers", **_OPENAI, obfuscation="b2c"),
    chunk(" move.", **_OPENAI, obfuscation=""),
    chunk(finish="length", **_OPENAI, obfuscation="d"),
    chunk(
        **_OPENAI
        | {
            "choices": [],
            "usage": {
                "prompt_tokens": 21,
                "completion_tokens": 64,
                "total_tokens": 85,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 12, "audio_tokens": 0},
            },
        }
    ),
)

_GROQ_USAGE: dict[str, Any] = {
    "queue_time": 0.0523,
    "prompt_tokens": 44,
    "prompt_time": 0.0021,
    "completion_tokens": 9,
    "completion_time": 0.0123,
    "total_tokens": 53,
    "total_time": 0.0144,
}

GROQ = chat(
    chunk(delta={"role": "assistant", "content": ""}, system_fingerprint="fp_g1", x_groq={"id": "req_01jx"}),
    chunk(delta={"reasoning": "The user wants", "channel": "analysis"}, system_fingerprint="fp_g1"),
    chunk("Rivers", system_fingerprint="fp_g1"),
    chunk(finish="stop", system_fingerprint="fp_g1", x_groq={"id": "req_01jx", "usage": _GROQ_USAGE}),
    chunk(choices=[], system_fingerprint="fp_g1", usage=_GROQ_USAGE),
)

CEREBRAS = chat(
    chunk(delta={"role": "assistant"}, system_fingerprint="fp_c1"),
    chunk(delta={"reasoning": "Hm."}, system_fingerprint="fp_c1"),
    chunk("Rivers", system_fingerprint="fp_c1"),
    chunk(
        finish="stop",
        system_fingerprint="fp_c1",
        usage={
            "prompt_tokens": 20,
            "completion_tokens": 30,
            "total_tokens": 50,
            "prompt_tokens_details": {"cached_tokens": 16},
        },
        time_info={
            "queue_time": 0.00026,
            "prompt_time": 0.0164,
            "completion_time": 0.15,
            "total_time": 0.172,
            "created": 1762789632,
        },
    ),
)

TOGETHER = chat(
    chunk(delta={"role": "assistant", "content": "", "token_id": 49093, "tool_calls": []}, usage=None),
    chunk(delta={"role": "assistant", "content": "Rivers", "reasoning": "", "token_id": 7}, usage=None),
    chunk(
        finish="eos",
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 3,
            "total_tokens": 13,
            "reasoning_tokens": 1,
            "cached_tokens": 8,
        },
        warnings=None,
    ),
)

FIREWORKS = chat(
    chunk(delta={"role": "assistant"}),
    chunk(delta={"reasoning_content": "Think"}),
    chunk("Rivers"),
    chunk(
        finish="length",
        usage={
            "prompt_tokens": 11,
            "total_tokens": 16,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    ),
)

DEEPINFRA = chat(
    chunk(delta={"role": "assistant", "content": ""}),
    chunk("Rivers"),
    chunk(
        "",
        finish="stop",
        usage={
            "prompt_tokens": 12,
            "total_tokens": 14,
            "completion_tokens": 2,
            "prompt_tokens_details": None,
            "estimated_cost": 7.2e-07,
        },
    ),
)

OPENROUTER = b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n" + chat(
    chunk(
        delta={
            "role": "assistant",
            "content": "",
            "reasoning": "Hm.",
            "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "index": 0}],
        }
    ),
    chunk("Rivers", finish="stop"),
    chunk("", usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cost": 0.0001, "is_byok": False}),
)


def completion(text: str, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk of a legacy completion."""
    return {
        "id": "cmpl-9x",
        "object": "text_completion",
        "created": 1762789632,
        "model": "gpt-3.5-turbo-instruct:20230824-v2",
        "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}],
        **more,
    }


COMPLETIONS = chat(
    completion("\n\nRivers", usage=None),
    completion(" move", usage=None),
    completion("", finish="length", usage=None),
    completion("", choices=[], usage={"prompt_tokens": 4, "completion_tokens": 64, "total_tokens": 68}),
)

_RESPONSE: dict[str, Any] = {
    "id": "resp_68f0",
    "object": "response",
    "created_at": 1762789632,
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "model": "gpt-5-mini-2025-08-07",
    "output": [],
    "parallel_tool_calls": True,
    "service_tier": "auto",
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "usage": None,
}

_RESPONSE_USAGE: dict[str, Any] = {
    "input_tokens": 24,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 150,
    "output_tokens_details": {"reasoning_tokens": 128},
    "total_tokens": 174,
}


def response(**changes: Any) -> dict[str, Any]:
    return _RESPONSE | changes


def responses(*payloads: dict[str, Any]) -> bytes:
    """Return a Responses stream, its events numbered."""
    return typed(*({"sequence_number": number, **payload} for number, payload in enumerate(payloads)))


_TEXT_AT: dict[str, Any] = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
_SUMMARY_AT: dict[str, Any] = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
_PART: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
_SUMMARY: dict[str, Any] = {"type": "summary_text", "text": "**Thinking**"}
_REASONING_ITEM: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
_MESSAGE_ITEM: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "status": "in_progress",
    "content": [],
    "role": "assistant",
}

RESPONSES_HEAD: tuple[dict[str, Any], ...] = (
    {"type": "response.created", "response": response()},
    {"type": "response.queued", "response": response(status="queued")},
    {"type": "response.in_progress", "response": response()},
    {"type": "response.output_item.added", "output_index": 0, "item": _REASONING_ITEM},
    {
        "type": "response.reasoning_summary_part.added",
        **_SUMMARY_AT,
        "part": {"type": "summary_text", "text": ""},
    },
    {"type": "response.reasoning_summary_text.delta", **_SUMMARY_AT, "delta": "**Thinking**", "obfuscation": "x"},
    {"type": "response.reasoning_summary_text.done", **_SUMMARY_AT, "text": "**Thinking**"},
    {"type": "response.reasoning_summary_part.done", **_SUMMARY_AT, "part": _SUMMARY},
    {"type": "response.output_item.done", "output_index": 0, "item": _REASONING_ITEM},
    {"type": "response.output_item.added", "output_index": 1, "item": _MESSAGE_ITEM},
    {"type": "response.content_part.added", **_TEXT_AT, "part": _PART},
    {"type": "response.output_text.delta", **_TEXT_AT, "delta": "Rivers", "logprobs": [], "obfuscation": "yy"},
    {"type": "response.output_text.delta", **_TEXT_AT, "delta": " move.", "logprobs": []},
)

RESPONSES = responses(
    *RESPONSES_HEAD,
    {"type": "response.output_text.done", **_TEXT_AT, "text": "Rivers move.", "logprobs": []},
    {"type": "response.content_part.done", **_TEXT_AT, "part": _PART},
    {"type": "response.output_item.done", "output_index": 1, "item": _MESSAGE_ITEM},
    {
        "type": "response.completed",
        "response": response(status="completed", service_tier="default", usage=_RESPONSE_USAGE),
    },
)

RESPONSES_INCOMPLETE = responses(
    *RESPONSES_HEAD[:9],
    {
        "type": "response.incomplete",
        "response": response(
            status="incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=_RESPONSE_USAGE
        ),
    },
)

RESPONSES_FAILED = responses(
    *RESPONSES_HEAD,
    {
        "type": "response.failed",
        "response": response(
            status="failed",
            error={"code": "server_error", "message": "The model failed to generate a response."},
            usage=_RESPONSE_USAGE,
        ),
    },
)

MESSAGE_START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "msg_01XFD",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 5,
            "cache_read_input_tokens": 7,
            "output_tokens": 1,
            "service_tier": "standard",
        },
    },
}


def block_start(index: int = 0, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_delta(index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def message_delta(usage: dict[str, Any], stop_reason: str | None = "max_tokens") -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": None},
        "usage": usage,
    }


BLOCK_STOP: dict[str, Any] = {"type": "content_block_stop", "index": 0}
PING: dict[str, Any] = {"type": "ping"}
MESSAGE_STOP: dict[str, Any] = {"type": "message_stop"}

MESSAGES = typed(
    MESSAGE_START,
    block_start(type="thinking", thinking="", signature=""),
    PING,
    block_delta(type="thinking_delta", thinking="Let me see."),
    block_delta(type="signature_delta", signature="EqQBCg=="),
    BLOCK_STOP,
    block_start(1, type="text", text=""),
    block_delta(1, type="text_delta", text="Rivers"),
    block_delta(1, type="text_delta", text=" move."),
    BLOCK_STOP | {"index": 1},
    message_delta({"output_tokens": 64, "output_tokens_details": {"thinking_tokens": 40}}),
    MESSAGE_STOP,
)

_GEMINI_USAGE: dict[str, Any] = {
    "promptTokenCount": 21,
    "candidatesTokenCount": 24,
    "totalTokenCount": 85,
    "thoughtsTokenCount": 40,
    "cachedContentTokenCount": 8,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 21}],
    "trafficType": "ON_DEMAND",
}


def generated(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk of generated content."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {"trafficType": "ON_DEMAND"},
        "modelVersion": "gemini-2.5-flash",
        "createTime": "2025-11-10T15:47:12.345678Z",
        "responseId": "gHsSadu1",
    } | more


def gemini(*chunks: dict[str, Any]) -> bytes:
    return b"".join(map(data, chunks)).replace(b"\n", b"\r\n")


GEMINI = gemini(
    generated({"text": "**Rivers**\n", "thought": True}, {"text": "Hm.", "thought": True}),
    generated({"text": "Rivers"}),
    generated({"text": " move"}, {"text": ".", "thoughtSignature": "CiQB"}),
    generated({"text": " On."}, finish="MAX_TOKENS", usageMetadata=_GEMINI_USAGE),
)

CHAT_FLAVOURS = {
    "openai": OPENAI,
    "groq": GROQ,
    "cerebras": CEREBRAS,
    "together": TOGETHER,
    "fireworks": FIREWORKS,
    "deepinfra": DEEPINFRA,
    "openrouter": OPENROUTER,
}
