"""Scenarios in which no stream begins: the provider refuses, or what answers is no API."""

from __future__ import annotations

from tests.conformance import checks
from tests.conformance.scenario import Failed, Scenario

AUTH = Failed("auth", "auth", status=401)
BILLING = Failed("billing", "billing", status=402)
GONE = Failed("hard_model", "model_gone", status=404)
LIMITED = Failed("rate_limit", "rate_limited", status=429)
WRONG_ADDRESS = Failed("configuration", "protocol")
PROTOCOL = Failed("network", "protocol")


def server_error(status: int) -> Failed:
    return Failed("transient_provider", "server_error", status=status)


def limited(name: str, word: str, seconds: float | None = None) -> Scenario:
    """Return a rate limit whose Retry-After is worth so many seconds. DeepInfra words its own as an overload."""
    wanted, busy = LIMITED._replace(retry_after=seconds), server_error(429)._replace(retry_after=seconds)
    return Scenario(name, f"429-{word}", wanted, but={"deepinfra": busy}, checks=(checks.advises_the_rate,))


_LIMITS = (
    limited("P1_retry_after_seconds", "retry7", 7.0),
    Scenario(
        "P1_quota",
        "quota",
        BILLING._replace(status=429),
        # The clouds' quotas are rates, of a minute or of a day: no bill is open.
        but={"anthropic": BILLING._replace(status=400), "bedrock": LIMITED, "vertex": LIMITED},
    ),
    limited("P2_retry_after_date", "retrydate30", 30.0),
    limited("P2_retry_after_fraction", "retry1.5", 1.5),
    limited("P2_retry_after_garbage", "retryjunk"),
    limited("P2_retry_after_negative", "retryneg"),
    limited("P2_retry_after_huge", "retry1000000000", 900.0),
)
_ELSEWHERE = {
    408: {"vertex": server_error(504)},
    424: {"vertex": server_error(500)},
    529: {"bedrock": server_error(429), "vertex": server_error(503)},
}
"""The statuses that the clouds have for what others say by these."""

_SERVER = tuple(
    Scenario(
        f"P3_{status}",
        str(status),
        server_error(status),
        but=_ELSEWHERE.get(status, {}),
        checks=(checks.no_speed, checks.told_by_its_id),
    )
    for status in (408, 424, 500, 502, 503, 529)
)
_REFUSALS = (
    Scenario("P24_400_bad_request", "400", Failed("hard_capability", "bad_request", status=400)),
    Scenario("P24_401_bad_key", "401", AUTH, but={"bedrock": AUTH._replace(status=403)}),
    Scenario("P24_402_unpaid", "402", BILLING, but=dict.fromkeys(("bedrock", "vertex"), BILLING._replace(status=403))),
    # The clouds say by the same status that the account has no access to this model; its others go on.
    Scenario(
        "P24_403_forbidden",
        "403",
        AUTH._replace(status=403),
        but=dict.fromkeys(("bedrock", "vertex"), GONE._replace(status=403)),
    ),
    Scenario("P24_404_unknown_model", "404", GONE, but={"openrouter": GONE._replace(status=400)}),
)
_NO_API = (
    Scenario("P20_web_page", "html", PROTOCOL, checks=(checks.advises_the_address,)),
    Scenario("P20_web_page_403", "html403", AUTH._replace(status=403), checks=(checks.advises_the_address,)),
    Scenario("P20_web_page_404", "html404", WRONG_ADDRESS._replace(status=404)),
    Scenario("P20_web_page_502", "html502", server_error(502)),
    Scenario("P20_no_content", "nocontent", PROTOCOL._replace(status=204), checks=(checks.advises_the_address,)),
    Scenario("P20_redirect", "redirect{port}", WRONG_ADDRESS._replace(status=302)),
    Scenario("P11_hang_up", "hangup", PROTOCOL._replace(status=None)),
    Scenario("P26_huge_headers", "bighead-ttft5-gap1", Failed("malformed_stream", "too_large", status=None)),
)
_TEXTS = (
    Scenario("I10_key_echoed", "echo", AUTH, but={"bedrock": AUTH._replace(status=403)}, checks=(checks.redacted,)),
    Scenario("I11_hostile_text", "500-hostile", server_error(500), checks=(checks.spelt_out,)),
)

REFUSALS = _LIMITS + _SERVER + _REFUSALS + _NO_API + _TEXTS
