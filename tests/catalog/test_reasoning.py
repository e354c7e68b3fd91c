"""Reasoning models are told by their ids, whoever serves them."""

from __future__ import annotations

import pytest

from llmbench.catalog import reasons

REASONING = {
    "openai": """
        o1 o1-preview o1-pro-2025-03-19 o3 o3-mini o4-mini o5-mini gpt-5 gpt-5-mini gpt-5-nano-2025-08-07 gpt-5-pro
        gpt-5.1 gpt-5.1-codex-max gpt-5.4-nano gpt-6-astra gpt-10 codex-mini-latest ft:o4-mini-2025-04-16:acme::x
    """,
    "openai-compatible": """
        openai/o3-mini-high openai/gpt-5.2 openai/gpt-oss-120b accounts/fireworks/models/gpt-oss-20b gpt-oss:20b
        deepseek-ai/DeepSeek-R1 deepseek-r1-distill-llama-70b deepseek/deepseek-r1-0528:free
        DeepSeek-R1-Distill-Qwen-14B tngtech/deepseek-r1t2-chimera deepseek-reasoner perplexity/r1-1776 Qwen/QwQ-32B
        qwen-qwq-32b Qwen/Qwen3-235B-A22B-Thinking-2507 qwen-3-235b-a22b-thinking-2507 moonshotai/Kimi-K2-Thinking
        allenai/olmo-3-32b-think:free magistral-medium-latest mistralai/Magistral-Small-2509
        microsoft/phi-4-reasoning-plus google/gemini-2.5-pro google/gemini-3-pro-preview x-ai/grok-4
        x-ai/grok-3-mini grok-4-fast-reasoning MiniMaxAI/MiniMax-M2 minimax-m2p7
        anthropic/claude-3.7-sonnet:thinking THUDM/GLM-Z1-32B-0414
        LGAI-EXAONE/EXAONE-Deep-32B deepseek/deepseek-v3.2-speciale baidu/ernie-x1-turbo-32k tencent/hunyuan-t1
    """,
    "bedrock": """
        us.deepseek.r1-v1:0 openai.gpt-oss-120b-1:0 openai.gpt-oss-20b-1:0 moonshot.kimi-k2-thinking
        minimax.minimax-m2 mistral.magistral-small-2509 global.openai.gpt-5.6-sol
        arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.deepseek.r1-v1:0
    """,
    "vertex": """
        gemini-2.5-flash gemini-2.5-pro gemini-3-flash-preview gemini-3.1-flash-lite gemini-pro-latest
        deepseek-ai/deepseek-r1-0528-maas openai/gpt-oss-120b-maas moonshotai/kimi-k2-thinking-maas
        qwen/qwen3-next-80b-a3b-thinking-maas
    """,
}

NOT_REASONING = {
    "openai": """
        gpt-4o gpt-4o-mini gpt-4.1 gpt-4.5-preview gpt-4-turbo gpt-3.5-turbo-instruct chatgpt-4o-latest
        gpt-5-chat-latest gpt-5.2-chat-latest davinci-002 ft:gpt-4o-mini-2024-07-18:acme:o1:x
    """,
    "anthropic": "claude-sonnet-4-5 claude-3-7-sonnet-latest claude-opus-4-1 claude-thinking-of-tomorrow",
    "openai-compatible": """
        meta-llama/Llama-3.3-70B-Instruct openai/gpt-5.1-chat openai/gpt-4o cerebras/Cerebras-GPT-13B
        EleutherAI/gpt-j-6b EleutherAI/gpt-neox-20b Qwen/Qwen3-235B-A22B-Instruct-2507 qwen/qwen3-32b
        Qwen/Qwen3-Coder-480B-A35B-Instruct deepseek-ai/DeepSeek-V3.1 deepseek-chat moonshotai/Kimi-K2-Instruct
        x-ai/grok-3 x-ai/grok-2-1212 xai/grok-4.1-fast-non-reasoning grok-4.20-non-reasoning
        google/gemini-2.0-flash-001 google/gemma-3-27b-it zai-org/GLM-4.6 MiniMaxAI/MiniMax-Text-01
        anthropic/claude-sonnet-4.5 microsoft/phi-4 mistral-large-latest sim-rtok16-ttft150-gap10 sim-budget
        mistralai/Mixtral-8x7B-Instruct-v0.1 cohere/command-r-08-2024
    """,
    "bedrock": """
        us.anthropic.claude-sonnet-4-5-20250929-v1:0 us.amazon.nova-premier-v1:0 global.amazon.nova-2-lite-v1:0
        us.meta.llama4-scout-17b-instruct-v1:0 cohere.command-r-v1:0 deepseek.v3-v1:0 qwen.qwen3-32b-v1:0
        arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/o3
    """,
    "vertex": """
        claude-opus-4-5@20251101 claude-3-7-sonnet@20250219 gemini-2.0-flash-001 gemini-2.0-flash-lite
        gemini-2.5-flash-lite gemini-1.5-pro-002 meta/llama-3.3-70b-instruct-maas xai/grok-4.20-non-reasoning
    """,
}


def cases(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(kind, model_id) for kind, ids in table.items() for model_id in ids.split()]


@pytest.mark.parametrize(("kind", "model_id"), cases(REASONING))
def test_reasoning_models_are_known(kind: str, model_id: str) -> None:
    """They reason without being asked to, under every provider's spelling of their names."""
    assert reasons(kind, model_id)


@pytest.mark.parametrize(("kind", "model_id"), cases(NOT_REASONING))
def test_other_models_are_not_taken_for_them(kind: str, model_id: str) -> None:
    """They do not reason, do so only if asked, or can be told not to; their names come close."""
    assert not reasons(kind, model_id)
