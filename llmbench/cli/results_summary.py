"""`llmbench results --summary`: what the runs of each model came to."""

from __future__ import annotations

from collections.abc import Iterable

from llmbench.cli import output
from llmbench.stores.base import ModelSummary

_NAME = 32
"""Columns that the figures leave for a name."""


def print_summaries(summaries: Iterable[ModelSummary]) -> None:
    """Print a table, a row for each model; a long name goes on in the next line."""
    columns = ("model", "n", "ok", "TTFT p50", "p95 ms", "tok/s p50")
    rows = [row for summary in summaries for row in _rows(summary)]
    output.table(columns, rows, right=(1, 2, 3, 4, 5), wrap=0)


def _rows(summary: ModelSummary) -> list[tuple[str, ...]]:
    name = f"{summary.provider}/{summary.model_name}"
    figures = (
        str(summary.n),
        f"{100 * summary.success_rate:.1f}%",
        output.milliseconds(summary.time_to_first_token_p50),
        output.milliseconds(summary.time_to_first_token_p95),
        output.number(summary.tokens_per_second_p50),
    )
    rest = [name[start : start + _NAME] for start in range(_NAME, len(name), _NAME)]
    return [(name[:_NAME], *figures), *((part, *[""] * len(figures)) for part in rest)]
