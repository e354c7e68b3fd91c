"""Frames of AWS's event streams, read back by botocore."""

from __future__ import annotations

import pytest
from botocore.eventstream import ChecksumMismatch
from hypothesis import given
from hypothesis import strategies as st

from llmbench.simulator.eventstream import (
    FrameTemplate,
    cut_payload,
    encode_headers,
    endless,
    frame,
    spoil_checksum,
)
from tests.simulator.bedrock import Event, frames

HEADERS = encode_headers({":event-type": "delta", ":message-type": "event"})
DECODED = {"event-type": "delta", "message-type": "event"}


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=50), max_size=4), st.binary(max_size=200))
def test_a_frame_is_read_back(headers: dict[str, str], payload: bytes) -> None:
    """Any headers and any payload come out of botocore's reader as they went in."""
    (event,) = frames(frame(encode_headers(headers), payload))
    assert event == Event({name.lstrip(":"): value for name, value in headers.items()}, payload)


@given(st.lists(st.binary(max_size=90), max_size=100))
def test_a_template_makes_the_same_frames_as_the_encoder(texts: list[bytes]) -> None:
    """What is kept from one frame to the next never ends up in a frame of another length."""
    template = FrameTemplate(HEADERS, b'{"text":"', b'"}')
    for text in texts:
        assert template.fill(text) == frame(HEADERS, b'{"text":"%b"}' % text)


def test_a_cut_payload_is_in_a_sound_frame() -> None:
    """Lengths and CRCs are those of what is left."""
    whole = frame(HEADERS, b"12345678")
    assert frames(cut_payload(whole) + whole) == [Event(DECODED, b"123456"), Event(DECODED, b"12345678")]


def test_a_spoilt_checksum_is_noticed() -> None:
    """botocore refuses the frame; the lengths in front are right."""
    with pytest.raises(ChecksumMismatch):
        frames(spoil_checksum(frame(HEADERS, b"payload")))


def test_an_endless_frame_announces_all_of_itself() -> None:
    """Its length field says what would come, and the frame is never complete."""
    data = endless(HEADERS, 1)
    assert int.from_bytes(data[:4]) == 12 + len(HEADERS) + 1024 * 1024 + 4 == len(data) + 4
    assert frames(data) == []
