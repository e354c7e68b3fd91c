"""What does not come out as it should, and why: these cases must fail, until the fault is mended."""

from __future__ import annotations

_BARE_ERROR = "an error object as the body of a 200 is not recognised without the member 'error' around it"

_REASON = "what Google's 'details' say is read in a refusal and not in a stream, where 'status' decides alone"

KNOWN = {
    ("vertex-gemini", "P19_402_in_stream"): _REASON,
    ("vertex-chat", "P19_402_in_stream"): _REASON,
    ("bedrock-converse", "P19_400_in_stream"): "'try again' in its message says more than the code validationException",
    ("together-chat", "P19_402_in_stream"): "the code 'credit_limit' of Together is known by its status 402 alone",
    ("deepinfra-chat", "P19_401_in_stream"): "'User is not authenticated' is known by its status 401 alone",
    ("deepinfra-chat", "I10_key_echoed_errorobj"): "'User is not authenticated' is known by its status 401 alone",
    ("deepinfra-chat", "I10_key_echoed_errormid3"): "'User is not authenticated' is known by its status 401 alone",
    ("deepinfra-chat", "I10_key_echoed_errorbody"): "'User is not authenticated' is known by its status 401 alone",
    ("cerebras-chat", "P19_error_as_body"): _BARE_ERROR,
    ("cerebras-chat", "I10_key_echoed_errorbody"): _BARE_ERROR,
    ("cerebras-chat", "I11_hostile_text_errorbody"): _BARE_ERROR,
    ("local-chat", "I10_key_echoed_errorbody"): "the text 'Unauthorized' is known by its status 401 alone",
}
"""By the family's and the scenario's name."""
