"""What a feed hands on besides live events: how the connection is, and what was lost on the way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from llmbench.bridge.live import Dropped
from llmbench.messages import LiveEvent
from llmbench.tui.state import LinkStatus, Usual


class LinkChange(msgspec.Struct, frozen=True, kw_only=True):
    """The connection became what it is; ``commands``: the engine does what it is told over it."""

    status: LinkStatus
    at: datetime
    reason: str | None = None
    commands: bool = False


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """Something came, if only a heartbeat."""

    at: datetime


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A frame that is none of ours; ``why`` is a sentence."""

    why: str


class UsualLoaded(msgspec.Struct, frozen=True, kw_only=True):
    """What the store says is usual, by (provider, model id)."""

    usual: Mapping[tuple[str, str], Usual]


FeedItem = LiveEvent | Dropped | LinkChange | Heard | Unreadable
