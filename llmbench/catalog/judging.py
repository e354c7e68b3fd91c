"""All rules about an id, in the order in which they are of use to whoever reads the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmbench.catalog import bedrock_ids, vertex_ids
from llmbench.catalog.findings import Finding
from llmbench.catalog.unfit import unfit

_SIMULATED = re.compile(r"(?:^|[^a-z0-9])sim(?:-|$)", re.IGNORECASE)


def judge(
    kind: str | None, model_id: str, region: str | None = None, request: Mapping[str, Any] | None = None
) -> Finding | None:
    """Return what is wrong with an id at a provider of this kind, None if nothing is.

    ``kind`` is the provider's kind, as in the configuration, None if it is not known; ``region`` the cloud's region
    that the model would be called in, as far as it is known; ``request`` the model's own fields. The simulator's names
    are always right.
    """
    if _SIMULATED.search(model_id):
        return None
    if found := unfit(model_id):
        return found
    if kind == "bedrock":
        return bedrock_ids.judge(model_id, region)
    if kind == "vertex":
        return vertex_ids.judge(model_id, (request or {}).get("api"))
    return None
