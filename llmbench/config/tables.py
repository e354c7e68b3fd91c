"""The tables of config.toml, as Structs: which keys there are, their types, limits and defaults.

A default of None means that the key has none of its own: a provider's comes from its preset, a profile's from the
built-in profile of the same name.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from llmbench.messages import Profile
from llmbench.naming import MODEL_ID
from llmbench.providers.presets import ProviderKind


def _words(text: str) -> dict[str, Any]:
    return {"wants": text}


Name = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z0-9][a-z0-9_-]{0,39}\Z",
        extra=_words("a name of 1 to 40 of a-z, 0-9, '_' and '-', beginning with a letter or digit"),
    ),
]
RunnerId = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,99}\Z",
        extra=_words("a text of 1 to 100 letters, digits, '.', '_', ':' and '-', beginning with a letter or digit"),
    ),
]
PathText = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f]+\Z", extra=_words("a path"))]
ModelId = Annotated[
    str,
    Meta(pattern=MODEL_ID, extra=_words("a model id of 1 to 200 printable ASCII characters without spaces")),
]
VariableName = Annotated[
    str,
    Meta(
        pattern=r"\A([A-Z_][A-Z0-9_]*)?\Z",
        max_length=100,
        # A key pasted in the place of its variable's name must not end up on a screen.
        extra={"wants": "the name of an environment variable, in capitals, or '' for no key", "hide": True},
    ),
]
Url = Annotated[
    str,
    Meta(
        pattern=r"\A(?i:https?)://[!-~]+\Z",
        max_length=500,
        extra=_words("an absolute http:// or https:// URL, such as 'http://127.0.0.1:8000/v1'"),
    ),
]
BridgeUrl = Annotated[
    str,
    Meta(
        pattern=r"\A(?i:https?)://[!-~]+\Z",
        max_length=500,
        # A key pasted in the place of the URL must not end up on a screen.
        extra={"wants": "an absolute http:// or https:// URL, such as 'https://bench.example'", "hide": True},
    ),
]
HeaderName = Annotated[
    str,
    Meta(pattern=r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z", extra=_words("the name of an HTTP header")),
]
HeaderValue = Annotated[
    str,
    Meta(
        pattern=r"\A[\x21-\x7e]([\x20-\x7e]{0,998}[\x21-\x7e])?\Z",
        extra={"wants": "a text of 1 to 1000 printable ASCII characters without space at either end", "hide": True},
    ),
]
CloudRegion = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z][a-z0-9-]{0,39}\Z",
        extra=_words("a region such as 'us-east-1', 'us-central1' or 'global'"),
    ),
]
ProjectId = Annotated[
    str,
    Meta(
        # A domain-scoped project's id holds a colon.
        pattern=r"\A[a-z0-9][a-z0-9.:-]{0,99}\Z",
        extra=_words("the id (not the name) of a Google Cloud project"),
    ),
]
IdPart = Annotated[str, Meta(pattern=r"\A[!-~]{1,100}\Z", extra=_words("the beginning or end of a model id"))]
CommandId = Annotated[
    str,
    Meta(
        pattern=r"\A[a-z][a-z_]{0,39}\Z",
        extra=_words("the id of a command, such as 'sort' (docs/dashboard.md lists them)"),
    ),
]
KeyNames = Annotated[
    str,
    Meta(pattern=r"\A[!-~]{1,60}\Z", extra=_words("a key such as 'x', 'ctrl+x' or 'f5', or several with commas")),
]
Prompt = Annotated[str, Meta(min_length=1, max_length=20_000, extra=_words("a text of 1 to 20000 characters"))]
Effort = Annotated[str, Meta(pattern=r"\A[a-z]{1,20}\Z", extra=_words("a word such as 'low', or 'unset'"))]
Seconds = Annotated[float, Meta(ge=0.1, le=86_400)]
Minutes = Annotated[float, Meta(ge=0.1, le=525_600)]
UriVariable = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Z_][A-Z0-9_]*\Z",
        max_length=100,
        # A URI pasted here, with its password, must not end up on a screen.
        extra={"wants": "the name of an environment variable, in capitals", "hide": True},
    ),
]
DatabaseName = Annotated[
    str,
    Meta(
        # A part of what MongoDB takes, which has different rules on different systems.
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z",
        extra=_words("a database name of 1 to 63 letters, digits, '_' and '-', beginning with a letter or digit"),
    ),
]
StoreKind = Literal["sqlite", "mongo", "http"]
_PORT = r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
Listen = Annotated[
    str,
    Meta(
        pattern=r"\A(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):" + _PORT + r"\Z",
        extra=_words("an address and a port, such as '127.0.0.1:8787', '0.0.0.0:8787' or '[::1]:8787'"),
    ),
]
Unset = Literal["unset"]


def host_name() -> str:
    """Return this machine's name as a runner id; characters that an id can't hold become ``-``."""
    return re.sub(r"[^A-Za-z0-9._:-]", "-", platform.node()).lstrip("._:-")[:100] or "localhost"


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of config.toml. Every key has a default."""


class RunnerTable(Table, frozen=True):
    """Who measures. ``region`` is stored with every outcome, so that one region can be told from another."""

    id: RunnerId = msgspec.field(default_factory=host_name)
    region: RunnerId | None = None


class ScheduleTable(Table, frozen=True):
    """When to measure, how long running streams may take to finish once a stop is asked for, and with whom to share.

    ``claim``: several runners on one store share the models, all of them or those of one region.
    """

    fresh_minutes: Minutes = 180.0
    grace_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    claim: Literal["shared", "region"] = "shared"
    lease_seconds: Annotated[float, Meta(ge=1, le=3600)] = 60.0


class SqliteTable(Table, frozen=True):
    """The embedded store. `load` fills in an empty path."""

    path: PathText = ""


class MongoTable(Table, frozen=True):
    """The MongoDB store. The URI holds a password, so the file only says which variable has it."""

    uri_env: UriVariable = "MONGODB_URI"
    database: DatabaseName = "llm-bench"


class HttpTable(Table, frozen=True):
    """The HTTP store: a bridge that takes outcomes, and tells what to run. `load` fills in an empty ``url``.

    Without a ``worklist_url`` the bridge itself is not asked what to run: what the file lists is run. The keys are in
    the environment.
    """

    url: BridgeUrl | None = None
    key_env: UriVariable = "INGEST_API_KEY"
    worklist_url: BridgeUrl | None = None
    worklist_key_env: UriVariable = "RUNNER_CONFIG_TOKEN"
    ca_file: PathText | None = None


class StoreTable(Table, frozen=True):
    """Which store. `load` fills in a kind that is not given: ``sqlite``, unless the environment asks for another."""

    kind: StoreKind | None = None
    sqlite: SqliteTable = SqliteTable()
    mongo: MongoTable = MongoTable()
    http: HttpTable = HttpTable()


class SpoolTable(Table, frozen=True):
    """Where outcomes are durable before the store has them. `load` fills in an empty folder."""

    folder: PathText = ""
    cap_mb: Annotated[int, Meta(ge=1, le=1_000_000)] = 2048
    keep_hours: Annotated[float, Meta(ge=0, le=8760)] = 24.0


class ServerTable(Table, frozen=True):
    """The HTTP side, off unless ``listen`` is given. ``keys_file`` holds digests of keys; `load` fills in an empty one.

    Limits are of one request (``max_body_kb``, ``body_seconds``) and of one key (``requests_per_second``).
    """

    listen: Listen | None = None
    keys_file: PathText = ""
    max_body_kb: Annotated[int, Meta(ge=1, le=65_536)] = 1024
    body_seconds: Annotated[float, Meta(ge=0.1, le=600)] = 10.0
    requests_per_second: Annotated[float, Meta(ge=0.1, le=10_000)] = 50.0


class ProfileTable(Table, frozen=True):
    """A named request shape; ``"unset"`` leaves a parameter out of the request."""

    prompt: Prompt | None = None
    version: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | Unset | None = None
    effort: Effort | None = None
    timeout_seconds: Seconds | None = None
    idle_timeout_seconds: Seconds | None = None
    connect_timeout_seconds: Seconds | None = None
    token_tolerance: Annotated[float, Meta(ge=0, le=1)] | None = None
    validation: Literal["tokens", "reasoning", "none"] | None = None
    publish: bool | None = None


class ProviderTable(Table, frozen=True):
    """One provider. A table that is there is enabled unless it says otherwise."""

    kind: ProviderKind | None = None
    enabled: bool = True
    base_url: Url | None = None
    api_key_env: VariableName | None = None
    requests_per_minute: Annotated[float, Meta(ge=0.01, le=100_000)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=4096)] | None = None
    models: tuple[ModelId, ...] = ()
    profile: Name | None = None
    ca_file: PathText | None = None
    headers: dict[HeaderName, HeaderValue] = {}
    region: CloudRegion | None = None
    project: ProjectId | None = None
    model_regions: dict[ModelId, CloudRegion] = {}
    responses_prefixes: tuple[IdPart, ...] | None = None
    completions_suffixes: tuple[IdPart, ...] | None = None


class TuiTable(Table, frozen=True):
    """The dashboard. ``keys`` maps ids of its commands (`llmbench.tui.bindings`) to keys of a person's own."""

    theme: Literal["dark", "light", "ansi"] = "dark"
    frames_per_second: Annotated[float, Meta(ge=0.5, le=10)] = 10.0
    keys: dict[CommandId, KeyNames] = {}


class Tables(Table, frozen=True):
    """The whole of config.toml."""

    runner: RunnerTable = msgspec.field(default_factory=RunnerTable)
    schedule: ScheduleTable = ScheduleTable()
    store: StoreTable = StoreTable()
    spool: SpoolTable = SpoolTable()
    server: ServerTable = ServerTable()
    tui: TuiTable = TuiTable()
    profiles: dict[Name, ProfileTable] = {}
    providers: dict[Name, ProviderTable] = {}


PROFILE_FIELDS: Mapping[str, str] = {
    name: {"effort": "reasoning_effort", "validation": "validation_policy"}.get(name, name)
    for name in ProfileTable.__struct_fields__
}
"""Key of a profile's table → field of `Profile`."""

# The budget has to be used up, or speeds of different models compare different things; so the text asked for is long.
_PROMPT = (
    "Write a detailed essay of at least two thousand words on how bridges have been built, from the first stone "
    "arches to today's cable-stayed spans. Begin with the first sentence of the essay itself, write continuous prose "
    "without headings or lists, and do not stop early."
)

BUILT_IN: Mapping[str, Profile] = {
    "default": Profile(id="default", prompt=_PROMPT, max_tokens=64, temperature=0.0),
    "reasoning": Profile(
        id="reasoning",
        prompt=_PROMPT,
        max_tokens=1024,
        reasoning_effort="low",
        timeout_seconds=300.0,
        # Some APIs send nothing at all while a model thinks.
        idle_timeout_seconds=180.0,
        validation_policy="reasoning",
    ),
}
"""The profiles that are there without any configuration; other names start from ``default``."""


def profile_of(name: str, table: ProfileTable) -> Profile:
    """Return the profile of this name: the built-in one, with the keys that the table gives."""
    given = {PROFILE_FIELDS[key]: value for key, value in msgspec.structs.asdict(table).items() if value is not None}
    unset = {field: None for field in ("temperature", "reasoning_effort") if given.get(field) == "unset"}
    return msgspec.structs.replace(BUILT_IN.get(name, BUILT_IN["default"]), id=name, **given | unset)
