"""`llmbench calibrate`: the figures are right, and the real command really measures its own error."""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest

from llmbench.cli import calibrate
from llmbench.cli.exits import CommandError, ExitCode
from llmbench.cli.parser import build
from llmbench.measure.calibrate import Calibration, Spread, Truth, calibration, mismatch
from llmbench.messages import Outcome, Sample
from llmbench.simulator import SimulatorError
from tests.cli.conftest import SECONDS, Program
from tests.stores.documents import failure, sample

TOKENS = calibrate._TOKENS


def measured(first: float, gaps: Sequence[float], **changes: Any) -> Sample:
    """Return what was measured of a stream; times are seconds."""
    return sample(
        time_to_first_token=first, times_between_tokens=list(gaps), visible_stream_chunks=len(gaps) + 1, **changes
    )


def truth(*writes_ns: int) -> Truth:
    """Return what the server knows of a stream whose request came at one second."""
    return Truth(arrival_ns=1_000_000_000, writes_ns=writes_ns)


def figures(spread: Spread) -> tuple[float, ...]:
    return spread.count, spread.p50_us, spread.p99_us, spread.max_us


# figures


def test_errors_are_absolute_and_in_microseconds() -> None:
    """TTFT against write - arrival, each gap against the gap of its two writes, whatever the sign of the error."""
    late = measured(0.200_010, [0.020_002, 0.019_999], client_lag_max=0.004, coalesced_reads=1)
    early = measured(0.199_970, [0.020_000, 0.020_000], client_lag_max=0.001, coalesced_reads=2, resolution="coarse")
    server = truth(1_200_000_000, 1_220_000_000, 1_240_000_000)
    found = calibration("kernel", [(late, server), (early, server)])
    assert figures(found.ttft_error) == pytest.approx((2, 20, 29.8, 30))
    assert figures(found.gap_error) == pytest.approx((4, 0.5, 1.97, 2))
    assert (found.clock, found.streams, found.coarse_streams, found.coalesced_reads) == ("kernel", 2, 1, 3)
    assert found.client_lag_max_us == 4000


def test_a_stream_that_can_not_be_compared_says_why() -> None:
    """Tokens that merged or got lost, and stamps of another clock than was asked for, are no error of the clock."""
    good = measured(0.2, [0.02])
    assert mismatch(good, truth(1, 2), "kernel") is None
    assert mismatch(good, truth(1, 2, 3), "kernel") == (
        "brought 2 chunks, of which the server wrote 3: two or more of the same number are needed"
    )
    assert mismatch(measured(0.2, []), truth(1), "kernel") is not None
    assert mismatch(good, truth(1, 2), "user") == (
        "was stamped by the kernel clock, though the user clock was asked for"
    )


def test_every_stream_is_paired_or_explained() -> None:
    """One that failed, or that the server has forgotten, is a problem in a sentence, and never left out silently."""
    good, lost = measured(0.2, [0.02]), measured(0.2, [0.02])
    failed = failure(message="refused", error_kind="network", advice="check the way")
    outcomes: dict[str, Outcome] = {"stream 1": good, "stream 2": failed, "stream 3": lost, "stream 4": lost}
    truths = {"stream 1": truth(1, 2), "stream 2": truth(1, 2), "stream 4": truth(1)}
    pairs, problems = calibrate._paired(outcomes, truths, "kernel")
    assert pairs == [(good, truths["stream 1"])]
    assert problems == [
        "stream 2 failed: network: refused; check the way",
        "stream 3 is not among those that the server still knows: use fewer streams",
        "stream 4 brought 2 chunks, of which the server wrote 1: two or more of the same number are needed",
    ]


def test_many_problems_are_not_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The first few say what it is; the count of the others is told."""
    calibrate._tell([f"stream {number} failed" for number in range(1, 9)])
    assert capsys.readouterr().err.splitlines() == [
        *(f"stream {number} failed" for number in range(1, 6)),
        "3 more streams could not be compared",
    ]


def test_the_table_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows for each clock: the time to first token, and the gaps."""
    spread = Spread(count=142_336, p50_us=12_345.678, p99_us=123_456.789, max_us=1_234_567.8)
    found = [
        Calibration(
            clock=clock,
            streams=1024,
            ttft_error=spread,
            gap_error=spread,
            coarse_streams=1024,
            coalesced_reads=142_336,
            client_lag_max_us=1_234_567.8,
        )
        for clock in calibrate.CLOCKS
    ]
    calibrate._print(calibrate._report(1024, found, []))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if "123456.8" in line]
    assert [row[:2] for row in rows] == [["kernel", "TTFT"], ["kernel", "gap"], ["user", "TTFT"], ["user", "gap"]]
    assert rows[0][2:] == ["142336", "12345.7", "123456.8", "1234567.8"]


# the real thing


@pytest.mark.timeout(SECONDS + 10)
def test_the_real_path_is_measured(program: Program) -> None:
    """Every gap of every stream was compared on both clocks; the errors are of an order that is possible at all."""
    before = datetime.now(UTC)
    result = program.ok("calibrate", "--streams", "3", "--json")
    report = json.loads(result.out)
    assert before < datetime.fromisoformat(report["at"]) < datetime.now(UTC)
    assert (report["streams"], report["tokens"], report["problems"]) == (3, TOKENS, [])
    assert "CPython" in report["python"]
    assert "CLOCK_MONOTONIC" in report["monotonic_clock"]
    assert [found["clock"] for found in report["calibrations"]] == ["kernel", "user"]
    for found in report["calibrations"]:
        assert (found["streams"], found["ttft_error"]["count"], found["gap_error"]["count"]) == (3, 3, 3 * (TOKENS - 1))
        for error in (found["ttft_error"], found["gap_error"]):
            assert 0 <= error["p50_us"] <= error["p99_us"] <= error["max_us"] < 10_000_000
            assert error["p50_us"] < 10_000, "half of the errors are below half a gap on any machine"
    assert result.err.count("measuring 3 streams for 3 s") == 2


SHORT = """
import sys
from llmbench.cli import calibrate
from llmbench.cli.main import main
calibrate._TOKENS = 10
calibrate._MODEL = "calibrate-sim-stamp-ttft200-gap20-tok10"
sys.exit(main())
"""
"""The program, with streams that are over in half a second."""


def _few_files() -> None:
    """Let this process and the server that it starts have few files open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))


@pytest.mark.timeout(SECONDS + 10)
def test_streams_that_fail_are_not_hidden(program: Program) -> None:
    """More streams than this process may have files: those that ran are compared, the others told, the code is 1."""
    short = (sys.executable, "-c", SHORT)
    with program.started("calibrate", "--streams", "80", "--json", command=short, preexec_fn=_few_files) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "Traceback" not in err
    report = json.loads(out)
    kernel = next(found for found in report["calibrations"] if found["clock"] == "kernel")
    failed = [problem for problem in report["problems"] if problem.startswith("kernel clock: stream ")]
    assert 0 < kernel["streams"] == 80 - len(failed)
    assert "failed: local" in err
    assert "more streams could not be compared" in err


def test_a_server_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command can't tell anything then; it ends with a sentence, and the code that says that something failed."""

    def fail() -> NoReturn:
        raise SimulatorError("the simulator did not start: no more processes")

    monkeypatch.setattr(calibrate, "spawn_simulator", fail)
    with pytest.raises(CommandError, match=r"^the server with known timing failed: the simulator did not") as caught:
        calibrate.run(build().parse_args(["calibrate"]))
    assert caught.value.code == ExitCode.UNHEALTHY


def test_an_interrupt_ends_it(program: Program) -> None:
    """Ctrl-C while it measures: exit code 130 and no traceback."""
    with program.started("calibrate") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("measuring 32 streams")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
