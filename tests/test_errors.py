"""Classification: every provider's documented error bodies, our own findings, and the properties of the whole."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbench import error_codes, error_rules
from llmbench.error_kinds import CAUSE_ADVICE, KIND_ADVICE, KIND_SEVERITY, PROVIDER_ADVICE, Verdict
from llmbench.errors import (
    CAUSES,
    KINDS,
    Classification,
    Evidence,
    Fault,
    Limit,
    Phase,
    classify,
    is_html,
    parse_error_body,
    retry_after_from_headers,
    severity,
)
from llmbench.messages import Stage

FIXTURES = Path(__file__).parent / "fixtures" / "errors"
PROVIDERS = sorted(path.stem for path in FIXTURES.glob("*.json"))
PHASES: tuple[Phase, ...] = get_args(Phase)
FAULTS: tuple[Fault, ...] = get_args(Fault)
LIMITS: tuple[Limit, ...] = get_args(Limit)


def cases(provider: str) -> list[dict[str, Any]]:
    """Return a provider's fixtures: name, status, headers, body, and what is expected of them."""
    loaded: list[dict[str, Any]] = json.loads((FIXTURES / f"{provider}.json").read_text())
    return loaded


def body_bytes(case: dict[str, Any]) -> bytes:
    """Return the body as the provider would send it."""
    body = case["body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def evidence_of(provider: str, case: dict[str, Any]) -> Evidence:
    """Build the evidence without any SDK, as an adapter does that has read the body itself."""
    code, kind, message = parse_error_body(body_bytes(case))
    in_stream = case["status"] == 200
    return Evidence(
        provider=provider,
        phase="body" if in_stream else "headers",
        status=case["status"],
        code=code,
        type=kind,
        message=message or f"HTTP {case['status']} with an empty body",
        retry_after=retry_after_from_headers(case.get("headers", {})),
        fault="stream_error" if in_stream else None,
        html=is_html(body_bytes(case)),
    )


@pytest.mark.parametrize(
    ("provider", "case"),
    [pytest.param(name, case, id=f"{name}: {case['name']}") for name in PROVIDERS for case in cases(name)],
)
def test_a_documented_error_gets_its_kind(provider: str, case: dict[str, Any]) -> None:
    """Each provider's documented error body is parsed and gets the kind and cause that it deserves."""
    evidence = evidence_of(provider, case)

    result = classify(evidence)

    expected = case["expect"]
    assert (expected["kind"], expected["cause"]) == (result.kind, result.cause)
    assert (expected["code"], expected["type"]) == (evidence.code, evidence.type)
    assert expected.get("message", "") in evidence.message
    assert expected.get("retry_after") == evidence.retry_after
    assert expected.get("advice", "") in result.advice
    assert result.stage == "generate"


@pytest.mark.parametrize(
    ("fault", "kind", "cause"),
    [
        ("malformed", "malformed_stream", "malformed"),
        ("too_large", "malformed_stream", "too_large"),
        ("truncated", "malformed_stream", "truncated"),
        ("not_a_stream", "network", "protocol"),
        ("empty", "empty_output", "empty"),
        ("off_target", "token_mismatch", "off_target"),
        ("cancelled", "local", "cancelled"),
        ("interrupted", "local", "interrupted"),
        ("internal", "internal", "internal"),
    ],
)
def test_what_our_checks_found_is_the_verdict(fault: Fault, kind: str, cause: str) -> None:
    """A finding of our own about a good response decides, whatever words came with it."""
    result = classify(
        Evidence(provider="groq", phase="body", status=200, fault=fault, message="model not found, quota exceeded")
    )

    assert (kind, cause) == (result.kind, result.cause)
    assert (result.stage == "validate") == (fault in ("empty", "off_target"))


def test_a_refusal_outweighs_our_checks_of_its_body() -> None:
    """A 503 whose body was cut off is the provider's failure, not a truncated stream."""
    result = classify(Evidence(provider="groq", phase="body", status=503, fault="truncated", message="cut"))

    assert (result.kind, result.cause) == ("transient_provider", "server_error")


def test_a_fault_of_ours_outweighs_a_refusal() -> None:
    """A bug of ours met while handling a 429 is not the provider's."""
    result = classify(Evidence(provider="groq", phase="headers", status=429, fault="internal", message="bug"))

    assert (result.kind, result.cause) == ("internal", "internal")


@pytest.mark.parametrize(
    ("limit", "phase", "kind", "cause", "stage"),
    [
        ("connect", "resolve", "network", "dns", "connect"),
        ("connect", "connect", "network", "connect_timeout", "connect"),
        ("connect", "tls", "network", "connect_timeout", "connect"),
        ("idle", "headers", "timeout", "idle_timeout", "timeout"),
        ("idle", "body", "timeout", "idle_timeout", "timeout"),
        ("total", "body", "timeout", "total_timeout", "timeout"),
        ("total", "connect", "timeout", "total_timeout", "timeout"),
    ],
)
def test_a_limit_of_ours_names_the_timeout(limit: Limit, phase: Phase, kind: str, cause: str, stage: Stage) -> None:
    """Which limit fired, and in which phase, decides between the timeouts, whatever was raised."""
    result = classify(
        Evidence(provider="groq", phase=phase, limit=limit, message="", exceptions=("TimeoutError", "ValueError"))
    )

    assert (kind, cause, stage) == (result.kind, result.cause, result.stage)


@pytest.mark.parametrize(
    ("number", "kind", "cause"),
    [
        (errno.EMFILE, "local", "local_resource"),
        (errno.ENFILE, "local", "local_resource"),
        (errno.ENOMEM, "local", "local_resource"),
        (errno.ENETUNREACH, "local", "local_resource"),
        (errno.EADDRNOTAVAIL, "local", "local_resource"),
        (errno.EHOSTUNREACH, "network", "unreachable"),
    ],
)
def test_an_errno_tells_this_machine_from_the_network(number: int, kind: str, cause: str) -> None:
    """What this machine ran out of is never booked on the provider, though the SDK wraps it as a network error."""
    result = classify(
        Evidence(
            provider="groq",
            phase="connect",
            errno=number,
            message="",
            exceptions=("openai.APIConnectionError", "httpx2.ConnectError", "OSError"),
        )
    )

    assert (kind, cause) == (result.kind, result.cause)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("THROTTLINGEXCEPTION", "rate_limit"),
        ("throttlingException", "rate_limit"),
        ("Rate-Limit-Error", "rate_limit"),
        ("RateLimitError", "rate_limit"),
        ("InsufficientQuota", "billing"),
        ("ModelNotFound", "hard_model"),
        ("MODELSTREAMERROREXCEPTION", "transient_provider"),
    ],
)
def test_codes_are_compared_by_letters_and_digits(code: str, kind: str) -> None:
    """One code is recognised in each of the spellings in which SDKs and gateways pass it on."""
    result = classify(Evidence(provider="bedrock", phase="body", status=200, code=code, message=""))

    assert (kind, "stream_error") == (result.kind, result.cause)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("permission_denied", "auth"),
        ("AccessDeniedException", "auth"),
        ("forbidden", "auth"),
        ("not_found_error", "hard_model"),
        ("INVALID_ARGUMENT", "hard_capability"),
        ("invalid_request_error", "hard_capability"),
        ("validationException", "hard_capability"),
        ("request_too_large", "configuration"),
        ("api_error", "transient_provider"),
        ("INTERNAL", "transient_provider"),
    ],
)
def test_a_broad_code_decides_only_where_nothing_else_does(code: str, kind: str) -> None:
    """Inside a stream a broad type is all there is; beside a status that knows better it gives way."""
    in_stream = classify(Evidence(provider="vertex", phase="body", status=200, code=code, message="?"))
    beside_a_status = classify(Evidence(provider="vertex", phase="headers", status=503, code=code, message="?"))

    assert (kind, "stream_error") == (in_stream.kind, in_stream.cause)
    assert beside_a_status.kind == "transient_provider"


@pytest.mark.parametrize(
    ("status", "kind"), [(100, "unknown"), (600, "unknown"), (304, "configuration"), (599, "transient_provider")]
)
def test_statuses_outside_the_tables(status: int, kind: str) -> None:
    """A status that no table lists is judged by its class, and one without a class is unknown."""
    assert kind == classify(Evidence(provider="groq", phase="headers", status=status, message="?")).kind


def test_the_code_outweighs_the_wording() -> None:
    """A rate limit whose text speaks of credit and models is still a rate limit."""
    result = classify(
        Evidence(
            provider="openai",
            phase="headers",
            status=429,
            code="rate_limit_exceeded",
            message="insufficient credits; the model does not exist",
        )
    )

    assert result.kind == "rate_limit"


def test_the_advice_names_the_configuration_key() -> None:
    """The advice is one clause that says what to do and where."""
    result = classify(Evidence(provider="groq", phase="headers", status=429, message="Too many requests"))

    assert result == Classification(
        kind="rate_limit",
        cause="rate_limited",
        stage="generate",
        advice="lower providers.groq.requests_per_minute or raise the quota",
    )


def test_advice_for_providers_without_a_key_variable() -> None:
    """Bedrock takes its credentials from the machine, so the advice doesn't speak of a key variable."""
    result = classify(Evidence(provider="bedrock", phase="headers", status=401, message=""))

    assert "AWS credentials" in result.advice
    assert "api_key_env" not in result.advice


def test_every_advice_is_one_clause() -> None:
    """Every advice in the tables is one clause without a full stop, its only placeholder the provider."""
    verdicts = [value for value in vars(error_rules).values() if isinstance(value, Verdict)]
    of_providers = [text for advice in PROVIDER_ADVICE.values() for text in advice.values()]
    texts = [*KIND_ADVICE.values(), *CAUSE_ADVICE.values(), *of_providers, *filter(None, (v.advice for v in verdicts))]

    faulty = [
        text
        for text in texts
        if text.endswith(".") or "{" in text.replace("{provider}", "").replace("{profile}", "") or ". " in text
    ]

    assert len(texts) > len(KINDS)
    assert faulty == []


def test_every_kind_has_a_severity_and_an_advice() -> None:
    """No kind is left without what scheduling and people need to know of it."""
    assert set(KINDS) == set(KIND_SEVERITY) == set(KIND_ADVICE)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("auth", "billing"), "lane"),
        (("hard_model", "hard_capability", "configuration"), "hard"),
        (("rate_limit", "transient_provider", "network", "timeout", "malformed_stream", "unknown"), "transient"),
        (("local", "internal"), "ours"),
        (("a kind of some later version",), "transient"),
    ],
)
def test_severity_says_how_far_a_kind_reaches(kinds: tuple[str, ...], expected: str) -> None:
    """Auth and billing shut the lane, hard kinds wait a day, ours blame nobody, the rest come back soon."""
    assert {severity(kind) for kind in kinds} == {expected}


def test_no_code_is_both_specific_and_generic() -> None:
    """A code stands in one table only, so the order of the tables can't hide one of its meanings."""
    assert error_codes.CODES.keys() & error_codes.GENERIC_CODES.keys() == set()


def test_importing_the_taxonomy_loads_no_sdk() -> None:
    """The taxonomy is pure: importing it brings in no SDK, no HTTP client and no event loop."""
    program = (
        "import sys, llmbench.errors\n"
        "heavy = {'openai', 'anthropic', 'httpx', 'httpx2', 'botocore', 'google.genai', 'anyio', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


words = st.text(max_size=60) | st.sampled_from(
    ["rate_limit_exceeded", "model_not_found", "429", "503", "999", "model does not exist", "credit balance", "", " "]
)
class_names = st.sampled_from(
    ["openai.APIConnectionError", "httpx2.ReadTimeout", "KeyError", "asyncio.CancelledError", "x.Unheard"]
)
any_evidence = st.builds(
    Evidence,
    provider=words,
    phase=st.sampled_from(PHASES),
    message=words,
    status=st.none() | st.integers(-1, 1000),
    code=st.none() | words,
    type=st.none() | words,
    exceptions=st.lists(class_names | words, max_size=4).map(tuple),
    bases=st.lists(class_names | words, max_size=4).map(tuple),
    errno=st.none() | st.integers(-20, 140),
    limit=st.none() | st.sampled_from(LIMITS),
    fault=st.none() | st.sampled_from(FAULTS),
    html=st.booleans(),
)


@given(any_evidence)
def test_classify_is_total(evidence: Evidence) -> None:
    """Any evidence at all gets one of the kinds, one of the causes, a stage and an advice."""
    result = classify(evidence)

    assert result.kind in KINDS
    assert result.cause in CAUSES
    assert result.stage in get_args(Stage)
    assert result.advice


@pytest.mark.parametrize(
    "unit", ["model ", "not supported with this ", "account x", "max_", "credit ", "reached the a "]
)
def test_classify_takes_bounded_time(unit: str) -> None:
    """A megabyte made to provoke backtracking in the patterns is dealt with in a tenth of a second at most."""
    evidence = Evidence(provider="groq", phase="headers", status=400, message=unit * (1_000_000 // len(unit)))

    began = time.process_time()
    classify(evidence)

    assert time.process_time() - began < 0.1


unheard = st.text(st.characters(categories=["Nd", "Po", "Zs"]), max_size=40)


@given(unheard, st.sampled_from(PHASES), st.lists(unheard.map("x.{}".format), max_size=3).map(tuple))
def test_what_no_rule_knows_stays_unknown(message: str, phase: Phase, exceptions: tuple[str, ...]) -> None:
    """Evidence that no rule matches is unknown, never some neighbouring kind, and keeps what it said."""
    evidence = Evidence(provider="groq", phase=phase, message=message, exceptions=exceptions)

    result = classify(evidence)

    assert (result.kind, result.cause) == ("unknown", "unknown")
    assert evidence.message == message
