"""What the error taxonomy knows, as data: verdicts, statuses, messages, exceptions. Codes are in `error_codes`.

`llmbench.errors.classify` reads these tables in the order in which they stand here, the codes before the messages.
"""

from __future__ import annotations

import errno
import re
from typing import NamedTuple

from llmbench.error_kinds import Fault, Limit, Phase, Verdict


class MessageRule(NamedTuple):
    """A pattern in the provider's words. ``statuses`` says where it counts; `NO_STATUS` is a reply without one."""

    statuses: frozenset[int]
    pattern: re.Pattern[str]
    verdict: Verdict


class ExceptionRule(NamedTuple):
    """Class names without their package. With ``phases`` or ``says``, the rule counts only there, or then.

    It holds for subclasses too, unless it is ``exact``.
    """

    names: frozenset[str]
    verdict: Verdict
    phases: frozenset[Phase] | None = None
    says: re.Pattern[str] | None = None
    exact: bool = False


AUTH = Verdict("auth", "auth")
BILLING = Verdict("billing", "billing")
RATE_LIMITED = Verdict("rate_limit", "rate_limited")
MODEL_GONE = Verdict("hard_model", "model_gone")
REFUSED = Verdict("hard_capability", "bad_request")
SERVER_ERROR = Verdict("transient_provider", "server_error")
TRUNCATED = Verdict("malformed_stream", "truncated")
TOO_LARGE = Verdict("malformed_stream", "too_large")
MALFORMED = Verdict("malformed_stream", "malformed")
IDLE_TIMEOUT = Verdict("timeout", "idle_timeout")
TOTAL_TIMEOUT = Verdict("timeout", "total_timeout")
CONNECT_TIMEOUT = Verdict("network", "connect_timeout")
DNS = Verdict("network", "dns")
CONNECT_REFUSED = Verdict("network", "connect_refused")
UNREACHABLE = Verdict("network", "unreachable")
TLS = Verdict("network", "tls")
NO_TLS = Verdict(
    "network",
    "tls",
    "check the port and http:// versus https:// in providers.{provider}.base_url: the server does not speak TLS there",
)
PROTOCOL = Verdict("network", "protocol")
RESET = Verdict("network", "reset")
LOCAL = Verdict("local", "local_resource")
CANCELLED = Verdict("local", "cancelled")
INTERRUPTED = Verdict("local", "interrupted")
INTERNAL = Verdict("internal", "internal")
UNKNOWN = Verdict("unknown", "unknown")
MISCONFIGURED = Verdict("configuration", "bad_request")
WRONG_ADDRESS = Verdict("configuration", "protocol")
TOO_MUCH_ASKED = Verdict(
    "configuration",
    "bad_request",
    "shorten the prompt or lower max_tokens in [profiles.{profile}]",
)
PROMPT_REFUSED = Verdict(
    "configuration",
    "bad_request",
    "reword the prompt of [profiles.{profile}]: a content policy refuses it",
)
WRONG_REGION = Verdict(
    "auth", "auth", "run providers.{provider} from a region that the provider serves, or set its enabled = false"
)
NEEDS_INFERENCE_PROFILE = Verdict(
    "hard_model",
    "model_gone",
    "in providers.{provider}.models, replace the id by that of an inference profile, such as us.<model id>",
)
# The clouds name the model in a denial, be it of this model or of all: the lane must not stand still for one of them.
MODEL_DENIED = Verdict(
    "hard_model",
    "model_gone",
    "allow this machine's credentials to invoke the model (its policy or role names what they may call), "
    "check the id and the region in providers.{provider}, or disable the model",
)
NO_GOOGLE_TOKEN = Verdict(
    "auth",
    "auth",
    "renew this machine's Google credentials: run `gcloud auth application-default login`, "
    "or name the file of a key that is still valid in GOOGLE_APPLICATION_CREDENTIALS",
)
GOOGLE_TOKEN_LATE = Verdict(
    "transient_provider",
    "server_error",
    "wait; if it lasts, check the way from this machine to Google's token endpoint, oauth2.googleapis.com",
)
UNASKABLE = Verdict(
    "configuration",
    "bad_request",
    "correct the model's id, region or request in providers.{provider} or in the catalogue, or disable the model",
)
GATEWAY_REFUSED = Verdict(
    "auth",
    "auth",
    "check that the gateway in front of providers.{provider}.base_url lets this machine's address through, "
    "and that the key is right",
)

# --- What our own checks and limits found ---------------------------------------------------------------------

FAULTS: dict[Fault, Verdict] = {
    "malformed": MALFORMED,
    "too_large": TOO_LARGE,
    "truncated": TRUNCATED,
    "not_a_stream": PROTOCOL,
    "empty": Verdict("empty_output", "empty"),
    "off_target": Verdict("token_mismatch", "off_target"),
    "cancelled": CANCELLED,
    "interrupted": INTERRUPTED,
    "internal": INTERNAL,
}
LIMITS: dict[Limit, Verdict] = {"connect": CONNECT_TIMEOUT, "idle": IDLE_TIMEOUT, "total": TOTAL_TIMEOUT}

# --- What the provider said -----------------------------------------------------------------------------------

# A few statuses say more than any code beside them. Groq, for one, sends 413 with the code of a rate limit when
# a single request is larger than a minute's tokens: waiting would never help.
FIRM_STATUSES: dict[int, Verdict] = {402: BILLING, 413: TOO_MUCH_ASKED}


NO_STATUS = 0
_REFUSALS = frozenset({NO_STATUS, 400, 403, 404, 412, 422})
_BILLABLE = _REFUSALS | {429}


def _rule(statuses: frozenset[int], pattern: str, verdict: Verdict) -> MessageRule:
    return MessageRule(statuses, re.compile(pattern, re.IGNORECASE | re.DOTALL), verdict)


# The first match counts. Where two patterns could match, the order says which reading is the right one.
MESSAGES: tuple[MessageRule, ...] = (
    # OpenRouter passes on what one of its upstreams said of OpenRouter's own key there; ours is not to blame.
    _rule(frozenset({401, 403, 404}), r"^provider returned error", SERVER_ERROR),
    _rule(
        _REFUSALS,
        r"rate.?limit|too many requests|(?:requests|tokens) per (?:second|minute|hour|day)|throttl",
        RATE_LIMITED,
    ),
    # Gemini's free tier words its rate limit like OpenAI's exhausted quota, but names the metric.
    _rule(frozenset({429}), r"docs/rate-limits|quota exceeded for (?:quota )?metric", RATE_LIMITED),
    _rule(
        _BILLABLE,
        r"exceeded your current quota|credit balance|insufficient (?:account )?(?:balance|quota)"
        r"|\b(?:no|out of|insufficient|any|more) (?:\w+ )?(?:credits?|funds)\b"
        r"|\b(?:spend(?:ing)?|usage|key) limits? (?:has been |was )?(?:reached|exceeded)"
        r"|(?:reach|exceed)(?:ed|ing) (?:your |the )?(?:\w+ ){0,4}(?:usage|spend(?:ing)?) limits?"
        r"|\baccount (?:\S+ )?(?:is |has been )?(?:suspended|not active)|\b(?:unpaid|past) invoices?"
        r"|\bpayment[_ ]instrument",
        BILLING,
    ),
    _rule(
        _REFUSALS,
        r"not authorized to perform: bedrock:\S+ on resource: \S+(?:foundation-model|inference-profile)/"
        r"|denied on resource \S+/models/",
        MODEL_DENIED,
    ),
    _rule(
        _REFUSALS,
        r"(?:invalid|incorrect|wrong|missing|expired|revoked|malformed|no) (?:x-)?"
        r"(?:api[ _-]?key|bearer|access token|auth\w*|credentials?)"
        r"|api[ _-]?key (?:is )?(?:not valid|invalid|expired|missing|not provided|not found|revoked)"
        r"|security token (?:included in the request )?is|permission '?[\w.]+'? denied"
        r"|\bnot authenticated\b|^unauthorized\b",
        AUTH,
    ),
    _rule(_REFUSALS, r"model access is denied", MODEL_GONE),
    _rule(_REFUSALS, r"\b(?:country|territory|user location)\b.{0,40}not supported", WRONG_REGION),
    _rule(_REFUSALS, r"content (?:management )?policy|usage polic|\bflagged\b|requires moderation", PROMPT_REFUSED),
    _rule(_REFUSALS, r"on-demand throughput", NEEDS_INFERENCE_PROFILE),
    _rule(
        _REFUSALS,
        r"(?:unsupported|unrecognized|unknown|unexpected) (?:request )?(?:parameter|argument|field|value|keyword)"
        r"|extra inputs are not permitted|does(?: not|n't) support|not a chat model|only supported in v1/"
        r"|(?:not|n't|un) ?supported (?:with|by|for|in|on) (?:this|the|v1/|/v1/)(?: ?\S+)? ?(?:model|endpoint|api|chat)"
        r"|\b(?:temperature|top_p|max_\w*tokens|stream\w*|stop|seed|system|reasoning\w*|thinking|messages)\b\W{0,3}"
        r"(?:is|are)(?: not|n't) (?:supported|permitted|allowed)"
        r"|verified to stream|context (?:length|window)|max_\w*tokens",
        REFUSED,
    ),
    _rule(
        _REFUSALS,
        r"\bmodels?\b.{0,200}?(?:does(?: not|n't) exist|not (?:be )?found|decommissioned|deprecated|retired"
        r"|end of (?:its )?life|(?:removed|disabled|shut down)\b|no longer (?:available|supported)"
        r"|is(?: not|n't) (?:currently )?(?:available|supported|deployed|loaded|servable|valid)"
        r"|is (?:invalid|unavailable|unknown|unsupported))"
        r"|\b(?:invalid|unknown|unsupported|unrecognized|no such) model\b|not a valid model|^model: ?\S+$"
        r"|no models? loaded|no endpoints found|unable to access (?:\S+ )?model"
        r"|(?:not|n't) (?:have )?(?:access|allowed|authorized|permi\w+)\b.{0,60}\bmodel\b",
        MODEL_GONE,
    ),
    _rule(
        frozenset({404, 405}),
        r"^(?:404 )?(?:page |file |resource |route )?not found\W*$|(?:invalid|unknown|unrecognized) (?:request )?url"
        r"|cannot (?:post|get) |no route|empty body",
        WRONG_ADDRESS,
    ),
)

# What is said of a passing trouble, and said of others as well ("correct your input and try again"): it comes last.
VAGUE_MESSAGES: tuple[MessageRule, ...] = (
    _rule(
        frozenset({NO_STATUS}),
        r"overloaded|unavailable|internal (?:server )?error|try again|high (?:traffic|demand|load)|at capacity"
        r"|bad gateway|upstream",
        SERVER_ERROR,
    ),
)

STATUSES: dict[int, Verdict] = {
    401: AUTH,
    403: AUTH,
    404: MODEL_GONE,
    405: WRONG_ADDRESS,
    406: MISCONFIGURED,
    407: WRONG_ADDRESS,
    408: SERVER_ERROR,
    409: SERVER_ERROR,
    410: MODEL_GONE,
    415: MISCONFIGURED,
    421: SERVER_ERROR,
    424: SERVER_ERROR,
    425: SERVER_ERROR,
    429: RATE_LIMITED,
    498: SERVER_ERROR,
    499: SERVER_ERROR,
}
HTML_STATUSES: dict[int, Verdict] = {403: GATEWAY_REFUSED, 404: WRONG_ADDRESS}
STATUS_CLASSES: dict[int, Verdict] = {3: WRONG_ADDRESS, 4: REFUSED, 5: SERVER_ERROR}

# --- What was raised ------------------------------------------------------------------------------------------

UNROUTABLE_ERRNOS = frozenset({errno.ENETUNREACH, errno.ENETDOWN})
_EXHAUSTED_ERRNOS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.ENOSPC,
        errno.EADDRNOTAVAIL,  # no ephemeral port is left
        errno.EACCES,
        errno.EPERM,  # a firewall on this machine refused
    }
)
ERRNOS: dict[int | None, Verdict] = {
    **dict.fromkeys(UNROUTABLE_ERRNOS | _EXHAUSTED_ERRNOS, LOCAL),
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.EHOSTDOWN: UNREACHABLE,
}

_BODY: frozenset[Phase] = frozenset({"body"})
_RESOLVE: frozenset[Phase] = frozenset({"resolve"})
_CONNECT: frozenset[Phase] = frozenset({"connect", "tls"})
_TLS: frozenset[Phase] = frozenset({"tls"})
_SSL_ERRORS = "SSLError SSLEOFError SSLZeroReturnError SSLSyscallError"
_BROKEN = """
    ReadError WriteError ConnectionResetError ConnectionAbortedError BrokenPipeError BrokenResourceError EndOfStream
    IncompleteRead IncompleteReadError ClientPayloadError ServerDisconnectedError ConnectionClosedError ClientOSError
    ResponseStreamingError
"""
_TIMEOUTS = "TimeoutError APITimeoutError TimeoutException"


def _raised(
    names: str, verdict: Verdict, phases: frozenset[Phase] | None = None, says: str | None = None, exact: bool = False
) -> ExceptionRule:
    pattern = None if says is None else re.compile(says, re.IGNORECASE)
    return ExceptionRule(frozenset(names.split()), verdict, phases, pattern, exact)


# The first rule with a name anywhere in the chain of causes counts, so the telling names stand before the wrappers.
EXCEPTIONS: tuple[ExceptionRule, ...] = (
    _raised("MemoryError PoolTimeout", LOCAL),
    _raised("ResponseTooLarge", TOO_LARGE),
    _raised("UnaskableModel", UNASKABLE),
    _raised("CredentialsUnavailable", AUTH),
    _raised("TokenRefused", NO_GOOGLE_TOKEN),
    _raised("TokenUnavailable", GOOGLE_TOKEN_LATE),
    _raised("gaierror herror ClientConnectorDNSError", DNS),
    _raised("SSLError ClientConnectorSSLError", NO_TLS, _TLS, "WRONG_VERSION_NUMBER"),
    _raised("SSLCertVerificationError ClientConnectorCertificateError ClientConnectorSSLError", TLS),
    _raised("ConnectTimeout ConnectTimeoutError ConnectionTimeoutError", CONNECT_TIMEOUT),
    _raised("ReadTimeout ReadTimeoutError WriteTimeout SocketTimeoutError ServerTimeoutError", IDLE_TIMEOUT),
    _raised("ConnectionRefusedError", CONNECT_REFUSED),
    _raised("HttpParserError", PROTOCOL),
    _raised("ClientConnectorError", UNREACHABLE),
    _raised(f"{_BROKEN} {_SSL_ERRORS}", TRUNCATED, _BODY),
    _raised("RemoteProtocolError", TRUNCATED, _BODY, r"incomplete|disconnected|closed (?:the )?connection"),
    _raised(_BROKEN, TLS, _TLS),
    _raised(_SSL_ERRORS, TLS),
    _raised("RemoteProtocolError ProxyError", PROTOCOL),
    _raised(_BROKEN, RESET),
    _raised("DecodingError DecodeError JSONDecodeError ChecksumMismatch", MALFORMED),
    _raised(
        """
        NoCredentialsError PartialCredentialsError CredentialRetrievalError TokenRetrievalError
        UnauthorizedSSOTokenError DefaultCredentialsError RefreshError CredentialsError IdentityTokenFileError
        OAuthError SubjectTokenProviderError
        """,
        AUTH,
    ),
    _raised(
        """
        UnsupportedProtocol InvalidURL LocalProtocolError TooManyRedirects NoRegionError ProfileNotFound
        InvalidRegionError EndpointProviderError ParamValidationError ModuleNotFoundError
        FileNotFoundError IsADirectoryError NotADirectoryError UnicodeEncodeError
        """,
        MISCONFIGURED,
    ),
    _raised(f"{_TIMEOUTS} OSError", DNS, _RESOLVE),
    _raised(_TIMEOUTS, CONNECT_TIMEOUT, _CONNECT),
    _raised("TimeoutError", TOTAL_TIMEOUT),
    _raised("APITimeoutError TimeoutException", IDLE_TIMEOUT),
    # When its addresses failed for different reasons, the connector says so in words alone.
    _raised("OSError", CONNECT_REFUSED, _CONNECT, rf"Errno {errno.ECONNREFUSED}\b"),
    _raised("ConnectError EndpointConnectionError ConnectionError", UNREACHABLE),
    _raised("OSError", UNREACHABLE, _CONNECT),
    # A foreign subclass of ValueError need not be a mistake of ours, so here only the classes themselves count.
    _raised(
        """
        ArithmeticError AssertionError AttributeError BufferError ClosedResourceError ImportError IndexError KeyError
        LookupError NameError NotImplementedError OverflowError RecursionError ReferenceError ResponseNotRead
        RuntimeError StopAsyncIteration StopIteration StreamClosed StreamConsumed SystemError TypeError
        UnboundLocalError ValueError ZeroDivisionError
        """,
        INTERNAL,
        exact=True,
    ),
    # The wrapper of both SDKs, put around whatever the transport raised.
    _raised("APIConnectionError", UNREACHABLE),
)
# Counts only outermost: deeper in the chain it is how a time-out works.
CANCELLATIONS = frozenset({"CancelledError", "KeyboardInterrupt", "SystemExit"})
