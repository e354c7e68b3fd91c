"""Quantiles, defined in one place for every figure that llmbench tells."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the q-quantile of a sorted, non-empty sequence, by linear interpolation (Hyndman and Fan, type 7)."""
    position = (len(ordered) - 1) * q
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
