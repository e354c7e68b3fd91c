"""Errors as each provider shapes them; the words are those of `wording`."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from llmbench.simulator.wording import OPENAI, OTHERS, Kind, Wording

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


_RPC = "type.googleapis.com/google.rpc"

_KIND_OF_STATUS: dict[int, Kind] = {
    400: "bad_request",
    401: "bad_key",
    402: "billing",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    424: "model_error",
    429: "rate_limit",
    500: "server",
    502: "gateway",
    503: "unavailable",
    529: "overloaded",
}


def problem_of_status(status: int) -> Problem:
    """Return the problem behind a status word of the menu."""
    return Problem(_KIND_OF_STATUS[status])


def _wording(flavour: str, kind: Kind) -> Wording:
    own = OTHERS.get(flavour, {})
    if kind == "not_found" and kind not in own:
        kind = "no_model"  # most say no more about a model that is gone
    return own.get(kind) or OPENAI[kind]


def status_of(flavour: str, problem: Problem) -> int:
    """Return the HTTP status that this provider gives to ``problem``."""
    return _wording(flavour, problem.kind).status


def type_of(flavour: str, problem: Problem) -> str:
    """Return the name that the provider has for this kind of error."""
    return problem.code or _wording(flavour, problem.kind).type


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
        case "google":
            return _google_error(wording, message, problem.param)
        case "fireworks":
            return {"object": "error", "type": wording.type, "code": code, "message": message}
        case "other":
            return {"message": message, "type": wording.type, "param": problem.param, "code": wording.status}
        case _:
            return {"message": message, "type": wording.type, "param": problem.param, "code": code}


def _google_error(wording: Wording, message: str, param: str | None) -> dict[str, Any]:
    """Return Google's model of an error; ``details`` say why, or which field is wrong."""
    details: list[dict[str, Any]] = []
    if wording.code is not None:
        domain = "googleapis.com" if wording.status == 401 else "aiplatform.googleapis.com"
        details.append({"@type": f"{_RPC}.ErrorInfo", "reason": wording.code, "domain": domain})
    if param is not None:
        violation = {"field": param, "description": message}
        details.append({"@type": f"{_RPC}.BadRequest", "fieldViolations": [violation]})
    error = {"code": wording.status, "message": message, "status": wording.type}
    return {**error, "details": details} if details else error


def error_body(flavour: str, problem: Problem, subject: Subject) -> dict[str, Any]:
    """Return the whole body of an error response."""
    error = error_object(flavour, problem, subject)
    unauthorised = status_of(flavour, problem) == 401
    match flavour:
        case "bedrock":
            return {"message": error["message"]}
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


def error_headers(flavour: str, problem: Problem) -> list[tuple[str, str]]:
    """Return the headers that say more of this problem."""
    match flavour:
        case "bedrock" if name := type_of(flavour, problem):
            return [("x-amzn-errortype", f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/")]
        case "google" if status_of(flavour, problem) == 401:
            return [("www-authenticate", 'Bearer realm="https://accounts.google.com/"')]
        case _:
            return []
