"""The providers: a table of the file and a preset make a `ResolvedProvider`; the rules that no type can state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from llmbench.config.check import NEAR, Problem, listed, nearest, quote
from llmbench.config.tables import ProviderTable
from llmbench.hosts import is_loopback
from llmbench.messages import Model
from llmbench.naming import fold
from llmbench.providers.presets import (
    CLOUD_KINDS,
    COMPATIBLE,
    COMPLETIONS_SUFFIXES,
    OTHER_CONCURRENCY,
    OTHER_REQUESTS_PER_MINUTE,
    PRESETS,
    RESPONSES_PREFIXES,
    ProviderKind,
)
from llmbench.secrets import redact_patterns

T = TypeVar("T")

# These carry credentials, which a configuration file must not hold.
_SECRET_HEADERS = frozenset(
    (
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-auth-token",
        "x-amz-security-token",
    )
)
# These belong to the transport: another value would break the request or what is measured of it.
_TRANSPORT_HEADERS = frozenset(
    ("host", "connection", "content-length", "content-type", "transfer-encoding", "accept", "accept-encoding", "te")
)
KINDS_OF_KEY: Mapping[str, tuple[ProviderKind, ...]] = {
    "responses_prefixes": ("openai",),
    "completions_suffixes": ("openai",),
    "region": CLOUD_KINDS,
    "model_regions": CLOUD_KINDS,
    "project": ("vertex",),
}
"""Keys of a provider's table that only some kinds have."""

_CREDENTIALS = {
    "bedrock": "its credentials come from AWS's default chain (variables, profile, instance role)",
    "vertex": "its credentials are Google's Application Default Credentials",
}


class ResolvedProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider with every setting decided. ``configured``: the file has a table of this name.

    ``requests_per_minute`` and ``concurrency`` are limits of our own. Keys that only some kinds have
    (`KINDS_OF_KEY`) are empty with the others. An empty ``base_url`` follows from the region; a ``region`` or
    ``project`` of None from the cloud's own variables and files. ``model_regions`` maps model ids to regions.
    """

    name: str
    kind: ProviderKind
    enabled: bool
    configured: bool
    base_url: str
    api_key_env: str | None
    requests_per_minute: float
    concurrency: int
    models: tuple[str, ...] = ()
    profile: str = "default"
    ca_file: Path | None = None
    headers: Mapping[str, str] = {}
    responses_prefixes: tuple[str, ...] = ()
    completions_suffixes: tuple[str, ...] = ()
    region: str | None = None
    project: str | None = None
    model_regions: Mapping[str, str] = {}

    def region_of(self, model: Model) -> str | None:
        """Return the region that is set for a model: the row's own, that of ``model_regions``, or the provider's."""
        return model.region or self.model_regions.get(model.model_id) or self.region

    @property
    def key_required(self) -> bool:
        return self.api_key_env is not None


class _Defaults(msgspec.Struct, frozen=True, kw_only=True):
    kind: ProviderKind = COMPATIBLE
    base_url: str = ""
    api_key_env: str = ""
    requests_per_minute: float = OTHER_REQUESTS_PER_MINUTE
    concurrency: int = OTHER_CONCURRENCY


def resolve(name: str, table: ProviderTable | None, folder: Path) -> ResolvedProvider:
    """Return the provider as its table and its preset make it; relative paths start from ``folder``.

    Without a table it isn't enabled. The table has to be free of `problems`.
    """
    given = table or ProviderTable(enabled=False)
    preset = PRESETS.get(name) or _Defaults()
    kind = given.kind or preset.kind
    openai = kind == "openai"
    return ResolvedProvider(
        name=name,
        kind=kind,
        enabled=given.enabled,
        configured=table is not None,
        base_url=(given.base_url or preset.base_url).rstrip("/"),
        api_key_env=_key_variable(name, given),
        requests_per_minute=_or(given.requests_per_minute, preset.requests_per_minute),
        concurrency=_or(given.concurrency, preset.concurrency),
        models=given.models,
        profile=given.profile or "default",
        ca_file=None if given.ca_file is None else located(given.ca_file, folder),
        headers=given.headers,
        responses_prefixes=_or(given.responses_prefixes, RESPONSES_PREFIXES) if openai else (),
        completions_suffixes=_or(given.completions_suffixes, COMPLETIONS_SUFFIXES) if openai else (),
        region=given.region,
        project=given.project,
        model_regions=given.model_regions,
    )


def located(path: str, folder: Path) -> Path:
    """Return the absolute path that a key of the file means; a relative one starts from the file's folder."""
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:  # ~nobody; a shell takes it for a file name as well
        expanded = Path(path)
    return (folder / expanded).absolute()


def unknown_provider(name: str, known: Sequence[str]) -> str:
    """Return what to say of a provider that is neither known nor configured."""
    meant = nearest(name, known, NEAR)
    use = f"use {meant!r} (known are {listed(known, 'and')})" if meant else f"use {listed(known)}"
    return f"provider {quote(name)} is unknown: {use}, or give it a table in config.toml with kind and base_url"


def problems(name: str, table: ProviderTable, profiles: Sequence[str], folder: Path) -> Iterator[Problem]:
    """Yield what is wrong with a provider's table although each of its values has the right form."""
    at = f"providers.{name}"
    yield from _kind_problems(name, table, at)
    yield from _url_problems(name, table, at)
    yield from _header_problems(table, at)
    yield from _model_problems(table, at)
    yield from file_problems(table.ca_file, at, folder)
    if table.profile is not None and table.profile not in profiles:
        meant = nearest(table.profile, profiles)
        hint = f"use {meant!r}" if meant else f"use {listed(profiles)}"
        yield Problem(
            f"{at}.profile",
            f"is {table.profile!r}, the name of no profile: {hint}, or add a table [profiles.{table.profile}]",
        )


def _key_variable(name: str, table: ProviderTable) -> str | None:
    if table.api_key_env is not None:
        return table.api_key_env or None
    return PRESETS[name].api_key_env or None if name in PRESETS else None


def _kind_problems(name: str, table: ProviderTable, at: str) -> Iterator[Problem]:
    preset = PRESETS.get(name)
    if preset is not None:
        if table.kind not in (None, preset.kind):
            yield Problem(f"{at}.kind", f"must be {preset.kind!r}, not {table.kind!r}: remove it, or rename the table")
    else:
        yield from _other_problems(name, table, at)
    kind = table.kind or (preset.kind if preset else COMPATIBLE)
    for key, kinds in KINDS_OF_KEY.items():
        if kind not in kinds and getattr(table, key):
            yield Problem(f"{at}.{key}", f"is of use with kind {listed(kinds)} only: remove it")
    if kind in _CREDENTIALS and table.api_key_env:
        yield Problem(f"{at}.api_key_env", f"is of no use with kind {kind!r}: remove it, as {_CREDENTIALS[kind]}")


def _other_problems(name: str, table: ProviderTable, at: str) -> Iterator[Problem]:
    """Yield what a provider without a preset lacks."""
    meant = nearest(name, list(PRESETS))
    if table.kind is None:
        rename = f"rename the table to [providers.{meant}], or " if meant and table.base_url is None else ""
        give = f"give kind = {COMPATIBLE!r}" + ("" if table.base_url else " and base_url")
        yield Problem(f"{at}.kind", f"is missing, and {name!r} is no provider that has a preset: {rename}{give}")
    elif table.kind != COMPATIBLE:
        yield Problem(
            f"{at}.kind",
            f"must be {COMPATIBLE!r}, not {table.kind!r}: only the table [providers.{table.kind}] is of that kind",
        )
    if table.base_url is None and table.kind == COMPATIBLE:
        yield Problem(f"{at}.base_url", "is missing: give the API's URL, such as 'http://127.0.0.1:8000/v1'")


def _url_problems(name: str, table: ProviderTable, at: str) -> Iterator[Problem]:
    if table.base_url is None:
        return
    key = f"{at}.base_url"
    try:
        url = urlsplit(table.base_url)
        host, _ = url.hostname, url.port
    except ValueError as error:  # brackets that don't match, a port that is no number
        yield Problem(key, f"is not a URL ({redact_patterns(str(error))}): correct it")
        return
    if "@" in url.netloc:
        yield Problem(key, "holds a user name or password: take it out, and name the key's variable in api_key_env")
    elif not host:
        yield Problem(key, f"has no host: give one, as in 'http://127.0.0.1:8000/v1', not {quote(table.base_url)}")
    if "?" in table.base_url or "#" in table.base_url:
        yield Problem(key, "has a query or a fragment: end it with the path, such as '/v1'")
    if not host or url.scheme != "http" or is_loopback(host):
        return
    if name in CLOUD_KINDS:  # only the table of that name is of that kind
        yield Problem(key, f"would send credentials to {host!r} in the clear: use https://")
    elif _key_variable(name, table):
        yield Problem(
            key, f"would send the key to {host!r} in the clear: use https://, or api_key_env = '' if it needs no key"
        )


def _header_problems(table: ProviderTable, at: str) -> Iterator[Problem]:
    for name, value in table.headers.items():
        key = f"{at}.headers.{name}"
        if name.lower() in _SECRET_HEADERS or redact_patterns(value) != value:
            yield Problem(key, "carries a secret: remove it, and name the key's environment variable in api_key_env")
        elif name.lower() in _TRANSPORT_HEADERS:
            yield Problem(key, "belongs to the transport that measures: remove it")


def _model_problems(table: ProviderTable, at: str) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for model in table.models:
        if fold(model) in first:
            yield Problem(f"{at}.models", f"lists {model!r} and {first[fold(model)]!r}, one model: remove one")
        first.setdefault(fold(model), model)


def file_problems(ca_file: str | None, at: str, folder: Path) -> Iterator[Problem]:
    """Yield why no server's certificate can be checked with a table's ``ca_file``. ``at`` is the table's name."""
    if ca_file is None:
        return
    try:
        found = located(ca_file, folder).is_file()
    except OSError:  # a name too long, a folder that is closed to us
        found = False
    what = f"is {quote(ca_file)}, and"
    if not found:
        yield Problem(f"{at}.ca_file", f"{what} no such file can be read: name one with certificates in PEM form")
    elif not _holds_certificates(located(ca_file, folder)):
        yield Problem(
            f"{at}.ca_file",
            f"{what} no certificate can be read from that file: name one with certificates in PEM form",
        )


def _holds_certificates(path: Path) -> bool:
    """Say whether a TLS connection could be verified against this file, which may hold a key or anything else."""
    import ssl  # takes a while, and most configurations name no such file

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except OSError:  # ssl.SSLError is one too
        return False
    return context.cert_store_stats()["x509"] > 0


def _or(given: T | None, default: T) -> T:
    return default if given is None else given
