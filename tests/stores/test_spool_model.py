"""The spool against a small model of it, by random sequences of calls and crashes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from llmbench.ids import new_outcome_id
from llmbench.messages import Envelope
from llmbench.stores.spool import Spool
from tests.stores.documents import envelope, failure, sample
from tests.stores.spooling import QUICK, SetClock, begun, exported, record

T = TypeVar("T")


class SpoolMachine(RuleBasedStateMachine):
    """What is in the model is in the spool, and nothing else, after every step."""

    items = Bundle("items")

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.folders = [self.folder]
        self.runner = asyncio.Runner()
        self.clock = SetClock()
        self.waiting: dict[str, Envelope] = {}
        self.due: dict[str, Any] = {}
        self.gone: dict[str, Envelope] = {}
        self.aside: dict[str, Envelope] = {}
        self.conflicts: set[tuple[str, int]] = set()
        self.attempts: dict[str, Envelope] = {}
        self.spool = Spool(self.folder, clock=self.clock, limits=QUICK)
        assert self.run(self.spool.open()) == []

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @property
    def known(self) -> dict[str, Envelope]:
        return self.waiting | self.gone | self.aside

    @rule(target=items, count=st.integers(1, 20), good=st.booleans())
    def record(self, count: int, good: bool) -> Any:
        new = [envelope(sample() if good else failure()) for _ in range(count)]

        async def record_all() -> list[str]:
            return await asyncio.gather(*(record(self.spool, item) for item in new))

        assert self.run(record_all()) == ["stored"] * count
        self.waiting.update({item.outcome.id: item for item in new})
        return multiple(*new)

    @rule(item=items)
    def record_again(self, item: Envelope) -> None:
        assert self.run(record(self.spool, item)) == "duplicate"

    @rule(item=items, attempts=st.integers(2, 4))
    def record_something_else(self, item: Envelope, attempts: int) -> None:
        misc = {"partial": {"n": attempts}} if hasattr(item.outcome, "partial") else {"attempts_count": attempts}
        other = envelope(msgspec.structs.replace(item.outcome, **misc))
        assert self.run(record(self.spool, other)) == "conflict"
        self.conflicts.add((item.outcome.id, attempts))

    @rule()
    def open_attempt(self) -> None:
        new = begun(run_ts=self.clock.now(), id=new_outcome_id())
        self.attempts[new.outcome.id] = new
        self.spool.opened(new)

    @rule(target=items)
    def finish_attempt(self) -> Any:
        if not self.attempts:
            return multiple()
        item = envelope(failure(id=self.attempts.popitem()[0]))
        assert self.run(record(self.spool, item)) == "stored"
        self.waiting[item.outcome.id] = item
        return item

    @rule(item=items, minutes=st.integers(1, 30))
    def put_off(self, item: Envelope, minutes: int) -> None:
        at, one = self.clock.now() + timedelta(minutes=minutes), item.outcome.id
        assert self.run(self.spool.retry_later([one], "refused", at)) == (one in self.waiting)
        if one in self.waiting:
            self.due[one] = at

    @rule(limit=st.integers(2, 30), keep=st.integers(0, 10))
    def deliver(self, limit: int, keep: int) -> None:
        now = self.clock.now()
        due = [one for one in self.waiting if self.due.get(one, now) <= now]
        batch = self.run(self.spool.peek(limit, now))
        newest = due[len(due) - min(len(due), limit // 2) :]
        oldest = [one for one in due if one not in newest][: limit - len(newest)]
        assert [one.id for one in batch] == oldest + newest
        assert all(one.envelope == self.waiting[one.id] for one in batch)
        ids = [one.id for one in batch[keep:]]
        assert self.run(self.spool.delivered(ids)) == len(ids)
        self.gone.update({one: self.waiting.pop(one) for one in ids})

    @rule(item=items)
    def quarantine(self, item: Envelope) -> None:
        one = item.outcome.id
        assert self.run(self.spool.quarantine(one, "rejected", "no such field")) == (one in self.waiting)
        if one in self.waiting:
            self.aside[one] = self.waiting.pop(one)

    @rule(item=items)
    def release(self, item: Envelope) -> None:
        one = item.outcome.id
        assert self.run(self.spool.release_quarantined([one])) == (one in self.aside)
        if one in self.aside:
            self.due.pop(one, None)
            self.waiting[one] = self.aside.pop(one)
            order = list(self.run(self._ids("waiting")))
            self.waiting = {key: self.waiting[key] for key in order}

    @rule(minutes=st.integers(1, 60))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(minutes=minutes)

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files as they are: what a kill leaves, log and all."""
        self.run(self.spool.counts())  # attempts are not waited for, but come before this
        copy = Path(tempfile.mkdtemp(prefix="spool-"))
        self.folders.append(copy)
        for file in self.folder.iterdir():
            shutil.copyfile(file, copy / file.name)
        self._reopen(copy)

    @rule()
    def restart(self) -> None:
        self._reopen(self.folder)

    def _reopen(self, folder: Path) -> None:
        self.run(self.spool.close())
        self.folder = folder
        self.spool = Spool(folder, clock=self.clock, limits=QUICK)
        assert [failed.id for failed in self.run(self.spool.open())] == list(self.attempts)
        self.waiting.update(self.attempts)
        self.attempts = {}
        assert self.spool.damages == []

    async def _ids(self, state: Any) -> list[str]:
        return [kept.id for kept in await exported(self.spool, state) if not kept.conflicting]

    @invariant()
    def accounts_agree(self) -> None:
        if not hasattr(self, "spool"):
            return
        counts = self.run(self.spool.counts())
        assert (counts.waiting, counts.delivered) == (len(self.waiting), len(self.gone))
        assert sum(counts.quarantined.values()) == len(self.aside) + len(self.conflicts)
        assert counts.in_flight == len(self.attempts)
        assert self.run(self._ids("waiting")) == list(self.waiting)

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.run(self.spool.close())
            self.runner.close()
            for folder in self.folders:
                shutil.rmtree(folder)


def test_model(long: bool) -> None:
    """Whatever is called, in whatever order, and however often it crashes, the spool holds what it should."""
    run_state_machine_as_test(
        SpoolMachine,
        settings=settings(
            max_examples=80 if long else 8,
            stateful_step_count=40 if long else 20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
