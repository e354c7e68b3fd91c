"""Every scenario, and which family can be in which."""

from __future__ import annotations

from tests.conformance.answers import ANSWERS
from tests.conformance.families import FAMILIES
from tests.conformance.refusals import REFUSALS
from tests.conformance.scenario import names_of

SCENARIOS = REFUSALS + ANSWERS

CASES = [
    (family, scenario) for family in FAMILIES for scenario in SCENARIOS if not isinstance(scenario.of(family), str)
]
"""What is run."""

IMPOSSIBLE = [
    (names_of(family)[0], scenario.id, reason)
    for family in FAMILIES
    for scenario in SCENARIOS
    if isinstance(reason := scenario.of(family), str)
]
"""What is not, and why."""
