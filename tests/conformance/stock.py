"""The families' own processors and models, to compare with."""

import torch

from tests.conftest import RATE

AUDIO = {"type": "audio", "audio": "x"}


def stock_processor(backbone):
    """The family's processor in transformers.

    Those of the Omni models ask for torchvision when they are made, and only use it for images: here they
    are made without.
    """
    import transformers

    parts = (backbone.feature_extractor, backbone.tokenizer, backbone.chat_template)
    if backbone.family == "qwen2_audio":
        return transformers.Qwen2AudioProcessor(parts[0], parts[1], chat_template=parts[2])
    if backbone.family == "audio_flamingo3":
        return transformers.AudioFlamingo3Processor(parts[0], parts[1], chat_template=parts[2])
    from transformers.models.qwen2_5_omni.processing_qwen2_5_omni import Qwen2_5OmniProcessor
    from transformers.models.qwen3_omni_moe.processing_qwen3_omni_moe import Qwen3OmniMoeProcessor

    cls = {"qwen2_5_omni": Qwen2_5OmniProcessor, "qwen3_omni": Qwen3OmniMoeProcessor}[backbone.family]
    processor = object.__new__(cls)
    processor.feature_extractor, processor.tokenizer, processor.chat_template = parts
    for kind in ("audio", "image", "video"):
        setattr(processor, f"{kind}_token", getattr(backbone.tokenizer, f"{kind}_token"))
        setattr(processor, f"{kind}_token_id", getattr(backbone.tokenizer, f"{kind}_token_id"))
    return processor


def stock_inputs(backbone, clips, text="What is said?"):
    """What the stock processor makes of one question about some clips."""
    content = [AUDIO] * len(clips) + [{"type": "text", "text": text}]
    prompt = backbone.render([{"role": "user", "content": content}], add_generation_prompt=True)
    waves = [clip.at(RATE) for clip in clips]
    return stock_processor(backbone)(text=[prompt], audio=waves, sampling_rate=RATE, return_tensors="pt")


def stock_embeddings(backbone, clip):
    """x_A as the stock model hands it to its language model."""
    inputs = stock_inputs(backbone, [clip])
    heard = {}
    hook = backbone.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: heard.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        backbone.model(**inputs)
    hook.remove()
    return heard["inputs_embeds"][inputs["input_ids"] == backbone.audio_token_id]
