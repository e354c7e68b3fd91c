"""The catalogue, and the history of one model."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from textual.app import ComposeResult

from llmbench.actors.engine_requests import DisableModel, EnableModel, EngineRequest
from llmbench.tui.answers import Catalogue, CatalogueRow, ModelRuns
from llmbench.tui.commands import Subject
from llmbench.tui.question import Question
from llmbench.tui.screens.base import Pane
from llmbench.tui.screens.stored import Remembered, ask_if_due, ask_now, history_of
from llmbench.tui.state import State
from llmbench.tui.table import Cell, Table
from llmbench.tui.text import safe
from llmbench.tui.views.answered import standing
from llmbench.tui.views.models import SHOWS, Show, key_of_row, models, row_of, runs, told
from llmbench.tui.widgets.grid import Grid


class Models(Pane):
    """Every model of the catalogue, worst first; of one its runs."""

    key = "models"
    sentence = "Which model is measured, failing, stale or disabled, and since when?"
    has_detail = True
    DEFAULT_CSS = "Models #detail { display: none; }"

    def __init__(self) -> None:
        super().__init__()
        self.shown: Show = "all"
        self.catalogue: Question[Catalogue] = Question(lambda: history_of(self).models())
        self.runs: Question[ModelRuns] = Question(self._ask_runs)
        self._row: CatalogueRow | None = None
        self._table: Remembered[Table] = Remembered()

    def body(self) -> ComposeResult:
        yield from super().body()
        yield Grid(id="detail")

    @property
    def grid(self) -> Grid:
        return self.query_one("#main" if self._row is None else "#detail", Grid)

    def frame(self, now: datetime) -> None:
        ask_if_due(self, self.catalogue)
        if self._row is not None:
            ask_if_due(self, self.runs)

    def table(self, state: State, now: datetime) -> Table:
        if self._row is not None:
            return runs(self.runs.standing, now, self.text_filter)
        asked, fresh = self.catalogue.standing, history_of(self).fresh
        same = (self.catalogue.version, self.shown, self.text_filter, now.replace(microsecond=0))
        return self._table.get(
            same, (state.finished,), lambda: models(asked, state, now, fresh, self.shown, self.text_filter)
        )

    def notices(self, state: State, now: datetime) -> Iterator[Cell]:
        if self._row is None:
            if self.shown != "all":
                yield Cell(f"only {self.shown} models are shown; f shows others", "accent")
            yield from standing(self.catalogue.standing, now)
            return
        row = self._row_now(self._row)
        yield Cell(f"{safe(key_of_row(row))} · esc goes back", "accent")
        yield from told(self.runs.standing, row, now)
        yield from standing(self.runs.standing, now)

    def subject(self, state: State) -> Subject | None:
        row = self._chosen() if self._row is None else self._row_now(self._row)
        return None if row is None else Subject(row.provider, row.model_id, row.enabled)

    def stay(self) -> None:
        """Stay on the model in the catalogue, be its history open or not."""
        self.query_one("#main", Grid).stay()

    def carried_out(self, request: EngineRequest) -> None:
        if isinstance(request, EnableModel | DisableModel):
            ask_now(self, self.catalogue)

    def _row_now(self, row: CatalogueRow) -> CatalogueRow:
        """Return a row as the store told it last."""
        return row_of(self.catalogue.standing, key_of_row(row)) or row

    def _chosen(self) -> CatalogueRow | None:
        return row_of(self.catalogue.standing, self.query_one("#main", Grid).chosen)

    async def _ask_runs(self) -> ModelRuns:
        assert self._row is not None, "it is asked for the model that is open"
        return await history_of(self).runs_of(self._row.provider, self._row.model_id)

    def _toggle_detail(self) -> None:
        row = None if self._row is not None else self._chosen()
        if row is None and self._row is None:
            return
        self._row = row
        self.runs.forget()
        self.set_class(row is not None, "-detail")
        self.grid.focus()
        self.touch()

    def action_show(self) -> None:
        if self._row is None:
            self.shown = SHOWS[(SHOWS.index(self.shown) + 1) % len(SHOWS)]
            self.touch()

    def action_reload(self) -> None:
        ask_now(self, self.catalogue if self._row is None else self.runs)
