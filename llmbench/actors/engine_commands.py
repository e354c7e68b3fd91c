"""What an engine does when its owner tells it to, and the sentence that it answers with."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from llmbench.actors.engine_requests import DisableModel, EnableModel, EngineAnswer, Order, Pause, Resume, RunNow
from llmbench.actors.plans import Plan, Rotation
from llmbench.actors.scheduler import Scheduler
from llmbench.clock import Clock, SystemClock
from llmbench.error_text import visible
from llmbench.messages import Commanded, LookAgain, Model, SchedulerMessage
from llmbench.naming import fold, folded, key_of
from llmbench.stores.base import Store, StoreError, UnknownModel

logger = logging.getLogger(__name__)

_BY = "dashboard"

_ONE_ROUND = "; this engine makes one round, with the models that it began with"
_ENABLED = {
    True: ", and measured from now on",
    False: "; this engine does not measure it, for which see its log",
    None: _ONE_ROUND,
}
_DISABLED = {
    True: "; this engine goes on with it, since BENCHMARK_MODELS names it",
    False: ", and measured no more",
    None: _ONE_ROUND,
}

_CLOSED = "was refused its key or its bill: it tries one run at a time, and that once its rest is over"

Refresh = Callable[[], Awaitable[None]]


class _Impossible(Exception):
    """The order can't be carried out: the sentence says why."""


class LaneInCharge(Protocol):
    """A lane's supervision: why it does not work now, None while it does."""

    down: str | None


class Commands:
    """Carries out orders.

    ``tell`` reaches the scheduler; ``closed`` says whether a lane's breaker is open; ``publish`` gets what was done;
    ``refresh`` reads the catalogue for the plan, None for one that does not follow it.
    """

    def __init__(
        self,
        plan: Plan,
        scheduler: Scheduler,
        tell: Callable[[SchedulerMessage], None],
        lanes: Mapping[str, LaneInCharge],
        closed: Callable[[str], bool],
        store: Store,
        publish: Callable[[Commanded], None],
        refresh: Refresh | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._plan = plan
        self._scheduler = scheduler
        self._tell = tell
        self._lanes = lanes
        self._closed = closed
        self._store = store
        self._publish = publish
        self._refresh = refresh
        self._clock = clock or SystemClock()

    async def __call__(self, order: Order) -> EngineAnswer:
        try:
            done = await self._do(order)
        except (_Impossible, StoreError) as error:
            return EngineAnswer(error=visible(str(error)))
        except UnknownModel as error:
            return EngineAnswer(error=visible(_unknown(error)))
        said = visible(done)
        logger.info("from the dashboard: %s", said)
        self._publish(Commanded(at=self._clock.now(), done=said))
        return EngineAnswer(done=said)

    async def _do(self, order: Order) -> str:
        match order:
            case RunNow(provider, model_id):
                return await self._run_now(self._lane(provider), model_id)
            case Pause(lane):
                return self._pause(self._named(lane), whole=lane is None)
            case Resume(lane):
                return self._resume(self._named(lane), whole=lane is None)
            case EnableModel(provider, model_id):
                return await self._enable(provider, model_id)
            case DisableModel(provider, model_id, reason):
                return await self._disable(provider, model_id, reason)

    def _lane(self, name: str) -> str:
        if fold(name) not in self._lanes:
            raise _Impossible(f"no lane is called {name!r}: this engine has {', '.join(self._lanes)}")
        return fold(name)

    def _named(self, lane: str | None) -> list[str]:
        return list(self._lanes) if lane is None else [self._lane(lane)]

    # running out of turn

    def _rotation(self) -> Rotation:
        if not isinstance(self._plan, Rotation):
            raise _Impossible("this engine makes one round and ends: what is due in it is measured anyway")
        return self._plan

    async def _run_now(self, lane: str, model_id: str | None) -> str:
        plan = self._rotation()
        return self._run_lane(plan, lane) if model_id is None else await self._run_model(plan, lane, model_id)

    def _run_lane(self, plan: Rotation, lane: str) -> str:
        count = plan.ask_for(lane)
        if not count:
            models = plan.load(lane, self._clock.now()).models
            why = "every model is being measured already" if models else "there is no model to be measured"
            raise _Impossible(f"{lane}: {why}")
        self._tell(LookAgain())
        return f"{lane}: {count} model{'' if count == 1 else 's'} due now{self._however(lane)}"

    async def _run_model(self, plan: Rotation, lane: str, model_id: str) -> str:
        match plan.standing(folded(lane, model_id)):
            case "in_flight":
                raise _Impossible(f"{lane}/{model_id} is being measured already")
            case "waiting":
                plan.ask_for(lane, model_id)
                self._tell(LookAgain())
                return f"{lane}/{model_id} is due now{self._however(lane)}"
            case None:
                raise _Impossible(_not_measured(await self._store.model(lane, model_id)))

    def _however(self, lane: str) -> str:
        """Say what keeps a lane from starting anything, none of which is overridden."""
        if self._scheduler.paused(lane):
            return f"; but {lane} is paused"
        if self._scheduler.hold is not None:
            return f"; but nothing is started now: {self._scheduler.hold}"
        if (down := self._lanes[lane].down) is not None:
            return f"; but {lane} is down: {down}"
        return f"; but {lane} {_CLOSED}" if self._closed(lane) else ""

    # pausing

    def _pause(self, lanes: list[str], *, whole: bool) -> str:
        for lane in lanes:
            self._scheduler.pause(lane)
        who = "all lanes are" if whole else f"{lanes[0]} is"
        return f"{who} paused: nothing new is started, what streams goes on"

    def _resume(self, lanes: list[str], *, whole: bool) -> str:
        paused = [lane for lane in lanes if self._scheduler.paused(lane)]
        if not paused:
            raise _Impossible("no lane is paused" if whole else f"{lanes[0]} is not paused")
        for lane in paused:
            self._scheduler.resume(lane)
        self._tell(LookAgain())
        return f"{', '.join(paused)} goes on" if len(paused) == 1 else f"{', '.join(paused)} go on"

    # the catalogue

    async def _enable(self, provider: str, model_id: str) -> str:
        row = await self._store.enable_model(provider, model_id)
        return f"{_name(row)} is enabled{_ENABLED[await self._measures(row)]}"

    async def _disable(self, provider: str, model_id: str, reason: str) -> str:
        if not (why := visible(reason.strip())):
            raise _Impossible("say why it is disabled, for whoever wonders later")
        row = await self._store.disable_model(provider, model_id, reason=why, by=_BY, at=self._clock.now())
        return f"{_name(row)} is disabled ({why}){_DISABLED[await self._measures(row)]}"

    async def _measures(self, row: Model) -> bool | None:
        """Have the catalogue read again, and say whether the model is measured; None if the plan does not follow it."""
        if self._refresh is None or not isinstance(self._plan, Rotation):
            return None
        await self._refresh()
        self._tell(LookAgain())
        return self._plan.measures(key_of(row))


def _name(model: Model) -> str:
    return f"{model.provider}/{model.model_id}"


def _not_measured(model: Model) -> str:
    """Say why a model of the catalogue is none of the plan's."""
    if not model.enabled:
        return f"{_name(model)} is disabled ({model.disabled_reason or 'no reason was given'}): enable it first"
    return f"{_name(model)} is enabled, but not measured by this engine: its log says why"


def _unknown(error: UnknownModel) -> str:
    hint = f": did you mean {error.provider}/{error.similar[0]}?" if error.similar else ""
    return f"{error}{hint}"
