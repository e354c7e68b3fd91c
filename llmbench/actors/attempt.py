"""One run: connect, send, time the stream, judge it. Exactly one outcome comes of it, whatever happens.

1. The request is laid out, and credentials are renewed within a limit of their own. Then the profile's limit begins.
2. The connection is made, outside of both the gate and the measured time.
3. In its turn at the start gate the SDK builds, signs and sends the request.
4. The response's body goes, stamped, into a `StreamTimer` in the event loop's reader callback.
5. The figures are judged; a Sample or a Failure is made of them.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable
from time import perf_counter_ns

import anyio
import msgspec

from llmbench.actors.record import Run, Runner, failure, lower_headers, sample
from llmbench.clock import Clock
from llmbench.errors import Evidence, Fault, Limit, Phase, classify, evidence_from_exception
from llmbench.measure.exchange import Exchange, Limits
from llmbench.measure.metrics import Measurement, measure
from llmbench.measure.timer import StreamTimer
from llmbench.measure.transport import StartGate
from llmbench.measure.validate import Invalid, validate
from llmbench.messages import Job, Outcome
from llmbench.providers.base import Prepared, Provider

OnText = Callable[[StreamTimer, str], None]

_OK = 200


class Attempt:
    """One run of one job. `run` returns its outcome; it raises only if it is cancelled, and then `cancelled` is it."""

    def __init__(
        self,
        job: Job,
        provider: Provider,
        *,
        gate: StartGate,
        runner: Runner,
        clock: Clock,
        on_text: OnText | None = None,
    ) -> None:
        self._job = job
        self._provider = provider
        self._gate = gate
        self._runner = runner
        self._clock = clock
        self._on_text = on_text
        self._started = clock.now()
        self._prepared: Prepared | None = None
        self._exchange: Exchange | None = None
        self._timer: StreamTimer | None = None

    async def run(self) -> Outcome:
        seconds = self._job.profile.timeout_seconds
        total = anyio.CancelScope()
        try:
            prepared = self._prepare()
            await self._provider.renew()
            total.deadline = anyio.current_time() + seconds
            with total:
                await self._converse(prepared)
            if total.cancelled_caught:
                late = TimeoutError(f"the run took longer than {seconds:g} s")
                return self._failure(self._evidence(late, limit="total"), late)
            return self._judge()
        except Exception as error:  # noqa: BLE001  the seam where everything that can go wrong becomes one outcome
            return self._failure(self._evidence(error), error)

    def cancelled(self) -> Outcome:
        """Return the outcome of a run that was cut off by our own shutdown or restart."""
        message = "the run was cut off: llmbench was stopping or restarting its lane"
        return self._failure(self._fault("cancelled", message))

    def interrupted(self) -> Outcome:
        """Return the outcome of a run that llmbench's own end left open, to be recorded at its next start."""
        return self._failure(self._fault("interrupted", "llmbench ended while the run was under way"))

    def _prepare(self) -> Prepared:
        profile = self._job.profile
        prompt = f"[{secrets.token_hex(8)}] {profile.prompt}"
        self._prepared = self._provider.prepare(self._job.model, profile, prompt)
        return self._prepared

    async def _converse(self, prepared: Prepared) -> None:
        profile = self._job.profile
        timer = self._timer = StreamTimer(prepared.decoder(), self._on_text)
        limits = Limits(connect=profile.connect_timeout_seconds, idle=profile.idle_timeout_seconds)
        async with self._provider.exchange(limits) as exchange:
            self._exchange = exchange
            exchange.handshake_turn = self._gate.handshaking
            await self._provider.connect(exchange, prepared)
            with exchange.current():
                async with self._gate.turn(exchange), prepared.send():
                    await exchange.consume(timer)
        timer.finish()

    def _judge(self) -> Outcome:
        timer, prepared = self._timer, self._prepared
        assert timer is not None, "converse has returned"
        assert prepared is not None, "converse has returned"
        if (evidence := self._trouble_in_stream(timer)) is not None:
            return self._failure(evidence)
        measured = self._measure()
        if measured is None:
            return self._failure(self._fault("not_a_stream", "the server answered before it had the request"))
        verdict = validate(timer, measured, self._job.profile, prepared.mode)
        if isinstance(verdict, Invalid):
            return self._failure(self._fault(verdict.cause, verdict.message), measured=measured)
        return sample(self._run(), measured, self._runner, verdict)

    def _trouble_in_stream(self, timer: StreamTimer) -> Evidence | None:
        if timer.fault is not None:
            fault = timer.fault
            return self._fault("stream_error", fault.message, code=fault.code, type_=fault.type)
        if timer.malformed is not None:
            bad = timer.malformed
            message = f"{bad.reason}: {bad.excerpt}" if bad.excerpt else bad.reason
            if not timer.visible_ns and not self._announces_events:
                return self._fault("not_a_stream", message)
            return self._fault("too_large" if bad.too_large else "malformed", message)
        if self._status != _OK and not timer.reads:
            return self._fault("not_a_stream", f"the server answered with status {self._status} and no body")
        return None

    @property
    def _announces_events(self) -> bool:
        """Whether the response's content type, if it has one, is that of an event stream."""
        content_type = self._headers.get("content-type", "event-stream").lower()
        return "event-stream" in content_type or "eventstream" in content_type

    def _evidence(self, error: Exception, limit: Limit | None = None) -> Evidence:
        exchange = self._exchange
        hit = limit or (exchange.limit_hit if exchange is not None else None)
        evidence = evidence_from_exception(self._provider.name, self._phase, error, limit=hit)
        status = evidence.status if evidence.status is not None else self._status
        return msgspec.structs.replace(evidence, status=status)

    def _fault(self, fault: Fault, message: str, *, code: str | None = None, type_: str | None = None) -> Evidence:
        return Evidence(
            provider=self._provider.name,
            phase="validate" if fault in ("empty", "off_target", "truncated") else self._phase,
            status=self._status,
            code=code,
            type=type_,
            message=message,
            fault=fault,
        )

    @property
    def _status(self) -> int | None:
        response = self._exchange.response if self._exchange is not None else None
        return response.status if response is not None and response.head_complete else None

    @property
    def _headers(self) -> dict[str, str]:
        response = self._exchange.response if self._exchange is not None else None
        return lower_headers(response.headers) if response is not None else {}

    @property
    def _phase(self) -> Phase:
        return self._exchange.phase if self._exchange is not None else "resolve"

    # documents

    def _run(self) -> Run:
        return Run(
            job=self._job,
            started=self._started,
            ended=self._clock.now(),
            endpoint=self._prepared.endpoint if self._prepared is not None else self._provider.endpoint,
            model_region=self._prepared.region if self._prepared is not None else None,
            mode=self._prepared.mode if self._prepared is not None else "none",
            temperature=self._prepared.temperature if self._prepared is not None else None,
            reasoning_effort=self._prepared.reasoning_effort if self._prepared is not None else None,
            headers=self._headers,
        )

    def _measure(self) -> Measurement | None:
        """Return the figures so far, or None if the request never got out."""
        exchange, timer = self._exchange, self._timer
        if exchange is None or timer is None or exchange.timeline.request_written_ns is None:
            return None
        return measure(exchange.timeline, timer, now_ns=perf_counter_ns(), lag_ns=exchange.lag_ns)

    def _failure(
        self, evidence: Evidence, error: Exception | None = None, *, measured: Measurement | None = None
    ) -> Outcome:
        evidence = msgspec.structs.replace(evidence, profile=self._job.profile.id)
        verdict = classify(evidence)
        trace = "".join(traceback.format_exception(error)) if error is not None and verdict.kind == "internal" else None
        return failure(
            self._run(),
            evidence,
            verdict,
            self._runner,
            measured=measured if measured is not None else self._measure(),
            traceback=trace,
        )
