"""The arms that the small world compares: the paper's ladder (Table 4), at the size of a laptop."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coat.config.recipe import Recipe, parse_recipe
from coat.miniature.corpus import CorpusSize

# Answers to these are scarce: a few clips are labelled, every clip is heard by the experts.
SCARCE_TASKS = ("mood", "pitch_class")
RECONSTRUCTION = ("audio_reconstruction",)
ALL_EXPERTS = ("audio_reconstruction", "standin_speech", "standin_affect", "basic_pitch")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: For tables.
        think: With thinking blocks.
        stages: The experts of each stage.
        trained: False leaves the backbone as it is.
    """

    title: str
    think: bool = True
    stages: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    trained: bool = True


ARMS: dict[str, Arm] = {
    "baseline": Arm("frozen baseline", think=False, trained=False),
    "sft": Arm("fine-tuning alone", think=False),
    "block": Arm("+ thinking block"),
    "coat": Arm("+ all experts (CoAT)", stages=(RECONSTRUCTION, ALL_EXPERTS)),
}


@dataclass(frozen=True)
class Settings:
    """What every arm shares.

    Attributes:
        size: Clips of the corpus.
        pretrain_steps: Steps of pre-training of the tiny backbone.
        labelled_clips: Clips with an answer for each scarce task.
        label_repeats: How often such an answer is in the mixture.
        stage_steps: Optimizer steps of the two stages.
        batch_size: Rows a step.
        learning_rate: Peak of both stages.
        rank: Rank of LoRA.
        items_per_task: Held-out questions a task, at most.
    """

    size: CorpusSize = field(default_factory=CorpusSize)
    pretrain_steps: int = 2000
    labelled_clips: int = 200
    label_repeats: int = 3
    stage_steps: tuple[int, int] = (150, 650)
    batch_size: int = 16
    learning_rate: float = 4e-3
    rank: int = 16
    items_per_task: int = 150


def arm_recipe(arm: Arm, settings: Settings, *, backbone: Path, manifest: Path, cache: Path, seed: int) -> Recipe:
    """The recipe of an arm: the same data, steps, rates and seed for each."""
    raw: dict[str, Any] = {
        "backbone": {"family": "qwen2_audio", "path": str(backbone)},
        "thinking": {"enabled": arm.think},
        "lora": {"rank": settings.rank, "alpha": 2 * settings.rank},
        "heads": {"num_heads": 2, "ffn_ratio": 2.0},
        "stages": [
            {"name": name, "steps": steps, "learning_rate": settings.learning_rate, "experts": dict.fromkeys(k, "auto")}
            for name, steps, k in zip(("warm-up", "experts"), settings.stage_steps, arm.stages, strict=True)
        ],
        "data": {"train_dataset": str(manifest), "cache": str(cache)},
        "training": {
            "batch_size": settings.batch_size,
            "micro_batch_size": settings.batch_size,
            "save_steps": 200,
            "keep_checkpoints": 1,
            "logging_steps": max(1, min(25, sum(settings.stage_steps) // 20)),
            "seed": seed,
        },
    }
    return parse_recipe(raw, f"the recipe of {arm.title}")
