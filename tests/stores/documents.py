"""Realistic documents for tests: every field has a plausible value, and each can be replaced by name.

Times are whole milliseconds, the finest that every store keeps.
"""

from __future__ import annotations

import base64
import hashlib
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from llmbench.ids import new_outcome_id
from llmbench.messages import Envelope, Failure, Model, Outcome, Sample

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


def moment(minutes: float = 0) -> datetime:
    """Return the time so many minutes after `NOON`; negative is before."""
    return NOON + timedelta(minutes=minutes)


def noise(size: int) -> str:
    """Return text that takes at least so many bytes, however it is packed; not the same twice."""
    return base64.b64encode(random.randbytes(size)).decode()


def envelope(outcome: Outcome, *, publish: bool = True) -> Envelope:
    return Envelope(outcome=outcome, publish=publish)


def envelopes(*outcomes: Outcome) -> list[Envelope]:
    return [envelope(outcome) for outcome in outcomes]


def sample(**changes: Any) -> Sample:
    """Return a successful run of 64 tokens, with a new id and every optional field set."""
    run_ts = changes.get("run_ts", NOON)
    whole = Sample(
        id=new_outcome_id(),
        run_ts=run_ts,
        gen_ts=run_ts + timedelta(milliseconds=1250),
        provider="openai",
        model_name="gpt-4o-mini",
        temperature=0.1,
        requested_tokens=64,
        output_tokens=64,
        generate_time=1.2501432,
        tokens_per_second=51.194134,
        time_to_first_token=0.41238751,
        times_between_tokens=[0.0131 + 0.000017 * n for n in range(63)],
        misc={"prompt": "Tell a long story", "nested": {"list": [1, 2.5, None, True], "text": "žluťoučký 🦄"}},
        metrics_schema_version=3,
        outcome="ok",
        ttft_available=True,
        visible_text_empty=False,
        token_source="usage",
        request_mode="chat_completions",
        benchmark_profile_id="default-64",
        protocol_version=1,
        validation_policy="tokens",
        sample_role="scheduled",
        attempts_count=1,
        clock="kernel",
        resolution="fine",
        coalesced_reads=2,
        client_lag_max=0.00041,
        connection_reused=False,
        runner_id="runner-1",
        llmbench_version="0.1.0",
        endpoint="https://api.openai.com/v1/chat/completions",
        display_name="GPT-4o mini",
        region="eu-central-1",
        model_region="us-east-1",
        generated_output_tokens=64,
        visible_output_tokens=64,
        reasoning_tokens=0,
        cached_input_tokens=0,
        input_tokens=31,
        total_tokens=95,
        generated_tokens_per_second=51.194134,
        visible_tokens_per_second=51.194134,
        decode_tokens_per_second=75.2083,
        inter_token_p50=0.01362,
        inter_token_p95=0.01411,
        inter_token_p99=0.01415,
        inter_token_max=0.014154,
        connect_time=0.0123,
        tls_time=0.0251,
        time_to_first_byte=0.4007,
        time_to_first_reasoning_token=0.4009,
        time_to_64_visible_tokens_seconds=1.2498,
        visible_stream_chunks=64,
        max_tokens_per_chunk=1,
        max_output_tokens_attempted=64,
        reasoning_effort="low",
        finish_reason="length",
        response_id="chatcmpl-B8Zq",
        response_status="completed",
        served_model="gpt-4o-mini-2024-07-18",
        system_fingerprint="fp_44add55e",
        request_id="req_7f3c",
        cost_usd=0.0000431,
        price_source="catalogue",
        warnings=["the provider reported no usage for the first attempt"],
    )
    return msgspec.structs.replace(whole, **changes)


def failure(**changes: Any) -> Failure:
    """Return a run that was rate limited, with a new id and every optional field set.

    ``ts`` is a second after ``run_ts``, and ``fingerprint`` follows from the rest, unless given.
    """
    run_ts = changes.get("run_ts", NOON)
    whole = Failure(
        id=new_outcome_id(),
        provider="groq",
        model_name="llama-3.3-70b-versatile",
        ts=run_ts + timedelta(seconds=1),
        stage="generate",
        message="Error code: 429 - Rate limit reached for organization 'org_01' on tokens per minute",
        error_kind="rate_limit",
        error_cause="rate_limited",
        http_status=429,
        provider_error_code="rate_limit_exceeded",
        normalized_message="error code: <n> - rate limit reached for organization <id> on tokens per minute",
        fingerprint="",
        advice="Ask the provider for a higher limit, or run this provider's models less often",
        outcome="failed",
        run_ts=run_ts,
        benchmark_profile_id="default-64",
        protocol_version=1,
        sample_role="scheduled",
        runner_id="runner-1",
        llmbench_version="0.1.0",
        endpoint="https://api.groq.com/openai/v1/chat/completions",
        partial={"connect_time": 0.011, "time_to_first_byte": 0.073},
        display_name="Llama 3.3 70B",
        region="eu-central-1",
        model_region="us-east-1",
        retry_after=7.5,
        request_id="req_01jf",
        exc_type="openai.RateLimitError",
        traceback="Traceback (most recent call last):\n  …\nopenai.RateLimitError: Error code: 429",
    )
    changed = msgspec.structs.replace(whole, **changes)
    return changed if "fingerprint" in changes else _with_fingerprint(changed)


def _with_fingerprint(failed: Failure) -> Failure:
    parts = (failed.provider, failed.model_name, failed.stage, failed.error_kind, failed.normalized_message)
    return msgspec.structs.replace(failed, fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest())


def model(model_id: str = "gpt-4o-mini", **changes: Any) -> Model:
    """Return an enabled model with nothing optional set."""
    plain = Model(provider="openai", model_id=model_id, enabled=True, deprecated=False, created_at=moment(-60 * 24))
    return msgspec.structs.replace(plain, **changes)
