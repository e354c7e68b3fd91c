"""Every metric that llmbench tells: name, type, labels, meaning and buckets.

Names and labels are those of OpenTelemetry's semantic conventions (GenAI, HTTP) where these have one, in the spelling
that Prometheus gives them; buckets are those that the conventions advise, with more at an end where the times of LLMs
need them. What has no convention begins with ``llmbench_``. A name, a label or a unit never changes.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram", "info"]


class Family(NamedTuple):
    """One metric. ``name`` is that of the text format: a counter's ends in ``_total``, an info's in ``_info``."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """The unit's word, as OpenMetrics tells it, or none."""
        stem = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if stem.endswith(f"_{unit}")), "")

    @property
    def stem(self) -> str:
        """The name without the suffix that the type adds."""
        return self.name.removesuffix({"counter": "_total", "info": "_info"}.get(self.kind, ""))


OPERATION: Final = "gen_ai_operation_name"
PROVIDER: Final = "gen_ai_provider_name"
MODEL: Final = "gen_ai_request_model"
ERROR: Final = "error_type"
ROUTE: Final = "http_route"

_RUN = (OPERATION, PROVIDER, MODEL)
# The advice is 0.01 to 81.92, each twice the one before. Reasoning runs last longer, gaps of fast providers less.
_DOUBLING = tuple(round(0.01 * 2**n, 2) for n in range(14))
_LONG = (*_DOUBLING, 163.84, 327.68)
_SHORT = (0.00125, 0.0025, 0.005, *_DOUBLING)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**n) for n in range(14))
_REQUEST = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_LAG = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

DURATION: Final = Family(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "Time from the last byte of the request to the end of the stream; of failed runs, only if tokens had come.",
    (*_RUN, ERROR),
    _LONG,
)
TOKENS: Final = Family(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of a run, as the provider reports them.",
    (*_RUN, "gen_ai_token_type"),
    _TOKENS,
)
FIRST_CHUNK: Final = Family(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "Time from the last byte of the request to the first text, of the answer or of its reasoning.",
    _RUN,
    _LONG,
)
CHUNK: Final = Family(
    "gen_ai_client_operation_time_per_output_chunk_seconds",
    "histogram",
    "Gaps between successive chunks of visible text; none of runs whose gaps are coarse.",
    _RUN,
    _SHORT,
)
FIRST_TOKEN: Final = Family(
    "llmbench_time_to_first_token_seconds",
    "histogram",
    "Time from the last byte of the request to the first visible text.",
    _RUN,
    _LONG,
)
PER_TOKEN: Final = Family(
    "llmbench_time_per_output_token_seconds",
    "histogram",
    "Mean time per visible token of a run, after its first chunk.",
    _RUN,
    _PER_TOKEN,
)
STARTED: Final = Family("llmbench_runs_started_total", "counter", "Runs that were started.", (PROVIDER,))
FINISHED: Final = Family(
    "llmbench_runs_finished_total",
    "counter",
    "Runs that have ended, by outcome (ok, budget_exhausted, failed) and kind of failure.",
    (PROVIDER, "outcome", ERROR),
)
IN_FLIGHT: Final = Family("llmbench_runs_in_flight", "gauge", "Runs that are streaming now.", (PROVIDER,))
COARSE: Final = Family(
    "llmbench_coarse_runs_total", "counter", "Successes whose gaps were read too coarsely to be compared.", (PROVIDER,)
)
CLIENT_LAG: Final = Family(
    "llmbench_client_lag_max_seconds",
    "histogram",
    "The longest that the event loop was away during a run that succeeded.",
    buckets=_LAG,
)
LOOP_LAG: Final = Family(
    "llmbench_event_loop_lag_seconds",
    "histogram",
    "The longest that the event loop was away, each time that it was looked at.",
    buckets=_LAG,
)
LAST_SUCCESS: Final = Family(
    "llmbench_last_success_timestamp_seconds",
    "gauge",
    "Unix time at which the newest run that succeeded ended.",
    (PROVIDER, MODEL),
)
LANE_STATE: Final = Family(
    "llmbench_lane_state",
    "gauge",
    "1 for the state that a lane is in, 0 for the others (starting, ok, blocked, restarting, down, stopped).",
    ("lane", "state"),
)
LANE_RESTARTS: Final = Family("llmbench_lane_restarts_total", "counter", "Crashes of a lane.", ("lane",))
STORE_UP: Final = Family(
    "llmbench_store_up", "gauge", "Whether the store takes outcomes; absent until something was put."
)
DELIVERED: Final = Family(
    "llmbench_delivered_outcomes_total", "counter", "Outcomes that the store has acknowledged or had already."
)
BUS_DROPPED: Final = Family(
    "llmbench_bus_dropped_events_total",
    "counter",
    "Live events that a slow reader has lost (metrics: the counts here; live: somebody who watches).",
    ("reader",),
)
SPOOL_UP: Final = Family("llmbench_spool_up", "gauge", "Whether the spool could be asked; absent if there is none.")
SPOOL_WAITING: Final = Family("llmbench_spool_waiting_outcomes", "gauge", "Outcomes that wait for the store.")
SPOOL_AGE: Final = Family(
    "llmbench_spool_oldest_age_seconds", "gauge", "How long the oldest of them has waited; 0 if none waits."
)
SPOOL_KEPT: Final = Family(
    "llmbench_spool_delivered_outcomes", "gauge", "Delivered outcomes that are still kept for audit."
)
SPOOL_QUARANTINED: Final = Family(
    "llmbench_spool_quarantined_outcomes", "gauge", "Outcomes that only a person can release.", ("reason",)
)
SPOOL_IN_FLIGHT: Final = Family(
    "llmbench_spool_in_flight_attempts", "gauge", "Attempts that were begun by this process and have no outcome yet."
)
SPOOL_INTERRUPTED: Final = Family(
    "llmbench_spool_interrupted_attempts", "gauge", "Attempts of an earlier process that have no outcome."
)
SPOOL_FILE: Final = Family("llmbench_spool_file_bytes", "gauge", "What the spool and its log take on the disk.")
SPOOL_USED: Final = Family("llmbench_spool_used_bytes", "gauge", "What the spool's rows take of its cap.")
SPOOL_CAP: Final = Family("llmbench_spool_cap_bytes", "gauge", "What the spool's rows may take.")
SPOOL_LEVEL: Final = Family(
    "llmbench_spool_level", "gauge", "1 for the spool's level, 0 for the others (ok, warning, paused).", ("level",)
)
SPOOL_DAMAGES: Final = Family(
    "llmbench_spool_damages", "gauge", "Damages of the spool's file that nobody has acknowledged."
)
REQUESTS: Final = Family(
    "http_server_request_duration_seconds",
    "histogram",
    "Time to answer a request.",
    ("http_request_method", ROUTE, "http_response_status_code"),
    _REQUEST,
)
ITEMS: Final = Family(
    "llmbench_ingest_items_total", "counter", "Documents that were sent to the bridge, by verdict.", (ROUTE, "status")
)
BUILD: Final = Family("llmbench_build_info", "info", "The version of llmbench.", ("version",))

FAMILIES: Final = tuple(family for family in list(vars().values()) if isinstance(family, Family))
"""All of them, in the order of this module. Beside them are the ``process_*`` and ``python_*`` of prometheus_client."""
