"""What documents of earlier writers are taken to say where they say nothing, whatever way they come.

Their gaps are not to be trusted in a ranking, so they are ``coarse``; they were scheduled, since nothing else ran then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from llmbench.messages import Failure, Model, Sample
from llmbench.stores.counted import UNDATED

T = TypeVar("T", Sample, Failure, Model)


def completed(read: Mapping[str, Any], kind: type[T], made: datetime) -> dict[str, Any]:
    """Return the fields of a document with all that it has to have; ``made`` is when the document was made."""
    values = dict(read)
    for name, unknown in _UNKNOWN[kind].items():
        if name not in values:
            values[name] = unknown({**values, "made": made}) if callable(unknown) else unknown
    return values


def _made(read: Mapping[str, Any]) -> Any:
    return read["made"]


def _told(read: Mapping[str, Any]) -> Any:
    """Return when it was, or else when the document was made."""
    return read["made"] if read["run_ts"] == UNDATED else read["run_ts"]


_UNKNOWN: Mapping[type, Mapping[str, Any]] = {
    Sample: {
        "gen_ts": _told,
        "provider": "",
        "model_name": "",
        "temperature": None,
        "requested_tokens": 0,
        "output_tokens": None,
        "generate_time": 0.0,
        "tokens_per_second": None,
        "time_to_first_token": None,
        "times_between_tokens": lambda _: [],
        "misc": lambda _: {},
        "metrics_schema_version": 1,
        "outcome": "ok",
        "ttft_available": lambda read: read.get("time_to_first_token") is not None,
        "visible_text_empty": False,
        "token_source": "unknown",
        "request_mode": "unknown",
        "benchmark_profile_id": "unknown",
        "protocol_version": 0,
        "validation_policy": "unknown",
        "sample_role": "scheduled",
        "attempts_count": 0,
        "clock": "user",
        "resolution": "coarse",
        "coalesced_reads": 0,
        "client_lag_max": 0.0,
        "connection_reused": False,
        "runner_id": "unknown",
        "llmbench_version": "unknown",
        "endpoint": "unknown",
    },
    Failure: {
        "provider": "",
        "model_name": "",
        "ts": _told,
        "stage": "generate",
        "message": "",
        "error_kind": "unknown",
        "error_cause": "unknown",
        "http_status": None,
        "provider_error_code": None,
        "normalized_message": lambda read: read.get("message", ""),
        "fingerprint": "",
        "advice": "",
        "outcome": "failed",
        "benchmark_profile_id": "unknown",
        "protocol_version": 0,
        "sample_role": "scheduled",
        "runner_id": "unknown",
        "llmbench_version": "unknown",
        "endpoint": "unknown",
        "partial": lambda _: {},
    },
    Model: {"enabled": False, "deprecated": False, "created_at": _made},
}
"""A value, or how to find one."""
