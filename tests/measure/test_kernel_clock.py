"""From the kernel's wall-clock stamps to the monotonic clock, also when someone moves the wall clock."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from time import perf_counter_ns

import pytest

from llmbench.measure import stamps
from llmbench.measure.stamps import KernelClock, StampedStream, kernel_stamps_available, prepare_stamping
from tests.measure.support import MS, Inbox, tcp_pair

HOUR = 3600 * 1_000_000_000
steps = pytest.mark.parametrize("step", [HOUR, -HOUR, 5 * MS, -5 * MS])
Step = Callable[[int], None]


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Step:
    """Return a function that sets the wall clock, as this program sees it, forward by so many nanoseconds."""

    def step(nanoseconds: int) -> None:
        monkeypatch.setattr(stamps, "time_ns", lambda: time.time_ns() + nanoseconds)

    return step


def converted(clock: KernelClock, wall_ns: int, floor_ns: int = 0) -> int | None:
    return clock.to_monotonic(*divmod(wall_ns, 1_000_000_000), perf_counter_ns(), floor_ns)


def test_a_stamp_is_put_on_the_monotonic_clock() -> None:
    """A wall-clock time read just now is the monotonic time of just now (median of nine)."""
    clock = KernelClock()
    errors = []
    for _ in range(9):
        before = perf_counter_ns()
        stamp = converted(clock, time.time_ns())
        assert stamp is not None
        errors.append(abs(stamp - before))
    assert sorted(errors)[4] < MS
    assert clock.steps == 0


def test_a_stamp_is_never_later_than_its_read() -> None:
    """Whatever the clocks' noise, bytes arrive before they are read."""
    now = perf_counter_ns()
    assert KernelClock().to_monotonic(*divmod(time.time_ns() + MS, 1_000_000_000), now, 0) == now


def test_a_stamp_is_never_earlier_than_the_one_before() -> None:
    """The floor is the stamp of the read before it on the same stream."""
    floor = perf_counter_ns()
    assert converted(KernelClock(), time.time_ns() - 5 * MS, floor) == floor


@steps
def test_a_step_of_the_wall_clock_is_noticed(wall: Step, step: int) -> None:
    """The first stamp behind it is refused, and counted; from then on the new offset holds."""
    clock = KernelClock()
    wall(step)
    assert converted(clock, time.time_ns()) is None
    assert clock.steps == 1
    now = perf_counter_ns()
    stamp = converted(clock, time.time_ns() + step)
    assert stamp is not None
    assert abs(stamp - now) < 2 * MS
    assert clock.steps == 1


def test_a_stamp_from_before_a_forward_step_is_refused(wall: Step) -> None:
    """Another connection may have bytes waiting from before the step: by the new offset they came an hour ago."""
    clock = KernelClock()
    waiting = time.time_ns()
    wall(HOUR)
    assert converted(clock, time.time_ns()) is None
    assert converted(clock, waiting) is None


def test_slewing_is_followed(wall: Step) -> None:
    """NTP moves the clock by less than a millisecond at a time: that is no step, and it is not added up."""
    clock = KernelClock()
    for slew in range(0, 3 * MS, MS // 2):
        wall(slew)
        now = perf_counter_ns()
        stamp = converted(clock, time.time_ns() + slew)
        assert stamp is not None
        assert abs(stamp - now) < 2 * MS
    assert clock.steps == 0


@pytest.mark.skipif(not kernel_stamps_available(), reason="only Linux stamps TCP reads")
async def test_a_read_behind_a_step_says_that_its_stamp_is_ours(wall: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stream, the refused stamp is replaced by the time at which the bytes surfaced."""
    prepare_stamping()
    monkeypatch.setattr(stamps._stamping, "clock", KernelClock())  # the real one stays as it is
    inbox = Inbox()
    with tcp_pair() as (ours, peer):
        stream = StampedStream(ours, inbox)
        peer.send(b"before")
        await inbox.count(1)
        wall(HOUR)
        sent = perf_counter_ns()
        peer.send(b"behind")
        await inbox.count(2)
        stream.close()
    (before, _), (behind, _) = inbox.reads
    assert before.kernel
    assert not behind.kernel
    assert sent < behind.stamp_ns <= perf_counter_ns()


async def test_without_the_kernels_stamps_all_is_on_the_user_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another platform the socket is not even asked."""
    monkeypatch.setattr(stamps, "kernel_stamps_available", lambda: False)
    inbox = Inbox()
    with tcp_pair() as (ours, peer):
        stream = StampedStream(ours, inbox)
        asked = ours.getsockopt(socket.SOL_SOCKET, stamps.SO_TIMESTAMPNS)
        peer.send(b"hello")
        await inbox.count(1)
        stream.close()
    assert asked == 0
    assert not inbox.reads[0][0].kernel
