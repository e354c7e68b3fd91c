"""The error taxonomy: evidence of a failure in, its kind, cause, stage and advice out.

Everything here is pure and total: no I/O, no SDK, no exception for any input. What no rule knows is ``unknown``, with
its evidence. Where the parts are: the vocabulary and the advice in `error_kinds`, the rules as data in `error_rules`
and `error_codes`, the reading of exceptions in `error_evidence` and of bodies in `error_bodies`, text in `error_text`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import msgspec

from llmbench import error_codes as codes
from llmbench import error_rules as rules
from llmbench.error_bodies import (
    ErrorBody,
    is_html,
    parse_error_body,
    parse_retry_after,
    retry_after_from_headers,
)
from llmbench.error_evidence import Evidence, evidence_from_exception
from llmbench.error_kinds import (
    CAUSE_ADVICE,
    KIND_ADVICE,
    KIND_SEVERITY,
    PROVIDER_ADVICE,
    Cause,
    Fault,
    Kind,
    Limit,
    Phase,
    Severity,
    Verdict,
    completed,
)
from llmbench.error_text import clean, fingerprint, normalize
from llmbench.messages import Stage

__all__ = [
    "CAUSES",
    "KINDS",
    "Cause",
    "Classification",
    "ErrorBody",
    "Evidence",
    "Fault",
    "Kind",
    "Limit",
    "Phase",
    "Severity",
    "classify",
    "clean",
    "evidence_from_exception",
    "fingerprint",
    "is_html",
    "normalize",
    "parse_error_body",
    "parse_retry_after",
    "retry_after_from_headers",
    "severity",
]

KINDS: tuple[Kind, ...] = get_args(Kind)
CAUSES: tuple[Cause, ...] = get_args(Cause)

# What names an error stands at its beginning; a message made long to cost time is not read to its end.
_WORDING_LIMIT = 2000
_CONNECTING: frozenset[Phase] = frozenset({"resolve", "connect", "tls"})
_CONNECT_CAUSES: frozenset[Cause] = frozenset({"dns", "connect_refused", "connect_timeout", "unreachable", "tls"})
_INVALID: frozenset[Kind] = frozenset({"empty_output", "token_mismatch"})


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """What a failure is. ``advice`` is one clause that says what to do and names the configuration's key."""

    kind: Kind
    cause: Cause
    stage: Stage
    advice: str


def classify(evidence: Evidence) -> Classification:
    """Say what a failure is. Never raises; what no rule knows is ``unknown``.

    What our own checks found comes first, then the provider's code and status, then a limit of ours that fired, then
    the exceptions' classes. The provider's wording refines an ambiguous status, and else comes last.
    """
    verdict = _verdict(evidence)
    cause = "stream_error" if _is_in_stream(evidence) and verdict.kind not in ("local", "internal") else verdict.cause
    return Classification(
        kind=verdict.kind, cause=cause, stage=_stage(evidence, verdict), advice=_advice(evidence, verdict)
    )


def severity(kind: str) -> Severity:
    """Say how far a kind of failure reaches, which is what scheduling goes by.

    ``lane``: the whole provider is shut off until one probe succeeds. ``hard``: the model, or the way it is
    asked, won't work until something changes; look again daily. ``transient``: try again soon, then less and less
    often. ``ours``: the fault is on this machine, and no model is blamed for it. A kind that this version does not
    know, from a document that another one wrote, is ``transient``.
    """
    return KIND_SEVERITY.get(kind, "transient")


def _verdict(evidence: Evidence) -> Verdict:
    judged = (judge(evidence) for judge in _JUDGES)
    return next((verdict for verdict in judged if verdict is not None), rules.UNKNOWN)


def _is_in_stream(evidence: Evidence) -> bool:
    """Say whether the error came as an object inside a response that had begun well."""
    if evidence.fault is not None:
        return evidence.fault == "stream_error"
    named = evidence.code is not None or evidence.type is not None
    if evidence.status is None:
        return named and evidence.phase == "body"
    return named and 200 <= evidence.status < 300


def _by_fault(evidence: Evidence) -> Verdict | None:
    verdict = rules.FAULTS.get(evidence.fault) if evidence.fault else None
    refused = evidence.status is not None and evidence.status >= 400
    # The body of a refusal need not be what we wanted of an answer, so its status says more than our checks of it.
    return None if verdict and refused and KIND_SEVERITY[verdict.kind] != "ours" else verdict


def _by_firm_status(evidence: Evidence) -> Verdict | None:
    status = _error_status(evidence)
    return None if status is None else rules.FIRM_STATUSES.get(status)


def _by_code(evidence: Evidence) -> Verdict | None:
    return _look_up(codes.CODES, evidence)


def _by_generic_code(evidence: Evidence) -> Verdict | None:
    return _look_up(codes.GENERIC_CODES, evidence)


def _look_up(table: Mapping[str, Verdict], evidence: Evidence) -> Verdict | None:
    """Return what the table says of the code or, if nothing, of the type."""
    labels = (codes.canonical(label) for label in (evidence.code, evidence.type) if label)
    return next((table[label] for label in labels if label in table), None)


def _error_status(evidence: Evidence) -> int | None:
    """Return the status of the refusal: the response's own or, inside a good one, that which its error names."""
    if evidence.status is not None and not 200 <= evidence.status < 300:
        return evidence.status
    labels = (evidence.code, evidence.type)
    numbers = (int(label) for label in labels if label and len(label) == 3 and label.isascii() and label.isdigit())
    return next((number for number in numbers if 400 <= number < 600), None)


def _by_status(evidence: Evidence) -> Verdict | None:
    status = _error_status(evidence)
    if status is None:
        return None
    if evidence.html and status in rules.HTML_STATUSES:
        return rules.HTML_STATUSES[status]
    worded = _by_wording(status, evidence.message)
    return worded or rules.STATUSES.get(status) or rules.STATUS_CLASSES.get(status // 100)


def _by_message(evidence: Evidence) -> Verdict | None:
    return _by_wording(rules.NO_STATUS, evidence.message)


def _by_vague_message(evidence: Evidence) -> Verdict | None:
    return _by_wording(rules.NO_STATUS, evidence.message, rules.VAGUE_MESSAGES)


def _by_wording(status: int, message: str, table: Sequence[rules.MessageRule] = rules.MESSAGES) -> Verdict | None:
    text = message[:_WORDING_LIMIT].replace("\u2019", "'")  # AWS writes isn't with a typographic apostrophe
    matching = (rule.verdict for rule in table if status in rule.statuses and rule.pattern.search(text))
    return next(matching, None)


def _by_limit(evidence: Evidence) -> Verdict | None:
    if evidence.limit == "connect" and evidence.phase == "resolve":
        return rules.DNS
    return rules.LIMITS[evidence.limit] if evidence.limit else None


def _by_exception(evidence: Evidence) -> Verdict | None:
    if evidence.errno in rules.ERRNOS:
        return rules.ERRNOS[evidence.errno]
    names = [_class_name(name) for name in evidence.exceptions]
    present, inherited = frozenset(names), frozenset(map(_class_name, evidence.bases))
    applying = (rule.verdict for rule in rules.EXCEPTIONS if _applies(rule, present, inherited, evidence))
    found = next(applying, None)
    return rules.CANCELLED if found is None and names and names[0] in rules.CANCELLATIONS else found


def _class_name(name: str) -> str:
    return name.rpartition(".")[2]


def _applies(rule: rules.ExceptionRule, present: frozenset[str], inherited: frozenset[str], evidence: Evidence) -> bool:
    named = not rule.names.isdisjoint(present) or (not rule.exact and not rule.names.isdisjoint(inherited))
    return (
        named
        and (rule.phases is None or evidence.phase in rule.phases)
        and (rule.says is None or rule.says.search(evidence.message) is not None)
    )


_JUDGES: tuple[Callable[[Evidence], Verdict | None], ...] = (
    _by_fault,
    _by_firm_status,
    _by_code,
    _by_status,
    _by_limit,
    _by_exception,
    _by_message,
    _by_generic_code,
    _by_vague_message,
)


def _stage(evidence: Evidence, verdict: Verdict) -> Stage:
    if verdict.kind == "timeout":
        return "timeout"
    if evidence.phase in _CONNECTING or verdict.cause in _CONNECT_CAUSES:
        return "connect"
    return "validate" if evidence.phase == "validate" or verdict.kind in _INVALID else "generate"


def _advice(evidence: Evidence, verdict: Verdict) -> str:
    own = PROVIDER_ADVICE.get(evidence.provider, {})
    advice = (
        verdict.advice
        or own.get(verdict.cause)
        or own.get(verdict.kind)
        or CAUSE_ADVICE.get((verdict.kind, verdict.cause))
        or KIND_ADVICE[verdict.kind]
    )
    return completed(advice, evidence.provider, evidence.profile)
