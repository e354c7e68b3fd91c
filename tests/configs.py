"""What the tests of the configuration share: files to load, and shorthands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from llmbench.config import Config, ConfigError, load

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "config.toml"
BAD = HERE / "config_bad"
GOOD = HERE / "config_good"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path | None, env: Mapping[str, str] | None = None) -> list[str]:
    """Return what is wrong with this file and environment; something has to be."""
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    return caught.value.problems


def settled(config: Config) -> Config:
    """Return what a configuration amounts to, without where it came from."""
    return msgspec.structs.replace(config, source=None, overrides={}, worklist=(), store_problems=())
