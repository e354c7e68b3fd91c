"""Scenarios in which an answer begins: good ones, and all that can go wrong inside of one."""

from __future__ import annotations

from typing import Any

from tests.conformance import checks
from tests.conformance.scenario import Failed, Good, Scenario
from tests.runs import QUICK

SLOW = "ttft5-gap10"
"""Slow enough that a busy machine does not see all of it at once."""

IDLE: dict[str, Any] = {"idle_timeout_seconds": 0.7}
REASONING: dict[str, Any] = {"validation_policy": "reasoning", "reasoning_effort": "low"}
HIDDEN: dict[str, Any] = {"validation_policy": "reasoning"}
SMALL: dict[str, Any] = {"max_tokens": 8}

SILENT = Failed("timeout", "idle_timeout", "timeout")
TRUNCATED = Failed("malformed_stream", "truncated")
TOO_LARGE = Failed("malformed_stream", "too_large", says="1048576 bytes")
PROTOCOL = Failed("network", "protocol")
OFF_TARGET = Failed("token_mismatch", "off_target", "validate", chunks=64)
IN_STREAM = Failed("transient_provider", "stream_error")

NO_REASONING = "the legacy API has no model that reasons"
NEVER_SHOWN = "Chat Completions of openai counts reasoning and never shows it"
NO_ERROR_BODY = "without an error status a body of Bedrock's is no error, and is quoted as the JSON that it is"
SIX_EXCEPTIONS = "a stream of Bedrock's can hold six exceptions, and this is none of them"
ALWAYS_SHOWN = "its API shows what it counts"
NO_MARKUP = "only text of Chat Completions carries reasoning in tags"

_GOOD = (
    Scenario(
        "ok",
        SLOW,
        Good(),
        {"version": 7},
        checks=(checks.complete, checks.conditions, checks.consistent, checks.ids_of_the_server),
    ),
    Scenario("ok_chunks_of_eight_tokens", f"chunk8-{SLOW}", Good(chunks=8), checks=(checks.chunks_are_no_tokens,)),
    Scenario(
        "P18_reasoning_shown",
        f"rtok5-reason300-{QUICK}",
        Good(chunks=59, reasoning=5, shown=True),
        REASONING,
        but={
            "completions": NO_REASONING,
            "openai-chat": NEVER_SHOWN,
            "converse": Good(chunks=59, shown=True),  # its usage has no count of reasoning
        },
        checks=(checks.reasoned_first,),
    ),
    Scenario(
        "P18_reasoning_hidden",
        f"rtok5-reason300-{QUICK}",
        Good(chunks=59, reasoning=5, shown=False),
        HIDDEN,
        but={
            "completions": NO_REASONING,
            "openai-chat": Good(chunks=59, reasoning=5, shown=False),
            "chat": ALWAYS_SHOWN,
            "responses": ALWAYS_SHOWN,
            "messages": ALWAYS_SHOWN,
            "converse": ALWAYS_SHOWN,
        },
    ),
    Scenario(
        "P18_reasoning_in_tags",
        f"think-rtok5-reason300-{QUICK}",
        Good(chunks=59, reasoning=5, shown=True),
        HIDDEN,
        but=dict.fromkeys(("responses", "completions", "messages", "converse", "gemini"), NO_MARKUP),
        checks=(checks.reasoned_first,),
    ),
    Scenario(
        "P18_budget_spent_on_reasoning",
        f"budget-{QUICK}",
        Good(chunks=0, reasoning=64, outcome="budget_exhausted"),
        REASONING,
        but={"completions": NO_REASONING, "converse": Good(chunks=0, outcome="budget_exhausted")},
        checks=(checks.no_first_token,),
    ),
    Scenario(
        "P18_reasoning_then_silence",
        f"rtok5-stall0-{QUICK}",
        SILENT,
        REASONING | IDLE,
        but={"completions": NO_REASONING, "openai-chat": NEVER_SHOWN},
        checks=(checks.only_reasoning,),
    ),
    Scenario("P21_comments_and_empty_deltas", "comments-ttft400-gap1", Good(), checks=(checks.first_token_at_400_ms,)),
    Scenario("P14_crlf_split_anywhere", f"crlf-{QUICK}", Good(), but={"converse": "its frames have no line ends"}),
    Scenario(
        "P14_many_events_in_a_segment", "burst16-ttft5-gap5", Good(warns="ttft_upper_bound"), checks=(checks.coalesced,)
    ),
    Scenario("P14_late_head", f"latehead-{QUICK}", Good()),
    Scenario(
        "P14_characters_split_anywhere",
        f"unicode-crlf-{QUICK}",
        Good(8, 8),
        SMALL,
        but={"converse": "its frames have no line ends"},
        checks=(checks.texts_intact,),
    ),
    Scenario("P15_line_separators_in_text", f"unicode-{QUICK}", Good(8, 8), SMALL, checks=(checks.texts_intact,)),
)

_SILENCE = (
    Scenario("P8_head_then_silence", "silent", SILENT, IDLE, checks=(checks.idle_for_its_limit,)),
    Scenario("P8_no_answer", "noanswer", SILENT._replace(status=None), IDLE, checks=(checks.idle_for_its_limit,)),
    Scenario("P9_stall_midstream", f"stall10-{QUICK}", SILENT._replace(chunks=10), IDLE, checks=(checks.keeps_gaps,)),
    Scenario(
        "P10_drip",
        "drip",
        Failed("timeout", "total_timeout", "timeout", says="the run took longer than 1.2 s"),
        IDLE | {"timeout_seconds": 1.2},
        checks=(checks.cut_off_in_time,),
    ),
    Scenario(
        "P10_too_slow",
        "ttft5-gap700-tok64",
        Failed("timeout", "total_timeout", "timeout", chunks=None),
        {"timeout_seconds": 1.2},
        checks=(checks.keeps_all, checks.cut_off_in_time),
    ),
)

_BROKEN = (
    Scenario("P11_fin_midstream", f"truncate5-{QUICK}", TRUNCATED._replace(chunks=5)),
    Scenario("P11_fin_inside_an_event", f"cutevent5-{QUICK}", TRUNCATED._replace(chunks=5)),
    Scenario("P11_rst_midstream", f"reset5-{QUICK}", TRUNCATED._replace(chunks=5)),
    Scenario(
        "P12_no_end_marker",
        f"noend-{QUICK}",
        TRUNCATED._replace(stage="validate", chunks=64),
        but=dict.fromkeys(("chat", "completions", "converse"), Good(warns="terminator_missing")),
    ),
    Scenario(
        "P13_malformed_event",
        f"badjson5-{QUICK}",
        Failed("malformed_stream", "malformed", chunks=4),
        checks=(checks.quoted_in_part,),
    ),
    Scenario(
        "P13_wrong_checksum",
        f"badcrc5-{QUICK}",
        Failed("malformed_stream", "malformed", chunks=4),
        but=dict.fromkeys(
            ("chat", "responses", "completions", "messages", "gemini"), "server-sent events have no checksum"
        ),
    ),
    Scenario("P16_endless_event", f"flood-{QUICK}", TOO_LARGE),
    Scenario(
        "P16_compressed",
        f"badgzip-{QUICK}",
        PROTOCOL._replace(says="compressed"),
        checks=(checks.asked_for_identity,),
    ),
    Scenario("P26_broken_chunked_encoding", f"badchunk5-{QUICK}", PROTOCOL._replace(chunks=5)),
    Scenario("P17_no_token", f"empty-{QUICK}", Failed("empty_output", "empty", "validate")),
)

_ERRORS = (
    Scenario("P19_error_first", f"errorobj-{QUICK}", IN_STREAM),
    Scenario("P19_error_as_text", f"errorstr-{QUICK}", IN_STREAM),
    Scenario("P19_error_midstream", f"errormid5-{QUICK}", IN_STREAM._replace(chunks=5)),
    # Bedrock names an error in a header, and only beside an error status: this body is just no stream.
    Scenario("P19_error_as_body", f"errorbody-{QUICK}", IN_STREAM, but={"bedrock": PROTOCOL}),
    *(
        Scenario(
            f"P19_{status}_in_stream", f"errorobj-{status}-{QUICK}", IN_STREAM._replace(kind=kind),
            but=but,
        )
        for status, kind, but in (
            (429, "rate_limit", {"deepinfra": IN_STREAM}),  # which words its rate limit as an overload
            (400, "hard_capability", {}),
            (401, "auth", {"bedrock": SIX_EXCEPTIONS}),
            (402, "billing", {"bedrock": SIX_EXCEPTIONS}),
            (404, "hard_model", {"bedrock": SIX_EXCEPTIONS}),
        )
    ),
    *(
        Scenario(
            f"I10_key_echoed_{where}", f"{where}-echo-{QUICK}", Failed("auth", "stream_error", chunks=chunks),
            but={"bedrock": PROTOCOL if where == "errorbody" else IN_STREAM._replace(chunks=chunks)},
            checks=(checks.redacted,),
        )
        for where, chunks in (("errorobj", 0), ("errormid3", 3), ("errorbody", 0))
    ),
    *(
        Scenario(
            f"I11_hostile_text_{where}", f"{where}-hostile-{QUICK}", IN_STREAM._replace(chunks=chunks),
            but={"bedrock": NO_ERROR_BODY} if where == "errorbody" else {},
            checks=(checks.spelt_out,),
        )
        for where, chunks in (("errorobj", 0), ("errormid3", 3), ("errorbody", 0))
    ),
)  # fmt: skip

_COUNTS = (
    Scenario("P22_no_usage", f"nousage-{QUICK}", Good(warns="usage_missing"), checks=(checks.counted_by_chunks,)),
    Scenario(
        "P22_negative_count",
        f"negcount-{QUICK}",
        Good(),
        but={"messages": OFF_TARGET},  # message_start has already said 1
        checks=(checks.counted_by_chunks,),
    ),
    *(
        Scenario(
            f"P22_count_of_{count}",
            f"wrongcount{count}-{QUICK}",
            OFF_TARGET._replace(says=f"output_tokens {count} not within 10% of requested 64"),
            checks=(checks.keeps_the_count,),
        )
        for count in (3, 1_000_000_000_000)
    ),
    Scenario(
        "P22_too_few_tokens",
        f"tok10-{QUICK}",
        OFF_TARGET._replace(chunks=10, says="output_tokens 10 not within"),
        checks=(checks.keeps_the_count,),
    ),
)

ANSWERS = _GOOD + _SILENCE + _BROKEN + _ERRORS + _COUNTS
