"""Errors as each provider words them.

Statuses, shapes and codes follow the providers' API references (error pages of OpenAI, Anthropic, Groq, Together AI,
Fireworks, DeepInfra, Cerebras, OpenRouter) and, for any other server, vLLM's OpenAI-compatible one.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

Kind = Literal[
    "bad_request", "no_key", "bad_key", "billing", "forbidden", "no_model", "no_route", "method", "too_large",
    "rate_limit", "quota", "server", "gateway", "unavailable", "overloaded",
]  # fmt: skip

HOSTILE_TEXT = "[bold]x[/y] [@click=app.quit]quit[/] \x1b[31mred\x1b]0;title\x07\r\nsecond line\x00 \u202eright to left"
"""What a careless reader of error messages would render, obey or store."""


class Problem(msgspec.Struct, frozen=True):
    """Something that the provider refuses. Words that are None are the provider's own for this kind."""

    kind: Kind
    message: str | None = None
    param: str | None = None
    code: str | None = None


class Subject(NamedTuple):
    """What an error message may mention."""

    model: str
    key: str
    request_id: str


class _Wording(NamedTuple):
    status: int
    type: str
    code: str | None
    message: str


_INVALID = "invalid_request_error"

_OPENAI: dict[Kind, _Wording] = {
    "bad_request": _Wording(400, _INVALID, None, "Invalid request."),
    "no_key": _Wording(
        401, _INVALID, None,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth"
        " (i.e. Authorization: Bearer YOUR_KEY).",
    ),
    "bad_key": _Wording(
        401, _INVALID, "invalid_api_key",
        "Incorrect API key provided: {key}. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    "billing": _Wording(
        402, "insufficient_quota", "billing_hard_limit_reached", "Billing hard limit has been reached."
    ),
    "forbidden": _Wording(
        403, "request_forbidden", "unsupported_country_region_territory", "Country, region, or territory not supported"
    ),
    "no_model": _Wording(
        404, _INVALID, "model_not_found", "The model `{model}` does not exist or you do not have access to it."
    ),
    "no_route": _Wording(404, _INVALID, None, "Invalid URL"),
    "method": _Wording(405, _INVALID, "method_not_supported", "Not allowed to use this method on this URL."),
    "too_large": _Wording(413, _INVALID, None, "Maximum content size limit exceeded."),
    "rate_limit": _Wording(
        429, "requests", "rate_limit_exceeded",
        "Rate limit reached for {model} in organization org-simulated on requests per min (RPM): Limit 500, Used 500,"
        " Requested 1. Please try again in 120ms.",
    ),
    "quota": _Wording(
        429, "insufficient_quota", "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "server": _Wording(
        500, "server_error", None, "The server had an error while processing your request. Sorry about that!"
    ),
    "gateway": _Wording(502, "server_error", None, "Bad gateway."),
    "unavailable": _Wording(503, "server_error", None, "The engine is currently overloaded, please try again later"),
    "overloaded": _Wording(529, "server_error", None, "The server is overloaded, please try again later"),
}  # fmt: skip

_OTHERS: dict[str, dict[Kind, _Wording]] = {
    "groq": {
        "no_key": _Wording(401, _INVALID, "invalid_api_key", "Invalid API Key"),
        "bad_key": _Wording(401, _INVALID, "invalid_api_key", "Invalid API Key"),
        "rate_limit": _Wording(
            429, "tokens", "rate_limit_exceeded",
            "Rate limit reached for model `{model}` in organization `org_simulated` service tier `on_demand` on tokens"
            " per minute (TPM): Limit 6000, Used 5990, Requested 80. Please try again in 700ms.",
        ),
        "server": _Wording(500, "internal_server_error", None, "Internal Server Error"),
        "unavailable": _Wording(503, "service_unavailable", None, "Service Unavailable"),
    },
    "together": {
        "no_key": _Wording(401, _INVALID, "missing_api_key", "Missing API key."),
        "bad_key": _Wording(401, _INVALID, "invalid_api_key", "Invalid API key provided."),
        "billing": _Wording(402, "credit_limit", None, "Credit limit exceeded, please visit your billing settings."),
        "no_model": _Wording(
            404, _INVALID, "model_not_available",
            "Unable to access model {model}. Please visit https://api.together.ai/models to view the list of supported"
            " models.",
        ),
        "rate_limit": _Wording(
            429, "model_rate_limit", None, "You have reached the rate limit specific to this model {model}."
        ),
        "unavailable": _Wording(503, "service_unavailable", None, "The server is overloaded or not ready yet."),
    },
    "fireworks": {
        "no_key": _Wording(401, "unauthorized", "unauthorized", "The API key you provided is invalid."),
        "bad_key": _Wording(401, "unauthorized", "unauthorized", "The API key you provided is invalid."),
        "no_model": _Wording(404, "error", "NOT_FOUND", "Model not found, inaccessible, and/or not deployed"),
        "rate_limit": _Wording(429, "error", "RATE_LIMIT_EXCEEDED", "Rate limit exceeded, please try again later."),
        "unavailable": _Wording(503, "error", "SERVICE_UNAVAILABLE", "The service is overloaded, please try again."),
    },
    "deepinfra": {
        "no_key": _Wording(401, _INVALID, None, "User is not authenticated"),
        "bad_key": _Wording(401, _INVALID, None, "User is not authenticated"),
        "no_model": _Wording(404, _INVALID, "model_not_found", "The model `{model}` does not exist"),
        "rate_limit": _Wording(429, _INVALID, "engine_overloaded", "Model busy, retry later"),
    },
    "cerebras": {
        "no_key": _Wording(401, _INVALID, "wrong_api_key", "Wrong API Key"),
        "bad_key": _Wording(401, _INVALID, "wrong_api_key", "Wrong API Key"),
        "no_model": _Wording(
            404, "not_found_error", "model_not_found", "Model {model} does not exist or you do not have access to it."
        ),
        "rate_limit": _Wording(
            429, "too_many_requests_error", "request_quota_exceeded",
            "Requests per minute limit exceeded - too many requests sent.",
        ),
        "unavailable": _Wording(
            503, "too_many_requests_error", "queue_exceeded", "We're experiencing high traffic right now!"
        ),
    },
    "openrouter": {
        "no_key": _Wording(401, "", None, "No auth credentials found"),
        "bad_key": _Wording(401, "", None, "No auth credentials found"),
        "billing": _Wording(402, "", None, "Insufficient credits. Add more using https://openrouter.ai/credits"),
        "no_model": _Wording(400, "", None, "{model} is not a valid model ID"),
        "rate_limit": _Wording(429, "", None, "Provider returned error"),
        "gateway": _Wording(502, "", None, "Provider returned error"),
        "unavailable": _Wording(503, "", None, "No instances available"),
    },
    "anthropic": {
        "bad_request": _Wording(400, _INVALID, None, "Invalid request."),
        "no_key": _Wording(401, "authentication_error", None, "x-api-key header is required"),
        "bad_key": _Wording(401, "authentication_error", None, "invalid x-api-key"),
        "billing": _Wording(402, "billing_error", None, "There is an issue with your billing or payment information."),
        "forbidden": _Wording(
            403, "permission_error", None, "Your API key does not have permission to use the specified resource."
        ),
        "no_model": _Wording(404, "not_found_error", None, "model: {model}"),
        "no_route": _Wording(404, "not_found_error", None, "Not found"),
        "method": _Wording(405, _INVALID, None, "Method Not Allowed"),
        "too_large": _Wording(413, "request_too_large", None, "Request exceeds the maximum size"),
        "rate_limit": _Wording(
            429, "rate_limit_error", None,
            "This request would exceed your organization's rate limit of 50 requests per minute.",
        ),
        "quota": _Wording(
            400, _INVALID, None,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or"
            " purchase credits.",
        ),
        "server": _Wording(500, "api_error", None, "Internal server error"),
        "gateway": _Wording(502, "api_error", None, "Bad gateway"),
        "unavailable": _Wording(503, "api_error", None, "Service unavailable"),
        "overloaded": _Wording(529, "overloaded_error", None, "Overloaded"),
    },
    "other": {
        "no_key": _Wording(401, "Unauthorized", "401", "Unauthorized"),
        "bad_key": _Wording(401, "Unauthorized", "401", "Unauthorized"),
        "no_model": _Wording(404, "NotFoundError", "404", "The model `{model}` does not exist."),
        "server": _Wording(500, "InternalServerError", "500", "EngineCore encountered an issue."),
    },
}  # fmt: skip

_KIND_OF_STATUS: dict[int, Kind] = {
    400: "bad_request",
    401: "bad_key",
    402: "billing",
    403: "forbidden",
    404: "no_model",
    429: "rate_limit",
    500: "server",
    502: "gateway",
    503: "unavailable",
    529: "overloaded",
}


def problem_of_status(status: int) -> Problem:
    """Return the problem behind a status word of the menu."""
    return Problem(_KIND_OF_STATUS[status])


def _wording(flavour: str, kind: Kind) -> _Wording:
    return _OTHERS.get(flavour, {}).get(kind) or _OPENAI[kind]


def status_of(flavour: str, problem: Problem) -> int:
    """Return the HTTP status that this provider gives to ``problem``."""
    return _wording(flavour, problem.kind).status


def message_of(flavour: str, problem: Problem, subject: Subject) -> str:
    """Return the provider's message."""
    if problem.message is not None:
        return problem.message
    return _wording(flavour, problem.kind).message.format(model=subject.model, key=mask(subject.key))


def mask(key: str) -> str:
    """Return a key as a provider repeats it: the ends, stars between them."""
    return f"{key[:3]}{'*' * 8}{key[-4:]}" if len(key) > 12 else "*" * 8


def error_object(flavour: str, problem: Problem, subject: Subject) -> dict[str, Any]:
    """Return the error itself, without the object around it."""
    wording = _wording(flavour, problem.kind)
    message = message_of(flavour, problem, subject)
    code = problem.code or wording.code
    match flavour:
        case "anthropic":
            return {"type": wording.type, "message": message}
        case "openrouter":
            return {"message": message, "code": wording.status, "metadata": {"provider_name": "Simulated"}}
        case "groq":
            return {"message": message, "type": wording.type, "code": code}
        case "fireworks":
            return {"object": "error", "type": wording.type, "code": code, "message": message}
        case "other":
            return {"message": message, "type": wording.type, "param": problem.param, "code": wording.status}
        case _:
            return {"message": message, "type": wording.type, "param": problem.param, "code": code}


def error_body(flavour: str, problem: Problem, subject: Subject) -> dict[str, Any]:
    """Return the whole body of an error response."""
    error = error_object(flavour, problem, subject)
    unauthorised = status_of(flavour, problem) == 401
    match flavour:
        case "anthropic":
            return {"type": "error", "error": error, "request_id": subject.request_id}
        case "cerebras":
            return error
        case "together":
            return {"id": subject.request_id, "error": error}
        case "deepinfra" if unauthorised:
            return {"detail": {"error": error["message"]}}
        case "openrouter":
            return {"error": error, "user_id": "user_simulated"}
        case "other" if unauthorised:
            return {"error": error["message"]}
        case _:
            return {"error": error}
