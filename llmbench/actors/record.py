"""From one run's figures, or from its trouble, to the document that is stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from llmbench import __version__
from llmbench.errors import Classification, Evidence, clean, fingerprint, normalize
from llmbench.measure.metrics import Measurement
from llmbench.messages import Failure, Job, Sample
from llmbench.secrets import Redactor

SCHEMA_VERSION = 3

_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")
_FOREIGN = ("finish_reason", "response_id", "served_model", "system_fingerprint")
"""Figures that are the provider's own words."""

_LONGEST_MS = 86_400_000
_PHASES = ("connect_time", "tls_time", "time_to_first_byte", "generate_time", "client_lag_max", "connection_reused")
"""Figures that are measured whether or not anything of an answer came."""

_COUNTS = ("input_tokens", "cached_input_tokens", "generated_output_tokens", "reasoning_tokens", "total_tokens")
"""Figures that only the provider's report of usage gives."""

_TIMING_HEADERS = {"openai-processing-ms": "openai_processing"}


class Runner(msgspec.Struct, frozen=True, kw_only=True):
    """Who measures. ``redactor`` takes this runner's secrets out of foreign text."""

    id: str
    region: str | None
    redactor: Redactor


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run apart from its figures."""

    job: Job
    started: datetime
    ended: datetime
    endpoint: str
    model_region: str | None
    mode: str
    temperature: float | None
    reasoning_effort: str | None
    headers: Mapping[str, str]
    """The response's headers, names in lower case."""


def lower_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return raw header pairs as text, names in lower case; the last of equal names wins."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of the request, from whichever header carries it."""
    return next((clean(headers[name], 200) for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def sample(run: Run, measured: Measurement, runner: Runner, outcome: str) -> Sample:
    """Return the document of a run that counts."""
    profile = run.job.profile
    figures = _figures(measured, runner)
    return msgspec.convert(
        figures
        | _common(run, runner)
        | {
            "_id": run.job.outcome_id,
            "misc": figures["misc"] | _header_timings(run.headers),
            "gen_ts": run.ended,
            "temperature": run.temperature,
            "requested_tokens": profile.max_tokens,
            "metrics_schema_version": SCHEMA_VERSION,
            "outcome": outcome,
            "request_mode": run.mode,
            "validation_policy": profile.validation_policy,
            "attempts_count": 1,
            "max_output_tokens_attempted": profile.max_tokens,
            "reasoning_effort": run.reasoning_effort,
            "response_status": "completed",
            "request_id": _short(runner, request_id(run.headers)),
        },
        Sample,
    )


def failure(
    run: Run,
    evidence: Evidence,
    verdict: Classification,
    runner: Runner,
    *,
    measured: Measurement | None,
    traceback: str | None = None,
) -> Failure:
    """Return the document of a run that failed, with what had been measured until then."""
    message = clean(runner.redactor.redact(evidence.message)) or verdict.cause
    normalized = normalize(message)
    model = run.job.model
    return msgspec.convert(
        _common(run, runner)
        | {
            "_id": run.job.outcome_id,
            "ts": run.ended,
            "stage": verdict.stage,
            "message": message,
            "error_kind": verdict.kind,
            "error_cause": verdict.cause,
            "http_status": evidence.status,
            "provider_error_code": _short(runner, evidence.code or evidence.type),
            "normalized_message": normalized,
            "fingerprint": fingerprint(model.provider, model.model_id, verdict.stage, verdict.kind, normalized),
            "advice": verdict.advice,
            "outcome": "failed",
            "partial": _partial(measured, runner),
            "retry_after": evidence.retry_after,
            "request_id": _short(runner, request_id(run.headers)),
            "exc_type": evidence.exceptions[0] if evidence.exceptions else None,
            "traceback": _readable(runner, traceback),
        },
        Failure,
    )


def _common(run: Run, runner: Runner) -> dict[str, Any]:
    job = run.job
    return {
        "run_ts": run.started,
        "provider": job.model.provider,
        "model_name": job.model.model_id,
        "display_name": job.model.display_name,
        "benchmark_profile_id": job.profile.id,
        "protocol_version": job.profile.version,
        "sample_role": job.role,
        "runner_id": runner.id,
        "region": runner.region,
        "model_region": run.model_region,
        "llmbench_version": __version__,
        "endpoint": run.endpoint,
    }


def _readable(runner: Runner, traceback: str | None) -> str | None:
    """Return a traceback, whose lines may quote foreign text, fit to be stored and shown."""
    return None if traceback is None else "\n".join(map(clean, runner.redactor.redact(traceback).split("\n")))


def _short(runner: Runner, text: str | None) -> str | None:
    return None if text is None else clean(runner.redactor.redact(text), 200)


def _header_timings(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return times that the provider puts into its headers, in seconds."""
    found = {}
    for header, name in _TIMING_HEADERS.items():
        with contextlib.suppress(KeyError, ValueError):
            milliseconds = float(headers[header])
            if 0 <= milliseconds <= _LONGEST_MS:
                found[name] = milliseconds / 1000
    return {"header_timings": found} if found else {}


def _figures(measured: Measurement, runner: Runner) -> dict[str, Any]:
    """Return the figures as they are stored: what the provider said of itself is foreign text like any other."""
    figures = msgspec.structs.asdict(measured)
    figures |= {name: _short(runner, figures[name]) for name in _FOREIGN}
    misc = {name: _short(runner, value) if isinstance(value, str) else value for name, value in measured.misc.items()}
    return figures | {"misc": misc}


def _partial(measured: Measurement | None, runner: Runner) -> dict[str, Any]:
    """Return what is known of a failed run. Where no token came, zero of them in no time would be no measurement."""
    if measured is None:
        return {}
    figures = _figures(measured, runner)
    if not _has_tokens(measured):
        figures = {name: figures[name] for name in (*_PHASES, *_FOREIGN, "misc")}
    return {name: value for name, value in figures.items() if value is not None and value != {}}


def _has_tokens(measured: Measurement) -> bool:
    """Say whether text or reasoning was streamed, or a usage reported."""
    streamed = measured.visible_stream_chunks > 0 or measured.time_to_first_reasoning_token is not None
    return streamed or any(getattr(measured, name) is not None for name in _COUNTS)
