"""What does not come out as it should, and why: these cases must fail, until the fault is mended."""

from __future__ import annotations

KNOWN: dict[tuple[str, str], str] = {}
"""By the family's and the scenario's name."""
