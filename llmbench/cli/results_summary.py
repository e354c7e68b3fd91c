"""`llmbench results --summary`: what the runs of each model came to."""

from __future__ import annotations

from collections.abc import Iterable

from llmbench.cli import output
from llmbench.stores.base import ModelSummary


def print_summaries(summaries: Iterable[ModelSummary]) -> None:
    """Print a table, a row for each model."""
    columns = ("model", "n", "ok", "TTFT p50 ms", "p95 ms", "tok/s p50")
    output.table(columns, map(_row, summaries), right=(1, 2, 3, 4, 5), wrap=0)


def _row(summary: ModelSummary) -> tuple[str, ...]:
    return (
        f"{summary.provider}/{summary.model_name}",
        str(summary.n),
        f"{100 * summary.success_rate:.1f}%",
        output.milliseconds(summary.time_to_first_token_p50),
        output.milliseconds(summary.time_to_first_token_p95),
        output.number(summary.tokens_per_second_p50),
    )
