"""What the documents say of metrics: the table is complete, and the alerts ring when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from llmbench.bridge.metric_families import FAMILIES, Family
from llmbench.bridge.metric_runs import CONVENTIONAL, OPERATIONS
from tests.test_docs import OPERATIONS as DOCUMENT
from tests.test_docs import blocks, names, section, table

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian, Ubuntu: apt install prometheus)"
)

EVERY_MINUTE = {
    'llmbench_lane_state{instance="a",lane="groq",state="down"}': "0x9 1x600",
    'llmbench_lane_state{instance="a",lane="groq",state="restarting"}': "1x9 0x600",
    'llmbench_lane_state{instance="a",lane="openai",state="ok"}': "1x610",
    'llmbench_last_success_timestamp_seconds{instance="a",gen_ai_provider_name="groq"}': "0x610",
    'llmbench_last_success_timestamp_seconds{instance="a",gen_ai_provider_name="openai"}': ("0+60x610"),
    'llmbench_spool_oldest_age_seconds{instance="a"}': "0x9 60+60x600",
    'llmbench_spool_level{instance="a",level="ok"}': "1x610",
    'llmbench_spool_level{instance="a",level="warning"}': "0x610",
    'llmbench_store_up{instance="a"}': "1x9 0x600",
}
"""Series in which a lane and the store go down after ten minutes, in the notation of promtool."""

RINGING: dict[int, dict[str, list[dict[str, str]]]] = {
    8: {},
    30: {"LlmbenchLaneDown": [{"lane": "groq"}], "LlmbenchStoreDown": [{}]},
    120: {"LlmbenchLaneDown": [{"lane": "groq"}], "LlmbenchStoreDown": [{}], "LlmbenchSpoolOld": [{}]},
    400: {
        "LlmbenchLaneDown": [{"lane": "groq"}],
        "LlmbenchStoreDown": [{}],
        "LlmbenchSpoolOld": [{}],
        "LlmbenchProviderSilent": [{"gen_ai_provider_name": "groq"}],
    },
}
"""Minute → the alerts that ring then, with their labels."""


def rules() -> str:
    """Return the block with the alerts."""
    (found,) = [block for block in blocks(DOCUMENT, "yaml") if block.startswith("groups:")]
    return found


def test_the_table_has_every_metric() -> None:
    """Neither more nor fewer, each with its type, its labels and what its help text says, in the order of the code."""
    rows = table(section(DOCUMENT, "Metrics"))

    assert [row[0] for row in rows] == [f"`{family.name}`" for family in FAMILIES]
    for row, family in zip(rows, FAMILIES, strict=True):
        assert row[1] == family.kind
        assert tuple(names(row[2])) == family.labels
        assert f"{row[3]}." == family.help


def test_the_words_of_the_conventions_are_told() -> None:
    """Each provider and operation that is called otherwise than in the configuration."""
    text = " ".join(section(DOCUMENT, "Metrics").split())

    for ours, theirs in CONVENTIONAL.items():
        assert f"`{theirs}` for `{ours}`" in text
    for operation in (*OPERATIONS.values(), "chat"):
        assert f"`{operation}`" in text


def test_queries_and_alerts_name_what_there_is() -> None:
    """Metrics, labels and the suffixes of histograms are those of the code."""
    known: dict[str, Family] = {}
    for family in FAMILIES:
        suffixes = ("_bucket", "_count", "_sum") if family.kind == "histogram" else ("",)
        known |= {family.name + suffix: family for suffix in suffixes}
    text = rules() + "".join(blocks(DOCUMENT, "promql"))
    named = set(re.findall(r"\b(?:llmbench|gen_ai|http_server)_\w+", text))
    labels = {label for family in FAMILIES for label in family.labels}

    assert named - labels
    assert named <= known.keys() | labels
    for name, selector in re.findall(r"(\w+)\{([^{}]+)\}", text):
        assert set(re.findall(r"(\w+)!?=~?\"", selector)) <= set(known[name].labels), name


@needs_promtool
def test_prometheus_takes_the_alerts_and_the_queries(tmp_path: Path) -> None:
    """Its own checker finds no fault with the file of rules; the queries are rules there, too."""
    queries = [query for block in blocks(DOCUMENT, "promql") for query in block.split("\n\n")]
    recorded = [{"record": f"llmbench:query_{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "alerts.yml").write_text(rules())
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": recorded}]}))
    for name in ("alerts.yml", "queries.yml"):
        checked = subprocess.run(
            ["promtool", "check", "rules", name], cwd=tmp_path, capture_output=True, timeout=30, check=False
        )
        assert checked.returncode == 0, checked.stderr.decode()
    assert len(queries) >= 3


@needs_promtool
def test_the_alerts_ring_when_they_should(tmp_path: Path) -> None:
    """A lane that crashes and stays down, a provider without successes, an old spool, a store that is away."""
    alerts = re.findall(r"alert: (\w+)", rules())
    expected = [
        {
            "eval_time": f"{minute}m",
            "alertname": alert,
            "exp_alerts": [{"exp_labels": {"instance": "a"} | labels} for labels in ringing.get(alert, [])],
        }
        for minute, ringing in RINGING.items()
        for alert in alerts
    ]
    series = [{"series": name, "values": shown} for name, shown in EVERY_MINUTE.items()]
    test = {
        "rule_files": ["alerts.yml"],
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": expected}],
    }
    # The texts of the alerts are not compared: without annotations, promtool expects none.
    bare = re.sub(r"\n +annotations:\n +summary: .*", "", rules())
    (tmp_path / "alerts.yml").write_text(bare)
    (tmp_path / "test.yml").write_text(json.dumps(test))
    checked = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, timeout=30, check=False
    )

    assert set(alerts) == set(RINGING[400])
    assert checked.returncode == 0, (checked.stdout + checked.stderr).decode()
