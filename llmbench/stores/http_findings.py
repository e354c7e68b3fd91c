"""A check of a bridge. Nothing is stored by it: an empty batch is sent, and the worklist is asked for."""

from __future__ import annotations

from llmbench.stores.findings import Finding, Judge, ok, warn
from llmbench.stores.http import HttpSettings, HTTPStore, Limits


async def findings(
    settings: HttpSettings, limits: Limits | None = None, *, judge: Judge | None = None
) -> list[Finding]:
    """Return what is to be said of the bridge, and with ``judge`` of the models that are to be measured.

    Raises `StoreUnusable` or `StoreError` if it can't be asked.
    """
    store = HTTPStore(settings, limits)
    await store.open()
    try:
        taken = await store.put_nothing()
        models = await store.models(enabled=True)
        unreadable = await store.unreadable_models()
    finally:
        await store.close()
    told = [_taking(store, settings) if taken else _not_taking(store)]
    told.append(_measuring(settings, len(models)))
    told += [warn("worklist", f"{entry}; it is not measured", "correct it at the bridge") for entry in unreadable]
    return [*told, *(judge(models) if judge is not None else ())]


def _taking(store: HTTPStore, settings: HttpSettings) -> Finding:
    return ok("store", f"{store.description} takes outcomes with the key in {settings.key_variable}")


def _not_taking(store: HTTPStore) -> Finding:
    told = f"{store.description} answers, and refuses an empty batch, as earlier bridges do"
    return warn("store", told, "nothing; whether it takes outcomes, a run tells")


def _measuring(settings: HttpSettings, count: int) -> Finding:
    if settings.worklist_url is None:
        return ok("worklist", "no bridge is asked what to measure: what config.toml lists is measured")
    asked = ", ".join(settings.providers) or "no provider, since none is enabled"
    return ok("worklist", f"models to be measured: {count}; asked for: {asked}")
