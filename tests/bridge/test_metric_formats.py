"""How metrics are written: in both formats, under names that keep the rules."""

from __future__ import annotations

import math
import re
import shutil
import subprocess

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse_text

from llmbench import __version__
from llmbench.bridge import metric_families as families
from llmbench.bridge.metric_families import FAMILIES, Family
from llmbench.bridge.metrics import prefers_openmetrics
from tests.bridge.telling import (
    BOTH,
    OPENMETRICS,
    PROMETHEUS_3,
    everything,
    figures,
    finished,
    read,
    started,
    told,
    values,
)
from tests.stores.documents import sample


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Version=1.0.0", True),
        (OPENMETRICS, True),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1",
            True,
        ),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;version=abc", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.8", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=x;;=,,", False),
    ],
)
def test_the_format_follows_what_is_accepted(accept: str | None, preferred: bool) -> None:
    """OpenMetrics is for those who prefer the version that is written; all others get the text format."""
    body, content_type = told().render(accept)

    assert prefers_openmetrics(accept) is preferred
    assert content_type == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
        if preferred
        else "text/plain; version=0.0.4; charset=utf-8"
    )
    assert body.endswith(b"\n# EOF\n") is preferred


@given(st.text())
def test_any_accept_header_is_answered(header: str) -> None:
    """None is a fault of the program."""
    assert prefers_openmetrics(header) in (True, False)


@BOTH
async def test_a_scrape_says_the_same_and_lets_others_work(accept: str | None) -> None:
    """Its body is that of `render`; a task beside it is run many times meanwhile."""
    metrics = everything()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        body, content_type = await metrics.scrape(accept)
        group.cancel_scope.cancel()

    rendered = metrics.render(accept)
    assert (figures(body), content_type) == (figures(rendered[0]), rendered[1])
    assert turns > len(FAMILIES)


async def test_events_during_a_scrape_do_no_harm() -> None:
    """Series that appear while it is written neither break it nor the next one."""
    metrics = everything()
    async with anyio.create_task_group() as group:

        async def other() -> None:
            for number in range(100):
                metrics.observe(finished(sample(model_name=f"m{number}", provider=f"p{number}")))
                metrics.request(f"/{number}", "GET", 200, 0.1)
                await checkpoint()

        group.start_soon(other)
        body, _ = await metrics.scrape()

    assert list(parse_text(body.decode()))
    assert len(values(metrics, families.LAST_SUCCESS)) == 101


def test_two_programs_metrics_do_not_meet() -> None:
    """Each has a registry of its own."""
    first, second = told(started()), told()

    assert values(first, families.STARTED) == {("openai",): 1}
    assert values(second, families.STARTED) == {}


def test_the_version_is_told() -> None:
    """The build's figure is always 1; its label says which it is."""
    assert values(told(), families.BUILD) == {(__version__,): 1}


# names


@BOTH
def test_what_is_told_is_what_is_defined(accept: str | None) -> None:
    """Every family appears with its type, help, unit, labels and buckets, once; beside them are only the library's."""
    found = {metric.name: metric for metric in read(everything(), accept) if not metric.name.startswith("p")}
    ours = {family.stem if accept or family.kind != "info" else family.name: family for family in FAMILIES}

    assert set(found) == set(ours)
    for name, family in ours.items():
        metric = found[name]
        assert (metric.type, metric.documentation) == (family.kind if accept else text_type(family), family.help)
        assert metric.unit == (family.unit if accept else "")
        labels = {label for one in metric.samples for label in one.labels}
        assert labels - {"le"} == set(family.labels), name
        edges = {float(one.labels["le"]) for one in metric.samples if "le" in one.labels}
        assert edges == ({*family.buckets, math.inf} if family.buckets else set()), name


def text_type(family: Family) -> str:
    """Return the type that the text format has for a family: it knows no info."""
    return "gauge" if family.kind == "info" else family.kind


_NOT_BASE = re.compile(
    r"_(milli|micro|nano|kilo|mega|giga|kibi|mebi|gibi)?(seconds|bytes)s?_|_(ms|us|ns|millis|milliseconds|microseconds"
    r"|minutes|hours|days|kb|mb|gb|kilobytes|megabytes|mebibytes|percent|pct)(_|$)"
)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_keep_the_rules(family: Family) -> None:
    """A help text that is a sentence, Prometheus' suffixes for each type, base units, no colon, no odd label."""
    suffixes = [
        suffix for suffix in ("_total", "_info", "_count", "_sum", "_bucket", "_created") if suffix in family.name
    ]

    assert re.fullmatch(r"(llmbench|gen_ai|http_server)_[a-z][a-z0-9_]*[a-z0-9]", family.name)
    assert "__" not in family.name
    assert re.fullmatch(r"[A-Z0-9].*\S\.", family.help)
    assert "\n" not in family.help
    assert suffixes == {"counter": ["_total"], "info": ["_info"]}.get(family.kind, [])
    assert family.name.endswith(suffixes[0] if suffixes else "")
    assert not _NOT_BASE.search(family.name.removesuffix("_total"))
    for label in family.labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", label)
        assert label not in ("le", "quantile", "job", "instance")
    assert len(set(family.labels)) == len(family.labels)
    assert bool(family.buckets) == (family.kind == "histogram")
    assert list(family.buckets) == sorted(set(family.buckets))
    if family.name.startswith(("gen_ai", "http")) and family is not families.TOKENS:
        assert family.unit == "seconds"


def test_names_are_used_once() -> None:
    """No family has the name of another one, with or without its suffix."""
    assert len({family.stem for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian, Ubuntu: apt install prometheus)")
def test_promtool_finds_nothing_to_mend() -> None:
    """Prometheus' own lint reads the text and has no complaint."""
    body, _ = everything().render()
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30, check=False)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
