"""The bridge's own secrets in what is sent to it: taken out of earlier documents, a reason to refuse llmbench's own."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from llmbench.bridge.documents import Refused, Sender, read_batch, read_catalog, read_error, read_run
from llmbench.ingestion import wire_form
from llmbench.messages import Failure, Outcome, Sample
from llmbench.secrets import Redactor
from llmbench.stores.base import OutcomeQuery
from tests.bridge.sent import NOW, body, earlier_error, earlier_run, own
from tests.bridge.serving import GatedStore, Running, running
from tests.stores.documents import envelope, failure, sample

SECRET = 'k3y of "this" bridge/+'
KEEPER = Sender(None, Redactor([SECRET]))
FORMS = {"plain": SECRET, "url": quote(SECRET, safe=""), "base64": base64.b64encode(f"user:{SECRET}".encode()).decode()}


def run(**changes: Any) -> Sample:
    outcome = read_run(body(earlier_run(**changes)), KEEPER, NOW).outcome
    assert isinstance(outcome, Sample)
    return outcome


def error(**changes: Any) -> Failure:
    outcome = read_error(body(earlier_error(**changes)), KEEPER, NOW).outcome
    assert isinstance(outcome, Failure)
    return outcome


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_secrets_are_taken_out_of_an_earlier_document(form: str) -> None:
    """Of every text in it, however deep."""
    said = f"Incorrect API key provided: {form}"
    nested = {"a": [{"b": said}, 1, None]}
    words = ("message", "traceback", "exc_type", "provider_error_code", "novel", "error_kind", "stage")
    failed = error(**dict.fromkeys(words, said), partial=nested, shape=nested)
    good = run(finish_reason=said, display_name=said, hint=said, sample_role=said, misc=nested, shape=nested)

    for outcome in (failed, good):
        assert form not in msgspec.json.encode(outcome).decode()
        assert not KEEPER.redactor.finds(msgspec.json.encode(outcome).decode())
    assert failed.message == failed.traceback == good.finish_reason == good.misc["a"][0]["b"]
    assert failed.message.startswith("Incorrect API key provided: ")
    assert failed.message.endswith("***")


def test_a_secret_is_found_before_a_text_is_cut() -> None:
    """No half of one is stored because the other half is behind the limit."""
    for before in range(19_980, 20_001, 4):
        assert SECRET[:5] not in (error(traceback="x" * before + SECRET).traceback or "")
    assert SECRET[:5] not in run(hint="x" * 1990 + SECRET).misc["hint"]


def test_a_key_that_a_bridge_made_is_known_by_its_look() -> None:
    """The bridge has its digest only."""
    assert error(message=f"wrong key llmb_0123abcd_{'aZ_-' * 10}abc!").message == "wrong key ***!"


@pytest.mark.parametrize("odd", [{"model_name": f"m-{SECRET}"}, {"misc": {SECRET: 1}}, {SECRET: 1}])
def test_a_secret_in_a_name_is_refused(odd: dict[str, Any]) -> None:
    """A name can't be changed without being another one."""
    with pytest.raises(Refused, match="holds a secret that is this bridge's") as caught:
        run(**odd)
    assert SECRET not in caught.value.reason


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("make", [failure, sample])
def test_an_own_document_with_a_secret_is_refused(make: Any, form: str) -> None:
    """It can't be changed, since its id is one of what it says; a secret of somebody else is none that is known."""
    text = {"message": f"wrong {form}"} if make is failure else {"misc": {"a": [f"wrong {form}"]}}
    outcome: Outcome = make(**text)
    document = body([own(outcome)])
    (found,) = read_batch(document, KEEPER, NOW)
    assert isinstance(found, Refused)
    assert (found.id, found.status) == (outcome.id, 422)
    assert form not in found.reason
    assert read_batch(document, Sender(None, Redactor(["another-secret"])), NOW) == [envelope(outcome)]


def test_a_listing_with_a_secret_is_refused() -> None:
    """What a provider says of its models is kept for good, too."""
    listing = {"provider": "groq", "started_at": "2026-03-14T12:00:00Z", "pagination_complete": True}
    models = [{"model_id": "m", "raw": {"owner": f"<{SECRET}>"}}]
    with pytest.raises(Refused, match="listing holds a secret"):
        read_catalog(body(listing | {"models": models}), KEEPER, NOW)


async def test_the_bridge_uses_what_it_knows(store: GatedStore, tmp_path: Any) -> None:
    """What is sent over HTTP meets its secrets; no answer quotes one."""
    bad = envelope(failure(message=f"wrong {SECRET}"))
    async with running(store, tmp_path, redactor=KEEPER.redactor) as bridge:
        answers = [
            await _posted(bridge, "/ingest/error", body(earlier_error(message=f"wrong {SECRET}"))),
            await _posted(bridge, "/ingest/error", wire_form(bad)),
            await _posted(bridge, "/ingest", body(own(sample(), **{SECRET: 1}))),
        ]
    assert answers == [200, 422, 422]
    (stored,) = await store.outcomes(OutcomeQuery())
    assert isinstance(stored, Failure)
    assert stored.message == "wrong ***"


async def _posted(bridge: Running, path: str, document: bytes) -> int:
    answer = await bridge.post(path, document, "shared")
    assert SECRET not in answer.text
    assert SECRET not in answer.json().get("reason", "")
    return answer.status_code
