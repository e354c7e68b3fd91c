"""Configuration: config.toml and the environment become one frozen `Config`, or an error that lists every problem.

The keys of the file are the fields of the Structs in `llmbench.config.tables`; config.toml at the root of the
repository explains each. An environment variable overrides its key. No secret is ever part of a `Config`: it names the
variables that hold them (`llmbench.secrets`).
"""

from llmbench.config.check import ConfigError
from llmbench.config.effective import Config, UnknownProfile, UnknownProvider
from llmbench.config.environment import ModelRef
from llmbench.config.loading import find, load
from llmbench.config.providers import ResolvedProvider
from llmbench.config.show import show

__all__ = [
    "Config",
    "ConfigError",
    "ModelRef",
    "ResolvedProvider",
    "UnknownProfile",
    "UnknownProvider",
    "find",
    "load",
    "show",
]
