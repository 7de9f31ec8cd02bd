"""Estimate the cost of a recipe: parameters, memory, FLOPs and hours, before anything is loaded.

Sizes come from the checkpoint's configuration; the model is built without storage. Work is counted by sizes: a
frozen weight costs 2 FLOP a token forward and 2 backward, a trained one 2 more, and gradient checkpointing one more
forward. Memory and hours are estimates: read them as "about".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from coat.backbones import load_backbone
from coat.backbones.base import Backbone
from coat.backbones.work import count, language_flops, tower_flops
from coat.config.recipe import Recipe
from coat.errors import CoatError, did_you_mean
from coat.experts import expert_class, make_expert
from coat.experts.base import Expert
from coat.experts.weights import RANDOM, PretrainedExpert
from coat.heads import make_head

# Dense bf16 TFLOP/s and memory in GB, from the makers' data sheets.
GPUS = {
    "B200": (2250, 180), "H200": (989, 141), "H100": (989, 80), "A100": (312, 80), "L40S": (362, 48),
    "RTX4090": (165, 24), "RTX3090": (71, 24),
}  # fmt: skip
# Share of the data sheet that training reaches: what the paper's 88 B200-hours for two stages come to by this count
# (rows of 10 s). Well-filled batches reach two to three times as much.
UTILISATION = 0.11
GB = 1e9
FP32, BF16, ADAM = 4, 2, 8
FOUR_BIT = 0.5 + 2 / 64


@dataclass(frozen=True)
class Row:
    """Contents of an average row.

    Attributes:
        seconds: Seconds of audio.
        text_tokens: Tokens of prompt and answer, audio and block left out.
        response_tokens: Tokens of the answer alone.
    """

    seconds: float = 10.0
    text_tokens: int = 60
    response_tokens: int = 25


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage.

    Attributes:
        name: Its name.
        rows: That it draws.
        flops: In all.
        parts: Share of each part in the work.
    """

    name: str
    rows: int
    flops: float
    parts: Mapping[str, float]

    def hours(self, gpu: str) -> float:
        """On one such GPU, at ``UTILISATION``."""
        return self.flops / (GPUS[gpu][0] * 1e12 * UTILISATION) / 3600


@dataclass(frozen=True)
class Cost:
    """Cost of a recipe.

    Attributes:
        parameters: By part: tower, language model, LoRA, token rows, heads, experts.
        trained: Parameters that gradients reach.
        tokens: Length of an average row, block included.
        memory: Bytes by part, for the largest stage in one process.
        stages: One after another.
    """

    parameters: Mapping[str, int]
    trained: int
    tokens: int
    memory: Mapping[str, float]
    stages: list[StageCost]

    def fits(self, gpu: str) -> bool:
        """Whether a GPU's memory holds it, with a tenth to spare."""
        return sum(self.memory.values()) < 0.9 * GPUS[gpu][1] * GB


def known_gpu(name: str) -> str:
    """A GPU by name, however it is written.

    Raises:
        CoatError: It is not in the table.
    """
    plain = {key.lower(): key for key in GPUS}
    found = re.sub(r"[\s_-]", "", name.lower())
    if found not in plain:
        raise CoatError(f"There are no figures for a GPU called {name}.", did_you_mean(name, list(GPUS)))
    return plain[found]


def estimate(recipe: Recipe, row: Row | None = None) -> Cost:
    """The cost of a recipe.

    Args:
        recipe: The recipe.
        row: Sizes of an average row; 10 s and 60 tokens of text if None.

    Raises:
        CoatError: The checkpoint's configuration cannot be had, or an expert's weights where only they know its size.
    """
    row = row or Row()
    backbone = load_backbone(recipe.backbone.family, recipe.backbone.path, weights=False)
    experts = {name: _outline(name, recipe, backbone) for name in recipe.active_experts()}
    hidden = backbone.hidden_size
    heads = {name: _head_size(recipe, hidden, expert.feature_dim) for name, expert in experts.items()}
    samples = round(row.seconds * backbone.audio_spec.sampling_rate)
    audio = backbone.num_audio_tokens(samples) if samples else 0
    think = recipe.thinking.num_think_tokens(audio) + 2 if recipe.thinking.enabled and audio else 0
    tokens = audio + think + row.text_tokens
    lora = _lora_size(recipe, backbone)
    rows_trained = 3 * hidden if recipe.train_embeddings == "rows" else count(backbone.embedding)
    language = count(backbone.language_model) + count(backbone.lm_head)
    tower = count(backbone.model) - language
    parameters = {
        "tower and projector": tower,
        "language model": language,
        "LoRA": lora,
        "token rows": rows_trained if recipe.thinking.enabled else 0,
        "heads": sum(heads.values()),
        "experts": sum(count(expert) for expert in experts.values()),
    }
    projector = count(backbone.projector) if recipe.train.trained("projector") else 0
    trained = lora + projector + parameters["token rows"] + parameters["heads"]
    config = backbone.model.config.get_text_config()
    layers = int(config.num_hidden_layers)
    memory = _memory(recipe, parameters, trained, tokens, layers, hidden, row, int(config.vocab_size))
    stages = [
        _stage(recipe, index, backbone, experts, heads, tokens, think, row, lora) for index in range(len(recipe.stages))
    ]
    return Cost(parameters, trained, tokens, memory, stages)


def _stage(
    recipe: Recipe, index: int, backbone: Backbone, experts: Mapping[str, Expert], heads: Mapping[str, int],
    tokens: int, think: int, row: Row, lora: int,
) -> StageCost:  # fmt: skip
    stage = recipe.stages[index]
    forward = language_flops(backbone, tokens, logits=row.response_tokens)
    passes = 3 if recipe.training.gradient_checkpointing else 2  # forward, backward to inputs, forward again
    tower_passes = 2 if recipe.train.trained("audio_tower") else 1
    cached = recipe.data.cache is not None
    work = {
        "language model": passes * forward + 6 * lora * tokens,
        "tower": 0.0 if cached and recipe.data.cache_embeddings else tower_passes * tower_flops(backbone, row.seconds),
        "heads": sum(6 * heads[name] * max(think - 2, 0) for name in stage.experts),
        "experts": 0.0
        if cached
        else sum(experts[name].gflops_per_second * 1e9 * row.seconds for name in stage.experts),
    }
    rows = stage.steps * recipe.training.batch_size
    total = sum(work.values())
    return StageCost(stage.name, rows, total * rows, {name: part / total for name, part in work.items()})


def _memory(
    recipe: Recipe, parameters: Mapping[str, int], trained: int, tokens: int, layers: int, hidden: int, row: Row,
    vocabulary: int,
) -> dict[str, float]:  # fmt: skip
    each: float = FP32 if recipe.training.precision == "fp32" else BF16
    # Embedding and output layer are not quantised; NF4 keeps a scale for every 64 weights.
    plain = 2 * vocabulary * hidden
    body = FOUR_BIT if recipe.backbone.load_in_4bit else each
    frozen = each * (parameters["tower and projector"] + plain) + body * (parameters["language model"] - plain)
    rows = recipe.training.micro_batch_size
    if recipe.training.micro_batch_tokens:
        rows = max(1, min(rows, recipe.training.micro_batch_tokens // tokens))
    held = rows * tokens * hidden
    # A layer's inputs where it is computed again, or what its backward pass reads: 34 numbers a position.
    activations = held * each * (layers + 17) if recipe.training.gradient_checkpointing else held * 17 * each * layers
    return {
        "frozen weights": frozen,
        "trained weights, gradients, optimizer": trained * (FP32 + FP32 + ADAM),
        "experts": 0.0 if recipe.data.cache else parameters["experts"] * FP32,
        "activations": activations,
        "logits": rows * row.response_tokens * vocabulary * 3 * FP32,
    }


def _outline(name: str, recipe: Recipe, backbone: Backbone) -> Expert:
    """An expert of the right size; published ones without their weights."""
    options = dict(recipe.experts.get(name, {}))
    if issubclass(expert_class(str(options.get("kind", name))), PretrainedExpert):
        options["weights"] = RANDOM
        with torch.device("meta"):
            return make_expert(name, options, hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
    options.pop("decoder", None)
    return make_expert(name, options, hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)


def _head_size(recipe: Recipe, hidden: int, feature_dim: int) -> int:
    heads = recipe.heads
    with torch.device("meta"):
        made = make_head(heads.kind, hidden, feature_dim, num_heads=heads.num_heads, ffn_ratio=heads.ffn_ratio)
    return count(made)


def _lora_size(recipe: Recipe, backbone: Backbone) -> int:
    parts = {
        "language_model": recipe.lora.target_modules or backbone.lora_targets,
        "audio_tower": backbone.tower_lora_targets,
    }
    patterns = [re.compile(pattern) for part, pattern in parts.items() if recipe.train.trained(part)]
    return sum(
        recipe.lora.rank * (module.in_features + module.out_features)
        for name, module in backbone.model.named_modules()
        if isinstance(module, nn.Linear) and any(pattern.fullmatch(name) for pattern in patterns)
    )
