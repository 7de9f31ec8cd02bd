"""Files of a checkpoint as the hub's have them: what stands beside weights, and where."""

from __future__ import annotations

import json
from pathlib import Path

from coat.backbones.base import Backbone
from coat.testing.tekken import write_tekken

# Families whose checkpoints describe images beside sound, in the same file.
_SEES = {"qwen2_5_omni": 14, "qwen3_omni": 16}


def tie(backbone: Backbone) -> None:
    """One matrix for embedding and output layer, as large as the tokenizer."""
    model = backbone.model
    model.resize_token_embeddings(len(backbone.tokenizer))
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = True
    model.tie_weights()


def as_published(backbone: Backbone, folder: Path) -> None:
    """The files beside the weights as hub checkpoints of the family have them."""
    from transformers import GenerationConfig

    GenerationConfig(
        do_sample=True, temperature=0.7, top_k=20, top_p=0.5, repetition_penalty=1.1,
        eos_token_id=[*backbone.end_ids, backbone.tokenizer.pad_token_id],
        pad_token_id=backbone.tokenizer.pad_token_id,
    ).save_pretrained(folder)  # fmt: skip
    template = folder / "chat_template.jinja"
    if backbone.family == "qwen2_audio":  # the processor's class has the one that knows audio
        fields = json.loads((folder / "tokenizer_config.json").read_text())
        fields["chat_template"] = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
        (folder / "tokenizer_config.json").write_text(json.dumps(fields, indent=1))
        template.unlink()
    elif backbone.family == "voxtral":  # Mistral's own file alone
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (folder / name).unlink()
        write_tekken(folder / "tekken.json")
    elif backbone.family in _SEES:  # before .jinja files
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}, indent=1))
        template.unlink()


def describe_images(folder: Path, family: str) -> None:
    """Add the description of images that checkpoints of the family have, in the file where they have it."""
    if family in _SEES:
        path = folder / "preprocessor_config.json"
        pixels = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": _SEES[family], "temporal_patch_size": 2}
        kinds = {"image_processor_type": "Qwen2VLImageProcessor", "merge_size": 2, "processor_class": "Omni"}
        path.write_text(json.dumps(json.loads(path.read_text()) | pixels | kinds, indent=1))
    elif family == "gemma4":
        parts = {
            "processor_class": "Gemma4Processor",
            "feature_extractor": json.loads((folder / "preprocessor_config.json").read_text()),
            "image_processor": {"image_processor_type": "Gemma4ImageProcessor", "max_soft_tokens": 280},
            "video_processor": {"video_processor_type": "Gemma4VideoProcessor", "max_soft_tokens": 70},
            "audio_ms_per_token": 40, "audio_seq_length": 750, "image_seq_length": 280,
        }  # fmt: skip
        (folder / "processor_config.json").write_text(json.dumps(parts, indent=1))
