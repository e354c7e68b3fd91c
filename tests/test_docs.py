"""What the documents say holds for the program: commands, links, fields, keys, codes and words are the code's."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest

from llmbench import __version__
from llmbench.cli import demo
from llmbench.cli.exits import ExitCode
from llmbench.cli.main import _check_engine_options
from llmbench.cli.parser import build
from llmbench.config import environment, load
from llmbench.config.tables import BUILT_IN
from llmbench.errors import KINDS, severity
from llmbench.lifecycle import (
    STATUSES,
    CatalogEntry,
    DeprecationSnapshot,
    DiscoveryRun,
    ModelStatus,
    RecentMessage,
    StatusMetrics,
)
from llmbench.messages import Failure, Model, Sample
from llmbench.providers.presets import COMPLETIONS_SUFFIXES, PRESETS, RESPONSES_PREFIXES
from llmbench.reports.errors import ErrorLine
from llmbench.reports.health import Health, ProviderHealth
from llmbench.simulator import MENU
from llmbench.stores.base import ErrorRollup, ModelSummary

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

README = ROOT / "README.md"
OPERATIONS = ROOT / "docs/operations.md"
DATA_MODEL = ROOT / "docs/data-model.md"
MEASUREMENT = ROOT / "docs/measurement.md"
PROVIDERS = ROOT / "docs/providers.md"
SIMULATOR = ROOT / "docs/simulator.md"


# reading Markdown

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path, *languages: str) -> list[str]:
    """Return the text of the fenced blocks in these languages."""
    return [match[2] for match in _FENCE.finditer(document.read_text()) if match[1] in languages]


def prose(document: Path) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub("", document.read_text())


def spans(document: Path) -> list[str]:
    """Return what stands between backticks, line breaks in it as blanks."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(document))]


def section(document: Path, heading: str) -> str:
    """Return what stands under a heading, up to the next one of its level or above."""
    text = document.read_text()
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert match is not None, f"{document.name} has no heading {heading!r}"
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(text: str) -> list[list[str]]:
    """Return the cells of the rows of all tables in a text, headings and rules left out."""
    lines = text.splitlines()
    heads = {number - 1 for number, line in enumerate(lines) if line.startswith("|--")}
    rows = [line for number, line in enumerate(lines) if line.startswith("| ") and number not in heads]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# commands


def shown_lines(document: Path) -> Iterator[str]:
    """Yield every line in which a command may be shown in full."""
    for block in blocks(document, "sh"):
        yield from block.replace("\\\n", " ").splitlines()
    for block in blocks(document, "console"):
        yield from (line[2:] for line in block.splitlines() if line.startswith("$ "))
    for block in blocks(document, "ini"):
        yield from re.findall(r"^ExecStart=(.+)$", block, re.MULTILINE)


def arguments_in(line: str) -> list[str] | None:
    """Return the arguments of llmbench in a line, None if that runs something else."""
    if not re.match(r"(?:[A-Z_]+=\S+ +)*(?:\S+/)?llmbench +\S", line):
        return None
    words = [word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)]
    end = next((number for number, word in enumerate(words) if word in ("|", ">", ";", "&&")), len(words))
    return words[1:end]


def commands_shown(lines: Iterable[str]) -> list[list[str]]:
    return [arguments for line in lines if (arguments := arguments_in(line)) is not None]


def exit_code(arguments: Sequence[str]) -> int:
    """Return 0 if the program's own parser takes the arguments, else its exit code."""
    parser = build()
    try:
        read = parser.parse_args(arguments)
        _check_engine_options(parser, read)
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def names_a_command(words: Sequence[str]) -> bool:
    """Whether the words are a command's name and nothing else, as running text speaks of it."""
    known: argparse.ArgumentParser | None = build()
    for word in words:
        known = subcommands(known).get(word) if known is not None else None
    return known is not None


@every_document
def test_every_command_that_is_shown_can_be_typed(document: Path) -> None:
    """The program's own parser takes each line of a block; running text may also call a command by its name alone."""
    refused = [words for words in commands_shown(shown_lines(document)) if exit_code(words) != 0]
    spoken = [words for words in commands_shown(spans(document)) if not names_a_command(words)]

    assert refused == []
    assert [words for words in spoken if exit_code(words) != 0] == []


def test_commands_are_found_in_the_documents() -> None:
    """They are found in blocks and in a unit of systemd, without what stands before and behind them."""
    found = commands_shown(line for path in (README, OPERATIONS, SIMULATOR) for line in shown_lines(path))

    assert ["--headless", "--once"] in found
    assert ["simulate"] in found
    assert ["--headless", "--config", "/etc/llmbench/config.toml"] in found
    assert arguments_in("make demo") is None
    assert arguments_in("FRESH_MINUTES=5 llmbench results --since 7d | head") == ["results", "--since", "7d"]


@pytest.mark.parametrize("words", [["bnch"], ["models", "ad"], ["results", "--sinse", "7d"], ["bench", "gpt-4o"]])
def test_a_command_that_does_not_exist_is_found_out(words: list[str]) -> None:
    """Neither as a line nor as a name does a misspelt one pass."""
    assert exit_code(words) == 2
    assert not names_a_command(words)


def test_every_command_is_in_the_readme() -> None:
    """Its table of commands leaves none out, and no action of one either."""
    shown = {
        tuple(words[:2])
        for words in commands_shown(names(row[0])[0] for row in table(section(README, "Commands")) if names(row[0]))
    }
    expected = {
        (name, action) if action else (name,)
        for name, parser in subcommands(build()).items()
        for action in subcommands(parser) or [""]
    }

    assert {words if words in expected else words[:1] for words in shown} == expected | {("--headless",)}


@every_document
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    """What the documents tell to make can be made."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [*spans(document), *(line for block in blocks(document, "sh") for line in block.splitlines())]
    named = {found[1] for line in lines if (found := re.match(r"make (\w+)\b", line))}

    assert named <= targets


# links and files


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    """The file is there, and so is the heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (document.parent / name).resolve() if name else document
        assert linked.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{document.name} links to {target}"


@every_document
def test_every_file_that_is_named_exists(document: Path) -> None:
    """A path in the running text that begins with a folder of the repository, or ends like one of its files."""
    for span in spans(document):
        if re.match(r"(?:llmbench|tests|docs|benchmarks)/[\w./*-]*$", span) and "*" not in span:
            assert (ROOT / span).exists(), f"{document.name} names {span}"


@every_document
def test_every_configuration_that_is_shown_loads(document: Path, tmp_path: Path) -> None:
    """A block of TOML is a whole configuration without a problem."""
    for number, block in enumerate(blocks(document, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        assert load(path, {}).source == path


@every_document
def test_every_json_line_that_is_shown_is_json(document: Path) -> None:
    """It can be decoded as it stands."""
    lines = [line for block in blocks(document, "json") for line in block.splitlines()]

    assert all(isinstance(msgspec.json.decode(line), dict) for line in lines)


# the data model

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", datetime: "date"}


def documented_type(annotation: Any) -> str:
    """Return the words for a type, None in a union apart."""
    options = [option for option in get_args(annotation) if option is not NoneType]
    origin = get_origin(annotation)
    if NoneType in get_args(annotation):
        return " or ".join(map(documented_type, options))
    if origin is Literal:
        return "string"
    if origin is list:
        return f"list of {documented_type(options[0])}s"
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return "object"
    return "object" if origin is dict else _PLAIN[annotation]


def fields_of(struct: type[msgspec.Struct], *, required: bool) -> dict[str, str]:
    """Return the words for the type of each field, by its name in the document."""
    found = {}
    for field in msgspec.structs.fields(struct):
        if field.required == required:
            null = " or null" if required and NoneType in get_args(field.type) else ""
            found[field.encode_name] = documented_type(field.type) + null
    return found


@pytest.mark.parametrize(
    ("struct", "always", "optional"),
    [
        (Sample, "Always present", "Left out when not known"),
        (Failure, "Always present in a failure", "Left out of a failure when not known"),
    ],
)
def test_the_data_model_has_every_field_of_an_outcome(struct: type[msgspec.Struct], always: str, optional: str) -> None:
    """Neither more nor fewer, each with its type, under the heading that says whether it is always there."""
    for heading, required in ((always, True), (optional, False)):
        rows = table(section(DATA_MODEL, heading))
        assert {names(row[0])[0]: row[1] for row in rows} == fields_of(struct, required=required)


@pytest.mark.parametrize(
    ("struct", "heading"),
    [
        (ErrorRollup, "ErrorRollup"),
        (Model, "Model"),
        (CatalogEntry, "CatalogEntry"),
        (DiscoveryRun, "DiscoveryRun"),
        (ModelStatus, "Fields of a status"),
        (StatusMetrics, "Metrics of a status"),
        (RecentMessage, "Recent messages of a status"),
        (DeprecationSnapshot, "DeprecationSnapshot"),
        (ErrorLine, "ErrorLine"),
        (ModelSummary, "ModelSummary"),
        (ProviderHealth, "Health"),
    ],
)
def test_the_data_model_has_every_field_of_other_documents(struct: type[msgspec.Struct], heading: str) -> None:
    """Neither more nor fewer, each with its type."""
    rows = table(section(DATA_MODEL, heading))
    expected = fields_of(struct, required=True) | fields_of(struct, required=False)

    assert {names(row[0])[0]: row[1] for row in rows} == expected


def test_the_data_model_has_every_field_of_the_health() -> None:
    """What is not in the table of providers is named in the sentence above it."""
    told = names(section(DATA_MODEL, "Health").partition(":")[0])

    assert told == [field.encode_name for field in msgspec.structs.fields(Health)]


def test_the_words_for_a_status_are_listed() -> None:
    """All of them, in their order."""
    [told] = [row[3] for row in table(section(DATA_MODEL, "Fields of a status")) if row[0] == "`status`"]

    assert tuple(names(told)) == STATUSES


def test_the_kinds_of_failure_are_listed() -> None:
    """Each kind, with how far it reaches."""
    rows = table(section(DATA_MODEL, "Kinds of failure"))

    assert {names(row[0])[0]: row[1] for row in rows} == {kind: severity(kind) for kind in KINDS}


def test_definitions_are_of_fields_that_are_stored() -> None:
    """Every figure that measurement.md defines is in a Sample under that name."""
    defined = [name for row in table(section(MEASUREMENT, "Definitions")) for name in names(row[0])]

    assert set(defined) <= {field.encode_name for field in msgspec.structs.fields(Sample)}


def test_the_built_in_profiles_are_told() -> None:
    """Budget, limits and policy are those of the code."""
    default, reasoning = BUILT_IN["default"], BUILT_IN["reasoning"]
    rows = {row[0]: row[1:] for row in table(section(MEASUREMENT, "Profiles"))}

    assert rows["`max_tokens`"] == [str(default.max_tokens), str(reasoning.max_tokens)]
    assert rows["`timeout_seconds`, `idle_timeout_seconds`"] == [
        f"{profile.timeout_seconds:g}, {profile.idle_timeout_seconds:g}" for profile in (default, reasoning)
    ]
    assert rows["`connect_timeout_seconds`"] == [f"{default.connect_timeout_seconds:g}"] * 2
    assert rows["`temperature`"] == [f"{default.temperature:g}", "not sent"]
    assert rows["`effort`"] == ["not sent", f"`{reasoning.reasoning_effort}`"]
    assert rows["`validation`"] == ["`tokens`, within 10 %", "`reasoning`"]
    assert (default.token_tolerance, reasoning.temperature, default.reasoning_effort) == (0.10, None, None)


# exit codes, configuration, environment


@pytest.mark.parametrize("document", [README, OPERATIONS], ids=lambda path: path.name)
def test_the_exit_codes_are_those_of_the_program(document: Path) -> None:
    """The table has every code, and no other."""
    rows = [row for row in table(document.read_text()) if re.fullmatch(r"\d+( \+ n)?", row[0])]

    assert [row[0] for row in rows] == [*(str(int(code)) for code in ExitCode), "128 + n"]
    assert all(row[1] for row in rows)


@pytest.mark.parametrize("document", [README, OPERATIONS, MEASUREMENT, PROVIDERS], ids=lambda path: path.name)
def test_the_reference_of_the_configuration_is_linked(document: Path) -> None:
    """config.toml explains every key (tests/test_config_show.py sees to that), and whoever needs one is led there."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))

    assert ROOT / "config.toml" in [(document.parent / target).resolve() for target in targets]


def test_every_environment_variable_is_listed() -> None:
    """Those that configure, those that hold the stores' secrets, and the presets' keys."""
    listed = {name for row in table(section(OPERATIONS, "Environment variables")) for name in names(row[0])}
    ours = {environment.PROVIDERS, environment.MODELS, *environment._KEYS, *environment._SECRET_VARIABLES}

    keys = {preset.api_key_env for preset in PRESETS.values() if preset.api_key_env}

    assert ours | keys <= listed


# providers and the simulator


KEYLESS = {"bedrock": "none: AWS's default chain", "vertex": "none: Application Default Credentials"}


def test_the_presets_are_those_of_the_code() -> None:
    """Kind, URL, key variable and limits of each, in the order of the code."""
    expected = [
        [
            f"`{name}`",
            f"`{preset.kind}`",
            f"`{preset.base_url}`" if preset.base_url else "by region",
            f"`{preset.api_key_env}`" if preset.api_key_env else KEYLESS[name],
            f"{preset.requests_per_minute:g}",
            str(preset.concurrency),
        ]
        for name, preset in PRESETS.items()
    ]

    assert table(section(PROVIDERS, "Presets")) == expected


def test_the_readme_has_every_provider_with_its_key() -> None:
    """Each preset has a row, and each file that is said to verify it is named in one."""
    rows = table(section(README, "Providers"))
    keys = {(names(row[0])[0], (names(row[2]) or [""])[0]) for row in rows}

    assert {(name, preset.api_key_env) for name, preset in PRESETS.items()} <= keys
    assert all(names(row[-1])[0].startswith("tests/") for row in rows)


def test_which_model_takes_which_api_is_told() -> None:
    """The beginnings and ends of ids that choose an API are the presets'."""
    text = section(PROVIDERS, "Which API")

    assert ", ".join(f"`{prefix}`" for prefix in RESPONSES_PREFIXES) in text
    assert ", ".join(f"`{suffix}`" for suffix in COMPLETIONS_SUFFIXES) in text


def test_the_demos_table_is_the_demos() -> None:
    """README's table shows every model that the demo measures, and no other."""
    demos = {(name, model) for name, models in demo.MODELS.items() for model in models}
    (shown,) = [block for block in blocks(README, "text") if block.startswith("provider ")]

    assert {tuple(line.split()[:2]) for line in shown.splitlines()[2:]} == demos


def test_the_simulators_menu_is_complete() -> None:
    """Every word with its meaning, in the menu's order."""
    rows = table(section(SIMULATOR, "A model's name is its behaviour"))

    assert rows == [[f"`{form}`", meaning] for form, meaning in MENU]


def test_the_changelog_is_of_this_version() -> None:
    """Its first section is this version's."""
    versions = re.findall(r"^## \[([\w.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert versions[:1] == [__version__]
