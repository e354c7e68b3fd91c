"""What the dashboard looks like: themes, sizes, tones, foreign text; and how seldom it is drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

from llmbench.config.tables import TuiTable
from llmbench.tui.bindings import PANES, commands_of
from llmbench.tui.screens.help import Help
from llmbench.tui.table import Cell, Column, Row, Table
from llmbench.tui.text import safe, width
from llmbench.tui.widgets.drawing import tone_style
from llmbench.tui.widgets.grid import Grid
from tests.tui import canned, states
from tests.tui.dashboards import Driven, Size, driven
from tests.tui.stores import shown


@pytest.fixture
def anyio_backend() -> str:
    """Textual runs on asyncio's own loop."""
    return "asyncio"


def contrast(one: Color, other: Color) -> float:
    """Return how far apart two colours are: WCAG 2.1, «contrast ratio»."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Color) -> float:
    parts = [part / 255 for part in colour.rgb]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("settings", [TuiTable(theme="dark"), TuiTable(theme="light")], ids=lambda one: one.theme)
async def test_every_tone_can_be_read_and_told_apart(settings: TuiTable) -> None:
    """Text has a contrast of 4.5 on what it stands on, as WCAG asks; what alarms looks like nothing else."""
    async with driven(settings=settings) as dashboard:
        grid = dashboard.pane.grid
        tones = {tone: tone_style(grid, tone).color for tone in ("good", "warn", "bad", "accent", "muted")}
        grounds = [grid.rich_style, *map(grid.get_component_rich_style, ("grid--cursor", "grid--heading"))]
        grounds.append(dashboard.pane.query_one("#banner").rich_style)
        for tone, colour in tones.items():
            for ground in grounds:
                assert colour is not None
                assert ground.bgcolor is not None
                assert contrast(Color.from_rich_color(colour), Color.from_rich_color(ground.bgcolor)) >= 4.5, tone
        assert len(set(tones.values())) == len(tones)


async def test_the_terminals_own_colours() -> None:
    """With the theme ansi nothing but the sixteen colours of the terminal is asked for."""
    async with driven(states.one_lane_down(), settings=TuiTable(theme="ansi")) as dashboard:
        colours = [colour for style in styles(dashboard) for colour in (style.color, style.bgcolor) if colour]

        assert {colour.name for colour in colours if not colour.is_default and colour.number is None} == set()
        assert {1, 2, 3} <= {colour.number for colour in colours}


async def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR there is none; what is chosen and what alarms is still seen."""
    monkeypatch.setenv("NO_COLOR", "1")
    async with driven(states.one_lane_down()) as dashboard:
        assert dashboard.app.theme == "ansi"
        shown = styles(dashboard)
        assert {style.color.name for style in shown if style.color} <= {"default"}
        assert {style.bgcolor.name for style in shown if style.bgcolor} <= {"default"}
        assert any(style.reverse for style in shown)
        assert dashboard.shows("✖ down")


def styles(dashboard: Driven) -> list[Style]:
    """Return the styles of everything that is drawn, as the terminal gets them."""
    background = dashboard.app.screen.background_colors[1]
    found = []
    for strip in dashboard.app.screen._compositor.render_strips():
        segments = list(strip)
        for line_filter in dashboard.app.get_line_filters():
            segments = line_filter.apply(segments, background)
        found += [segment.style for segment in segments if segment.style is not None]
    return found


@pytest.mark.parametrize("size", [(58, 24), (80, 14), (40, 3)])
async def test_a_terminal_that_is_too_small(size: Size) -> None:
    """It is told what is needed, and the worst news; made larger, it shows all."""
    async with driven(states.one_lane_down(), size=size) as dashboard:
        assert dashboard.text()[0] == f"terminal too small ({size[0]}×{size[1]}), need 60×15"
        assert dashboard.text()[1].startswith("✖ groq down since 12:03")

        await dashboard.pilot.resize_terminal(60, 15)
        await dashboard.settled()
        assert dashboard.shows("[1 Overview]")
        assert dashboard.shows("▲ slow")


async def test_a_plot_fills_its_panel() -> None:
    """Lines over the table that make the panel lower leave the plot its axis."""
    async with shown(canned.PASTS["healthy"](), "trends", state=states.healthy()) as dashboard:
        dashboard.pane.text_filter = "a"
        dashboard.pane.touch()
        await dashboard.settled()

        assert [line for line in dashboard.text()[-6:] if line.endswith("now")]


@pytest.mark.parametrize("number", range(1, 8))
async def test_the_foot_of_a_narrow_screen(number: int) -> None:
    """Each key that there is room for has its whole word, help and quitting always."""
    async with driven(size=(60, 15), keys=[str(number)]) as dashboard:
        foot = dashboard.text()[-1]
        words = {command.label for command in commands_of(PANES[number - 1])}

        assert foot.endswith("  ? Help  q Quit")
        assert {hint.split(" ", 1)[1] for hint in foot.split("  ")} <= words


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (200, 50)])
async def test_hostile_text_changes_nothing(size: Size) -> None:
    """On every screen each line has its width, and nothing that a terminal acts on is in it."""
    async with driven(states.hostile(), size=size) as dashboard:
        for number in "1234567":
            await dashboard.press(number, "down", "enter")
            strips = dashboard.app.screen._compositor.render_strips()
            assert [cell_len(strip.text) for strip in strips] == [size[0]] * size[1]
            assert all(line.isprintable() for line in dashboard.text())
            await dashboard.press("escape")


async def test_a_sentence_of_the_engine_is_no_markup() -> None:
    """Nor is it a link to click on, or longer than a notice."""
    async with driven() as dashboard:
        dashboard.app.tell("[@click=app.quit]click[/] [/x] \x1b[31m " + "long " * 1000, bad=True)
        await dashboard.settled()

        assert dashboard.shows("[@click=app.quit]click[/]")
        assert len(dashboard.notices()[0]) == 500


@given(st.text(max_size=40))
def test_a_text_is_as_wide_as_the_toolkit_has_it(text: str) -> None:
    """The toolkit cuts lines where it counts them to end: both have to count the same."""
    assert width(safe(text)) == cell_len(safe(text))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, int]]:
    """The table and the number of each line that tables have drawn."""
    lines: list[tuple[str | None, int]] = []
    plain = Grid.render_line

    def noted(grid: Grid, y: int) -> Strip:
        lines.append((grid.id, y))
        return plain(grid, y)

    monkeypatch.setattr(Grid, "render_line", noted)
    return lines


async def test_nothing_is_drawn_while_nothing_changes(drawn: list[tuple[str | None, int]]) -> None:
    """A frame without news draws no line."""
    async with driven() as dashboard:
        assert drawn
        drawn.clear()
        for _ in range(5):
            dashboard.app._frame()
            await dashboard.pilot.pause()

        assert drawn == []


async def test_only_lines_that_changed_are_drawn(drawn: list[tuple[str | None, int]]) -> None:
    """One provider's figures change one line of the table."""
    async with driven() as dashboard:
        drawn.clear()
        await dashboard.told(states.lane_figures("openai", in_flight=2))

        place = [row.key for row in dashboard.pane.grid.table.rows].index("openai")
        assert {y for name, y in drawn if name == "main"} == {place + 1}


async def test_remapped_keys_are_everywhere() -> None:
    """At the foot, in the help, and on the keyboard; the old key does nothing more."""
    async with driven(settings=TuiTable(keys={"sort": "o", "filter": "f2", "open": "s"})) as dashboard:
        assert dashboard.text()[-1].startswith("s Open  f2 Filter")
        await dashboard.press("o")
        assert dashboard.pane.grid.order.column == 0
        await dashboard.press("s")
        assert dashboard.pane.has_class("-detail")
        await dashboard.press("escape", "slash")
        assert dashboard.app.focused is dashboard.pane.grid

        await dashboard.press("question_mark")
        assert isinstance(dashboard.app.screen, Help)
        assert dashboard.shows("o       Sort")


async def test_the_mouse() -> None:
    """A click chooses a row, one on a heading sorts by it, one at the foot is as the key."""
    async with driven() as dashboard:
        await dashboard.pilot.click("#main", offset=(2, 3))
        assert dashboard.pane.grid.chosen == dashboard.pane.grid.table.rows[2].key
        await dashboard.pilot.click("#main", offset=(2, 0))
        await dashboard.pilot.click("#main", offset=(2, 0))
        assert [row.key for row in dashboard.pane.grid.table.rows] == sorted(states.LANES, reverse=True)

        await dashboard.pilot.click("#keys", offset=(dashboard.text()[-1].index("Freeze"), 0))
        await dashboard.settled()
        assert dashboard.shows("this view is as of")


@pytest.mark.parametrize(("keeps_end", "shown"), [(False, "a long i…"), (True, "…ng id-17")])
async def test_a_column_says_which_end_of_a_text_it_keeps(keeps_end: bool, shown: str) -> None:
    column = Column(name="id", width=9, keeps_end=keeps_end)
    table = Table(columns=(column,), rows=(Row("1", (Cell("a long id-17"),)),), empty="")
    async with driven() as dashboard:
        dashboard.pane.table = lambda state, now: table  # type: ignore[method-assign]
        dashboard.pane.touch()
        await dashboard.settled()

        assert dashboard.shows(shown)


async def test_a_grid_keeps_its_scroll_when_rows_change() -> None:
    """A table that grows and shrinks below the fold leaves what is seen where it is."""

    def table(count: int) -> Table:
        rows = tuple(Row(str(n), (Cell(f"row {n}"),)) for n in range(count))
        return Table(columns=(Column(name="x", width=0),), rows=rows, empty="")

    async with driven() as dashboard:
        grid = dashboard.pane.grid
        dashboard.pane.table = lambda state, now: table(100)  # type: ignore[method-assign]
        dashboard.pane.touch()
        await dashboard.press(*["down"] * 30)
        before = grid.scroll_offset.y
        dashboard.pane.table = lambda state, now: table(60)  # type: ignore[method-assign]
        dashboard.pane.touch()
        await dashboard.settled()

        assert (grid.chosen, grid.scroll_offset.y) == ("30", before)
