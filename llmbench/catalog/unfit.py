"""Kinds of model that this benchmark can't compare, told by their ids.

What is measured is text that streams until a fixed budget is used up. A model that returns vectors, verdicts, sound or
pictures, that needs such input, or that waits for the web first, would only store failures, or figures that mean
something else.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from llmbench.catalog.findings import Finding, base_id, word


class Kind(NamedTuple):
    """A kind of model: its name, what is said of an id of that kind, and the words that tell it."""

    name: str
    reason: str
    words: tuple[str, ...]


KINDS = (
    Kind(
        "reranking",
        "is a reranking model, which returns scores and no text",
        ("[a-z0-9]*rerank(?:er)?", "ranker", "llama-rank"),
    ),
    Kind("reward", "is a reward model, which returns scores and no text", ("reward",)),
    Kind(
        "embedding",
        "is an embedding model, which returns vectors and no text",
        (
            "[a-z0-9]*embed(?:der|dings?|dinggemma)?",
            "bge",
            "clip",
            "e5",
            "gte",
            "marengo",
            "mini-?lm",
            "mpnet",
            "text-similarity",
            "text2vec",
            "titan-e1t",
            "uae",
            "voyage",
            "(?:distil|modern)?bert",
        ),
    ),
    Kind(
        "transcription",
        "is a transcription model, which needs a recording and streams no text of a given length",
        (
            "[a-z0-9]*whisper",
            "asr",
            "canary-(?:1b|180m|qwen)",
            "chirp(?:[-_]?[0-9])?",
            "parakeet",
            "seamless-m4t",
            "stt",
            "transcri(?:be|ber|ption)",
            "wav2vec2?",
        ),
    ),
    Kind(
        "speech",
        "is a speech or music model, which returns sound and no text",
        (
            "[a-z0-9]*tts",
            "chatterbox",
            "csm-1b",
            "kokoro",
            "lyria",
            "music(?:gen)?",
            "nova-(?:[0-9]-)?sonic",
            "orpheus",
            "speech",
            "zonos",
        ),
    ),
    Kind(
        "audio",
        "is an audio model, which talks over an API of its own",
        ("audio", "realtime", "(?:gemini|gpt)-(?:[a-z0-9.]+-)*live"),
    ),
    Kind(
        "video",
        "is a video model, which needs or returns videos",
        (
            "(?:hunyuan|cog|ltx-?)?video(?:x|gen)?",
            "hailuo",
            "kling",
            "luma",
            "nova-reel",
            "pixverse",
            "seedance",
            "sora",
            "twelvelabs",
            "veo",
            "vidu",
            "wan-?2",
            "wan-ai",
        ),
    ),
    Kind(
        "image",
        "is an image model, which returns pictures and no text",
        (
            "dall-?e",
            "flux[0-9]?",
            "hidream",
            "ideogram",
            "images?",
            "imagegeneration",
            "imagen",
            "imagine",
            "kandinsky",
            "nano-banana",
            "nova-canvas",
            "playground-v[0-9]+",
            "recraft(?:v[0-9])?",
            "sd(?:xl|3)",
            "seed(?:ream|edit)",
            r"stability(?=\.)",
            "stable-diffusion",
        ),
    ),
    Kind("moderation", "is a moderation model, which returns verdicts and no text", ("moderations?",)),
    Kind(
        "guard",
        "is a guard model, which answers with a short verdict whatever the budget",
        (
            r"(?:aegis|bingo|granite|llama|nemo|poly|prompt|qwen[0-9.]*|safe|shield|virtue|wild)?guard(?:ian|reasoner)?",
            "content-safety",
            "shieldgemma",
        ),
    ),
    Kind(
        "compound",
        "is a compound system, which calls tools and other models and does not fill a budget",
        ("compound",),
    ),
    Kind(
        "router",
        "is a router, which hands each request to another model",
        ("openrouter/(?:auto|bodybuilder|free)", "model-router", "(?<=/)router"),
    ),
    Kind("ocr", "is an OCR model, which needs a picture to read", ("[a-z]*ocr[0-9]*",)),
    Kind(
        "search",
        "is a search or research model, whose answer waits for the web",
        ("aqa", "deep-?research", "search", "sonar", "(?<=:)online"),
    ),
    Kind(
        "computer use",
        "is a computer-use model, which drives a screen and needs its tools to answer",
        ("computer-use",),
    ),
)
"""Every kind; the first one that matches tells most of an id that has the words of several."""


def unfit(model_id: str) -> Finding | None:
    """Return why a model does not fit, None if nothing in its id says so."""
    name = base_id(model_id)
    found = (kind for kind, pattern in _patterns() if pattern.search(name))
    kind = next(found, None)
    return None if kind is None else Finding(problem="unfit", reason=kind.reason)


@cache
def _patterns() -> list[tuple[Kind, re.Pattern[str]]]:
    """Return the patterns; they take a few milliseconds to make, which most commands never need."""
    return [(kind, word("|".join(kind.words))) for kind in KINDS]
