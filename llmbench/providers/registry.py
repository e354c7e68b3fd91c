"""Which module serves which kind of provider. Importing this imports no SDK; opening a provider does."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from llmbench.config import ResolvedProvider
from llmbench.providers.base import Provider

_MODULES = {
    "openai": ("llmbench.providers.openai_family", "OpenAIFamily"),
    "openai-compatible": ("llmbench.providers.openai_family", "OpenAIFamily"),
    "anthropic": ("llmbench.providers.anthropic_messages", "AnthropicMessages"),
    "bedrock": ("llmbench.providers.bedrock", "Bedrock"),
    "vertex": ("llmbench.providers.vertex", "Vertex"),
}


def load_sdks(kinds: Iterable[str]) -> None:
    """Import what the kinds need: seconds of work that stop the event loop, so before any measurement.

    The garbage collector is off meanwhile: an SDK makes a few hundred thousand objects that all stay, and looking
    through them again and again doubles the time.
    """
    with _no_garbage_collection():
        for module in sorted({_MODULES[kind][0] for kind in kinds}):
            importlib.import_module(module)


def open_provider(settings: ResolvedProvider, key: str | None, *, kernel: bool = True) -> Provider:
    """Make the provider's client. Raises ImportError if its SDK is not installed."""
    module, name = _MODULES[settings.kind]
    factory = cast("Callable[..., Provider]", getattr(importlib.import_module(module), name))
    return factory(settings, key, kernel=kernel)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
