"""From a request to its answer: which provider and format it means, what they refuse, what the model's name says."""

from __future__ import annotations

import random
from collections.abc import Mapping
from email.utils import formatdate
from time import time
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from llmbench.simulator import damage, listings
from llmbench.simulator.apis.base import DEFAULT_BUDGET, Api, Call, bad_request, encode, now
from llmbench.simulator.auth import key_of, refusal
from llmbench.simulator.behaviour import MAX_TOKENS, BadName, Behaviour, behaviour_of
from llmbench.simulator.flavours import Flavour, Headers, provider_headers, request_id
from llmbench.simulator.framing import repacked
from llmbench.simulator.problems import (
    HOSTILE_TEXT,
    Problem,
    Subject,
    error_body,
    error_headers,
    message_of,
    problem_of_status,
    status_of,
)
from llmbench.simulator.record import RequestLog, RequestRecord, encoder, without_secrets
from llmbench.simulator.reply import Reply, Request, json_reply, silence, whole
from llmbench.simulator.routes import Destination, Route, destination, page_of
from llmbench.simulator.script import Ending, Script, make_plan

_BYTES_PER_TOKEN = 4

_HTML = b"<!doctype html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"


class _Visit(NamedTuple):
    """A request on its way to an answer."""

    request: Request
    record: RequestRecord
    flavour: Flavour
    key: str
    query: dict[str, str]

    def subject(self) -> Subject:
        return Subject(self.record.model or "", self.key, request_id(self.flavour, self.record.sequence))


class Router:
    """Answers requests and records them; the pages under ``/_sim/`` are for whoever drives the simulator."""

    def __init__(self, log: RequestLog) -> None:
        self._log = log
        self._aliases: dict[str, str] = {}

    def answer(self, request: Request) -> Reply:
        """Return the answer to ``request``."""
        path, _, query = request.target.partition("?")
        if path.startswith("/_sim/"):
            return self._control(request, path, dict(parse_qsl(query)))
        record = self._record(request)
        self._log.add(record)
        reply = self._recorded(request, record, path, dict(parse_qsl(query)))
        record.status = reply.status
        reply.record = record
        return reply

    def _record(self, request: Request) -> RequestRecord:
        return RequestRecord(
            sequence=self._log.next_sequence(),
            method=request.method,
            path=request.target,
            headers=without_secrets(request.headers),
            body_bytes=len(request.body),
            arrival_ns=request.arrival_ns,
            arrival_clock="kernel" if request.kernel else "user",
            connection=request.connection,
        )

    # for whoever drives the simulator

    def _control(self, request: Request, path: str, query: Mapping[str, str]) -> Reply:
        match request.method, path:
            case "GET", "/_sim/requests":
                since = query.get("since", "0")
                if not (since.isascii() and since.isdigit()):
                    return json_reply(400, {"error": f"since={since!r} is not a request's number"})
                records = self._log.select(query.get("provider"), query.get("model"), int(since))
                return whole(200, encoder.encode(records), "application/json")
            case "GET", "/_sim/count":
                return json_reply(200, self._log.counts)
            case "POST", "/_sim/reset":
                self._log.reset()
                self._aliases.clear()
                return json_reply(200, self._log.counts)
            case "POST", "/_sim/alias":
                return self._alias(request.body)
            case _:
                return json_reply(404, {"error": f"the simulator has no {request.method} {path}"})

    def _alias(self, body: bytes) -> Reply:
        """From now on, a model behaves as another name says: how a provider changes its mind in mid-run."""
        try:
            aliases = msgspec.json.decode(body, type=dict[str, str])
        except msgspec.DecodeError as error:
            return json_reply(400, {"error": f"the aliases are not an object of strings: {error}"})
        self._aliases.update(aliases)
        return json_reply(200, self._aliases)

    # for a provider's clients

    def _recorded(self, request: Request, record: RequestRecord, path: str, query: dict[str, str]) -> Reply:
        page = page_of(path)
        if page is not None:
            record.provider = page.provider
            return page.answer(request)
        where = destination(path)
        record.provider = where.flavour.name
        record.model = where.model
        return self._provider(_Visit(request, record, where.flavour, key_of(request), query), where)

    def _provider(self, visit: _Visit, where: Destination) -> Reply:
        if not where.found:
            return self._error(visit, Problem("no_route"))
        problem = refusal(visit.flavour, visit.request)
        if problem is not None:
            return self._error(visit, problem)
        if visit.request.method != ("POST" if where.route else "GET"):
            return self._error(visit, Problem("method"))
        return self._complete(visit, where.route) if where.route else self._models(visit)

    def _models(self, visit: _Visit) -> Reply:
        model = visit.record.model
        if model is None:
            return json_reply(200, listings.listing(visit.flavour, visit.query), self._headers(visit))
        if model in listings.models_of(visit.flavour) or _known(model):
            return json_reply(200, listings.entry(visit.flavour, model), self._headers(visit))
        return self._error(visit, Problem("no_model"))

    def _complete(self, visit: _Visit, route: Route) -> Reply:
        problem, body = self._read_body(visit)
        problem = problem or self._read_model(visit, body)
        if problem is not None:
            return self._error(visit, problem)
        model = visit.record.model or ""
        try:
            behaviour = behaviour_of(self._aliases.get(model, model))
        except BadName as error:
            return self._error(visit, bad_request(str(error), "model"))
        if behaviour is None:
            return self._error(visit, Problem("no_model"))
        call = Call(
            flavour=visit.flavour,
            model=model,
            body=body,
            behaviour=behaviour,
            sequence=visit.record.sequence,
            created=now(),
            query=visit.query,
        )
        return self._perform(visit, route.api, call)

    def _read_body(self, visit: _Visit) -> tuple[Problem | None, dict[str, Any]]:
        try:
            body = msgspec.json.decode(visit.request.body)
        except (msgspec.DecodeError, RecursionError) as error:
            return bad_request(f"The body of your request is not valid JSON: {error}"), {}
        visit.record.body_json = msgspec.Raw(msgspec.json.format(visit.request.body, indent=-1))
        if not isinstance(body, dict):
            return bad_request("The body of your request is not a JSON object"), {}
        return None, body

    def _read_model(self, visit: _Visit, body: dict[str, Any]) -> Problem | None:
        """Take the model's name from the body, unless the path had it."""
        if visit.record.model is None:
            model = body.get("model")
            if not isinstance(model, str) or not model:
                return bad_request("you must provide a model parameter", "model")
            visit.record.model = model
        if visit.flavour.name == "anthropic" and not visit.request.header("anthropic-version"):
            return bad_request("anthropic-version: header is required")
        return None

    def _perform(self, visit: _Visit, api: Api, call: Call) -> Reply:
        reply = self._fault_before_stream(visit, call.behaviour)
        if reply is not None:
            reply.fault = True
            return reply
        problem = api.refuse(call)
        if problem is not None:
            return self._error(visit, problem)
        budget = api.budget(call) or DEFAULT_BUDGET
        if budget > MAX_TOKENS:
            message = f"max_tokens is too large: {budget}. This model supports at most {MAX_TOKENS} completion tokens."
            return self._error(visit, bad_request(message, "max_tokens", "invalid_value"))
        return self._stream(visit, api, call, budget)

    def _stream(self, visit: _Visit, api: Api, call: Call, budget: int) -> Reply:
        behaviour = call.behaviour
        plan = make_plan(behaviour, budget, len(encode(api.prompt(call))) // _BYTES_PER_TOKEN)
        stream = api.stream(call, plan)
        if objection := damage.unfit(stream, behaviour):
            return self._error(visit, bad_request(objection, "model"))
        rng = random.Random(visit.record.sequence)  # noqa: S311 - reproducible jitter, not a secret
        script = Script(behaviour, stream, plan, self._problem(visit, behaviour), rng)
        headers = [("content-type", stream.content_type), ("cache-control", "no-cache"), *self._headers(visit)]
        if behaviour.gzip:
            headers.append(("content-encoding", "gzip"))
        return Reply(
            status=200,
            headers=headers,
            steps=repacked(script.steps(), behaviour, rng),
            chunked=True,
            late_head=behaviour.late_head,
            big_head=behaviour.big_head,
            fault=behaviour.fault is not None,
        )

    # what fails before a stream begins

    def _fault_before_stream(self, visit: _Visit, behaviour: Behaviour) -> Reply | None:
        fault = behaviour.fault
        match fault.kind if fault else None:
            case "noanswer":
                return silence(Ending.HANG)
            case "hangup":
                return silence(Ending.CLOSE)
            case "nocontent":
                return whole(204, b"", "")
            case "errorbody":
                return self._error(visit, self._problem(visit, behaviour), behaviour, status=200)
            case "html" if fault is not None:
                return whole(fault.at, _HTML, "text/html; charset=utf-8")
            case "redirect" if fault is not None:
                host = f"localhost:{fault.at}" if fault.at else "elsewhere.invalid"
                return whole(302, b"", "", [("location", f"http://{host}{visit.request.target}")])
            case None if _is_error(behaviour):
                return self._error(visit, self._problem(visit, behaviour), behaviour)
            case _:
                return None

    def _problem(self, visit: _Visit, behaviour: Behaviour) -> Problem:
        """Return the error that the behaviour asks for, should it ask for one."""
        if behaviour.quota:
            problem = Problem("quota")
        elif behaviour.status is not None:
            problem = problem_of_status(behaviour.status)
        elif behaviour.echo:
            problem = Problem("bad_key")
        else:
            problem = Problem("overloaded" if visit.flavour.name == "anthropic" else "server")
        additions = [visit.request.header("authorization") or visit.key] if behaviour.echo else []
        additions += [HOSTILE_TEXT] if behaviour.hostile else []
        if not additions:
            return problem
        message = message_of(visit.flavour.errors, problem, visit.subject())
        return msgspec.structs.replace(problem, message=" ".join([message, *additions]))

    def _error(
        self, visit: _Visit, problem: Problem, behaviour: Behaviour | None = None, status: int | None = None
    ) -> Reply:
        errors = visit.flavour.errors
        real_status = status_of(errors, problem)
        headers = [*self._headers(visit, exhausted=real_status == 429), *error_headers(errors, problem)]
        if behaviour is not None and behaviour.retry_after is not None:
            headers.append(("retry-after", _retry_after(behaviour.retry_after)))
        body = error_body(errors, problem, visit.subject())
        return json_reply(status or real_status, [body] if visit.flavour.error_list else body, headers)

    def _headers(self, visit: _Visit, *, exhausted: bool = False) -> Headers:
        return provider_headers(visit.flavour, visit.record.sequence, exhausted=exhausted, milliseconds=7)


def _known(model: str) -> bool:
    try:
        return behaviour_of(model) is not None
    except BadName:
        return False


def _is_error(behaviour: Behaviour) -> bool:
    return behaviour.status is not None or behaviour.quota or behaviour.echo or behaviour.hostile


def _retry_after(text: str) -> str:
    kind, plus, seconds = text.partition("+")
    return formatdate(time() + float(seconds), usegmt=True) if plus and kind == "date" else text
