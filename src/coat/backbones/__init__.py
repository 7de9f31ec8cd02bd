"""Families of audio language models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coat.errors import CoatError
from coat.hub import locate
from coat.plugins import declared, find_class

if TYPE_CHECKING:
    import torch

    from coat.backbones.base import Backbone

GROUP = "coat.backbones"
# One line a family: its key, and where its class is. Nothing is imported before it is asked for. Other packages declare
# theirs, see coat.plugins.
REGISTRY = {
    "qwen2_audio": "coat.backbones.qwen2_audio:Qwen2Audio",
    "qwen2_5_omni": "coat.backbones.qwen2_5_omni:Qwen25Omni",
    "audio_flamingo3": "coat.backbones.audio_flamingo3:AudioFlamingo3",
    "music_flamingo": "coat.backbones.music_flamingo:MusicFlamingo",
    "glm_asr": "coat.backbones.glm_asr:GlmAsr",
    "voxtral": "coat.backbones.voxtral:Voxtral",
    "qwen3_omni": "coat.backbones.qwen3_omni:Qwen3Omni",
    "gemma4": "coat.backbones.gemma4:Gemma4",
}

# What the configurations of a family's checkpoints call themselves.
MODEL_TYPES = {
    "qwen2_audio": "qwen2_audio",
    "qwen2_5_omni": "qwen2_5_omni",
    "qwen2_5_omni_thinker": "qwen2_5_omni",
    "audioflamingo3": "audio_flamingo3",
    "musicflamingo": "music_flamingo",
    "glmasr": "glm_asr",
    "voxtral": "voxtral",
    "qwen3_omni_moe": "qwen3_omni",
    "qwen3_omni_moe_thinker": "qwen3_omni",
    "gemma4": "gemma4",
}


def family_of(path: str) -> str | None:
    """The family of a checkpoint, by its configuration; None if there is none, or it is of no family known here."""
    from transformers.utils import cached_file

    try:
        found = cached_file(path, "config.json", _raise_exceptions_for_missing_entries=False)
    except OSError:
        return None
    kind = json.loads(Path(found).read_text()).get("model_type", "") if found else ""
    if kind in MODEL_TYPES:
        return MODEL_TYPES[kind]
    return next((name for name in declared(GROUP) if kind in backbone_class(name).model_types), None)


def backbone_class(family: str) -> type[Backbone]:
    """The class of a family, by its name or as ``my_package.module:MyBackbone``.

    Raises:
        CoatError: No family has that name, or the class cannot be imported.
    """
    from coat.backbones.base import Backbone

    return find_class(family, REGISTRY, GROUP, "backbone family", Backbone)


def load_backbone(
    family: str,
    path: str | None = None,
    *,
    dtype: torch.dtype | None = None,
    weights: bool = True,
    load_in_4bit: bool = False,
    **options: Any,
) -> Backbone:
    """Load a checkpoint of a family; its usual hub checkpoint if no path is given.

    ``weights=False`` reads only the configuration, ``load_in_4bit=True`` holds the language model in four bits; further
    options are transformers' own. See :meth:`Backbone.from_pretrained`.

    Raises:
        CoatError: There is no such family, or the checkpoint is of another, of which transformers would load what
            fits and make up the rest.
    """
    import torch

    cls = backbone_class(family)
    place = locate(path or cls.hub_id)
    held = family_of(place)
    if held is not None and backbone_class(held).model_class != cls.model_class:
        raise CoatError(f"{place} is a checkpoint of the family {held}, not {family}.", f"Set backbone.family: {held}")
    return cls.from_pretrained(
        place, dtype=dtype or torch.float32, weights=weights, load_in_4bit=load_in_4bit, **options
    )
