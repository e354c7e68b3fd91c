"""Putting an engine together for the commands that measure: lanes, SDKs loaded and warm, signals, the event loop."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

import anyio

from llmbench.actors.record import Runner
from llmbench.actors.supervisor import Lane
from llmbench.cli.exits import CommandError
from llmbench.config import Config, ResolvedProvider, UnknownProvider
from llmbench.measure.loopwatch import BACKEND_OPTIONS
from llmbench.measure.transport import verifying_context
from llmbench.providers.base import Provider, Unusable
from llmbench.providers.presets import CLOUD_KINDS
from llmbench.providers.registry import load_sdks, open_provider
from llmbench.secrets import SecretError, Secrets

STORE_PATIENCE_SECONDS = 60.0
"""How long a command that ends by itself waits for a store that takes nothing; the engine waits for ever."""

_SWITCH_SECONDS = 0.0005
"""How long a thread (the store's, the log's) may keep the interpreter while the event loop wants it; Python's own
default is ten times as long."""

logger = logging.getLogger("llmbench.engine")


def choose_providers(config: Config, names: Sequence[str] | None) -> list[ResolvedProvider]:
    """Return the enabled providers, or those named, enabled or not. Raises CommandError for an unknown name."""
    if names is None:
        return config.enabled_providers()
    try:
        return [config.provider(name) for name in dict.fromkeys(names)]
    except UnknownProvider as error:
        raise CommandError(str(error)) from error


def make_lane(settings: ResolvedProvider, env: Mapping[str, str], *, named: bool = False) -> Lane:
    """Return a lane; one whose key is missing has a problem, which its actor reports.

    ``named``: the provider was asked for on the command line, so disabling it is no way out.
    """
    try:
        key = Secrets(env).require(settings.api_key_env) if settings.api_key_env is not None else None
    except SecretError as error:
        problem = str(error) if named else f"{error}, or set enabled = false under [providers.{settings.name}]"
        return Lane(settings=settings, open=_never, problem=problem)
    try:
        if not settings.base_url.startswith("http:"):
            verifying_context(settings.ca_file)
    except OSError as error:
        problem = f"providers.{settings.name}.ca_file can't be used ({error}): name a PEM file with a certificate"
        return Lane(settings=settings, open=_never, problem=problem)
    value = key.reveal() if key is not None else None
    return Lane(settings=settings, open=partial(open_provider, settings, value))


def _never() -> Provider:
    raise AssertionError("a lane with a problem is never opened")


def working_lanes(lanes: Sequence[Lane]) -> list[Lane]:
    """Return the lanes that can be opened. Raises CommandError with every lane's problem if there are none."""
    working = [lane for lane in lanes if lane.problem is None]
    if not working:
        problems = "\n".join(f"{lane.settings.name}: {lane.problem}" for lane in lanes)
        raise CommandError(f"no provider can be measured:\n{problems}")
    return working


async def warm_up(lanes: Iterable[Lane]) -> None:
    """Import the SDKs and have each do its first-call work, before anything is measured.

    A provider that turns out to be unusable, or that meets a bug, is left to its lane, which says so when it starts.
    """
    by_kind = {lane.settings.kind: lane for lane in lanes}
    load_sdks(by_kind)
    for lane in by_kind.values():
        try:
            await _warm_up(lane)
        except Exception:  # a bug at one provider is told, and meets its own lane again; the others are warmed up
            logger.exception("%s could not be warmed up", lane.settings.name)


async def _warm_up(lane: Lane) -> None:
    provider = lane.open()
    try:
        await provider.warm_up()
    except Unusable:
        return
    finally:
        await provider.close()


async def missing_credentials(providers: Iterable[ResolvedProvider]) -> list[str]:
    """Return a sentence for each provider that takes its credentials from this machine and finds none."""
    clouds = [settings for settings in providers if settings.kind in CLOUD_KINDS]
    load_sdks({settings.kind for settings in clouds})
    problems = [(settings.name, await _problem(settings)) for settings in clouds]
    return [f"{name}: {problem}" for name, problem in problems if problem is not None]


async def _problem(settings: ResolvedProvider) -> str | None:
    provider = open_provider(settings, None)
    try:
        await provider.check()
    except Unusable as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  a bug at one provider, which is told and keeps no other from its check
        return f"its credentials can't be looked for ({type(error).__name__}: {error}): correct them"
    finally:
        await provider.close()
    return None


def runner_of(config: Config, env: Mapping[str, str]) -> Runner:
    """Return who measures, as rows tell it."""
    redactor = Secrets(env).redactor(config.secret_variables())
    return Runner(id=config.runner.id, region=config.runner.region, redactor=redactor)


class Stoppable(Protocol):
    """What runs until it is told to stop: gracefully, or by cutting everything off."""

    @property
    def stopping(self) -> bool: ...

    @property
    def grace_seconds(self) -> float: ...

    async def run(self) -> None: ...

    def stop(self) -> None: ...

    def abort(self) -> None: ...


async def run_until_signal(
    supervisor: Stoppable, tell: Callable[[str], None], what: str = "what streams now"
) -> tuple[int | None, int | None]:
    """Run the supervisor. The first SIGINT or SIGTERM stops it gracefully, a second cuts everything off.

    Returns the numbers of both signals, None for one that did not come.
    """
    first: int | None = None
    second: int | None = None

    async def listen() -> None:
        nonlocal first, second
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                if second is not None:  # heeded: what is cut off is still to be recorded
                    continue
                if supervisor.stopping:
                    second = number
                    supervisor.abort()
                    continue
                first = number
                grace = f"for up to {supervisor.grace_seconds:g} s"
                tell(f"{number.name}: finishing {what}, {grace}; once more to stop at once")
                supervisor.stop()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await supervisor.run()
        group.cancel_scope.cancel()
    return first, second


def run_measuring(main: Callable[[], Awaitable[int]]) -> int:
    """Run ``main`` on the event loop that knows how late it is."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    _allow_many_connections()
    return anyio.run(main, backend_options=BACKEND_OPTIONS)


def _allow_many_connections() -> None:
    """Raise the soft limit on open files to the hard one: a thousand streams need more than the usual 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):  # some systems refuse a value that they report themselves
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def environment() -> Mapping[str, str]:
    return os.environ
