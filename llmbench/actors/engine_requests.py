"""What may be asked of a running engine by who owns it, through its socket: to be watched, and to do something.

The engine's socket (mode 0600) is in its spool's folder. A request is a line of JSON; `Watch` is answered with live
events as frames (`llmbench.bridge.live`), a heartbeat, then those that tell how things are now, then what happens,
until whoever asked ends the connection, says anything more, or reads nothing for half a minute. Each of the others is
answered with one line, an `EngineAnswer`, and more may follow on the same connection, which is ended half a minute
after the last. One that is refused is ended at once, with an `EngineAnswer` that says why. Over HTTP an engine can only
be watched.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

ENGINE_SOCKET = "engine.sock"
LONGEST_REQUEST = 64 * 1024

_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Reason = Annotated[str, Meta(min_length=1, max_length=2000)]


class Watch(msgspec.Struct, frozen=True, tag="watch", tag_field="ask", forbid_unknown_fields=True):
    """Tell how things are, and then what happens; with ``progress`` how streams fill, too."""

    progress: bool = True


class RunNow(msgspec.Struct, frozen=True, tag="run_now", tag_field="ask", forbid_unknown_fields=True):
    """Have a model, or every model of a lane, be due at once. Lanes keep their pace, and a closed breaker its rest."""

    provider: _Name
    model_id: _Name | None = None


class Pause(msgspec.Struct, frozen=True, tag="pause", tag_field="ask", forbid_unknown_fields=True):
    """Start nothing new in a lane, or in any, until `Resume`; what streams goes on. An engine forgets it at its end."""

    lane: _Name | None = None


class Resume(msgspec.Struct, frozen=True, tag="resume", tag_field="ask", forbid_unknown_fields=True):
    """Undo `Pause`, of a lane or of all."""

    lane: _Name | None = None


class EnableModel(msgspec.Struct, frozen=True, tag="enable", tag_field="ask", forbid_unknown_fields=True):
    """Enable a row of the catalogue; the engine measures it from now on."""

    provider: _Name
    model_id: _Name


class DisableModel(msgspec.Struct, frozen=True, tag="disable", tag_field="ask", forbid_unknown_fields=True):
    """Disable a row of the catalogue, with a reason; the engine measures it no more."""

    provider: _Name
    model_id: _Name
    reason: _Reason


Order = RunNow | Pause | Resume | EnableModel | DisableModel
EngineRequest = Watch | Order


class EngineAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was ``done``, or the ``error`` that kept it from being done: a sentence either way."""

    done: str | None = None
    error: str | None = None
