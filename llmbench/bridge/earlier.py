"""Documents of earlier runners: flat, without an id, without much that an outcome has now.

What they lack is taken to say what `llmbench.stores.earlier` says, as in rows of a database that was filled in those
days. What no field is for is kept beside, in ``misc``. The outcome follows from the document and the key's runner
alone, and so does its id: whatever the order of the keys and the spelling of the dates, a repeat is the same outcome.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

import msgspec

from llmbench.bridge.bounds import (
    LONGEST_TEXT,
    check_key,
    check_name,
    check_plain,
    check_runner,
    check_unicode,
    text_limit,
)
from llmbench.bridge.dates import read_date
from llmbench.bridge.refusals import Refused, Sender
from llmbench.error_kinds import KIND_ADVICE
from llmbench.error_kinds import completed as advice_for
from llmbench.error_text import clean, fingerprint, normalize
from llmbench.errors import Classification, Evidence, classify
from llmbench.messages import Failure, Role, Sample, Stage
from llmbench.secrets import Redactor
from llmbench.stores.earlier import completed

T = TypeVar("T", Sample, Failure)
Document = dict[str, Any]

UNNAMED = "earlier-runner"
"""The ``runner_id`` of a document that names none, and that came with a shared key."""

NEWEST_VERSION = 2
"""The last ``metrics_schema_version`` whose documents had no id."""

_DATES: Mapping[type, tuple[str, ...]] = {Sample: ("run_ts", "gen_ts"), Failure: ("ts", "run_ts")}
_NAMES = ("provider", "model_name", "runner_id")
_WORDS: Mapping[str, tuple[str, ...]] = {"sample_role": get_args(Role), "stage": get_args(Stage)}
"""Fields of which earlier writers had words of their own; such a word is kept beside."""

_LONGEST_TRACEBACK = 20_000
_LONGEST_REDACTED = 24_576
"""So much of a text is looked at for secrets: more than is kept, so that none is cut before it is found."""

_EXACT = 2.0**53
_PHASES: Mapping[str, Any] = {"connect": "connect", "validate": "validate"}


class Content:
    """What an earlier runner has sent: what it says, its dates read, and the id that follows from it."""

    def __init__(self, document: Document, kind: type[T], sender: Sender) -> None:
        """Raises `Refused` for what is not plain, dates that are none, and names that name nothing."""
        # Null says as much as nothing.
        said = {name: value for name, value in document.items() if value is not None}
        for name, value in said.items():
            check_key(name, "document")
            if isinstance(value, str):
                check_unicode(value, repr(name))  # however long it is: it will be cut
            else:
                check_plain(value, repr(name))
        said |= {name: read_date(name, said[name]) for name in _DATES[kind] if name in said}
        said.setdefault("runner_id", sender.runner or UNNAMED)
        self.said: Document = _numbers_alike(said)
        self.id = derived_id(kind, self.said)


def derived_id(kind: type[msgspec.Struct], said: Document) -> str:
    """Return the id that follows from what a document says: 24 hexadecimal digits of its SHA-256."""
    canonical = msgspec.json.encode([kind.__name__, said], order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:24]


def _numbers_alike(value: Any) -> Any:
    """Return the value with 1.0 as 1: JSON has one kind of number, and writers spell it as they like."""
    match value:
        case dict():
            return {key: _numbers_alike(inner) for key, inner in value.items()}
        case list():
            return [_numbers_alike(inner) for inner in value]
        case _:
            is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
            return int(value) if is_whole else value


def sample_of(content: Content, sender: Sender) -> Sample:
    """Return the run that a document tells of. Raises `Refused`."""
    said = dict(content.said)
    version = said.get("metrics_schema_version", 1)
    if isinstance(version, int) and version > NEWEST_VERSION:
        raise Refused(f"a document of metrics_schema_version {version} needs an '_id' of 24 hexadecimal digits")
    if "run_ts" not in said:
        raise Refused("'run_ts' is missing: say when the run began")
    read, beside = _read(said, Sample, sender)
    read["misc"] = _joined(read.get("misc", {}), beside)
    return Sample(id=content.id, **completed(read, Sample, read["run_ts"]))


def failure_of(content: Content, sender: Sender) -> Failure:
    """Return the failed run that a document tells of; what it does not say of its kind is found out. Raises `Refused`.

    The fingerprint is made anew, unless it is that of the message as the document has it in normal form.
    """
    said = dict(content.said)
    if not (dates := [said[name] for name in _DATES[Failure] if name in said]):
        raise Refused("'ts' is missing: say when the run failed")
    if isinstance(code := said.get("provider_error_code"), int | float):
        said["provider_error_code"] = str(code)
    read, beside = _read(said, Failure, sender)
    read = {"ts": dates[0], "run_ts": dates[-1], "message": "", **read}
    if beside:
        partial: Document = read.get("partial", {})
        misc = partial.get("misc", {})
        read["partial"] = partial | {"misc": _joined(misc if isinstance(misc, dict) else {"misc": misc}, beside)}
    read |= _named(read)
    return Failure(id=content.id, **completed(read, Failure, read["run_ts"]))


def _read(said: Document, kind: type[T], sender: Sender) -> tuple[Document, Document]:
    """Return what the fields of an outcome are for, in their types, and what is to be kept beside. Raises `Refused`."""
    types = _types(kind)
    read: Document = {}
    beside: Document = {}
    for name, value in said.items():
        if name not in types or (isinstance(value, str) and value not in _WORDS.get(name, (value,))):
            beside[name] = _short(value, sender.redactor)
        else:
            read[name] = _typed(name, value, types[name], sender.redactor)
    for name in _NAMES:
        if name not in read:
            raise Refused(f"{name!r} is missing")
        check_name(name, read[name])
    check_runner(read["runner_id"], sender)
    return read, beside


@functools.cache
def _types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return name of a field → its type; a document has no id of its own."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind) if field.encode_name != "_id"}


def _short(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return clean(redactor.redact(value[:_LONGEST_REDACTED]), LONGEST_TEXT)
    return _without_secrets(value, redactor)


def _typed(name: str, value: Any, annotation: Any, redactor: Redactor) -> Any:
    try:
        typed = msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        raise Refused(f"{name!r} is of the wrong type: {error}") from error
    if isinstance(typed, str):
        return typed if name in _NAMES or name in _WORDS else _made_safe(name, typed, redactor)
    return _without_secrets(typed, redactor)


def _made_safe(name: str, text: str, redactor: Redactor) -> str:
    """Return a text as llmbench would have stored it: earlier runners took neither secrets nor controls out."""
    safe = redactor.redact(text[:_LONGEST_REDACTED])
    if name == "traceback":
        return "\n".join(map(clean, safe[:_LONGEST_TRACEBACK].split("\n")))
    return clean(safe, text_limit(name))


def _without_secrets(value: Any, redactor: Redactor) -> Any:
    """Return a value without the secrets in its texts."""
    match value:
        case str():
            return redactor.redact(value)
        case dict():
            return {key: _without_secrets(inner, redactor) for key, inner in value.items()}
        case list():
            return [_without_secrets(inner, redactor) for inner in value]
        case _:
            return value


def _joined(misc: Document, beside: Document) -> Document:
    """Return what is free-form with what is kept beside; a name that is taken gets an underscore more."""
    found = dict(misc)
    for name, value in beside.items():
        while name in found:
            name += "_"
        found[name] = value
    return found


def _named(read: Document) -> Document:
    """Return what a failure is, as far as the document does not say it itself."""
    found = _classified(read)
    kind = read.get("error_kind") or found.kind
    stage = read.get("stage") or found.stage
    same = kind == found.kind
    named = (read["provider"], read["model_name"], stage, kind)
    return {
        "stage": stage,
        "error_kind": kind,
        "error_cause": read.get("error_cause") or (found.cause if same else "unknown"),
        "advice": read.get("advice") or (found.advice if same else _advice(kind, read["provider"])),
        **_fingerprinted(read, named),
    }


def _classified(read: Document) -> Classification:
    stage = read.get("stage", "generate")
    return classify(
        Evidence(
            provider=read["provider"],
            phase=_PHASES.get(stage, "headers"),
            message=read["message"],
            status=read.get("http_status"),
            code=read.get("provider_error_code"),
            exceptions=(read["exc_type"],) if read.get("exc_type") else (),
            limit="total" if stage == "timeout" else None,
        )
    )


def _advice(kind: str, provider: str) -> str:
    known = (advice for one, advice in KIND_ADVICE.items() if one == kind)
    return advice_for(next(known, KIND_ADVICE["unknown"]), provider, "default")


def _fingerprinted(read: Document, named: tuple[str, str, str, str]) -> Document:
    normal = read.get("normalized_message")
    if normal is not None and read.get("fingerprint") == fingerprint(*named, normal):
        return {"normalized_message": normal, "fingerprint": read["fingerprint"]}
    normal = normalize(read["message"])
    return {"normalized_message": normal, "fingerprint": fingerprint(*named, normal)}
