"""What lets an engine's owner watch and command it: its desk, and the figures that are shown."""

from __future__ import annotations

from llmbench.actors.engine_commands import Commands, Refresh
from llmbench.actors.engine_desk import EngineDesk
from llmbench.actors.figures import About, Figures
from llmbench.actors.plans import Plan
from llmbench.actors.supervisor import Companion, Supervisor
from llmbench.config import Config
from llmbench.stores.base import Store
from llmbench.stores.spool import Spool


def local_side(
    config: Config,
    spool: Spool,
    store: Store,
    supervisor: Supervisor,
    *,
    plan: Plan,
    refresh: Refresh | None,
    about: About,
) -> list[Companion]:
    """Return what is to run beside the engine. Tells its bus how the store is, which says more only when it changes."""
    bus, scheduler, actors = supervisor.bus, supervisor.scheduler, supervisor.actors
    if supervisor.delivery is not None:
        bus.publish(supervisor.delivery.state)
    commands = Commands(
        plan,
        scheduler,
        supervisor.tell,
        supervisor.lanes,
        lambda lane: actors[lane].breaker != "closed",
        store,
        bus.publish,
        refresh,
    )
    figures = Figures(bus, actors.values(), plan, scheduler, about, spool)
    desk = EngineDesk(bus, config.spool_folder, commands)
    return [Companion("live_figures", figures.run), Companion("engine_desk", desk.run)]
