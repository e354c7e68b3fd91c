"""Bedrock's ids: real ones pass, and a wrong one comes with the right one."""

from __future__ import annotations

import pytest

from llmbench.catalog.bedrock_ids import GEOGRAPHIES, geography_of, judge

RIGHT = """
us.anthropic.claude-3-haiku-20240307-v1:0 eu.anthropic.claude-sonnet-4-20250514-v1:0
apac.anthropic.claude-3-5-sonnet-20241022-v2:0 jp.anthropic.claude-sonnet-4-5-20250929-v1:0
au.anthropic.claude-haiku-4-5-20251001-v1:0 us-gov.anthropic.claude-3-7-sonnet-20250219-v1:0
global.anthropic.claude-opus-4-5-20251101-v1:0 global.anthropic.claude-opus-4-6-v1 us.anthropic.claude-sonnet-4-6
anthropic.claude-v2:1 anthropic.claude-instant-v1 us.meta.llama4-maverick-17b-instruct-v1:0
us.meta.llama3-2-90b-instruct-v1:0 eu.meta.llama3-2-1b-instruct-v1:0 us.meta.llama3-3-70b-instruct-v1:0
meta.llama3-1-405b-instruct-v1:0 us.meta.llama3-1-8b-instruct-v1:0 meta.llama3-70b-instruct-v1:0
meta.llama2-70b-chat-v1 mistral.mistral-7b-instruct-v0:2 mistral.mixtral-8x7b-instruct-v0:1
mistral.mistral-large-2407-v1:0 mistral.mistral-large-3-675b-instruct mistral.ministral-3-8b-instruct
mistral.magistral-small-2509 eu.mistral.pixtral-large-2502-v1:0 cohere.command-r-plus-v1:0 amazon.nova-micro-v1:0
us.amazon.nova-premier-v1:0 ca.amazon.nova-lite-v1:0 apac.amazon.nova-pro-v1:0 global.amazon.nova-2-lite-v1:0
amazon.titan-text-premier-v1:0 ai21.jamba-1-5-large-v1:0 us.deepseek.r1-v1:0 deepseek.v3-v1:0 deepseek.v3.2
qwen.qwen3-coder-480b-a35b-v1:0 qwen.qwen3-32b-v1:0 openai.gpt-oss-120b-1:0 global.openai.gpt-5.6-sol
us.writer.palmyra-x5-v1:0 us.writer.palmyra-x4-v1:0 moonshot.kimi-k2-thinking moonshotai.kimi-k2.5
global.moonshotai.kimi-k3 minimax.minimax-m2.1 google.gemma-3-27b-it nvidia.nemotron-nano-12b-v2 zai.glm-4.7
newvendor.model-9-v1:0
arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-20250514-v1:0
arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6
arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcd1234efgh
arn:aws:bedrock:us-east-1:123456789012:imported-model/anthropic.claude-of-our-own
arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:custom-model-deployment/x9y8z7
"""


@pytest.mark.parametrize("model_id", RIGHT.split())
@pytest.mark.parametrize("region", [None, "sa-east-1"])
def test_right_ids_pass(model_id: str, region: str | None) -> None:
    """Ids that Bedrock has had since 2024, and names of an account's own, where the region's profiles aren't known."""
    assert judge(model_id, region) is None


@pytest.mark.parametrize(
    ("model_id", "region", "right"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", None, "us.anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "eu-west-3", "eu.anthropic.claude-3-haiku-20240307-v1:0"),
        ("anthropic.claude-sonnet-4-6", "us-west-2", "us.anthropic.claude-sonnet-4-6"),
        ("anthropic.claude-3-haiku-20240307-v1:0:48k", None, "us.anthropic.claude-3-haiku-20240307-v1:0"),
        ("deepseek.r1-v1:0", "us-west-2", "us.deepseek.r1-v1:0"),
        ("amazon.nova-premier-v1:0", None, "us.amazon.nova-premier-v1:0"),
        ("mistral.pixtral-large-2502-v1:0", "eu-central-1", "eu.mistral.pixtral-large-2502-v1:0"),
        ("us.Anthropic.claude-sonnet-4-6", "us-west-2", "us.anthropic.claude-sonnet-4-6"),
        ("ANTHROPIC.claude-sonnet-4-6", "us-west-2", "us.anthropic.claude-sonnet-4-6"),
        ("meta.llama3-2-11b-instruct-v1:0", None, "us.meta.llama3-2-11b-instruct-v1:0"),
        ("meta.llama3-3-70b-instruct-v1:0", "us-east-2", "us.meta.llama3-3-70b-instruct-v1:0"),
        ("meta.llama4-scout-17b-instruct-v1:0", None, "us.meta.llama4-scout-17b-instruct-v1:0"),
        ("meta.llama3-2-3b-instruct-v1:0", "eu-west-1", "eu.meta.llama3-2-3b-instruct-v1:0"),
        ("us.meta.llama3-8b-instruct-v1:0", None, "meta.llama3-8b-instruct-v1:0"),
        ("eu.cohere.command-r-v1:0", "eu-west-1", "cohere.command-r-v1:0"),
        ("us.mistral.mixtral-8x7b-instruct-v0:1", None, "mistral.mixtral-8x7b-instruct-v0:1"),
        ("amazon.nova-lite-v1:0:300k", None, "amazon.nova-lite-v1:0"),
        ("us.amazon.nova-lite-v1:0:24k", None, "us.amazon.nova-lite-v1:0"),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
            "us-east-1",
            "us.anthropic.claude-3-haiku-20240307-v1:0",
        ),
    ],
)
def test_a_wrong_id_comes_with_the_right_one(model_id: str, region: str | None, right: str) -> None:
    """The finding names an id that no rule is against."""
    found = judge(model_id, region)

    assert found is not None
    assert (found.problem, found.right) == ("wrong_id", right)
    assert judge(right, region) is None


@pytest.mark.parametrize(
    ("model_id", "region", "right"),
    [
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "eu-west-1", "eu.anthropic.claude-sonnet-4-20250514-v1:0"),
        ("US.anthropic.claude-sonnet-4-6", "eu-west-1", "eu.anthropic.claude-sonnet-4-6"),
        ("eu.meta.llama3-3-70b-instruct-v1:0", "us-east-1", "us.meta.llama3-3-70b-instruct-v1:0"),
        ("eu.anthropic.claude-3-haiku-20240307-v1:0", "ap-south-1", "apac.anthropic.claude-3-haiku-20240307-v1:0"),
        ("eu.anthropic.claude-3-haiku-20240307-v1:0", "ca-central-1", "us.anthropic.claude-3-haiku-20240307-v1:0"),
        ("global.anthropic.claude-sonnet-4-6", "us-gov-west-1", "us-gov.anthropic.claude-sonnet-4-6"),
        (
            "apac.anthropic.claude-haiku-4-5-20251001-v1:0",
            "ap-south-1",
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
        ),
        ("apac.anthropic.claude-haiku-4-5-20251001-v1:0", None, "global.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("us.meta.llama3-3-70b-instruct-v1:0", "eu-west-1", None),
        ("us.deepseek.r1-v1:0", "eu-west-1", None),
    ],
)
def test_a_geography_that_the_region_cannot_call_is_wrong(model_id: str, region: str | None, right: str | None) -> None:
    """The right one is named where it is known that the model is in a geography of the region."""
    found = judge(model_id, region)

    assert found is not None
    assert (found.problem, found.right) == ("wrong_id", right)
    assert right is None or judge(right, region) is None


@pytest.mark.parametrize(
    ("region", "geographies"),
    [
        ("us-east-1", "us global"),
        ("us-gov-west-1", "us-gov"),
        ("eu-north-1", "eu global"),
        ("ap-northeast-1", "apac jp au global"),
        ("ca-central-1", "us ca global"),
        ("sa-east-1", " ".join(GEOGRAPHIES)),
        (None, " ".join(GEOGRAPHIES)),
    ],
)
def test_a_region_can_call_the_profiles_of_some_geographies(region: str | None, geographies: str) -> None:
    """Of a region that no rule knows, nothing is refused."""
    callable_ = {name for name in GEOGRAPHIES if judge(f"{name}.amazon.nova-lite-v1:0", region) is None}
    assert callable_ == set(geographies.split())


def test_an_arn_is_not_judged_by_the_configured_region() -> None:
    """It names a region of its own."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0"
    assert judge(arn, "eu-west-1") is None


def test_a_model_that_no_profile_of_the_region_has_is_told_apart() -> None:
    """The right id is named, and that the region can't call it."""
    found = judge("meta.llama3-3-70b-instruct-v1:0", "eu-west-1")

    assert found is not None
    assert found.right == "us.meta.llama3-3-70b-instruct-v1:0"
    assert found.reason.endswith("inference profile, of which eu-west-1 can call none")


CLAUDE_3 = "anthropic.claude-3-haiku-20240307-v1:0"
CLAUDE_45 = "anthropic.claude-sonnet-4-5-20250929-v1:0"
OPUS_41 = "anthropic.claude-opus-4-1-20250805-v1:0"
LLAMA = "meta.llama3-2-1b-instruct-v1:0"


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (None, {CLAUDE_3: "us", CLAUDE_45: "us", OPUS_41: "us", LLAMA: "us"}),
        ("us-east-1", {CLAUDE_3: "us", CLAUDE_45: "us", OPUS_41: "us", LLAMA: "us"}),
        ("ca-central-1", {CLAUDE_3: "us", CLAUDE_45: "us", OPUS_41: "us", LLAMA: "us"}),
        ("us-gov-west-1", {CLAUDE_3: "us-gov", CLAUDE_45: "us-gov"}),
        ("eu-central-1", {CLAUDE_3: "eu", CLAUDE_45: "eu", OPUS_41: "us", LLAMA: "eu"}),
        ("ap-southeast-1", {CLAUDE_3: "apac", CLAUDE_45: "global", OPUS_41: "us", LLAMA: "us"}),
        ("sa-east-1", {CLAUDE_3: "us", CLAUDE_45: "global", OPUS_41: "us", LLAMA: "us"}),
    ],
)
def test_the_geography_is_one_that_has_the_model(region: str | None, expected: dict[str, str]) -> None:
    """It is the region's own where the model has a profile there, else one that can be called."""
    assert {model: geography_of(model, region) for model in expected} == expected
    assert set(expected.values()) <= set(GEOGRAPHIES)
