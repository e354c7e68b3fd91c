"""Which fields a model's own ``request`` may not have: they are what llmbench itself asks, of whichever API.

With another model, another prompt or no stream, what a row tells of a run would not be what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RESERVED = frozenset({"contents", "input", "messages", "model", "modelId", "prompt", "stream"})


def reserved(request: Mapping[str, Any] | None) -> list[str]:
    """Return the names of a request's fields that are never sent, in order."""
    return sorted(RESERVED.intersection(request or ()))
