"""Metrics of runs, from the events of their start and end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry

from llmbench.bridge import metric_families as families
from llmbench.bridge.metric_values import OTHER, Gauges, Histograms, Values, counter
from llmbench.error_kinds import KIND_SEVERITY
from llmbench.messages import Failure, Outcome, RunFinished, RunStarted, Sample

CONVENTIONAL: Final[Mapping[str, str]] = {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai"}
"""Our name of a provider → the one that the conventions have for it."""

OPERATIONS: Final[Mapping[str, str]] = {"completions": "text_completion", "gemini": "generate_content"}
"""A run's ``request_mode`` → the conventions' name of the operation; all others are ``chat``."""

_CHAT: Final = "chat"
_OTHER_ERROR: Final = "_OTHER"
_PROVIDERS: Final = 500

Run = tuple[str, str, str]
"""The labels of a run: operation, provider, model."""


class RunMetrics:
    """Histograms, counters and gauges of runs."""

    def __init__(self, registry: CollectorRegistry, most_models: int) -> None:
        self._duration = Histograms(families.DURATION, registry)
        self._tokens = Histograms(families.TOKENS, registry)
        self._first_chunk = Histograms(families.FIRST_CHUNK, registry)
        self._chunks = Histograms(families.CHUNK, registry)
        self._first_token = Histograms(families.FIRST_TOKEN, registry)
        self._per_token = Histograms(families.PER_TOKEN, registry)
        self._started = counter(families.STARTED, registry)
        self._finished = counter(families.FINISHED, registry)
        self._in_flight = Gauges(families.IN_FLIGHT, registry)
        self._coarse = counter(families.COARSE, registry)
        self._client_lag = Histograms(families.CLIENT_LAG, registry)
        self._last_success = Gauges(families.LAST_SUCCESS, registry)
        self._names = _Names(most_models)
        self._running: dict[str, str] = {}
        """Id of an outcome that is awaited → provider."""

    def started(self, event: RunStarted) -> None:
        provider = self._names.provider(event.provider)
        self._started.labels(provider).inc()
        if event.outcome_id not in self._running:
            self._running[event.outcome_id] = event.provider
            self._in_flight.add(1, provider)

    def forget(self, provider: str | None) -> None:
        """Count no run of this provider as in flight any more; None stands for all of them."""
        for outcome_id, whose in list(self._running.items()):
            if provider in (None, whose):
                self._ended(outcome_id)

    def finished(self, event: RunFinished) -> None:
        outcome = event.outcome
        self._ended(outcome.id)
        run = self._names.run(event.provider, event.model_id, outcome)
        error = _error_type(outcome)
        self._finished.labels(run[1], outcome.outcome, error).inc()
        seconds = _duration(outcome)
        if seconds is not None:
            self._duration.add((*run, error), seconds)
        if isinstance(outcome, Sample):
            self._measured(run, outcome)

    def _ended(self, outcome_id: str) -> None:
        provider = self._running.pop(outcome_id, None)
        if provider is not None:
            self._in_flight.add(-1, self._names.provider(provider))

    def _measured(self, run: Run, sample: Sample) -> None:
        _, provider, model = run
        self._last_success.set(sample.gen_ts.timestamp(), provider, model)
        self._client_lag.add((), sample.client_lag_max)
        for histograms, seconds in (
            (self._first_chunk, _first_text(sample)),
            (self._first_token, sample.time_to_first_token),
        ):
            if seconds is not None:
                histograms.add(run, seconds)
        if sample.decode_tokens_per_second:
            self._per_token.add(run, 1 / sample.decode_tokens_per_second)
        for kind, tokens in (("input", sample.input_tokens), ("output", sample.generated_output_tokens)):
            if tokens is not None:
                self._tokens.add((*run, kind), tokens)
        if sample.resolution == "coarse":
            self._coarse.labels(provider).inc()
        elif sample.times_between_tokens:
            self._chunks.add_all(run, sample.times_between_tokens)


class _Names:
    """The label values of providers and models, which are the user's and the providers' words."""

    def __init__(self, most_models: int) -> None:
        self._most_models = most_models
        self._providers = Values(_PROVIDERS)
        self._models: dict[tuple[str, str], Run] = {}

    def provider(self, name: str) -> str:
        return self._providers(CONVENTIONAL.get(name, name))

    def run(self, provider: str, model_id: str, outcome: Outcome) -> Run:
        """Return the labels of a run. A failure does not tell its operation: it is the model's last one."""
        known = self._models.get((provider, model_id))
        if known is None:
            known = self._learn(provider, model_id)
        if isinstance(outcome, Failure):
            return known
        operation = OPERATIONS.get(outcome.request_mode, _CHAT)
        if operation != known[0]:
            known = (operation, *known[1:])
            if known[2] != OTHER:
                self._models[provider, model_id] = known
        return known

    def _learn(self, provider: str, model_id: str) -> Run:
        if len(self._models) >= self._most_models:
            return _CHAT, self.provider(provider), OTHER
        self._models[provider, model_id] = run = (_CHAT, self.provider(provider), Values.label(model_id))
        return run


def _error_type(outcome: Outcome) -> str:
    """Return the kind of a failure; an empty label's value is none."""
    if isinstance(outcome, Sample):
        return ""
    return outcome.error_kind if outcome.error_kind in KIND_SEVERITY else _OTHER_ERROR


def _duration(outcome: Outcome) -> float | None:
    if isinstance(outcome, Sample):
        return outcome.generate_time
    seconds = outcome.partial.get("generate_time")
    return seconds if isinstance(seconds, float) else None


def _first_text(sample: Sample) -> float | None:
    known = [at for at in (sample.time_to_first_reasoning_token, sample.time_to_first_token) if at is not None]
    return min(known, default=None)
