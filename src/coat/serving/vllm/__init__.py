"""The vLLM plug-in: an export served by plain ``vllm serve DIR`` gets its block by itself.

vLLM calls :func:`register` in every one of its processes, by the entry point group ``vllm.general_plugins``.
Exports carry architecture names of their own, so that a server without this plug-in refuses them instead of
answering without the block. Each family is a module of its own: one that cannot be imported (Qwen2.5-Omni
asks for torchvision) does not keep the others from being served.
"""

from __future__ import annotations

ARCHITECTURES = {
    "CoatQwen2AudioForConditionalGeneration": "coat.serving.vllm.qwen2_audio:CoatQwen2Audio",
    "CoatAudioFlamingo3ForConditionalGeneration": "coat.serving.vllm.audio_flamingo3:CoatAudioFlamingo3",
    "CoatQwen2_5OmniForConditionalGeneration": "coat.serving.vllm.qwen2_5_omni:CoatQwen25Omni",
    "CoatGemma4ForConditionalGeneration": "coat.serving.vllm.gemma4:CoatGemma4",
    "CoatGlmAsrForConditionalGeneration": "coat.serving.vllm.glm_asr:CoatGlmAsr",
    "CoatMusicFlamingoForConditionalGeneration": "coat.serving.vllm.music_flamingo:CoatMusicFlamingo",
    "CoatVoxtralForConditionalGeneration": "coat.serving.vllm.voxtral:CoatVoxtral",
    "CoatQwen3OmniMoeForConditionalGeneration": "coat.serving.vllm.qwen3_omni:CoatQwen3Omni",
}


def register() -> None:
    """Tell vLLM where the architectures are, and transformers of the processor; calling twice is harmless.

    No architecture is imported until it is asked for.
    """
    import coat.thinking.auto  # noqa: F401  # AutoProcessor learns of it
    from coat.serving.vllm.positions import ask_for_positions
    from vllm import ModelRegistry

    for architecture, home in ARCHITECTURES.items():
        ModelRegistry.register_model(architecture, home)
    ask_for_positions(ARCHITECTURES, prefix="Coat")
