"""Strict reading of TOML: checks a table against msgspec Structs and reports every problem, not only the first.

msgspec stops at the first error, so the tables are walked here and each value is given to msgspec on its own. Two
entries of `msgspec.Meta(extra=...)` shape what a person reads: ``wants`` says what a value must be where its type
doesn't, and ``hide`` keeps a value that may be a secret out of the sentence.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple, TypeGuard, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from llmbench.secrets import redact_patterns

T = TypeVar("T", bound=msgspec.Struct)

MAX_QUOTED = 80
"""How many characters of a wrong value an error message repeats."""


_KEY_VARIABLE = "api_key_env"
_SECRET_NAME = re.compile(r"(?:key|token|secret|password)\Z", re.IGNORECASE)


class ConfigError(Exception):
    """The configuration can't be used; ``problems`` holds one sentence for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Problem(NamedTuple):
    """What is wrong with one key: ``schedule.fresh_minutes`` + ``must be a number …, not 'soon'``."""

    key: str
    text: str


class _Nothing:
    """The place of a value that was wrong and is left out, so that the others can be checked further."""


_NOTHING: Final = _Nothing()


def read(path: Path) -> dict[str, Any]:
    """Return the TOML file as plain dicts. Raises `ConfigError` if it can't be read or isn't TOML in UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = "does not exist: name a file that does, or name none to use the defaults"
    except IsADirectoryError:
        problem = f"is a directory: name the file in it, such as '{path / 'config.toml'}'"
    except OSError as error:
        problem = f"can't be read ({error.strerror}): name a file that can"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"line {line} is not UTF-8: save the file as UTF-8"
    else:
        return _parse(text, path)
    raise ConfigError([f"{path}: {problem}"])


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        problem = "is nested too deeply to be a configuration: correct it"
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_problem(str(error), text)
    except ValueError:  # Python's limit on the digits of an integer, which tomllib lets through
        problem = "holds a number of too many digits to be read: shorten it"
    raise ConfigError([f"{path}: {problem}"])


def _syntax_problem(message: str, text: str) -> str:
    """Turn tomllib's message, which ends with the position in brackets, into a sentence that begins with it."""
    reason, _, position = message.rpartition(" (at ")
    if position == "end of document)":
        lines = text.split("\n")
        position = f"line {len(lines)}, column {len(lines[-1]) + 1}"
    return f"{position.rstrip(')')} is not valid TOML ({redact_patterns(reason)}): correct it there"


def check(value: Mapping[str, Any], table: type[T]) -> tuple[T, list[Problem]]:
    """Return the Struct made of all that is right in ``value``, and what is wrong with the rest.

    Every field of the Structs must have a default, since what is wrong is left out.
    """
    walk = _Walk()
    return msgspec.convert(walk.table(value, table, ""), table), walk.problems


def check_text(text: str, annotation: Any) -> tuple[Any, str | None]:
    """Return the value that a text (an environment variable's) stands for, or else what is wrong with it."""
    try:
        return msgspec.convert(text, annotation, strict=False), None
    except msgspec.ValidationError:
        return None, _complaint(text, annotation)


class _Walk:
    """One pass over a document. Its methods return the value without what is wrong, which goes to ``problems``."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def value(self, value: Any, annotation: Any, key: str) -> Any:
        bare = _without_none(annotation)
        origin = get_origin(bare)
        if _is_table(bare):
            return self.table(value, bare, key)
        if origin is dict:
            name_type, item_type = get_args(bare)
            return self.named(value, name_type, item_type, key)
        if origin is tuple:
            return self.items(value, get_args(bare)[0], key)
        return self.leaf(value, annotation, key)

    def table(self, value: Any, table: type[msgspec.Struct], key: str) -> Any:
        if not isinstance(value, Mapping):
            return self.wrong(key, f"must be a table, not {quote(value)}")
        types = {field.name: field.type for field in msgspec.structs.fields(table)}
        return _present((name, self.field(name, item, types, key)) for name, item in value.items())

    def field(self, name: str, value: Any, types: Mapping[str, Any], table_key: str) -> Any:
        key = dotted(table_key, name)
        if name not in types:
            return self.wrong(key, _unknown(name, value, types))
        return self.value(value, types[name], key)

    def named(self, value: Any, name_type: Any, item_type: Any, key: str) -> Any:
        """Check a table whose keys are names that the file chooses."""
        if not isinstance(value, Mapping):
            return self.wrong(key, f"must be a table, not {quote(value)}")
        names = [name for name in value if self.leaf(name, name_type, dotted(key, name)) is not _NOTHING]
        for name in value:
            if name not in names and isinstance(value[name], Mapping) and _is_table(item_type):
                self.table(value[name], item_type, dotted(key, name))  # left out, but not what is wrong in it
        return _present((name, self.value(value[name], item_type, dotted(key, name))) for name in names)

    def items(self, value: Any, item_type: Any, key: str) -> Any:
        if not isinstance(value, list):
            return self.wrong(key, f"must be a list, not {quote(value)}")
        checked = [self.value(item, item_type, f"{key}[{index}]") for index, item in enumerate(value)]
        return [item for item in checked if item is not _NOTHING]

    def leaf(self, value: Any, annotation: Any, key: str) -> Any:
        try:
            msgspec.convert(value, annotation)
        except msgspec.ValidationError:
            return self.wrong(key, _complaint(value, annotation))
        return value

    def wrong(self, key: str, text: str) -> _Nothing:
        self.problems.append(Problem(key, text))
        return _NOTHING


def _is_table(annotation: Any) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def _present(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: item for name, item in items if item is not _NOTHING}


def dotted(table: str, name: str) -> str:
    """Return the path of a key, quoted as TOML would where it has to be."""
    written = name if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) else json.dumps(_shortened(name))
    return f"{table}.{written}" if table else written


def quote(value: Any) -> str:
    """Return the value as an error message repeats it: short, on one line, and never with a credential in it."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return _shortened(redact_patterns(repr(value)))


NEAR = 0.65
"""How alike the names of two providers have to be for one to be meant by the other, as difflib counts it."""


def nearest(name: str, known: Sequence[str], alike: float = 0.6) -> str | None:
    """Return the known name that ``name`` was probably meant to be."""
    found = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=alike)
    return found[0] if found else None


def listed(names: Sequence[str], word: str = "or") -> str:
    """Return ``'a', 'b' or 'c'``."""
    quoted = [f"{name!r}" for name in names]
    return f" {word} ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else text[: MAX_QUOTED - 1] + "…"


def _unknown(name: str, value: Any, known: Mapping[str, Any]) -> str:
    noun = "table" if isinstance(value, Mapping) else "key"
    if noun == "key" and _KEY_VARIABLE in known and _SECRET_NAME.search(name):
        # To rename it would put the secret where the name of its variable belongs.
        return (
            "is not a known key, and no secret goes into this file: put the API key into an environment variable, "
            f"and name the variable in {_KEY_VARIABLE!r}"
        )
    meant = nearest(name, list(known))
    if meant is not None:
        return f"is not a known {noun}: rename it to {meant!r}, or remove it"
    return f"is not a known {noun}: remove it, or use {listed(list(known))}"


def _complaint(value: Any, annotation: Any) -> str:
    extra = _extra(annotation)
    wants = describe(annotation)
    if extra.get("hide"):
        return f"must be {wants} (the value is not shown, in case it is a secret)"
    return f"must be {wants}, not {quote(value)}"


def _without_none(annotation: Any) -> Any:
    """Return ``X`` for ``X | None``: TOML has no null, so None only ever means that a key is not given."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    others = [option for option in get_args(annotation) if option is not NoneType]
    return others[0] if len(others) == 1 else annotation


def _extra(annotation: Any) -> dict[str, Any]:
    info = inspect.type_info(_without_none(annotation))
    return (info.extra or {}) if isinstance(info, inspect.Metadata) else {}


def describe(annotation: Any) -> str:
    """Return what a value of this type must be, in words: ``a whole number from 1 to 64``.

    Raises TypeError for a type that has none, such as a text without ``wants``.
    """
    return _describe(inspect.type_info(annotation))


def _describe(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            return (extra or {}).get("wants") or _describe(inner)
        case inspect.UnionType(types=options):
            return " or ".join(_describe(option) for option in options if not isinstance(option, inspect.NoneType))
        case inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case inspect.FloatType(ge=low, le=high):
            return f"a number from {low:g} to {high:g}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return listed([str(value) for value in values])
        case _:
            raise TypeError(f"{info} has no words: give it Meta(extra={{'wants': ...}})")
