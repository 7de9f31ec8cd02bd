"""A recipe's parts put together, and the model of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml

from coat.backbones import backbone_class, load_backbone
from coat.config.recipe import Recipe, parse_recipe
from coat.errors import CoatError
from coat.experts import make_expert
from coat.experts.base import Expert
from coat.heads import make_head
from coat.thinking.model import CoatModel
from coat.training.checkpoint import load_weights
from coat.training.trainer import uses_bf16


def is_finished(folder: Path) -> bool:
    """Whether a run's last stage is done."""
    return (folder / "finished.json").is_file()


def frozen_dtype(recipe: Recipe) -> torch.dtype:
    """What a recipe holds frozen weights in."""
    return torch.bfloat16 if uses_bf16(recipe.training.precision) else torch.float32


def build_model(recipe: Recipe) -> CoatModel:
    """The backbone of a recipe with its way of thinking, before LoRA and heads."""
    asked = recipe.backbone
    backbone = load_backbone(asked.family, asked.path, dtype=frozen_dtype(recipe), four_bit=asked.four_bit)
    return CoatModel(backbone, recipe.thinking)


def adapt(model: CoatModel, recipe: Recipe) -> list[str]:
    """Add the recipe's LoRA; returns the adapted modules."""
    lora = recipe.lora
    return model.add_lora(
        rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=lora.targets,
        train_embeddings=recipe.train_embeddings,
    )  # fmt: skip


def build_experts(recipe: Recipe, model: CoatModel) -> dict[str, Expert]:
    """Every expert that some stage of the recipe uses."""
    backbone = model.backbone
    return {
        name: make_expert(name, recipe.experts.get(name), hidden_size=backbone.hidden_size, hearing=backbone.hearing)
        for name in recipe.active_experts()
    }


def add_heads(model: CoatModel, experts: Mapping[str, Expert], recipe: Recipe) -> None:
    """Give the model the recipe's kind of head for each expert."""
    heads = recipe.heads
    for name, expert in experts.items():
        model.heads[name] = make_head(
            heads.kind,
            model.backbone.hidden_size,
            expert.feature_dim,
            num_heads=heads.num_heads,
            ffn_ratio=heads.ffn_ratio,
        )


def load_run(folder: str | Path, *, heads: bool = False, four_bit: bool = True) -> CoatModel:
    """The model of a finished run, ready to answer.

    Args:
        folder: The run's folder.
        heads: Load the projection heads too, for analysis.
        four_bit: Hold the language model in four bits where it was trained so; False gives full weights, to merge.

    Raises:
        CoatError: There is no finished run in the folder.
    """
    folder = Path(folder)
    if not is_finished(folder):
        raise CoatError(f"There is no finished run in {folder}.", "Train one: coat train RECIPE --out DIR")
    recipe = load_run_recipe(folder)
    if not four_bit:
        recipe = recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update={"four_bit": False})})
    model = build_model(recipe)
    if heads:
        add_heads(model, build_experts(recipe, model), recipe)
    load_weights(model, folder)
    return model.eval()


def load_run_recipe(folder: Path) -> Recipe:
    """The resolved recipe of a run.

    A relative path of a backbone starts at the run, at the working folder, or at a folder above the run: runs are
    used from elsewhere than where they were trained.
    """
    raw = yaml.safe_load((folder / "recipe.yaml").read_text())
    path = raw["backbone"].get("path")
    if path and not Path(path).is_absolute():
        starts = [folder, Path(), *folder.resolve().parents]
        found = next((start / path for start in starts if (start / path / "config.json").is_file()), None)
        raw["backbone"]["path"] = path if found is None else str(found)
    return parse_recipe(raw, str(folder / "recipe.yaml"))


def base_of(folder: Path) -> str:
    """Where the backbone of a run is: a folder, or a hub id."""
    asked = load_run_recipe(folder).backbone
    return asked.path or backbone_class(asked.family).hub_id
