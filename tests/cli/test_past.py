"""Whose past a store has: which engine the viewer's own store is asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmbench.cli.past import Whose

FILE = "SQLite file /var/lib/llmbench/llmbench.db"
SHARED = "MongoDB database 'llm-bench' at db1.example:27017,db2.example:27017"
NEAR = "MongoDB database 'llm-bench' at localhost:27017"


@pytest.mark.parametrize("place", [FILE, SHARED, NEAR])
def test_an_engine_with_the_same_store(place: str) -> None:
    assert Whose(place, near=True, ours=False)(place) is None


@pytest.mark.parametrize(("own", "place"), [(FILE, SHARED), (SHARED, NEAR), (NEAR, FILE), (FILE, f"{FILE}2")])
@pytest.mark.parametrize("ours", [False, True])
def test_an_engine_with_another_store(own: str, place: str, ours: bool) -> None:
    """Both are named, and what to do; that it is the engine of this configuration is no excuse."""
    said = Whose(own, near=True, ours=ours)(place) or ""
    assert said.startswith(f"this engine stores in {place}, but the config.toml here names {own}")
    assert said.endswith("start the viewer with that engine's config.toml")


def test_an_engine_that_has_not_told_yet() -> None:
    """The one of this configuration is trusted so far; any other is not."""
    assert Whose(FILE, near=True, ours=True)(None) is None
    assert "has not told yet where it stores" in (Whose(FILE, near=True, ours=False)(None) or "")


@pytest.mark.parametrize(("place", "asked"), [(FILE, False), (NEAR, False), (SHARED, True)])
def test_an_engine_elsewhere(place: str, asked: bool) -> None:
    """On another machine the same words mean another file, and another server at this host."""
    said = Whose(place, near=False, ours=False)(place)
    assert (said is None) == asked
    assert asked or "of its own machine, which need not be this one" in (said or "")


@pytest.mark.parametrize("hosts", [" at [::1]:27017", " at [::1]", " at LocalHost", " at db1:1,127.0.0.1:2", ""])
def test_a_server_that_may_be_another_one_on_each_machine(hosts: str) -> None:
    """Whatever this host is called; where none is named, a socket's path may be meant."""
    place = f"MongoDB database 'llm-bench'{hosts}"
    assert "which need not be this one" in (Whose(place, near=False, ours=False)(place) or "")


@pytest.mark.parametrize("hosts", ["[2001:db8::1]:27017", "[2001:db8::1]", "db.example", "10.0.0.1:27017"])
def test_a_server_that_is_the_same_one_everywhere(hosts: str) -> None:
    place = f"MongoDB database 'llm-bench' at {hosts}"
    assert Whose(place, near=False, ours=False)(place) is None


def test_one_file_under_two_names(tmp_path: Path) -> None:
    file, link = tmp_path / "llmbench.db", tmp_path / "link.db"
    link.symlink_to(file)
    whose = Whose(f"SQLite file {file}", near=True, ours=False)
    assert whose(f"SQLite file {link}") is not None
    file.touch()
    assert whose(f"SQLite file {link}") is None
