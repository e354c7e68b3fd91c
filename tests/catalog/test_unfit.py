"""Kinds of model that don't fit are known by the ids that providers give them; no chat model is taken for one."""

from __future__ import annotations

import pytest

from llmbench.catalog.findings import word
from llmbench.catalog.unfit import KINDS, unfit

UNFIT = {
    "reranking": """
        cohere.rerank-v3-5:0 amazon.rerank-v1:0 Salesforce/Llama-Rank-V1 Qwen/Qwen3-Reranker-8B bge-reranker-v2-m3
        mixedbread-ai/Mxbai-Rerank-Large-V2 semantic-ranker-default-004
    """,
    "reward": "nvidia/nemotron-4-340b-reward Skywork/Skywork-Reward-V2-Llama-3.1-8B",
    "embedding": """
        text-embedding-3-small text-embedding-ada-002 gemini-embedding-001 codestral-embed codestral-embed-2505
        mistral-embed nomic-embed-text BAAI/bge-m3 intfloat/multilingual-e5-large-instruct thenlper/gte-large
        togethercomputer/m2-bert-80M-8k-retrieval WhereIsAI/UAE-Large-V1 Qwen/Qwen3-Embedding-8B
        google/embeddinggemma-300m textembedding-gecko@003 multimodalembedding@001 amazon.titan-embed-text-v2:0
        cohere.embed-multilingual-v3 us.cohere.embed-v4:0 us.twelvelabs.marengo-embed-2-7-v1:0
        amazon.nova-2-multimodal-embeddings-v1:0 voyage-3.5 amazon.titan-embed-image-v1
        sentence-transformers/all-MiniLM-L6-v2 text-similarity-davinci-001
        arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0 sentence-transformers/clip-ViT-B-32
        sentence-transformers/all-mpnet-base-v2 shibing624/text2vec-base-chinese amazon.titan-e1t-medium
    """,
    "transcription": """
        whisper-1 whisper-large-v3-turbo distil-whisper-large-v3-en gpt-4o-transcribe gpt-4o-mini-transcribe
        gpt-4o-transcribe-diarize voxtral-mini-transcribe-realtime-2602 nvidia/parakeet-tdt-0.6b-v3 chirp_2
        openai/whisper-large-v3 qwen3-asr-flash nvidia/canary-qwen-2.5b facebook/seamless-m4t-v2-large
        kyutai/stt-1b-en_fr facebook/wav2vec2-base-960h
    """,
    "speech": """
        tts-1 tts-1-hd gpt-4o-mini-tts playai-tts-arabic canopylabs/orpheus-v1-english hexgrad/Kokoro-82M
        gemini-2.5-flash-preview-tts amazon.nova-sonic-v1:0 amazon.nova-2-sonic-v1:0 lyria-3-pro-preview
        sesame/csm-1b voxtral-mini-tts-2603 ResembleAI/chatterbox facebook/musicgen-large minimax/speech-02-hd
        Zyphra/Zonos-v0.1-hybrid
    """,
    "audio": """
        gpt-4o-audio-preview gpt-audio gpt-audio-mini gpt-realtime gpt-4o-realtime-preview-2025-06-03
        gemini-2.0-flash-live-001 gemini-live-2.5-flash gemini-3.1-flash-live-preview
        gemini-2.5-flash-native-audio-preview-12-2025 voxtral-mini-realtime-2602
    """,
    "video": """
        sora-2 sora-2-pro veo-3.1-generate-preview amazon.nova-reel-v1:1 luma.ray-v2:0 twelvelabs.pegasus-1-2-v1:0
        Wan-AI/Wan2.1-T2V-14B tencent/HunyuanVideo zai-org/CogVideoX-5b Lightricks/LTX-Video minimax/hailuo-02
        kwaivgI/kling-2.1-master pixverse/pixverse-v5 ByteDance/Seedance-1.0-pro vidu/vidu-2.0
    """,
    "image": """
        dall-e-3 gpt-image-1 gpt-image-1.5 chatgpt-image-latest openai/gpt-5-image gemini-2.5-flash-image
        gemini-3-pro-image-preview gemini-2.0-flash-preview-image-generation imagen-4.0-ultra-generate-001
        imagegeneration@006 black-forest-labs/FLUX.1-schnell accounts/fireworks/models/flux-1-dev-fp8 flux1-pro
        stabilityai/stable-diffusion-xl-base-1.0 stability.sd3-5-large-v1:0 us.stability.stable-fast-upscale-v1:0
        amazon.nova-canvas-v1:0 amazon.titan-image-generator-v2:0 Qwen/Qwen-Image nano-banana-pro-preview
        grok-imagine-0.9 grok-2-image-1212 HiDream-ai/HiDream-I1-Full ideogram/ideogram-3.0
        kandinsky-community/kandinsky-3 accounts/fireworks/models/playground-v2-5-1024px-aesthetic recraftv3
        ByteDance-Seed/Seedream-4.0
    """,
    "moderation": "omni-moderation-latest text-moderation-stable mistral-moderation-2603",
    "guard": """
        llama-guard-4-12b meta-llama/Llama-Guard-3-8B meta-llama/llama-prompt-guard-2-86m
        openai/gpt-oss-safeguard-20b google/shieldgemma-9b nvidia/llama-3.1-nemoguard-8b-content-safety
        VirtueAI/VirtueGuard-Text-Lite ibm-granite/granite-guardian-3.2-5b Qwen/Qwen3Guard-Gen-8B
    """,
    "compound": "groq/compound groq/compound-mini compound-beta compound-beta-mini",
    "router": "openrouter/auto openrouter/free switchpoint/router azure/model-router",
    "ocr": """
        mistral-ocr-latest deepseek-ai/DeepSeek-OCR allenai/olmOCR-2-7B-1025 PaddlePaddle/PaddleOCR-VL-0.9B
        baidu/qianfan-ocr-fast
    """,
    "search": """
        gpt-4o-search-preview gpt-4o-mini-search-preview-2025-03-11 gpt-5-search-api o3-deep-research
        o4-mini-deep-research-2025-06-26 alibaba/tongyi-deepresearch-30b-a3b perplexity/sonar-pro sonar
        openai/gpt-4o:online deep-research-pro-preview-12-2025 aqa
    """,
    "computer use": "computer-use-preview gemini-2.5-computer-use-preview-10-2025",
}

FIT = """
gpt-4o gpt-4o-mini gpt-4.1-nano gpt-4-turbo gpt-4-vision-preview gpt-3.5-turbo-instruct chatgpt-4o-latest o3-mini
o1-pro gpt-5 gpt-5.1-codex-max gpt-5-chat-latest gpt-6-astra codex-mini-latest davinci-002
ft:gpt-4o-mini:acme:moderation:a1b2 claude-sonnet-4-5-20250929 claude-opus-4-1 claude-3-7-sonnet-latest
anthropic/claude-3.7-sonnet:thinking meta-llama/Llama-3.3-70B-Instruct
meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8 imagination-7b llama-3.1-8b-instant
meta-llama/Llama-3.2-90B-Vision-Instruct-Turbo NousResearch/Hermes-3-Llama-3.1-405B Gryphe/MythoMax-L2-13b
mistral-saba-24b mistral-saba codestral-2508 ministral-8b-latest magistral-medium-latest pixtral-large-latest
mistralai/Mixtral-8x7B-Instruct-v0.1 mistral.voxtral-small-24b-2507 gemini-2.5-flash gemini-2.5-pro
gemini-2.0-flash-001 gemini-3-pro-preview gemini-3.1-flash-lite google/gemma-3-27b-it google/gemma-3n-e4b-it
gemini-flash-latest Qwen/Qwen3-235B-A22B-Thinking-2507 qwen/qwen3-32b Qwen/Qwen2.5-VL-72B-Instruct Qwen/QwQ-32B
qwen3-coder:free deepseek-ai/DeepSeek-R1-0528 deepseek-ai/DeepSeek-V3.1 deepseek-chat
moonshotai/Kimi-K2-Instruct-0905 kimi-k2p5 accounts/fireworks/models/gpt-oss-120b
accounts/fireworks/routers/glm-5p1-fast openai/gpt-oss-20b:exacto zai-org/GLM-4.6 MiniMaxAI/MiniMax-M2
x-ai/grok-4-fast grok-code-fast-1 xai/grok-4.1-fast-non-reasoning cohere/command-a-03-2025 allam-2-7b
amazon.nova-lite-v1:0 us.amazon.nova-premier-v1:0 amazon.titan-tg1-large us.deepseek.r1-v1:0
ai21.jamba-1-5-mini-v1:0 writer.palmyra-x5-v1:0 nvidia/Llama-3.1-Nemotron-70B-Instruct microsoft/phi-4
tiiuae/falcon-180B-chat inception/mercury stabilityai/stablelm-2-12b-chat vanguard-70b albert-large
openrouter/horizon-beta sao10k/l3.1-euryale-70b bytedance/ui-tars-1.5-7b perplexity/r1-1776 aion-labs/aion-1.0
arcee-ai/spotlight llama3.1-8b qwen-3-235b-a22b-instruct-2507
arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/whisper-guard-image
"""


@pytest.mark.parametrize(
    ("kind", "model_id"), [(kind, model_id) for kind, ids in UNFIT.items() for model_id in ids.split()]
)
def test_a_model_of_an_unfit_kind_is_told(kind: str, model_id: str) -> None:
    """Its finding says which kind it is, and has no id to take in its place."""
    (reason,) = [known.reason for known in KINDS if known.name == kind]
    found = unfit(model_id)

    assert found is not None
    assert (found.problem, found.reason, found.right) == ("unfit", reason, None)


def test_every_word_has_an_example() -> None:
    """No kind has a word that no real id needs."""
    assert {kind.name for kind in KINDS} == set(UNFIT)
    for kind in KINDS:
        ids = UNFIT[kind.name].split()
        assert [pattern for pattern in kind.words if not any(word(pattern).search(one) for one in ids)] == []


@pytest.mark.parametrize("model_id", FIT.split())
def test_models_that_answer_with_text_fit(model_id: str) -> None:
    """Ids of chat models that come close to the words of an unfit kind, or could."""
    assert unfit(model_id) is None
