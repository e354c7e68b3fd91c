"""Which path is what: the wire format behind it, and where the model's name is.

Patterns match a path as it was sent, percent-encoded, for a model's name may hold an encoded slash.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from llmbench.simulator import aws
from llmbench.simulator.apis.anthropic_messages import Messages
from llmbench.simulator.apis.base import Api
from llmbench.simulator.apis.bedrock_converse import ConverseStream
from llmbench.simulator.apis.gemini import GenerateContent
from llmbench.simulator.apis.openai_chat import ChatCompletions
from llmbench.simulator.apis.openai_completions import Completions
from llmbench.simulator.apis.openai_responses import Responses
from llmbench.simulator.apis.vertex import VertexChat, VertexMessages
from llmbench.simulator.flavours import VERTEX_CLAUDE, VERTEX_MAAS, Flavour, flavour_of
from llmbench.simulator.google_oauth import issue_token
from llmbench.simulator.reply import Reply, Request


class Route(NamedTuple):
    """A path that completes. A group ``model`` in the pattern is where the model's name is; else it is in the body.

    ``flavour`` is for a provider with several formats that differ in its ways; else the path's first part names it.
    """

    pattern: re.Pattern[str]
    api: Api
    flavour: Flavour | None = None


class Page(NamedTuple):
    """A path with an answer of its own, for anyone who asks; the requests are recorded as the provider's."""

    pattern: re.Pattern[str]
    provider: str
    answer: Callable[[Request], Reply]


class Destination(NamedTuple):
    """Where a path leads. Without a route it is the list of models, or one of them, or (``found``) nothing."""

    flavour: Flavour
    route: Route | None = None
    model: str | None = None
    found: bool = True


_BASE = r"/(?!(?:bedrock|vertex)/)[^/]+(?:/[^/]+)*?"
"""What a base URL has in front of an operation; those whose paths are special are excepted."""

_VERTEX = "/vertex/v1(?:beta1)?/projects/[^/]+/locations/[^/]+"
_VERTEX_MODEL = "models/(?P<model>[^/:]+)(?::|%3A)"

PAGES: tuple[Page, ...] = (
    Page(re.compile("/vertex/token"), "vertex", issue_token),
    Page(re.compile(aws.METADATA), "instance-metadata", aws.metadata),
    Page(re.compile("/bedrock/foundation-models"), "bedrock", aws.foundation_models),
    Page(re.compile("/bedrock/inference-profiles"), "bedrock", aws.inference_profiles),
)

ROUTES: tuple[Route, ...] = (
    Route(re.compile(r"/bedrock/model/(?P<model>[^/]+)/converse-stream"), ConverseStream()),
    Route(re.compile(f"{_VERTEX}/publishers/google/{_VERTEX_MODEL}streamGenerateContent"), GenerateContent()),
    Route(
        re.compile(f"{_VERTEX}/publishers/anthropic/{_VERTEX_MODEL}streamRawPredict"), VertexMessages(), VERTEX_CLAUDE
    ),
    Route(re.compile(f"{_VERTEX}/endpoints/openapi/chat/completions"), VertexChat(), VERTEX_MAAS),
    Route(re.compile(f"{_BASE}/chat/completions"), ChatCompletions()),
    Route(re.compile(f"{_BASE}/completions"), Completions()),
    Route(re.compile(f"{_BASE}/responses"), Responses()),
    Route(re.compile(f"{_BASE}/messages"), Messages()),
)
"""The first one that matches is it."""

_MODELS = re.compile(rf"{_BASE}/models(?:/(?P<model>.+))?")


def page_of(path: str) -> Page | None:
    """Return the page at ``path``, if one is there."""
    return next((page for page in PAGES if page.pattern.fullmatch(path)), None)


def destination(path: str) -> Destination:
    """Return where ``path`` leads, percent-encoded as it is."""
    provider = unquote(path.lstrip("/").partition("/")[0])
    for route in ROUTES:
        if match := route.pattern.fullmatch(path):
            return Destination(route.flavour or flavour_of(provider), route, _model(match))
    match = _MODELS.fullmatch(path)
    return Destination(flavour_of(provider), model=_model(match), found=match is not None)


def _model(match: re.Match[str] | None) -> str | None:
    model = match.groupdict().get("model") if match else None
    return unquote(model) if model else None
