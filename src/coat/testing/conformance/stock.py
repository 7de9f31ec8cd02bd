"""A family's own processor and model in transformers, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from coat.audio import Clip
from coat.backbones.base import Backbone
from coat.testing.clips import RATE

AUDIO = {"type": "audio", "audio": "x"}
# Asked for torchvision when they are made, and only use it for images: made without it.
WITHOUT_IMAGES = {
    "qwen2_5_omni": ("qwen2_5_omni", "Qwen2_5OmniProcessor"),
    "qwen3_omni": ("qwen3_omni_moe", "Qwen3OmniMoeProcessor"),
    "gemma4": ("gemma4", "Gemma4Processor"),
}


def stock_processor(backbone: Backbone) -> Any:
    """The family's processor: that of the model's name, of the checkpoint's own parts."""
    parts = (backbone.feature_extractor, backbone.tokenizer, backbone.chat_template)
    if backbone.family == "voxtral":
        return StockVoxtral(*parts[:2])
    if backbone.family not in WITHOUT_IMAGES:
        name = backbone.model_class.removesuffix("ForConditionalGeneration") + "Processor"
        return getattr(transformers, name)(parts[0], parts[1], chat_template=parts[2])
    package, name = WITHOUT_IMAGES[backbone.family]
    module = getattr(transformers.models, package)
    try:
        cls = getattr(getattr(module, f"processing_{package}"), name)
    except ModuleNotFoundError:
        pytest.skip(f"{name} cannot be imported without torchvision in transformers {transformers.__version__}")
    processor = object.__new__(cls)
    processor.feature_extractor, processor.tokenizer, processor.chat_template = parts
    processor.image_processor = processor.video_processor = SimpleNamespace(merge_size=2)  # older ones look at it
    for kind in ("audio", "image", "video", "boa", "eoa"):
        token = getattr(backbone.tokenizer, f"{kind}_token", None)
        setattr(processor, f"{kind}_token", token)
        setattr(processor, f"{kind}_token_id", token and backbone.tokenizer.convert_tokens_to_ids(token))
    return processor


class StockVoxtral:
    """Voxtral's processor for text and audio together, which it takes apart: features are its own.

    It gives conversations to Mistral's tokenizer, whose ids are compared in a test of the family's own.
    """

    def __init__(self, feature_extractor: Any, tokenizer: Any) -> None:
        self.stock = transformers.VoxtralProcessor(feature_extractor, tokenizer)

    def __call__(self, text: list[str], audio: list[np.ndarray], **_: Any) -> dict[str, Tensor]:
        stock, frames = self.stock, 3000
        options = {"sampling_rate": RATE, "padding": True, "truncation": False, "pad_to_multiple_of": 480_000,
                   "return_tensors": "pt"}  # fmt: skip  # its defaults, which older ones hold elsewhere
        head, *tail = text[0].split(stock.audio_token)
        rows = [stock._retrieve_input_features([clip], frames, **options) for clip in audio]
        tokens = [len(row) * (frames // 8) for row in rows]
        prompt = head + "".join(stock.audio_token * count + piece for count, piece in zip(tokens, tail, strict=True))
        encoded = stock.tokenizer([prompt], return_tensors="pt", add_special_tokens=False)
        return {**encoded, **({"input_features": torch.cat(rows)} if rows else {})}


def stock_inputs(
    backbone: Backbone, clips: Sequence[Clip], text: str = "What is said?", processor: Any = None
) -> dict[str, Tensor]:
    """The stock processor's output for one question about some clips.

    Args:
        backbone: Its tokenizer and chat template make the prompt.
        clips: Any rate.
        text: The question.
        processor: The family's; :func:`stock_processor` if None.
    """
    content = [AUDIO] * len(clips) + [{"type": "text", "text": text}]
    # By the template itself: some processors write more around a clip than their template, and so does render().
    prompt = backbone.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=backbone.chat_template,
        add_generation_prompt=True,
        tokenize=False,
    )
    waves = [clip.at(RATE) for clip in clips]
    processor = processor or stock_processor(backbone)
    return processor(text=[prompt], audio=waves, sampling_rate=RATE, return_tensors="pt")


def stock_embeddings(backbone: Backbone, clip: Clip, processor: Any = None) -> Tensor:
    """x_A as the stock model hands it to its language model, (L_a, d)."""
    inputs = stock_inputs(backbone, [clip], processor=processor)
    heard: dict[str, Any] = {}
    hook = backbone.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: heard.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        backbone.model(**inputs)
    hook.remove()
    return heard["inputs_embeds"][inputs["input_ids"] == backbone.audio_token_id]


class Compared:
    """Tests that compare with the family's own processor, which a subclass may make otherwise."""

    def stock_processor(self, backbone: Backbone) -> Any:
        """See :func:`stock_processor`."""
        return stock_processor(backbone)
