"""A recipe's model: backbone, LoRA, projection heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from coat.backbones import load_backbone
from coat.checkpoints.devices import uses_bf16
from coat.config.recipe import Recipe
from coat.experts import make_expert
from coat.experts.base import Expert
from coat.heads import make_head
from coat.thinking.model import ThinkingModel


def frozen_dtype(recipe: Recipe) -> torch.dtype:
    """Data type of frozen weights under a recipe."""
    return torch.bfloat16 if uses_bf16(recipe.training.precision) else torch.float32


def build_model(
    recipe: Recipe, *, dtype: torch.dtype | None = None, load_in_4bit: bool | None = None, **options: Any
) -> ThinkingModel:
    """The backbone of a recipe with its way of thinking, before LoRA and heads.

    Args:
        recipe: The recipe that names them.
        dtype: Data type of the frozen weights; as the recipe's precision says if None.
        load_in_4bit: As the recipe says if None.
        **options: Options of transformers' ``from_pretrained``, such as ``device_map`` and ``attn_implementation``.
    """
    asked = recipe.backbone
    backbone = load_backbone(
        asked.family,
        asked.path,
        dtype=dtype or frozen_dtype(recipe),
        load_in_4bit=asked.load_in_4bit if load_in_4bit is None else load_in_4bit,
        **options,
    )
    return ThinkingModel(backbone, recipe.thinking)


def adapt(model: ThinkingModel, recipe: Recipe) -> list[str]:
    """Add what the recipe trains of the backbone; returns the names of the modules that LoRA adapts."""
    lora, parts = recipe.lora, recipe.train
    return model.add_lora(
        rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=lora.target_modules,
        train_embeddings=recipe.train_embeddings,
        language_model=parts.trained("language_model"),
        audio_tower=parts.trained("audio_tower"),
        projector=parts.trained("projector"),
    )  # fmt: skip


def build_experts(recipe: Recipe, model: ThinkingModel) -> dict[str, Expert]:
    """Every expert that some stage of the recipe uses, on the model's device."""
    backbone = model.backbone

    def made(name: str) -> Expert:
        options = recipe.experts.get(name)
        return make_expert(name, options, hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)

    return {name: made(name).to(backbone.device) for name in recipe.active_experts()}


def feature_dims(experts: Mapping[str, Expert]) -> dict[str, int]:
    """e_k of each expert, by name."""
    return {name: expert.feature_dim for name, expert in experts.items()}


def add_heads(model: ThinkingModel, feature_dims: Mapping[str, int], recipe: Recipe) -> None:
    """Give the model the recipe's kind of head for each expert.

    Args:
        model: The model; its ``heads`` are filled.
        feature_dims: e_k of each expert, by name.
        recipe: Says which kind.
    """
    heads = recipe.heads
    for name, feature_dim in feature_dims.items():
        model.heads[name] = make_head(
            heads.kind,
            model.backbone.hidden_size,
            feature_dim,
            num_heads=heads.num_heads,
            ffn_ratio=heads.ffn_ratio,
        )
