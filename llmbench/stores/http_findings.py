"""A check of a bridge. Nothing is stored by it: an empty batch is sent, and the worklist is asked for."""

from __future__ import annotations

from llmbench.error_text import clean
from llmbench.stores.findings import Finding, Judge, fail, ok, warn
from llmbench.stores.http import HttpSettings, HTTPStore, Limits, Tried

_LONGEST_NAME = 200


async def findings(
    settings: HttpSettings, runner: str, limits: Limits | None = None, *, judge: Judge | None = None
) -> list[Finding]:
    """Return what is to be said of the bridge, and with ``judge`` of the models that are to be measured.

    ``runner`` is this one's id. Raises `StoreUnusable` or `StoreError` if it can't be asked.
    """
    store = HTTPStore(settings, limits)
    await store.open()
    try:
        tried = await store.put_nothing()
        models = await store.models(enabled=True)
        unreadable = await store.unreadable_models()
    finally:
        await store.close()
    told = [_taking(store, settings, runner, tried) if tried.taken else _not_taking(store)]
    told.append(_measuring(settings, len(models)))
    told += [warn("worklist", f"{entry}; it is not measured", "correct it at the bridge") for entry in unreadable]
    return [*told, *(judge(models) if judge is not None else ())]


def _taking(store: HTTPStore, settings: HttpSettings, runner: str, tried: Tried) -> Finding:
    if tried.runner not in (None, runner):
        theirs = clean(tried.runner or "", _LONGEST_NAME)
        told = f"the key in {settings.key_variable} is that of runner {theirs!r}, and this runner is {runner!r}"
        return fail(
            "store",
            f"{told}: {store.description} takes nothing of it",
            f"set runner.id to {theirs!r}, or have a key made there with llmbench keys new {runner}",
        )
    return ok("store", f"{store.description} takes outcomes with the key in {settings.key_variable}")


def _not_taking(store: HTTPStore) -> Finding:
    told = f"{store.description} answers, and refuses an empty batch, as earlier bridges do"
    return warn("store", told, "nothing; whether it takes outcomes, a run tells")


def _measuring(settings: HttpSettings, count: int) -> Finding:
    if settings.worklist_url is None:
        return ok("worklist", "no bridge is asked what to measure: what config.toml lists is measured")
    asked = ", ".join(settings.providers) or "no provider, since none is enabled"
    return ok("worklist", f"models to be measured: {count}; asked for: {asked}")
