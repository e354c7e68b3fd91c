"""The codes and error types of the providers, and what each says.

They come from the providers' published error references and from the SDKs' exception classes. A code is compared by its
letters and digits alone, so ``rate_limit_error``, ``RateLimitError`` and ``RATE-LIMIT-ERROR`` are one.
"""

from __future__ import annotations

import re

from llmbench.error_kinds import Verdict
from llmbench.error_rules import (
    AUTH,
    BILLING,
    MODEL_GONE,
    PROMPT_REFUSED,
    RATE_LIMITED,
    REFUSED,
    SERVER_ERROR,
    TOO_MUCH_ASKED,
    WRONG_ADDRESS,
    WRONG_REGION,
)


def canonical(code: str) -> str:
    """Reduce a code to its lower-case letters and digits, the form in which codes are compared."""
    return re.sub(r"[^a-z0-9]", "", code.lower())


def _by_code(groups: dict[Verdict, str]) -> dict[str, Verdict]:
    pairs = [(canonical(code), verdict) for verdict, codes in groups.items() for code in codes.split()]
    table = dict(pairs)
    assert len(table) == len(pairs), "a code is listed twice"
    return table


CODES = _by_code(
    {
        BILLING: """
            insufficient_quota insufficient_user_quota billing_hard_limit_reached billing_not_active billing_error
            billing_disabled payment_required insufficient_credits insufficient_balance not_enough_balance
            exceeded_current_quota_error account_suspended
        """,
        RATE_LIMITED: """
            rate_limit rate_limit_exceeded rate_limit_error rate_limit_reached rate_limited too_many_requests
            too_many_requests_error request_quota_exceeded token_quota_exceeded slow_down requests tokens
            throttling throttling_exception throttled_exception too_many_requests_exception
            request_limit_exceeded service_quota_exceeded_exception resource_exhausted
        """,
        AUTH: """
            invalid_api_key incorrect_api_key wrong_api_key missing_api_key expired_api_key api_key_invalid
            api_key_expired invalid_authentication authentication_error unauthorized unauthenticated invalid_token
            token_expired expired_token access_token_expired account_deactivated access_terminated
            invalid_organization mismatched_organization mismatched_project ip_not_authorized
            unrecognized_client_exception unrecognized_client invalid_client_token_id expired_token_exception
            invalid_signature_exception signature_does_not_match incomplete_signature
            incomplete_signature_exception missing_authentication_token missing_authentication_token_exception
            service_disabled consumer_invalid consumer_suspended user_project_denied
            access_token_scope_insufficient
        """,
        WRONG_REGION: "unsupported_country_region_territory",
        MODEL_GONE: """
            model_not_found model_not_available model_not_exist model_decommissioned model_deprecated
            model_terms_required model_permission_blocked_org model_permission_blocked_project invalid_model
            invalid_model_id unknown_model unsupported_model dedicated_endpoint_not_running
            deployment_not_found resource_not_found_exception
        """,
        REFUSED: """
            unsupported_parameter unsupported_value unknown_parameter context_length_exceeded
            string_above_max_length integer_above_max_value integer_below_min_value unimplemented
        """,
        PROMPT_REFUSED: "content_policy_violation content_filter invalid_prompt prompt_blocked",
        WRONG_ADDRESS: "unknown_url",
        SERVER_ERROR: """
            server_error internal_server_error internal_server_exception overloaded overloaded_error
            engine_overloaded server_overloaded model_overloaded unavailable service_unavailable
            service_unavailable_error service_unavailable_exception capacity_exceeded queue_exceeded
            model_error_exception model_stream_error_exception model_not_ready_exception
            model_timeout_exception timeout_error deadline_exceeded bad_gateway gateway_timeout aborted
        """,
    }
)

# Codes too broad to overrule a status or a message; they decide where neither does, as inside a stream.
GENERIC_CODES = _by_code(
    {
        AUTH: "permission_error permission_denied permission_denied_error access_denied_exception forbidden",
        BILLING: "credit_limit",
        MODEL_GONE: "not_found not_found_error",
        REFUSED: """
            invalid_request invalid_request_error invalid_argument bad_request bad_request_error
            validation_error validation_exception unprocessable_entity_error failed_precondition out_of_range
        """,
        TOO_MUCH_ASKED: "request_too_large",
        SERVER_ERROR: "api_error internal internal_error upstream_error",
    }
)
