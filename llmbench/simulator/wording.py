"""The words that each provider has for its errors.

Statuses, types and codes follow the providers' API references (error pages of OpenAI, Anthropic, Groq, Together AI,
Fireworks, DeepInfra, Cerebras, OpenRouter, Google Cloud, Amazon Bedrock) and, for any other server, vLLM's
OpenAI-compatible one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "bad_request", "no_key", "bad_key", "billing", "forbidden", "no_model", "no_route", "method", "too_large",
    "rate_limit", "quota", "server", "gateway", "unavailable", "overloaded", "not_found", "timeout", "model_error",
]  # fmt: skip


class Wording(NamedTuple):
    """One provider's error of one kind. What ``type`` and ``code`` are is the provider's affair."""

    status: int
    type: str
    code: str | None
    message: str


_INVALID = "invalid_request_error"

OPENAI: dict[Kind, Wording] = {
    "bad_request": Wording(400, _INVALID, None, "Invalid request."),
    "no_key": Wording(
        401, _INVALID, None,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth"
        " (i.e. Authorization: Bearer YOUR_KEY).",
    ),
    "bad_key": Wording(
        401, _INVALID, "invalid_api_key",
        "Incorrect API key provided: {key}. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    "billing": Wording(
        402, "insufficient_quota", "billing_hard_limit_reached", "Billing hard limit has been reached."
    ),
    "forbidden": Wording(
        403, "request_forbidden", "unsupported_country_region_territory", "Country, region, or territory not supported"
    ),
    "no_model": Wording(
        404, _INVALID, "model_not_found", "The model `{model}` does not exist or you do not have access to it."
    ),
    "no_route": Wording(404, _INVALID, None, "Invalid URL"),
    "method": Wording(405, _INVALID, "method_not_supported", "Not allowed to use this method on this URL."),
    "too_large": Wording(413, _INVALID, None, "Maximum content size limit exceeded."),
    "rate_limit": Wording(
        429, "requests", "rate_limit_exceeded",
        "Rate limit reached for {model} in organization org-simulated on requests per min (RPM): Limit 500, Used 500,"
        " Requested 1. Please try again in 120ms.",
    ),
    "quota": Wording(
        429, "insufficient_quota", "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    "server": Wording(
        500, "server_error", None, "The server had an error while processing your request. Sorry about that!"
    ),
    "gateway": Wording(502, "server_error", None, "Bad gateway."),
    "unavailable": Wording(503, "server_error", None, "The engine is currently overloaded, please try again later"),
    "overloaded": Wording(529, "server_error", None, "The server is overloaded, please try again later"),
    "timeout": Wording(408, "server_error", None, "Request timed out."),
    "model_error": Wording(424, "server_error", None, "The model failed to process the request."),
}  # fmt: skip
"""By kind, for whoever has no words of its own."""

OTHERS: dict[str, dict[Kind, Wording]] = {
    "groq": {
        "no_key": Wording(401, _INVALID, "invalid_api_key", "Invalid API Key"),
        "bad_key": Wording(401, _INVALID, "invalid_api_key", "Invalid API Key"),
        "rate_limit": Wording(
            429, "tokens", "rate_limit_exceeded",
            "Rate limit reached for model `{model}` in organization `org_simulated` service tier `on_demand` on tokens"
            " per minute (TPM): Limit 6000, Used 5990, Requested 80. Please try again in 700ms.",
        ),
        "server": Wording(500, "internal_server_error", None, "Internal Server Error"),
        "unavailable": Wording(503, "service_unavailable", None, "Service Unavailable"),
    },
    "together": {
        "no_key": Wording(401, _INVALID, "missing_api_key", "Missing API key."),
        "bad_key": Wording(401, _INVALID, "invalid_api_key", "Invalid API key provided."),
        "billing": Wording(402, "credit_limit", None, "Credit limit exceeded, please visit your billing settings."),
        "no_model": Wording(
            404, _INVALID, "model_not_available",
            "Unable to access model {model}. Please visit https://api.together.ai/models to view the list of supported"
            " models.",
        ),
        "rate_limit": Wording(
            429, "model_rate_limit", None, "You have reached the rate limit specific to this model {model}."
        ),
        "unavailable": Wording(503, "service_unavailable", None, "The server is overloaded or not ready yet."),
    },
    "fireworks": {
        "no_key": Wording(401, "unauthorized", "unauthorized", "The API key you provided is invalid."),
        "bad_key": Wording(401, "unauthorized", "unauthorized", "The API key you provided is invalid."),
        "no_model": Wording(404, "error", "NOT_FOUND", "Model not found, inaccessible, and/or not deployed"),
        "rate_limit": Wording(429, "error", "RATE_LIMIT_EXCEEDED", "Rate limit exceeded, please try again later."),
        "unavailable": Wording(503, "error", "SERVICE_UNAVAILABLE", "The service is overloaded, please try again."),
    },
    "deepinfra": {
        "no_key": Wording(401, _INVALID, None, "User is not authenticated"),
        "bad_key": Wording(401, _INVALID, None, "User is not authenticated"),
        "no_model": Wording(404, _INVALID, "model_not_found", "The model `{model}` does not exist"),
        "rate_limit": Wording(429, _INVALID, "engine_overloaded", "Model busy, retry later"),
    },
    "cerebras": {
        "no_key": Wording(401, _INVALID, "wrong_api_key", "Wrong API Key"),
        "bad_key": Wording(401, _INVALID, "wrong_api_key", "Wrong API Key"),
        "no_model": Wording(
            404, "not_found_error", "model_not_found", "Model {model} does not exist or you do not have access to it."
        ),
        "rate_limit": Wording(
            429, "too_many_requests_error", "request_quota_exceeded",
            "Requests per minute limit exceeded - too many requests sent.",
        ),
        "unavailable": Wording(
            503, "too_many_requests_error", "queue_exceeded", "We're experiencing high traffic right now!"
        ),
    },
    "openrouter": {
        "no_key": Wording(401, "", None, "No auth credentials found"),
        "bad_key": Wording(401, "", None, "No auth credentials found"),
        "billing": Wording(402, "", None, "Insufficient credits. Add more using https://openrouter.ai/credits"),
        "no_model": Wording(400, "", None, "{model} is not a valid model ID"),
        "rate_limit": Wording(429, "", None, "Provider returned error"),
        "gateway": Wording(502, "", None, "Provider returned error"),
        "unavailable": Wording(503, "", None, "No instances available"),
    },
    "anthropic": {
        "bad_request": Wording(400, _INVALID, None, "Invalid request."),
        "no_key": Wording(401, "authentication_error", None, "x-api-key header is required"),
        "bad_key": Wording(401, "authentication_error", None, "invalid x-api-key"),
        "billing": Wording(402, "billing_error", None, "There is an issue with your billing or payment information."),
        "forbidden": Wording(
            403, "permission_error", None, "Your API key does not have permission to use the specified resource."
        ),
        "no_model": Wording(404, "not_found_error", None, "model: {model}"),
        "no_route": Wording(404, "not_found_error", None, "Not found"),
        "method": Wording(405, _INVALID, None, "Method Not Allowed"),
        "too_large": Wording(413, "request_too_large", None, "Request exceeds the maximum size"),
        "rate_limit": Wording(
            429, "rate_limit_error", None,
            "This request would exceed your organization's rate limit of 50 requests per minute.",
        ),
        "quota": Wording(
            400, _INVALID, None,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or"
            " purchase credits.",
        ),
        "server": Wording(500, "api_error", None, "Internal server error"),
        "gateway": Wording(502, "api_error", None, "Bad gateway"),
        "unavailable": Wording(503, "api_error", None, "Service unavailable"),
        "overloaded": Wording(529, "overloaded_error", None, "Overloaded"),
    },
    "google": {
        "bad_request": Wording(400, "INVALID_ARGUMENT", None, "Request contains an invalid argument."),
        "no_key": Wording(
            401, "UNAUTHENTICATED", "CREDENTIALS_MISSING",
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or"
            " other valid authentication credential.",
        ),
        "bad_key": Wording(
            401, "UNAUTHENTICATED", "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid"
            " authentication credential.",
        ),
        "billing": Wording(
            403, "PERMISSION_DENIED", "BILLING_DISABLED",
            "This API method requires billing to be enabled. Please enable billing on project #simulated, then retry.",
        ),
        "forbidden": Wording(
            403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED",
            "Permission 'aiplatform.endpoints.predict' denied on resource '//aiplatform.googleapis.com/projects/"
            "simulated/locations/simulated/publishers/simulated/models/{model}' (or it may not exist).",
        ),
        "no_model": Wording(
            404, "NOT_FOUND", None,
            "Publisher Model `projects/simulated/locations/simulated/publishers/simulated/models/{model}` was not found"
            " or your project does not have access to it. Please ensure you are using a valid model version.",
        ),
        "no_route": Wording(404, "NOT_FOUND", None, "Requested entity was not found."),
        "method": Wording(405, "UNIMPLEMENTED", None, "Method Not Allowed."),
        "too_large": Wording(400, "INVALID_ARGUMENT", None, "Request payload size exceeds the limit: 4194304 bytes."),
        "rate_limit": Wording(
            429, "RESOURCE_EXHAUSTED", None,
            "Resource exhausted. Please try again later. Please refer to"
            " https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.",
        ),
        "quota": Wording(
            429, "RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED",
            "Quota exceeded for aiplatform.googleapis.com/"
            "generate_content_requests_per_minute_per_project_per_base_model with base model: {model}."
            " Please submit a quota increase request."
            " https://cloud.google.com/vertex-ai/docs/generative-ai/quotas-genai.",
        ),
        "server": Wording(500, "INTERNAL", None, "Internal error encountered."),
        "gateway": Wording(502, "UNAVAILABLE", None, "Bad Gateway"),
        "unavailable": Wording(503, "UNAVAILABLE", None, "The service is currently unavailable."),
        "overloaded": Wording(503, "UNAVAILABLE", None, "The model is overloaded. Please try again later."),
        "timeout": Wording(504, "DEADLINE_EXCEEDED", None, "Deadline expired before operation could complete."),
        "model_error": Wording(500, "INTERNAL", None, "Internal error encountered."),
    },
    "bedrock": {
        "bad_request": Wording(
            400, "ValidationException", None, "Malformed input request, please reformat your input and try again."
        ),
        "no_key": Wording(403, "MissingAuthenticationTokenException", None, "Missing Authentication Token"),
        "bad_key": Wording(
            403, "UnrecognizedClientException", None, "The security token included in the request is invalid."
        ),
        "billing": Wording(
            403, "AccessDeniedException", None,
            "Model access is denied due to INVALID_PAYMENT_INSTRUMENT:A valid payment instrument must be provided.",
        ),
        "forbidden": Wording(
            403, "AccessDeniedException", None, "You don't have access to the model with the specified model ID."
        ),
        "no_model": Wording(400, "ValidationException", None, "The provided model identifier is invalid."),
        "not_found": Wording(
            404, "ResourceNotFoundException", None,
            "Could not resolve the foundation model from the provided model identifier.",
        ),
        "no_route": Wording(404, "UnknownOperationException", None, "The operation is not known to this service."),
        "method": Wording(404, "UnknownOperationException", None, "The operation is not known to this service."),
        "rate_limit": Wording(
            429, "ThrottlingException", None, "Too many requests, please wait before trying again."
        ),
        "quota": Wording(
            429, "ThrottlingException", None, "Too many tokens per day, please wait before trying again."
        ),
        "server": Wording(
            500, "InternalServerException", None,
            "The system encountered an unexpected error during processing. Try your request again.",
        ),
        "gateway": Wording(502, "", None, "Bad Gateway"),
        "unavailable": Wording(503, "ServiceUnavailableException", None, "Bedrock is unable to process your request."),
        "overloaded": Wording(
            429, "ModelNotReadyException", None, "Model is not ready for inference. Wait and try your request again."
        ),
        "timeout": Wording(
            408, "ModelTimeoutException", None, "Model has timed out in processing the request. Try your request again."
        ),
        "model_error": Wording(
            424, "ModelErrorException", None,
            "The model encountered an unexpected error during processing. Try your request again.",
        ),
    },
    "other": {
        "no_key": Wording(401, "Unauthorized", "401", "Unauthorized"),
        "bad_key": Wording(401, "Unauthorized", "401", "Unauthorized"),
        "no_model": Wording(404, "NotFoundError", "404", "The model `{model}` does not exist."),
        "server": Wording(500, "InternalServerError", "500", "EngineCore encountered an issue."),
    },
}  # fmt: skip
"""By `Flavour.errors` and kind, where a provider has words of its own."""
