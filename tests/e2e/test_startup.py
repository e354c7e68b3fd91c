"""Starting up: what is only looked up loads no SDK and no terminal toolkit."""

from __future__ import annotations

import json
import sys

import pytest

from tests.e2e.program import Place, ended

HEAVY = {"openai", "anthropic", "aiohttp", "httpx2", "httpx", "textual", "rich", "boto3", "vertexai", "numpy", "anyio"}

LOADED = """
import json, sys
from llmbench.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["bench", "--help"], ["demo", "--help"], ["simulate", "--help"], ["tui", "--help"]],
)
def test_help_loads_nothing_heavy(place: Place, arguments: list[str]) -> None:
    """No SDK, no event loop, no terminal toolkit: whoever only asks has an answer at once."""
    with place.started(*arguments, command=(sys.executable, "-c", LOADED)) as process:
        done = ended(process)
    code, modules = json.loads(done.err)

    assert code == 0
    assert done.out
    assert "llmbench.cli.parser" in modules
    assert HEAVY & set(modules) == set()


def test_the_engine_loads_no_terminal_toolkit_and_no_sdk_that_it_does_not_need(place: Place) -> None:
    """With a groq lane only, neither the anthropic SDK nor anything that draws is imported."""
    place.configure(groq=["sim-ttft2-gap1"])
    with place.started("--headless", "--once", command=(sys.executable, "-c", LOADED)) as process:
        done = ended(process)
    code, modules = json.loads(done.err)

    assert code == 0
    assert "openai" in modules
    assert {"anthropic", "textual", "rich"} & set(modules) == set()
