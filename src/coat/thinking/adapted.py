"""A backbone and what is trained of it: LoRA, rows of the embedding, the projector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any, Literal, Self

from torch import Tensor, autocast, bfloat16, float16, nn

from coat.backbones.adapters import no_bitsandbytes
from coat.backbones.base import Backbone
from coat.errors import CoatError
from coat.thinking.shards import in_shards, whole


class AdaptedModel(nn.Module):
    """A frozen backbone, and a PEFT adapter on it once there is one.

    Args:
        backbone: A loaded backbone; its weights are frozen.

    Attributes:
        trained_tokens: Ids of the tokens whose embeddings train with LoRA.
    """

    trained_tokens: Sequence[int] = ()

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        # PEFT's wrapper holds the same modules as the backbone; a list keeps it from being registered twice.
        self._peft: list[Any] = []

    @property
    def peft(self) -> Any:
        """PEFT's view of the backbone, or None before LoRA is added."""
        return self._peft[0] if self._peft else None

    def add_lora(
        self,
        *,
        rank: int,
        alpha: int,
        dropout: float = 0.0,
        targets: str | None = None,
        train_embeddings: Literal["rows", "full"] = "rows",
        language_model: bool = True,
        audio_tower: bool = False,
        projector: bool = False,
    ) -> list[str]:
        """Adapt the language model with LoRA, and train the three token rows where there are blocks (App. A).

        Beyond the paper, the audio tower can be adapted too, and the projector be trained whole.

        Args:
            rank: r.
            alpha: Scale over r.
            dropout: On LoRA's input.
            targets: A regular expression over names of the language model's modules; the family's own if None.
            train_embeddings: The three rows, or the whole token embedding.
            language_model: Whether LoRA adapts the language model.
            audio_tower: Whether it adapts the audio tower.
            projector: Whether all weights of the projector are trained.

        Returns:
            The names of the adapted modules.

        Raises:
            CoatError: Nothing would be trained, or the expression matches nothing or reaches outside the language
                model.
        """
        with no_bitsandbytes(self.backbone.model):
            from peft import LoraConfig, get_peft_model
            from peft.utils.constants import DUMMY_TARGET_MODULES

        backbone = self.backbone
        tables, whole = backbone.token_tables, list(backbone.projector_modules if projector else ())
        rows = None
        if train_embeddings == "full":
            whole += tables
        elif self.trained_tokens:
            rows = {table: list(self.trained_tokens) for table in tables}
        expressions = [
            *([targets or backbone.lora_targets] if language_model else ()),
            *([backbone.tower_lora_targets] if audio_tower else ()),
        ]
        if not (expressions or whole or rows):
            raise CoatError("The recipe trains nothing.", "Set a part in train: language_model: lora")
        elsewhere = rf"(?!{backbone.within_language_model}).*"
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=_either(expressions) if expressions else DUMMY_TARGET_MODULES,
            # For mixtures of experts PEFT turns the expression into bare layer names, which the tower has too.
            exclude_modules=None if targets or audio_tower or not language_model else elsewhere,
            trainable_token_indices=rows,
            modules_to_save=whole or None,
        )
        try:
            with no_bitsandbytes(self.backbone.model):
                self._attach(get_peft_model(backbone.model, config))
        except ValueError as error:
            raise CoatError(
                f"LoRA found no module to adapt: {error}", "Check lora.target_modules in the recipe."
            ) from None
        self._train_in_full_precision()
        return self._check_adapted(audio_tower=audio_tower)

    def load_adapter(self, folder: str, *, trainable: bool = False) -> list[str]:
        """Load LoRA weights and token rows that :meth:`save_adapter` wrote.

        Raises:
            CoatError: They are those of another model, or of another layout of transformers.
        """
        with no_bitsandbytes(self.backbone.model):
            from peft import PeftModel, set_peft_model_state_dict
        from safetensors.torch import load_file

        if self.peft is not None:  # resuming: the adapter exists, its weights change
            held = {name.replace(".default", ""): value for name, value in self.peft.state_dict().items()}
            weights = load_file(f"{folder}/adapter_model.safetensors")
            set_peft_model_state_dict(self.peft, in_shards(weights, held))
        else:
            try:
                with no_bitsandbytes(self.backbone.model):
                    self._attach(PeftModel.from_pretrained(self.backbone.model, folder, is_trainable=trainable))
            except ValueError as error:
                raise CoatError(
                    f"The adapter in {folder} fits no layer of this model: {error}",
                    "Take the base, and the side of transformers 5.21, that it was trained with; both read exports.",
                ) from None
            self._train_in_full_precision()
        return self._check_adapted()

    def _train_in_full_precision(self) -> None:
        """In half precision a small step is rounded away: at 1e-5 five of six weights would never move."""
        for parameter in self.backbone.model.parameters():
            if parameter.requires_grad and parameter.dtype in (float16, bfloat16):
                parameter.data = parameter.data.float()

    def mixed_precision(self) -> AbstractContextManager[object]:
        """Lets what is trained of tower and projector, in float32, read a backbone in half precision."""
        backbone = self.backbone
        parameters = chain(backbone.audio_tower.parameters(), backbone.projector.parameters())
        if backbone.dtype in (float16, bfloat16) and any(each.requires_grad for each in parameters):
            return autocast(backbone.device.type, dtype=backbone.dtype)
        return nullcontext()

    def hearing_adapters(self) -> list[Any]:
        """PEFT's layers in tower and projector; none where a recipe leaves both frozen."""
        modules = chain(self.backbone.audio_tower.modules(), self.backbone.projector.modules())
        return [each for each in modules if hasattr(each, "_disable_adapters")] if self.peft is not None else []

    @contextmanager
    def hearing_as_it_began(self) -> Iterator[None]:
        """Tower and projector as they are in the checkpoint, without what was trained of them.

        PEFT's own ``disable_adapter`` would turn gradients of the whole model off, and on again.
        """
        layers = self.hearing_adapters()
        for layer in layers:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in layers:
                layer._disable_adapters = False

    def adapter_weights(self) -> dict[str, Tensor]:
        """LoRA weights and token rows by PEFT's names; where processes hold shards of them, all must ask."""
        parts = ("lora_", "trainable_tokens", "modules_to_save")
        return {n: whole(value) for n, value in self.peft.state_dict().items() if any(part in n for part in parts)}

    def save_adapter(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write LoRA weights and token rows as a standard PEFT adapter (safetensors)."""
        # "auto" would look the base up on the hub to see whether its embedding has grown.
        state = dict(self.adapter_weights() if weights is None else weights)
        self.peft.save_pretrained(folder, save_embedding_layers=False, state_dict=state)

    def adapter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that :meth:`save_adapter` writes, by their names in the file."""
        from peft import get_peft_model_state_dict

        saved = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        return {name: tuple(value.shape) for name, value in saved.items()}

    def merge_adapter(self) -> None:
        """Fold LoRA and token rows into the backbone's weights; what remains is a plain model."""
        if self.peft is not None:
            self.backbone.model = self.peft.merge_and_unload()
            self._peft = []

    def _attach(self, peft_model: Any) -> None:
        self._peft = [peft_model]

    def _check_adapted(self, *, audio_tower: bool = True) -> list[str]:
        """Names of the modules that LoRA adapts, none of them outside the parts that it may."""
        parts = [self.backbone.language_model, *([self.backbone.audio_tower] if audio_tower else [])]
        inside = {id(module) for part in parts for module in part.modules()}
        adapted = {name: m for name, m in self.backbone.model.named_modules() if hasattr(m, "lora_A")}
        outside = [name for name, module in adapted.items() if id(module) not in inside]
        if outside:
            raise CoatError(
                f"LoRA would adapt {len(outside)} modules outside the language model, such as {outside[0]}.",
                "Narrow lora.target_modules in the recipe; train.audio_tower: lora is for the tower.",
            )
        return sorted(adapted)

    def part_of(self, name: str) -> str | None:
        """The part of the backbone that a trained weight is of: ``projector``, ``audio_tower``, ``language_model``.

        Args:
            name: The weight's, as :meth:`trainable` has it.

        Returns:
            The part, by its name in a recipe's ``train``; None for heads and token rows.
        """
        if any(f".{module}." in name for module in self.backbone.projector_modules):
            return "projector"
        if "lora_" not in name:
            return None
        return "audio_tower" if ".audio_tower." in name else "language_model"

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that gradients reach, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def train(self, mode: bool = True) -> Self:
        """Heads and LoRA change mode; the tower always evaluates."""
        super().train(mode)
        self.backbone.audio_tower.eval()
        return self


def _either(expressions: Sequence[str]) -> str:
    return expressions[0] if len(expressions) == 1 else "|".join(f"({each})" for each in expressions)
