"""How the figures are told: each with its bound, the median of the rounds and their range."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from statistics import median
from typing import Literal

import msgspec

Unit = Literal["µs", "ms", "s", "×", "%", "", "streams", "/s", "MB"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One claim: what was measured in each round, and the bound that the median has to keep, if there is one."""

    what: str
    rounds: list[float]
    unit: Unit = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def value(self) -> float:
        return median(self.rounds)

    @property
    def holds(self) -> bool:
        return not (
            (self.at_most is not None and self.value > self.at_most)
            or (self.at_least is not None and self.value < self.at_least)
        )


def show(figure: Figure) -> None:
    """Print one figure in one line."""
    bound = ""
    if figure.at_most is not None:
        bound = f"≤ {_text(figure.at_most, figure.unit)}"
    elif figure.at_least is not None:
        bound = f"≥ {_text(figure.at_least, figure.unit)}"
    verdict = ("ok  " if figure.holds else "FAIL") if bound else "    "
    spread = f"[{_text(min(figure.rounds), figure.unit)} … {_text(max(figure.rounds), figure.unit)}]"
    print(f"{verdict}  {figure.what:<66} {_text(figure.value, figure.unit):>10}  {spread:<24} {bound}", flush=True)


def _text(value: float, unit: Unit) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


def heading(text: str) -> None:
    print(f"\n{text}", flush=True)


def machine() -> None:
    """Print what the figures were measured on."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("openai", "aioboto3", "google-genai", "httpx2", "httptools", "msgspec")
    )
    load = ", ".join(f"{figure:.2f}" for figure in os.getloadavg())
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {packages}")
    print(f"load average before the first round: {load}")
    if os.getloadavg()[0] > 0.5:
        print("something else is running here: expect worse figures than on a quiet machine", file=sys.stderr)


def summary(figures: Sequence[Figure]) -> int:
    """Print how many bounds hold; return the exit code."""
    bounded = [figure for figure in figures if figure.at_most is not None or figure.at_least is not None]
    kept = sum(figure.holds for figure in bounded)
    print(f"\n{kept} of {len(bounded)} bounds kept")
    return 0 if kept == len(bounded) else 1
