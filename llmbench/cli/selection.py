"""What the engine measures: the catalogue's models, or those of BENCHMARK_MODELS, each with what to ask it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from llmbench.catalog import Finding
from llmbench.cli.context import as_measured, new_model, profile_for
from llmbench.cli.models_common import own_findings, sentence
from llmbench.config import Config, ResolvedProvider
from llmbench.messages import Model, Profile
from llmbench.naming import key_of

logger = logging.getLogger("llmbench.engine")

Runs = list[tuple[Model, Profile]]


class Selection:
    """Reads what to measure, time and again. A row that can't be measured is left out and told of, once."""

    def __init__(
        self,
        config: Config,
        enabled: Callable[[], Awaitable[list[Model]]],
        providers: Iterable[ResolvedProvider],
    ) -> None:
        self._config = config
        self._enabled = enabled
        self._wanted = {settings.name for settings in providers}
        self._told: set[str] = set()
        self.left_out: list[str] = []
        """A sentence for each model that was left out when the catalogue was last read."""

    async def read(self) -> Runs:
        enabled = [as_measured(model) for model in await self._enabled()]
        chosen = [model for model in self._narrowed(enabled) if model.provider in self._wanted]
        return [(model, profile_for(self._config, model)) for model in self._measurable(chosen)]

    def _narrowed(self, enabled: list[Model]) -> list[Model]:
        """Return what BENCHMARK_MODELS names, as the catalogue has it, or all if it names nothing."""
        if not self._config.worklist:
            return enabled
        known = {key_of(model): model for model in enabled}
        named = [new_model(ref.provider, ref.model_id, source="BENCHMARK_MODELS") for ref in self._config.worklist]
        return [known.get(key_of(model), model) for model in named]

    def _measurable(self, models: Iterable[Model]) -> list[Model]:
        """Return those that can be measured, and log what is new of what is wrong with any."""
        measurable, told = [], []
        self.left_out = []
        for model in models:
            found = own_findings(self._config, model)
            left_out = [_left_out(model, finding) for finding in found if finding.problem == "profile"]
            told += [sentence(model, finding) for finding in found if finding.problem != "profile"]
            self.left_out += left_out
            measurable += [] if left_out else [model]
        told = self.left_out + told
        for one in told:
            if one not in self._told:
                logger.warning("%s", one)
        self._told = set(told)
        return measurable


def _left_out(model: Model, finding: Finding) -> str:
    return f"{sentence(model, finding)}; until then the model is not measured"
