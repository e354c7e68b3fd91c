"""What a runner without a catalogue of its own is to measure: the enabled models of one provider."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from llmbench.ingestion import Worklist
from llmbench.messages import Model
from llmbench.naming import fold
from llmbench.stores.base import Store

_NAMED_ALREADY = ("provider", "model_id")


async def worklist_of(store: Store, provider: str, fresh_minutes: float, now: datetime) -> Worklist:
    """Return the worklist of a provider, in whatever case it is written; an unknown one has no models.

    Raises `StoreError`.
    """
    models = await store.models(provider=provider, enabled=True)
    return Worklist(
        provider=fold(provider),
        interval_minutes=fresh_minutes,
        models=[model.model_id for model in models],
        model_metadata={model.model_id: _metadata(model) for model in models},
        generated_at=now,
    )


def _metadata(model: Model) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(model)
    return {name: value for name, value in fields.items() if name not in _NAMED_ALREADY}
