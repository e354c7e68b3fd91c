"""Every family through every scenario: real SDK, real sockets, one request, one outcome.

The table is in `answers` and `refusals`. All runs are made at once, when the first of these tests wants its own; a test
then judges one of them. Rows of the fault matrix that need more than one answer of a provider are tested where what
they are about is: P4 to P7 in `test_connecting`, P23, P25 and P27 in tests/faults/test_provider_faults.py, the lanes'
reactions to P1, P3, P23, P24 and P28 in tests/actors.
"""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from _pytest.mark import ParameterSet

from llmbench.measure.loopwatch import BACKEND_OPTIONS
from llmbench.simulator import SpawnedSimulator
from tests.conformance import checks
from tests.conformance.families import FAMILIES
from tests.conformance.running import Case, Results, run_all
from tests.conformance.scenario import Good, Scenario, names_of
from tests.conformance.scenarios import CASES, IMPOSSIBLE, SCENARIOS
from tests.runs import Family


def chosen(session: pytest.Session) -> Iterator[Case]:
    """Yield the cases that this session wants, be it all of them or what ``-k`` left."""
    for item in session.items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if parameters.keys() >= {"family", "scenario"}:
            yield parameters["family"], parameters["scenario"]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, simulator: SpawnedSimulator, clouds: None) -> Results:
    """Run all the cases that are wanted in this session."""
    return anyio.run(run_all, simulator, list(chosen(request.session)), backend_options=BACKEND_OPTIONS)


def parameter(family: Family, scenario: Scenario) -> ParameterSet:
    name = names_of(family)[0]
    return pytest.param(family, scenario, id=f"{name}-{scenario.id}")


@pytest.mark.parametrize(("family", "scenario"), [parameter(*case) for case in CASES])
def test_one_run_is_one_true_outcome(results: Results, family: Family, scenario: Scenario) -> None:
    """The outcome is what the scenario wants of this family, and holds to all that is common to outcomes."""
    ran, wanted = results.ran[family, scenario.id], scenario.of(family)
    checks.one_outcome(ran)
    if isinstance(wanted, Good):
        checks.good(ran, wanted)
    else:
        assert not isinstance(wanted, str)
        checks.failed(ran, wanted)
    for check in scenario.checks:
        check(ran)


def test_no_redirect_is_followed(results: Results) -> None:
    """The other host is never spoken to, so it never sees a key."""
    assert results.led_astray == 0


def test_what_cannot_be_has_a_reason() -> None:
    """A scenario that a family is not put through says why, and names a family or a mode that exists."""
    known = {name for family in FAMILIES for name in names_of(family)}
    assert [key for scenario in SCENARIOS for key in scenario.but if key not in known] == []
    assert all(len(reason.split()) > 4 for _family, _scenario, reason in IMPOSSIBLE)
    assert len({scenario.id for scenario in SCENARIOS}) == len(SCENARIOS)
