"""Every message that crosses a channel, and the two documents that are stored.

`Sample` and `Failure` are the stored documents themselves: their field names, types and units are those that
existing readers of the collections know (docs/data-model.md), so one of them is serialised whole, and a new field
needs no list to be added to. Times are seconds as floats, dates are aware UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

Clock = Literal["kernel", "user"]
Resolution = Literal["fine", "coarse"]
Role = Literal["scheduled", "bench", "demo"]
Stage = Literal["connect", "generate", "validate", "store", "timeout"]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: a named, versioned request shape. A changed profile is a new version."""

    id: str
    version: int = 1
    prompt: str
    max_tokens: int
    temperature: float | None = None
    reasoning_effort: str | None = None
    timeout_seconds: float = 120.0
    idle_timeout_seconds: float = 60.0
    connect_timeout_seconds: float = 10.0
    token_tolerance: float = 0.10
    validation_policy: Literal["tokens", "reasoning", "none"] = "tokens"
    publish: bool = True


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of the catalogue. Rows are never deleted, only disabled, with a reason and a time."""

    provider: str
    model_id: str
    enabled: bool
    deprecated: bool
    created_at: datetime
    display_name: str | None = None
    disabled_reason: str | None = None
    disabled_at: datetime | None = None
    disabled_by: str | None = None
    disabled_class: str | None = None
    recheck_after: datetime | None = None
    deprecation_date: str | None = None
    successor_model: str | None = None
    deprecation_reason: str | None = None
    imported_from: str | None = None
    canonical_id: str | None = None
    status: str | None = None
    source: str | None = None
    profile: str | None = None
    notes: str | None = None
    region: str | None = None
    request: dict[str, Any] | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One successful run, as stored (`metrics_cloud_v2`, or `metrics_cloud_probe` if not `publish`).

    Fields without a default are always present, null where nothing was measured; the others are left out when
    they are not known. Of runs that llmbench measured ``output_tokens`` and ``tokens_per_second`` are always known.
    """

    id: str = msgspec.field(name="_id")
    run_ts: datetime
    gen_ts: datetime
    provider: str
    model_name: str
    temperature: float | None
    requested_tokens: int
    output_tokens: int | None
    generate_time: float
    tokens_per_second: float | None
    time_to_first_token: float | None
    times_between_tokens: list[float]
    misc: dict[str, Any]
    metrics_schema_version: int
    outcome: Literal["ok", "budget_exhausted"]
    ttft_available: bool
    visible_text_empty: bool
    token_source: str
    request_mode: str
    benchmark_profile_id: str
    protocol_version: int
    validation_policy: str
    sample_role: Role
    attempts_count: int
    clock: Clock
    resolution: Resolution
    coalesced_reads: int
    client_lag_max: float
    connection_reused: bool
    runner_id: str
    llmbench_version: str
    endpoint: str

    display_name: str | None = None
    region: str | None = None
    model_region: str | None = None
    generated_output_tokens: int | None = None
    visible_output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_input_tokens: int | None = None
    input_tokens: int | None = None
    total_tokens: int | None = None
    generated_tokens_per_second: float | None = None
    visible_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    inter_token_p50: float | None = None
    inter_token_p95: float | None = None
    inter_token_p99: float | None = None
    inter_token_max: float | None = None
    connect_time: float | None = None
    tls_time: float | None = None
    time_to_first_byte: float | None = None
    time_to_first_reasoning_token: float | None = None
    time_to_64_visible_tokens_seconds: float | None = None
    visible_stream_chunks: int | None = None
    max_tokens_per_chunk: int | None = None
    max_output_tokens_attempted: int | None = None
    reasoning_effort: str | None = None
    finish_reason: str | None = None
    response_id: str | None = None
    response_status: str | None = None
    served_model: str | None = None
    system_fingerprint: str | None = None
    request_id: str | None = None
    cost_usd: float | None = None
    price_source: str | None = None
    warnings: list[str] | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One failed run, as stored (`errors_cloud`). ``partial`` keeps what was measured before it failed."""

    id: str = msgspec.field(name="_id")
    provider: str
    model_name: str
    ts: datetime
    stage: Stage
    message: str
    error_kind: str
    error_cause: str
    http_status: int | None
    provider_error_code: str | None
    normalized_message: str
    fingerprint: str
    advice: str
    outcome: Literal["failed"]
    run_ts: datetime
    benchmark_profile_id: str
    protocol_version: int
    sample_role: Role
    runner_id: str
    llmbench_version: str
    endpoint: str
    partial: dict[str, Any]

    display_name: str | None = None
    region: str | None = None
    model_region: str | None = None
    retry_after: float | None = None
    request_id: str | None = None
    exc_type: str | None = None
    traceback: str | None = None


Outcome = Sample | Failure


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run to be made: the scheduler (or `bench`) asks, a provider actor carries it out.

    It must not be started at or after ``start_before`` (seconds of `time.monotonic`), when its lease runs out.
    ``asked``: a person wants it now, however fresh the model is.
    """

    outcome_id: str
    model: Model
    profile: Profile
    role: Role = "scheduled"
    start_before: float | None = None
    asked: bool = False


class Envelope(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An outcome on its way to the store. ``publish`` says whether it belongs to the public collection.

    ``canonical`` is the outcome's canonical JSON (`llmbench.stores.canonical`) where it was read from that; it saves
    time, and makes no other envelope of it.
    """

    outcome: Outcome
    publish: bool
    canonical: bytes | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Envelope):
            return NotImplemented
        return (self.outcome, self.publish) == (other.outcome, other.publish)

    def __hash__(self) -> int:
        return hash((self.outcome.id, self.publish))


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An outcome is durable. Freshness and backoff follow from these alone."""

    outcome_id: str
    provider: str
    model_id: str
    ok: bool
    at: datetime
    error_kind: str | None = None
    retry_after: float | None = None


class NotStored(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The store refused an outcome for good; ``reason`` is the store's word."""

    outcome_id: str
    provider: str
    model_id: str
    reason: str


class Deferred(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A job was not started; nothing was measured and nothing is stored.

    A lane gave it back, or, if there are ``seconds``, it is left to another runner for so long.
    ``measured`` is when that one has measured it, if it has.
    """

    outcome_id: str
    provider: str
    model_id: str
    reason: str
    seconds: float | None = None
    measured: datetime | None = None


class LeaseGranted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The job is this runner's to start, up to ``until`` (seconds of `time.monotonic`)."""

    outcome_id: str
    provider: str
    model_id: str
    until: float


class LaneReset(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A lane begins or has ended: what it asked for before is void, and jobs that it has not taken go back."""

    provider: str


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A lane can start one more run now: its limiter, its breaker and its concurrency allow it."""

    provider: str


class LaneBlocked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A lane will start nothing for a while. ``lasting`` means that only a person can mend it (key, bill, config)."""

    provider: str
    reason: str
    seconds: float
    lasting: bool


class Hold(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Nothing new is to be started, in any lane, while there is a ``reason``; None ends it."""

    reason: str | None


class LookAgain(msgspec.Struct, frozen=True, tag=True):
    """A person has changed something: what is to be handed out is to be looked at anew."""


SchedulerMessage = (
    Acknowledged | NotStored | Deferred | LeaseGranted | LaneReset | Ready | LaneBlocked | Hold | LookAgain
)

LaneStatus = Literal["starting", "ok", "blocked", "restarting", "down", "stopped"]


class LaneState(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A change in an actor's state. ``reason`` is a sentence for a person; ``until`` when it may change by itself."""

    lane: str
    status: LaneStatus
    at: datetime
    reason: str | None = None
    until: datetime | None = None
    restarts: int = 0


class RunStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    outcome_id: str
    provider: str
    model_id: str
    at: datetime


PROGRESS_TEXT = 1000
"""Characters that one `RunProgress` has at most, which are 4,000 bytes of UTF-8 at most."""


class RunProgress(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How a stream fills: ``text`` is new since the last one, ``elapsed`` is seconds. At most ten a second a stream.

    Of a longer text these are the last `PROGRESS_TEXT` characters; ``cut`` says how many before them are left out.
    """

    outcome_id: str
    provider: str
    model_id: str
    visible_chunks: int
    text: str
    cut: int = 0
    elapsed: float


class RunFinished(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    provider: str
    model_id: str
    outcome: Outcome


StoreStatus = Literal["ok", "failing", "blocked"]


class StoreState(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Whether the store takes outcomes, and how many wait for it. ``blocked``: only a person can mend it."""

    status: StoreStatus
    at: datetime
    waiting: int
    reason: str | None = None


BreakerStatus = Literal["closed", "open", "probing"]


class LaneFigures(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How a lane gets on, once a second while somebody watches.

    ``due`` counts models that are due and not in flight; ``next_due`` is when the next one will be, None if one is, or
    none ever. ``slowdown`` is what the pace of ``requests_per_minute`` is divided by. ``paused_since``: by a person.
    """

    lane: str
    at: datetime
    models: int
    in_flight: int
    due: int
    next_due: datetime | None = None
    concurrency: int
    requests_per_minute: float
    slowdown: float = 1.0
    breaker: BreakerStatus = "closed"
    paused_since: datetime | None = None


class SpoolFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How full the spool is. ``level`` is that of `llmbench.stores.spool`; ``oldest`` waits longest for the store."""

    level: str
    waiting: int
    quarantined: int
    damages: int
    bytes: int
    cap_bytes: int
    oldest: datetime | None = None


class EngineFigures(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How the engine itself gets on, once a second while somebody watches.

    ``lanes`` are the names of all lanes, dead ones included; any other actor is the engine's own. ``loop_lag`` is how
    long the event loop was away at worst since the last figures, in seconds. ``hold`` says why nothing new is started.
    """

    at: datetime
    started_at: datetime
    version: str
    runner_id: str
    store: str
    lanes: tuple[str, ...]
    clock: Clock
    loop_lag: float
    hold: str | None = None
    spool: SpoolFigures | None = None


class Commanded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A person had the engine do something: ``done`` is the sentence that they got for an answer."""

    at: datetime
    done: str


LiveEvent = LaneState | RunStarted | RunProgress | RunFinished | StoreState | LaneFigures | EngineFigures | Commanded
