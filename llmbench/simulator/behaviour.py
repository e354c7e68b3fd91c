"""What a simulated model does, read from its name.

A name is a prefix, the word ``sim`` and then words in any order, joined by dashes: ``sim-ttft200-gap20-tok64``,
``o3-sim-reason300-ttft100``, ``meta-llama/sim-429-retry7``. `MENU` lists every word with its meaning. A name without
``sim`` is a model that no provider has; a word that is not on the menu is refused, for a typo must not pass for a
default. A version as Bedrock's ids have it, ``-v1:0``, may follow the words and means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

MAX_TOKENS = 100_000
"""No answer is longer than this."""

FaultKind = Literal[
    "badchunk", "badcrc", "badjson", "blocked", "cutevent", "empty", "errorbody", "errormid", "errorobj", "errorstr",
    "flood", "hangup", "html", "noanswer", "nocontent", "noend", "redirect", "reset", "silent", "stall", "truncate",
]  # fmt: skip

STATUSES = {
    400: "the provider's own error for a bad request",
    401: "the provider's own error for a wrong key",
    402: "the provider's own error for an account out of credit",
    403: "the provider's own error for a request that is not permitted",
    404: "the provider's own error for an unknown model",
    408: "the provider's own error for a model that took too long",
    424: "the provider's own error for a model that failed",
    429: "the provider's own error for a rate limit",
    500: "the provider's own error for a failure inside",
    502: "the provider's own error for a bad gateway",
    503: "the provider's own error for being unavailable",
    529: "the provider's own error for being overloaded",
}


class Fault(msgspec.Struct, frozen=True):
    """Where an answer goes wrong. ``at`` is the word's number: tokens before it, a status, a port or MiB."""

    kind: FaultKind
    at: int = 0


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """One model's behaviour. Times are nanoseconds; None is "as the request has it" or "not at all"."""

    ttft_ns: int = 50_000_000
    gap_ns: int = 10_000_000
    jitter_ns: int = 0
    tokens: int | None = None
    burst: int = 1
    chunk: int = 1
    reason_ns: int | None = None
    reasoning_tokens: int = 0
    budget: bool = False
    think: bool = False
    stamp: bool = False
    unicode: bool = False
    late_head: bool = False
    comments: bool = False
    drip: bool = False
    crlf: bool = False
    gzip: bool = False
    big_head: bool = False
    no_usage: bool = False
    counted: int | None = None
    x_groq: bool = False
    time_info: bool = False
    status: int | None = None
    quota: bool = False
    retry_after: str | None = None
    echo: bool = False
    hostile: bool = False
    instruct: bool = False
    maas: bool = False
    fault: Fault | None = None

    def fails_with(self, *kinds: FaultKind) -> bool:
        """Whether the fault is one of ``kinds``."""
        return self.fault is not None and self.fault.kind in kinds


class BadName(ValueError):
    """A model name has ``sim`` in it and words that make no sense; the message says which."""


class Word(NamedTuple):
    """A word of the menu: its form, where ``<…>`` is a number it needs and ``[…]`` one it may have."""

    form: str
    meaning: str
    field: str
    convert: Callable[[str], object]


def _milliseconds(number: str) -> int:
    return round(float(number) * 1_000_000)


def _positive(number: str) -> int:
    if int(number) < 1:
        raise ValueError("must be 1 or more")
    return int(number)


def _flag(_number: str) -> bool:
    return True


def _negative(_number: str) -> int:
    return -5


def _fixed(text: str) -> Callable[[str], str]:
    return lambda _number: text


def _fault(kind: FaultKind, default: int = 0) -> Callable[[str], Fault]:
    return lambda number: Fault(kind, int(number or default))


WORDS = (
    Word("ttft<ms>", "the first token comes this long after the request (default 50)", "ttft_ns", _milliseconds),
    Word("gap<ms>", "time between tokens, and from the last one to the end (default 10)", "gap_ns", _milliseconds),
    Word("jitter<ms>", "each gap is up to this much shorter or longer, by a seed", "jitter_ns", _milliseconds),
    Word("tok<N>", "this many tokens, at most what the request allows (default: all of that)", "tokens", int),
    Word("burst<N>", "N tokens in one segment, every N gaps", "burst", _positive),
    Word("chunk<N>", "N tokens in one event, every N gaps", "chunk", _positive),
    Word("reason<ms>", "a reasoning delta at the time of ttft, then this long to the visible text", "reason_ns",
         _milliseconds),
    Word("rtok<N>", "N reasoning deltas, a gap apart, in front of the visible text", "reasoning_tokens", _positive),
    Word("budget", "reasoning eats all tokens that the request allows; no visible text", "budget", _flag),
    Word("think", "reasoning is content between think tags, which are split over two deltas (chat completions only)",
         "think", _flag),
    Word("stamp", "each token's text is the perf_counter_ns taken right before its write", "stamp", _flag),
    Word("unicode", "tokens with U+2028, U+2029, U+0085 and characters of two to four bytes", "unicode", _flag),
    Word("latehead", "the response head comes with the first bytes of the body, not before", "late_head", _flag),
    Word("comments", "comments, role-only and empty deltas in front of the first token", "comments", _flag),
    Word("drip", "one body byte every 50 ms", "drip", _flag),
    Word("crlf", "CRLF line ends, events split anywhere, also between CR and LF", "crlf", _flag),
    Word("instruct", "only part of the name; at openai such a model has legacy completions", "instruct", _flag),
    Word("maas", "only part of the name, as Vertex has it", "maas", _flag),
    Word("xgroq", "usage and times in x_groq, as groq has it", "x_groq", _flag),
    Word("timeinfo", "times in time_info, as cerebras has it", "time_info", _flag),
    Word("nousage", "no token counts", "no_usage", _flag),
    Word("wrongcount<N>", "usage says N output tokens", "counted", int),
    Word("negcount", "usage says -5 output tokens", "counted", _negative),
    Word("quota", "429 with the provider's own error for a used-up quota", "quota", _flag),
    Word("retry<s>", "an error's Retry-After in seconds", "retry_after", str),
    Word("retrydate<s>", "an error's Retry-After as the date this many seconds ahead", "retry_after",
         lambda number: f"date+{number}"),
    Word("retryjunk", "an error's Retry-After is 'soon'", "retry_after", _fixed("soon")),
    Word("retryneg", "an error's Retry-After is -5", "retry_after", _fixed("-5")),
    Word("echo", "an error's message repeats the key it was sent (alone: a 401)", "echo", _flag),
    Word("hostile", "an error's message holds markup, escape sequences, line ends and NUL (alone: a 500)", "hostile",
         _flag),
    Word("errorobj", "200, and the first event is an error object; a status word says which", "fault",
         _fault("errorobj")),
    Word("errorstr", "200, and the first event is an error that is only a string", "fault", _fault("errorstr")),
    Word("errormid<N>", "an error object after N tokens; a status word says which", "fault", _fault("errormid")),
    Word("errorbody", "200 with a JSON error in place of a stream; a status word says which", "fault",
         _fault("errorbody")),
    Word("stall<N>", "silence after N tokens, the connection stays open", "fault", _fault("stall")),
    Word("silent", "the head, then silence", "fault", _fault("silent")),
    Word("noanswer", "reads the request and says nothing", "fault", _fault("noanswer")),
    Word("hangup", "reads the request and closes the connection", "fault", _fault("hangup")),
    Word("truncate<N>", "FIN after N tokens", "fault", _fault("truncate")),
    Word("cutevent<N>", "FIN in the middle of the event behind N tokens", "fault", _fault("cutevent")),
    Word("reset<N>", "RST after N tokens", "fault", _fault("reset")),
    Word("badchunk<N>", "broken chunked encoding after N tokens", "fault", _fault("badchunk")),
    Word("badjson<N>", "the N-th token's event is malformed JSON", "fault", _fault("badjson")),
    Word("badcrc<N>", "the N-th token's frame has a wrong checksum (bedrock only)", "fault", _fault("badcrc")),
    Word("empty", "ends properly without a token", "fault", _fault("empty")),
    Word("blocked", "200, and the only event says that the prompt was blocked (Gemini only)", "fault",
         _fault("blocked")),
    Word("noend", "a finish reason, no terminator, then the body ends properly (Gemini: not even a finish reason)",
         "fault", _fault("noend")),
    Word("html[status]", "an HTML page with this status (default 200)", "fault", _fault("html", 200)),
    Word("nocontent", "204 without a body", "fault", _fault("nocontent")),
    Word("redirect[port]", "302 to another host (default elsewhere.invalid, else localhost:port)", "fault",
         _fault("redirect")),
    Word("badgzip", "a gzip body, though identity was asked for", "gzip", _flag),
    Word("bighead", "1 MiB of response headers", "big_head", _flag),
    Word("flood[MiB]", "one event of so many MiB without a line end (default 2)", "fault", _fault("flood", 2)),
)  # fmt: skip

MENU: list[tuple[str, str]] = [(word.form, word.meaning) for word in WORDS] + [
    (str(status), meaning) for status, meaning in STATUSES.items()
]
"""Every word with its meaning, for people to read."""

_NAME = re.compile(r"(?:^|[^a-z0-9])sim(?:-(?P<words>.*?))?(?:-v\d+:\d+)?\Z", re.DOTALL)
_WORD = re.compile(r"(?P<name>[a-z]*)(?P<number>\d+(?:\.\d+)?)?")
_BY_NAME = {re.split(r"[<[]", word.form)[0]: word for word in WORDS}


def behaviour_of(model: str) -> Behaviour | None:
    """Return the behaviour that ``model`` names, or None if it is no simulated model. Raises `BadName`."""
    name = _NAME.search(model.lower())
    if name is None:
        return None
    fields: dict[str, Any] = {}
    for text in filter(None, (name["words"] or "").split("-")):
        field, value = _read_word(text)
        if field in fields:
            raise BadName(f"the model name {model!r} has two words for the same thing; leave out {text!r}")
        fields[field] = value
    return _checked(Behaviour(**fields), model)


def _read_word(text: str) -> tuple[str, object]:
    match = _WORD.fullmatch(text)
    if match is not None and not match["name"] and int(float(match["number"])) in STATUSES:
        return "status", int(float(match["number"]))
    word = _BY_NAME.get(match["name"]) if match is not None else None
    if match is None or word is None:
        raise BadName(f"the model name has the word {text!r}, which is not on the simulator's menu")
    number = match["number"] or ""
    if ("<" in word.form and not number) or (number and word.form.isalpha()):
        raise BadName(f"the model name has the word {text!r}; it must have the form {word.form}")
    try:
        return word.field, word.convert(number)
    except ValueError as error:
        raise BadName(f"the model name has the word {text!r}; its number can't be used: {error}") from error


def _checked(behaviour: Behaviour, model: str) -> Behaviour:
    if behaviour.stamp and (behaviour.drip or behaviour.crlf or behaviour.gzip):
        raise BadName(f"the model name {model!r} joins 'stamp' with a word that splits or repacks events")
    return behaviour
