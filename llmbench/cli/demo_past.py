"""What the demo's store holds before the demo begins: hours of runs as usual, so that what is unusual shows at once."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from llmbench import __version__
from llmbench.actors.record import SCHEMA_VERSION
from llmbench.ids import new_outcome_id
from llmbench.messages import Envelope, Model, Profile, Sample
from llmbench.quantiles import quantile
from llmbench.simulator.behaviour import Behaviour, behaviour_of

HOURS: Final = 24
"""Trends show as much at first; and what is slow from now on is not what is usual before it has run so often, too."""

EVERY: Final = timedelta(minutes=10)

_SPREAD = 0.06
_NS = 1e9


def usual_runs(runs: Iterable[tuple[Model, Profile]], now: datetime, runner: str) -> Iterator[Envelope]:
    """Yield the runs of the hours before ``now``, as each model's name says that it behaves; always the same ones."""
    for model, profile in runs:
        behaviour = behaviour_of(model.model_id)
        if behaviour is None:
            continue
        chance = random.Random(model.model_id)  # noqa: S311  a picture of the past, nothing secret
        for back in range(int(timedelta(hours=HOURS) / EVERY), 0, -1):
            started = now - back * EVERY + chance.random() * EVERY / 2
            yield Envelope(outcome=_sample(model, profile, behaviour, started, runner, chance), publish=profile.publish)


def _sample(
    model: Model, profile: Profile, behaviour: Behaviour, started: datetime, runner: str, chance: random.Random
) -> Sample:
    """Return one run: first the time to the first token, then gaps, each a little off."""
    tokens = min(behaviour.tokens or profile.max_tokens, profile.max_tokens)
    first = (behaviour.ttft_ns + (behaviour.reason_ns or 0)) / _NS * _near_one(chance)
    gap = behaviour.gap_ns / _NS * _near_one(chance)
    gaps = [gap * _near_one(chance) for _ in range(tokens - 1)]
    whole = first + sum(gaps) + gap
    return Sample(
        id=new_outcome_id(),
        run_ts=started,
        gen_ts=started + timedelta(seconds=whole),
        provider=model.provider,
        model_name=model.model_id,
        temperature=profile.temperature,
        requested_tokens=profile.max_tokens,
        output_tokens=tokens,
        generate_time=whole,
        tokens_per_second=tokens / whole,
        time_to_first_token=first,
        times_between_tokens=gaps,
        misc={},
        metrics_schema_version=SCHEMA_VERSION,
        outcome="ok",
        ttft_available=True,
        visible_text_empty=False,
        token_source="usage",  # noqa: S106  no password
        request_mode="chat",
        benchmark_profile_id=profile.id,
        protocol_version=profile.version,
        validation_policy=profile.validation_policy,
        sample_role="demo",
        attempts_count=1,
        clock="kernel",
        resolution="fine",
        coalesced_reads=0,
        client_lag_max=0.0003,
        connection_reused=False,
        runner_id=runner,
        llmbench_version=__version__,
        endpoint="simulated",
        inter_token_p50=quantile(sorted(gaps), 0.5),
        inter_token_p95=quantile(sorted(gaps), 0.95),
        inter_token_max=max(gaps, default=None),
    )


def _near_one(chance: random.Random) -> float:
    return 1 + chance.uniform(-_SPREAD, _SPREAD)
