"""A client of Bedrock that hides nothing: signed by botocore, its frames read by botocore."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer

from llmbench.simulator import SpawnedSimulator
from llmbench.simulator.sigv4 import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from tests.simulator.support import Response, ask

QUICK = "ttft5-gap1"
UNSIGNED: dict[str, str] = {"authorization": ""}


class Event(NamedTuple):
    """One frame: its headers, without their colons, and its payload."""

    headers: dict[str, str]
    payload: bytes

    @property
    def kind(self) -> str:
        """The type of an event, an exception or an error."""
        return self.headers[{"event": "event-type", "exception": "exception-type"}[self.headers["message-type"]]]

    def json(self) -> Any:
        return msgspec.json.decode(self.payload)


def frames(body: bytes) -> list[Event]:
    """Return the complete frames in ``body``. Raises botocore's errors at the first one that is wrong."""
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    return [
        Event({name.lstrip(":"): value for name, value in message.headers.items()}, message.payload)
        for message in buffer
    ]


def texts(events: list[Event]) -> list[str]:
    """Return the visible text of each delta that has some."""
    deltas = [event.json()["delta"] for event in events if event.kind == "contentBlockDelta"]
    return [delta["text"] for delta in deltas if "text" in delta]


def converse_path(model: str) -> str:
    """Return the path of a model whose id is percent-encoded already."""
    return f"/bedrock/model/{model}/converse-stream"


def conversation(tokens: int = 3, **more: Any) -> dict[str, Any]:
    """Return the body of a request."""
    messages = [{"role": "user", "content": [{"text": "hello"}]}]
    return {"messages": messages, "inferenceConfig": {"maxTokens": tokens}, **more}


def converse(
    simulator: SpawnedSimulator, model: str, body: object = None, headers: dict[str, str] | None = None
) -> Response:
    """Ask with a bearer token, unless ``headers`` has another way."""
    return ask(simulator, converse_path(model), body or conversation(), headers)


def signed_headers(
    path: str,
    body: bytes,
    *,
    method: str = "POST",
    key: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
    token: str | None = None,
    service: str = "bedrock",
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers with which botocore signs a request for the host ``sim``, in lower case."""
    request = AWSRequest(method, f"http://sim{path}", data=body, headers=headers)
    SigV4Auth(Credentials(key, secret, token), service, "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}
