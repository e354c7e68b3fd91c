"""`GET /openapi.json`: every route with its bodies, answers and keys, the schemas made from the Structs themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from llmbench import __version__
from llmbench.bridge.health import HealthAnswer, PublicHealth
from llmbench.bridge.replies import JSON, ErrorAnswer
from llmbench.ingestion import BatchAnswer, CatalogAnswer, ItemAnswer, Worklist
from llmbench.lifecycle import Listing
from llmbench.messages import Failure, Sample

Json = dict[str, Any]

_STRUCTS = (
    Sample, Failure, Listing, ItemAnswer, BatchAnswer, CatalogAnswer, ErrorAnswer, Worklist, HealthAnswer, PublicHealth
)  # fmt: skip

_REF = "#/components/schemas/"

_ERRORS = {
    400: "The body or the query is not what it has to be.",
    401: "No key, or none that is known.",
    403: "The key is not for this.",
    408: "The body took too long.",
    413: "The body is too long.",
    415: "The body is not plain JSON.",
    429: "Too many requests; Retry-After tells when there may be more.",
    503: "Not now; Retry-After tells when. Nothing is acknowledged.",
}
_RETRIED = (429, 503)

_BODY_ERRORS = (401, 403, 408, 413, 415, 429, 503)
_KEY_ERRORS = (401, 403, 429, 503)

_PUBLISH: Json = {
    "type": "boolean",
    "default": True,
    "description": "Whether a run belongs to the public collection.",
}
_EARLIER: Json = {
    "type": "object",
    "description": "A document of an earlier runner: flat and without _id, fields as in the collections. "
    'Dates are "YYYY-MM-DD hh:mm:ss" in UTC, or RFC 3339.',
    "required": ["provider", "model_name"],
    "properties": {"provider": {"type": "string"}, "model_name": {"type": "string"}},
    "not": {"required": ["_id"]},
}


def description() -> bytes:
    """Return the OpenAPI document as JSON."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "llmbench bridge", "version": __version__, "description": _ABOUT},
            "paths": {**_ingest_paths(), **_reading_paths()},
            "components": {"schemas": _schemas(), "securitySchemes": _KEYS},
        }
    )


_ABOUT = (
    "Takes outcomes from runners and tells them what to run. A 2xx answer is given only once what it names is durable: "
    "items whose status is stored or duplicate."
)

_KEYS: Json = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


def _schemas() -> Json:
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_REF + "{name}")
    schemas: Json = dict(components)
    for name, kind in (("SentRun", "Sample"), ("SentError", "Failure")):
        own = schemas[kind]
        schemas[name] = {"anyOf": [{**own, "properties": {**own["properties"], "publish": _PUBLISH}}, _EARLIER]}
    schemas["SentListing"] = _listing(schemas["Listing"])
    return schemas


def _listing(listing: Json) -> Json:
    optional = ("finished_at", "status")
    return {**listing, "required": [name for name in listing["required"] if name not in optional]}


def _ingest_paths() -> Json:
    one = {"anyOf": [_ref("SentRun"), _ref("SentError")]}
    batch = {"type": "array", "items": one, "maxItems": 1000}
    return {
        "/ingest": _post("Store one successful run", _ref("SentRun"), _single()),
        "/ingest/error": _post("Store one failed run", _ref("SentError"), _single()),
        "/ingest/batch": _post(
            "Store runs, good or failed; one that is refused keeps no other out",
            batch,
            {200: _json("A verdict for each item, in their order.", BatchAnswer), 422: _rejected()},
        ),
        "/ingest/catalog": _post(
            "Note which models a provider lists",
            _ref("SentListing"),
            {200: _json("What was noted.", CatalogAnswer), 422: _rejected()},
        ),
    }


def _single() -> dict[int, Json]:
    return {
        200: _json("It is durable: stored now, or a duplicate of what is.", ItemAnswer),
        409: _json("Another document has this id; it stays as it is.", ItemAnswer),
        422: _rejected(),
    }


def _rejected() -> Json:
    return _json("The document is not taken, and never will be.", ItemAnswer)


def _reading_paths() -> Json:
    provider = {"name": "provider", "in": "query", "required": True, "schema": {"type": "string", "maxLength": 200}}
    worklist = {200: _json("The models that are enabled; none is an empty list.", Worklist)}
    return {
        "/runner-config": _get(
            "What to measure of one provider", worklist, (400, *_KEY_ERRORS), secured=True, parameters=[provider]
        ),
        "/health": _get_health(),
        "/healthz": _get("Whether the program lives", {200: _json("It does.", PublicHealth)}),
        "/readyz": _get(
            "Whether the store can be reached",
            {200: _json("It can.", PublicHealth), 503: _answers("It can't, or too much is under way.", _READINESS)},
        ),
        "/metrics": _get("Metrics, for Prometheus", {200: _METRICS}, _KEY_ERRORS, secured=True),
        "/live": _get("Live events, as they come", {200: _EVENTS, 404: _NO_EVENTS}, _KEY_ERRORS, secured=True),
        "/openapi.json": _get("This document", {200: {"description": "OpenAPI 3.1.", "content": {JSON: {}}}}),
    }


def _ref(name: str) -> Json:
    return {"$ref": _REF + name}


def _answers(text: str, schema: Json) -> Json:
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _json(text: str, struct: type[msgspec.Struct]) -> Json:
    return _answers(text, _ref(struct.__name__))


_READINESS: Json = {"anyOf": [_ref("PublicHealth"), _ref("ErrorAnswer")]}
_METRICS: Json = {"description": "Prometheus text, or OpenMetrics if that is accepted.", "content": {"*/*": {}}}
_EVENTS: Json = {
    "description": "Server-sent events: the event's name is its kind, its data JSON; dropped tells how many are lost.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
_NO_EVENTS = _json("This program measures nothing itself.", ErrorAnswer)


def _get_health() -> Json:
    either = {"anyOf": [_ref("PublicHealth"), _ref("HealthAnswer")]}
    operation = _get(
        "Health: a word; with a key that may read it, everything", {200: _answers("Health, good or bad.", either)},
        (401, 429),
    )  # fmt: skip
    operation["get"]["security"] = [{}, *_SECURITY]
    return operation


def _problems(statuses: Iterable[int]) -> dict[int, Json]:
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> Json:
    answer = _json(_ERRORS[status], ErrorAnswer)
    if status in _RETRIED:
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return answer


_SECURITY: list[Json] = [{"key": []}, {"bearer": []}]


def _post(summary: str, body: Json, answers: dict[int, Json]) -> Json:
    bad = _answers(_ERRORS[400], {"anyOf": [_ref("ItemAnswer"), _ref("ErrorAnswer")]})
    return {
        "post": {
            "summary": summary,
            "security": _SECURITY,
            "requestBody": {"required": True, "content": {JSON: {"schema": body}}},
            "responses": _named({**answers, 400: bad, **_problems(_BODY_ERRORS)}),
        }
    }


def _get(
    summary: str,
    answers: dict[int, Json],
    errors: Iterable[int] = (),
    *,
    secured: bool = False,
    parameters: Iterable[Json] = (),
) -> Json:
    return {
        "get": {
            "summary": summary,
            "security": _SECURITY if secured else [],
            "parameters": list(parameters),
            "responses": _named({**_problems({*errors, 503}), **answers}),
        }
    }


def _named(answers: dict[int, Json]) -> Json:
    return {str(status): answers[status] for status in sorted(answers)}
