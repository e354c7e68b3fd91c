"""Who sends something to the bridge, and what is said of that which is not taken."""

from __future__ import annotations

from typing import Literal

import msgspec

from llmbench.error_text import clean
from llmbench.secrets import Redactor

_REASON_LIMIT = 500


class Sender(msgspec.Struct, frozen=True):
    """Who sends: the runner that the key belongs to, None for a key of earlier deployments, which any runner has.

    ``redactor`` knows the bridge's own secrets, which nothing that is sent may bring into the store.
    """

    runner: str | None
    redactor: Redactor = Redactor(())


class Refused(Exception):
    """What was sent is not taken. ``reason`` is a sentence for the sender, safe to show: what it quotes is escaped.

    ``status`` is 400 for what is no JSON of the right shape, 422 for a document with something wrong in it. ``id`` is
    the document's own or derived id, None if it has none yet.
    """

    def __init__(self, reason: str, status: Literal[400, 422] = 422, outcome_id: str | None = None) -> None:
        self.reason = clean(reason, _REASON_LIMIT)
        self.status: Literal[400, 422] = status
        self.id = outcome_id
        super().__init__(self.reason)


class Foreign(Refused):
    """A document is another runner's than the key."""
