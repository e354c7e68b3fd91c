"""The pictures in the documents show what the screens show now."""

from __future__ import annotations

import pytest

from tests.tui.screenshots import FOLDER, pictures


@pytest.fixture
def anyio_backend() -> str:
    """Textual runs on asyncio's own loop."""
    return "asyncio"


async def test_the_pictures_are_of_these_screens() -> None:
    """`make screenshots` would change none of them; they load nothing from elsewhere."""
    made = await pictures()

    assert {path.stem for path in FOLDER.iterdir()} == set(made)
    stale = [name for name, svg in made.items() if (FOLDER / f"{name}.svg").read_text(encoding="utf-8") != svg]
    assert stale == [], "make screenshots"
    assert not any("url(http" in svg or "@import" in svg for svg in made.values())
