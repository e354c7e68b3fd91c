"""The vocabulary of failure: kinds, causes, how far each kind reaches, and what to do about it.

The kind is what scheduling, roll-ups and readers of `errors_cloud` go by; the cause is the finer name kept beside it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal[
    "auth",
    "billing",
    "rate_limit",
    "hard_model",
    "hard_capability",
    "transient_provider",
    "network",
    "timeout",
    "token_mismatch",
    "empty_output",
    "malformed_stream",
    "configuration",
    "local",
    "internal",
    "unknown",
]
Cause = Literal[
    "auth",
    "billing",
    "rate_limited",
    "model_gone",
    "bad_request",
    "server_error",
    "stream_error",
    "truncated",
    "malformed",
    "too_large",
    "empty",
    "off_target",
    "idle_timeout",
    "total_timeout",
    "connect_timeout",
    "dns",
    "connect_refused",
    "unreachable",
    "tls",
    "protocol",
    "reset",
    "local_resource",
    "cancelled",
    "interrupted",
    "internal",
    "unknown",
]
Severity = Literal["lane", "hard", "transient", "ours"]
Phase = Literal["resolve", "connect", "tls", "send", "headers", "body", "validate"]
Limit = Literal["connect", "idle", "total"]
Fault = Literal[
    "stream_error",
    "malformed",
    "too_large",
    "truncated",
    "not_a_stream",
    "empty",
    "off_target",
    "cancelled",
    "interrupted",
    "internal",
]


class Verdict(NamedTuple):
    """What a rule says. ``advice`` is set where the rule knows more than its kind and cause do."""

    kind: Kind
    cause: Cause
    advice: str | None = None


KIND_SEVERITY: dict[str, Severity] = {
    "auth": "lane",
    "billing": "lane",
    "rate_limit": "transient",
    "hard_model": "hard",
    "hard_capability": "hard",
    "transient_provider": "transient",
    "network": "transient",
    "timeout": "transient",
    "token_mismatch": "transient",
    "empty_output": "transient",
    "malformed_stream": "transient",
    "configuration": "hard",
    "local": "ours",
    "internal": "ours",
    "unknown": "transient",
}


def completed(advice: str, provider: str, profile: str) -> str:
    """Return advice with the names of the provider and of the profile in their places."""
    return advice.replace("{provider}", provider).replace("{profile}", profile)


# Each is one clause for a person, to be `completed`.
KIND_ADVICE: dict[Kind, str] = {
    "auth": "check the key in the variable that providers.{provider}.api_key_env names, and what it may do",
    "billing": "add credit to the account of the key that providers.{provider}.api_key_env names, or raise its limit",
    "rate_limit": "lower providers.{provider}.requests_per_minute or raise the quota",
    "hard_model": "correct the id in providers.{provider}.models, or disable the model if the provider dropped it",
    "hard_capability": "give the model a profile that it accepts (llmbench models set --profile), or disable it",
    "transient_provider": "wait: the fault is the provider's, and the models of {provider} are tried again soon",
    "network": "check the way from this machine to the host in providers.{provider}.base_url",
    "timeout": "wait, or raise timeout_seconds in [profiles.{profile}]",
    "token_mismatch": "widen token_tolerance or change the prompt in [profiles.{profile}], or use another one",
    "empty_output": "raise max_tokens in [profiles.{profile}], give the model another profile, or disable it",
    "malformed_stream": "wait; if it lasts, check that providers.{provider}.kind is the API that its base_url serves",
    "configuration": "correct providers.{provider} in config.toml: the request can't be made as it is configured",
    "local": "free what this machine ran out of, or lower providers.{provider}.concurrency",
    "internal": "report it as a fault of llmbench, with the traceback",
    "unknown": "read the message, and report it if it recurs, so that llmbench learns to name it",
}
CAUSE_ADVICE: dict[tuple[Kind, Cause], str] = {
    ("network", "dns"): "check the host name in providers.{provider}.base_url and this machine's name resolution",
    ("network", "connect_refused"): "check the port in providers.{provider}.base_url and that the server is running",
    ("network", "connect_timeout"): (
        "check the firewall between this machine and the host in providers.{provider}.base_url, "
        "or raise connect_timeout_seconds in the profile"
    ),
    ("network", "tls"): (
        "check the certificate of the host in providers.{provider}.base_url, "
        "or name its authority's file in providers.{provider}.ca_file"
    ),
    ("network", "protocol"): (
        "check that providers.{provider}.base_url is the API's own address: what answers there doesn't speak it"
    ),
    ("timeout", "idle_timeout"): ("wait, or raise idle_timeout_seconds in [profiles.{profile}]"),
    ("malformed_stream", "truncated"): (
        "wait; if it lasts, look for a proxy before providers.{provider}.base_url that cuts long answers off"
    ),
    ("configuration", "protocol"): (
        "correct providers.{provider}.base_url: the API is not at that address, or not at that path"
    ),
    ("local", "local_resource"): (
        "raise this machine's limits on files and memory and check its routes, "
        "or lower providers.{provider}.concurrency"
    ),
    ("local", "cancelled"): "nothing: llmbench was stopped while the run was under way",
    ("local", "interrupted"): "nothing: llmbench ended while the run was under way",
}
# These two take their credentials from the machine, not from a key variable. A cause's advice outweighs its kind's.
PROVIDER_ADVICE: dict[str, dict[Kind | Cause, str]] = {
    "bedrock": {
        "auth": "check this machine's AWS credentials and that their policy allows bedrock:InvokeModel*",
        "billing": "settle the bill of the AWS account that this machine's credentials belong to",
        "rate_limit": (
            "lower providers.bedrock.requests_per_minute, or raise the model's quota under Amazon Bedrock "
            "in AWS's Service Quotas"
        ),
        "hard_model": (
            "correct the id in providers.bedrock.models, name a region that has the model in "
            "providers.bedrock.model_regions, ask for access to it in the Bedrock console, or disable it"
        ),
        "dns": "check that the region is one that AWS has, or the host name in providers.bedrock.base_url",
    },
    "vertex": {
        "auth": (
            "check this machine's Google credentials, that they have the role Vertex AI User in the project that "
            "providers.vertex.project or GOOGLE_CLOUD_PROJECT names, and that its Vertex AI API is enabled"
        ),
        "billing": "enable billing for the project that providers.vertex.project or GOOGLE_CLOUD_PROJECT names",
        "rate_limit": (
            "raise the model's quota in the project's IAM & Admin > Quotas, ask in the region 'global', "
            "or lower providers.vertex.requests_per_minute"
        ),
        "hard_model": (
            "correct the id in providers.vertex.models, name a region that serves it in "
            "providers.vertex.model_regions, or enable it in the project's Model Garden"
        ),
        "dns": "check that the region is one that Vertex AI has, or the host name in providers.vertex.base_url",
    },
}
