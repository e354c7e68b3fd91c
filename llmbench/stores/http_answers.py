"""What a bridge's answers mean. Only what it says of an id counts for that outcome, and only 2xx says "stored".

Whatever else a 2xx holds, a page of a proxy or a body cut short, acknowledges nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from llmbench.error_bodies import is_html, parse_retry_after
from llmbench.ingestion import ItemAnswer
from llmbench.stores.base import StoreError, StoreUnusable, Verdict
from llmbench.stores.http_client import MOST_OF_AN_ANSWER, Endpoint, Reply, Wire

T = TypeVar("T")

_UNLISTED = "the bridge's answer does not say what became of it"
_REFUSED = "the bridge refused it without a reason"
_TEMPORARY = frozenset({408, 425, 429})
_DOCUMENT_TO_BLAME = frozenset({400, 422})
_TOO_LARGE = 413


class Refusal(NamedTuple):
    """A batch was refused as a whole. Of one item the ``reason`` is the verdict; of several, some are to blame.

    ``too_large``: all of them together are.
    """

    reason: str
    too_large: bool = False


class _Body(msgspec.Struct):
    """What an answer may be made of: of a batch, of one item, or an earlier bridge's refusal. Others have neither."""

    results: list[msgspec.Raw] | None = None
    id: Any = None
    status: Any = None
    reason: Any = None
    runner: Any = None


class Judge:
    """Reads the answers of one endpoint."""

    def __init__(self, endpoint: Endpoint, wire: Wire) -> None:
        self._endpoint = endpoint
        self._wire = wire

    def verdicts(self, ids: Sequence[str], reply: Reply) -> list[Verdict] | Refusal:
        """Return what became of each outcome of a batch, or why nothing of it was taken.

        Raises `StoreError` or `StoreUnusable` where the answer is about none of them.
        """
        if 200 <= reply.status < 300:
            return self._taken(ids, self.decoded(reply, _Body))
        if reply.status == _TOO_LARGE:
            return Refusal("it is too large for the bridge (HTTP 413)", too_large=True)
        if reply.status in _DOCUMENT_TO_BLAME and not _is_page(reply):
            return self._refused(ids, reply)
        raise self.failure(reply)

    def runner(self, reply: Reply) -> str | None:
        """Return whose outcomes our key is for, if the answer says so."""
        body = _lenient(reply)
        return body.runner if body is not None and isinstance(body.runner, str) else None

    def decoded(self, reply: Reply, kind: type[T]) -> T:
        """Return the body of a 2xx. Raises `StoreUnusable` if no bridge sends such, `StoreError` if it came damaged."""
        if not reply.is_json:
            raise self._no_bridge(
                f"HTTP {reply.status} as {self._wire.said(reply.content_type) or 'nothing'}, and not as JSON"
            )
        if not reply.whole:
            raise self._no_bridge(f"HTTP {reply.status} with more than {MOST_OF_AN_ANSWER // 1024**2} MiB")
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except msgspec.ValidationError as error:
            raise self._no_bridge(
                f"HTTP {reply.status} with JSON of another form ({self._wire.said(str(error))})"
            ) from error
        except (ValueError, RecursionError) as error:
            raise StoreError(
                f"{self._endpoint} answered HTTP {reply.status} with damaged JSON ({self._wire.said(str(error))}), "
                "which acknowledges nothing"
            ) from error

    def _taken(self, ids: Sequence[str], body: _Body) -> list[Verdict] | Refusal:
        if body.results is not None:
            return self._listed(ids, [_item(raw) for raw in body.results])
        alone = _one(body)
        if alone is not None and list(ids) == [alone.id]:
            return self._listed(ids, [alone])
        if body.status == "rejected":
            return Refusal(self._reason(body.reason))
        raise StoreUnusable(
            f"{self._endpoint} answers without saying what became of the outcomes, which acknowledges nothing; "
            f"update the bridge, or correct {self._endpoint.setting}"
        )

    def _refused(self, ids: Sequence[str], reply: Reply) -> list[Verdict] | Refusal:
        """Return what a 400 or 422 says: it may name who is to blame. That anything is stored, it can't say."""
        body = _lenient(reply)
        if body is not None and body.results is not None:
            listed = self._listed(ids, [_item(raw) for raw in body.results])
            if any(verdict.status in ("rejected", "conflict") for verdict in listed):
                return [_not_acknowledged(verdict) for verdict in listed]
        return Refusal(self._why(reply))

    def _listed(self, ids: Sequence[str], answers: Sequence[ItemAnswer | None]) -> list[Verdict]:
        """Return a verdict for each id. An id that the answer contradicts itself about is unknown."""
        told: dict[str, list[ItemAnswer]] = {}
        for answer in answers:
            if answer is not None and answer.id is not None:
                told.setdefault(answer.id, []).append(answer)
        sent = Counter(ids)
        for key, ones in told.items():
            if len(ones) != sent[key] and len({one.status for one in ones}) > 1:
                ones.clear()
        return [self._verdict(key, told, nameless) for key, nameless in zip(ids, _nameless(ids, answers), strict=True)]

    def _verdict(self, key: str, told: dict[str, list[ItemAnswer]], nameless: ItemAnswer | None) -> Verdict:
        answer = told[key].pop(0) if told.get(key) else nameless
        if answer is None:
            return Verdict(key, "unknown", _UNLISTED)
        if answer.status in ("stored", "duplicate"):
            return Verdict(key, answer.status)
        return Verdict(key, answer.status, self._reason(answer.reason))

    def refusal(self, reply: Reply) -> str:
        """Return who refused a document, and why."""
        return f"{self._endpoint} ({self._why(reply)})"

    def failure(self, reply: Reply) -> StoreError:
        """Return what an answer that is not about single documents means."""
        endpoint, status = self._endpoint, reply.status
        if status in _TEMPORARY or status >= 500:
            delay = parse_retry_after(reply.headers.get("retry-after"), reply.headers.get("date"))
            return StoreError(f"{endpoint} can't take it now ({self._why(reply)})", delay)
        if status in (401, 403):
            return StoreUnusable(
                f"{endpoint} refuses us ({self._why(reply)}); check the key in {endpoint.variable}", "auth"
            )
        if 300 <= status < 400:
            return self._no_bridge(
                f"HTTP {reply.status} and points to {self._elsewhere(reply)}, where nothing was sent"
            )
        return self._no_bridge(self._why(reply))

    def _no_bridge(self, answer: str) -> StoreUnusable:
        return StoreUnusable(
            f"{self._endpoint} answers {answer}: that is no bridge of llmbench, or not its address; correct "
            f"{self._endpoint.setting}"
        )

    def _elsewhere(self, reply: Reply) -> str:
        """Return the host that a redirect leads to; what else is in it may be secret."""
        try:
            host = urlsplit(reply.headers.get("location", "")).hostname
        except ValueError:
            host = None
        return self._wire.said(host) if host else "another path"

    def _why(self, reply: Reply) -> str:
        body = _lenient(reply)
        reason = body.reason if body is not None else None
        return f"HTTP {reply.status}: {self._wire.said(reason)}" if isinstance(reason, str) else f"HTTP {reply.status}"

    def _reason(self, reason: Any) -> str:
        return self._wire.said(reason) if isinstance(reason, str) and reason.strip() else _REFUSED


def _item(raw: msgspec.Raw) -> ItemAnswer | None:
    """Return an entry of an answer, None for one that says nothing that we know."""
    try:
        return msgspec.json.decode(raw, type=ItemAnswer)
    except (ValueError, RecursionError):
        return None


def _one(body: _Body) -> ItemAnswer | None:
    try:
        return msgspec.convert({"id": body.id, "status": body.status, "reason": body.reason}, ItemAnswer)
    except msgspec.ValidationError:
        return None


def _nameless(ids: Sequence[str], answers: Sequence[ItemAnswer | None]) -> Iterator[ItemAnswer | None]:
    """Yield for each id the refusal without an id that stands in its place, if the answer is in their order."""
    in_order = len(ids) == len(answers) and all(
        answer is None or answer.id in (None, key) for key, answer in zip(ids, answers, strict=True)
    )
    for number in range(len(ids)):
        answer = answers[number] if in_order else None
        yield answer if answer is not None and answer.id is None and answer.status == "rejected" else None


def _not_acknowledged(verdict: Verdict) -> Verdict:
    return Verdict(verdict.id, "unknown", _UNLISTED) if verdict.acknowledged else verdict


def _lenient(reply: Reply) -> _Body | None:
    """Return the body of an error as far as it is one of ours."""
    try:
        return msgspec.json.decode(reply.body, type=_Body) if reply.is_json and reply.whole else None
    except (ValueError, RecursionError):
        return None


def _is_page(reply: Reply) -> bool:
    """Say whether a web server answered in the place of a bridge."""
    return reply.content_type == "text/html" or is_html(reply.body)
