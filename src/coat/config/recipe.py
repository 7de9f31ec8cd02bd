"""The typed recipe. Every field of a recipe file is here, with its default and meaning."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from coat.config.thinking import ThinkingConfig
from coat.hub import MINIATURE, POCKET

Weight = float | Literal["auto"]
# How a run gets on, not what comes of it: a run that was stopped may go on with others.
FREE_FIELDS = frozenset((
    "training.micro_batch_size", "training.micro_batch_tokens", "training.gradient_checkpointing", "training.workers",
    "training.save_steps", "training.keep_checkpoints", "training.logging_steps", "training.report_to",
    "training.max_bad_steps", "data.cache", "data.on_bad_row",
))  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BackboneConfig(_Part):
    """The pretrained model."""

    family: str = Field("qwen2_audio", description="Family of audio language models.")
    path: str | None = Field(
        None, description="Hub id, folder, miniature or pocket; the family's usual checkpoint if left out."
    )
    load_in_4bit: bool = Field(
        False, description="Train on a language model held in four bits (bitsandbytes): for one small GPU."
    )


class LoraConfig(_Part):
    """LoRA, on the language model unless train says otherwise (App. A)."""

    rank: int = Field(16, ge=1, description="Rank r of the two factors.")
    alpha: int = Field(32, ge=1, description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="On the adapters' inputs.")
    target_modules: str | None = Field(
        None, description="Regular expression over module names; the family's own if None."
    )


class TrainConfig(_Part):
    """Parts of the backbone that are trained, beside the three token rows and the heads.

    The paper trains LoRA on the language model alone (App. A). A number trains a part at that learning rate, in every
    stage; a word, at the stage's.
    """

    language_model: float | Literal["lora", "frozen"] = Field("lora", description="By LoRA, or not at all.")
    projector: float | Literal["full", "frozen"] = Field(
        "frozen", description="From the tower's states to the language model's size: whole, or not at all."
    )
    audio_tower: float | Literal["lora", "frozen"] = Field(
        "frozen", description="By LoRA, or not at all; a tower that is trained runs for every row."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _rates_are_numbers(cls, value: Any) -> Any:
        if isinstance(value, bool):  # pydantic would take true for a rate of 1
            raise ValueError(f"give frozen, a way to train it or a learning rate, not {str(value).lower()}")
        return value

    @field_validator("*")
    @classmethod
    def _rates_are_positive(cls, value: Any) -> Any:
        if isinstance(value, float) and value <= 0:
            raise ValueError(f"a learning rate is positive, not {value}")
        return value

    def trained(self, part: str) -> bool:
        """Whether a part is trained, by its name here."""
        return getattr(self, part) != "frozen"

    def learning_rates(self) -> dict[str, float]:
        """Learning rates of the parts that have their own."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, float)}


class HeadConfig(_Part):
    """Projection heads P_k (Eq. 3)."""

    kind: Literal["transformer", "linear"] = Field(
        "transformer", description="One Transformer block and a linear layer, or the linear layer alone."
    )
    num_heads: int = Field(8, ge=1, description="Attention heads.")
    ffn_ratio: float = Field(4.0, gt=0, description="Feed-forward width over d.")


class StageConfig(_Part):
    """One stage of training: its own steps, learning rate and experts (§3.4)."""

    name: str = Field(description="Names the stage's folder and its lines in metrics.jsonl.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    learning_rate: float = Field(1e-4, gt=0, description="Peak; the schedule starts anew in every stage.")
    experts: dict[str, Weight] = Field(
        default_factory=dict, description="Active experts A_s and their weights w_k; 'auto' calibrates."
    )
    expert_scale: float = Field(1.0, gt=0, description="Times every weight: what all experts weigh against answers.")

    @field_validator("experts")
    @classmethod
    def _weights_are_positive(cls, value: dict[str, Weight]) -> dict[str, Weight]:
        for name, weight in value.items():
            if weight != "auto" and weight <= 0:
                raise ValueError(f"the weight of {name} must be positive or 'auto', got {weight}")
        return value


class GroupConfig(_Part):
    """A task group of a mixture (App. A)."""

    share: float = Field(gt=0, description="Share of what is drawn; shares need not add up to one.")
    sources: list[str] = Field(min_length=1, description="Manifests; rows are drawn uniformly from all of them.")


class MixtureConfig(_Part):
    """Many corpora, drawn by share (Table C)."""

    groups: dict[str, GroupConfig] = Field(min_length=1, description="Task groups by name.")
    cap: float = Field(4.0, gt=0, description="Most times that a stage draws a row.")


class DataConfig(_Part):
    """Where rows come from. ``{seed}`` in a path, as in ``start_from``, is ``training.seed``."""

    train_dataset: str | None = Field(
        None, description="Manifest (JSON Lines) to train on. {seed} in it is training.seed."
    )
    mixture: MixtureConfig | None = Field(None, description="Or many, with shares: see coat data plan.")
    eval_dataset: str | None = Field(
        None, description="Manifest to measure losses on while training; never trained on."
    )
    cache: str | None = Field(None, description="Folder of precomputed expert features; None computes them live.")
    cache_embeddings: bool = Field(
        True, description="Keep the tower's states in the cache too: large, but then the tower does not run."
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Rows whose prompt is longer are unusable; None: any length."
    )
    on_bad_row: Literal["raise", "skip"] = Field(
        "raise",
        description="At rows that cannot be read or are too long: end with an error, or leave them out and count them.",
    )
    ignore_fields: list[str] = Field(
        default_factory=list, description="Fields of rows to pass over; any other that is not known is an error."
    )
    group_by_length: bool = Field(True, description="Put clips of like length into a batch: less padding.")

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if (self.train_dataset is None) == (self.mixture is None):
            raise ValueError("give either train_dataset or mixture")
        return self

    def manifests(self) -> list[str]:
        """Every manifest, in order."""
        if self.mixture is None:
            return [str(self.train_dataset)]
        return [source for group in self.mixture.groups.values() for source in group.sources]


class TrainingConfig(_Part):
    """How to optimise. The batch size is the paper's; the other defaults are this project's."""

    batch_size: int = Field(16, ge=1, description="Effective batch: rows an optimizer step, over all processes.")
    micro_batch_size: int = Field(4, ge=1, description="At most so many rows in one forward pass of one process.")
    micro_batch_tokens: int | None = Field(
        None,
        ge=1,
        description="At most so many tokens in one forward pass, padding counted; a longer row passes alone.",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's.")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="Share of a stage's steps.")
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "cosine", description="Schedule of the learning rate after warm-up."
    )
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16 where the device has it. fp16 is left out: these backbones overflow in it."
    )
    gradient_checkpointing: bool = Field(False, description="Less memory for about a third more compute.")
    save_steps: int = Field(500, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="The newest so many of a stage are kept.")
    logging_steps: int = Field(20, ge=1, description="Steps between lines of metrics.")
    eval_steps: int = Field(500, ge=1, description="Steps between measurements on data.eval_dataset.")
    keep: Literal["last", "best"] = Field(
        "last", description="Weights that a stage ends with; best: of the least held-out cross-entropy."
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Measurements without a better one, after which a stage ends early; None: never."
    )
    report_to: list[str] = Field(
        default_factory=list,
        description="Loggers of transformers, such as wandb; TensorBoard is always there.",
    )
    max_bad_steps: int = Field(
        10, ge=1, description="Steps whose gradient is not finite are left out; so many in a row stop the run."
    )
    calibration_clips: int = Field(256, ge=1, description="Clips for 'auto' weights.")
    workers: int = Field(0, ge=0, description="Processes that decode audio; 0 decodes in the training process.")
    seed: int = Field(0, description="Seed of weights, order and dropout.")


class Recipe(_Part):
    """A whole training run; docs/recipes.md has every field.

    Example:
        >>> from coat.config.reading import parse_recipe
        >>> stage = {"name": "pitch", "steps": 800, "experts": {"basic_pitch": "auto"}}
        >>> recipe = parse_recipe({"stages": [stage], "data": {"train_dataset": "train.jsonl"}})
        >>> recipe.backbone.family, recipe.lora.rank, recipe.active_experts()
        ('qwen2_audio', 16, ['basic_pitch'])
    """

    backbone: BackboneConfig = BackboneConfig()
    start_from: str | None = Field(
        None,
        description="Finished run, or adapter of coat export --adapter-only, whose trained weights this run begins "
        "with: LoRA, projector, token rows, and the heads of experts that both have.",
    )
    thinking: ThinkingConfig = ThinkingConfig()
    train: TrainConfig = TrainConfig()
    lora: LoraConfig = LoraConfig()
    heads: HeadConfig = HeadConfig()
    train_embeddings: Literal["rows", "full"] = Field(
        "rows", description="Train the three token rows (App. A), or the whole embedding (§3.4's other reading)."
    )
    experts: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Options of experts, such as basic_pitch: {aux_weight: 2}."
    )
    stages: list[StageConfig] = Field(min_length=1)
    data: DataConfig
    training: TrainingConfig = TrainingConfig()

    @field_validator("backbone", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """``backbone: miniature``, or ``pocket``: models whose family is known by their names."""
        if isinstance(value, str):
            if value not in (MINIATURE, POCKET):
                raise ValueError(f"'{value}' is no set of fields: write backbone: {{family: ..., path: {value}}}")
            return {"path": value}
        return value

    @model_validator(mode="after")
    def _experts_need_a_block(self) -> Recipe:
        asked = [stage.name for stage in self.stages if stage.experts]
        if asked and not self.thinking.enabled:
            raise ValueError(
                f"stages {', '.join(asked)} have experts but thinking.enabled is false: there is nothing to supervise"
            )
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stage names must differ, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _trained_towers_run(self) -> Recipe:
        if self.train.trained("audio_tower") and self.data.cache and self.data.cache_embeddings:
            raise ValueError("the states of a tower that is trained cannot be kept: set data.cache_embeddings: false")
        return self

    @model_validator(mode="after")
    def _best_needs_rows(self) -> Recipe:
        if self.data.eval_dataset is None and (
            self.training.keep == "best" or self.training.early_stopping_patience is not None
        ):
            raise ValueError("training.keep: best and training.early_stopping_patience need data.eval_dataset")
        return self

    def seeded(self, seed: int | None = None) -> Recipe:
        """This recipe with a seed of training, its own if None, in place of every ``{seed}`` of its paths.

        Runs of several seeds may so have rows of their own, or begin with runs of their own.

        Example:
            >>> from coat.config.reading import parse_recipe
            >>> raw = {"stages": [{"name": "hear", "steps": 8}], "data": {"train_dataset": "rows-{seed}.jsonl"}}
            >>> parse_recipe(raw).seeded(3).data.train_dataset
            'rows-3.jsonl'
        """
        raw = self.model_dump()
        raw["training"]["seed"] = seed = self.training.seed if seed is None else seed
        for part in ("start_from", "data"):
            raw[part] = _with_seed(raw[part], seed)
        return Recipe.model_validate(raw)

    def active_experts(self) -> list[str]:
        """Every expert that some stage uses, in order of appearance."""
        return list(dict.fromkeys(name for stage in self.stages for name in stage.experts))

    def differs_from(self, other: Recipe) -> list[str]:
        """Fields that change what comes of a run and are not the same, one a line: ``name: other's, now this one's``.

        A run that was stopped goes on with another size of its passes, other workers, checkpoints and logs: its losses
        are the same but for rounding.
        """
        ours, theirs = _flat(self.model_dump()), _flat(other.model_dump())
        names = [name for name in dict.fromkeys([*theirs, *ours]) if name not in FREE_FIELDS]
        differ = [name for name in names if theirs.get(name) != ours.get(name)]
        return [f"{name}: {theirs.get(name)!r}, now {ours.get(name)!r}" for name in differ]

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)


def _with_seed(value: Any, seed: int) -> Any:
    """Text, and what is in lists and fields, with the seed in place of ``{seed}``."""
    if isinstance(value, str):
        return value.replace("{seed}", str(seed))
    if isinstance(value, list):
        return [_with_seed(item, seed) for item in value]
    return {name: _with_seed(item, seed) for name, item in value.items()} if isinstance(value, dict) else value


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested fields, by dotted names."""
    if isinstance(value, dict) and value:
        inside = [_flat(item, f"{name}.{key}" if name else key) for key, item in value.items()]
        return {path: leaf for part in inside for path, leaf in part.items()}
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return {path: leaf for i, item in enumerate(value) for path, leaf in _flat(item, f"{name}[{i}]").items()}
    return {name: value}
