"""Audio Flamingo 3 (``nvidia/audio-flamingo-3-hf``)."""

from __future__ import annotations

import torch
from torch import Tensor

from coat.backbones.adapters import no_bitsandbytes
from coat.backbones.windows import WindowedBackbone
from coat.errors import CoatError
from coat.hub import locate

THINK_SUBFOLDER = "think"


class AudioFlamingo3(WindowedBackbone):
    """Audio Flamingo 3: AF-Whisper over windows of 30 s, a two-layer projector, Qwen2.5. One clip, up to 10 min."""

    family = "audio_flamingo3"
    hub_id = "nvidia/audio-flamingo-3-hf"
    model_class = "AudioFlamingo3ForConditionalGeneration"
    audio_token = "<sound>"
    max_clips = 1
    max_audio_len = 600.0
    # What its think mode was trained to see at the end of a question.
    think_prompt = "\nPlease think and reason about the input audio before you respond."

    def load_think_mode(self, path: str | None = None) -> None:
        """Turn on the family's own chain-of-thought mode, which thinks in text: a baseline of Table 2.

        Its adapter and embedding are merged into the weights. Append ``think_prompt`` to questions.

        Args:
            path: The checkpoint, hub id or folder, with the subfolder ``think``; the family's own if None.

        Raises:
            CoatError: The mode is not there, or does not fit the model.
        """
        with no_bitsandbytes(self.model):
            from peft import LoraConfig, get_peft_model
        from peft.utils import load_peft_weights, set_peft_model_state_dict
        from transformers.utils import cached_file

        path = locate(path or self.hub_id)
        try:
            rows = torch.load(
                cached_file(path, "non_lora_trainables.bin", subfolder=THINK_SUBFOLDER),
                map_location="cpu",
                weights_only=True,
            )
        except OSError as error:
            raise CoatError(f"{path} has no think mode: {error}", f"{self.hub_id} has one.") from None
        state = self.model.state_dict()
        rows = {name: _as_large(value, state.get(name)) for name, value in _renamed(rows, set(state)).items()}
        self._expect_nothing(self.model.load_state_dict(rows, strict=False).unexpected_keys)
        config = LoraConfig.from_pretrained(path, subfolder=THINK_SUBFOLDER)
        with no_bitsandbytes(self.model):
            peft_model = get_peft_model(self.model, config)
        adapter = load_peft_weights(path, subfolder=THINK_SUBFOLDER, device="cpu")
        known = {name.replace(".default", "") for name in peft_model.state_dict()}
        loaded = set_peft_model_state_dict(peft_model, _renamed(adapter, known))
        # Targets such as q_proj name layers of the tower too; the adapter holds none for them, and they change nothing.
        missing = [name for name in loaded.missing_keys if "lora_" in name and "language_model" in name]
        self._expect_nothing([*loaded.unexpected_keys, *missing])
        self.model = peft_model.merge_and_unload()
        self.thinks_in_text = True

    def _expect_nothing(self, names: list[str]) -> None:
        if names:
            raise CoatError(
                f"The think mode does not fit this model: {len(names)} weights differ by name, such as {names[0]}.",
                "Use the think mode of the same checkpoint.",
            )


def _as_large(value: Tensor, like: Tensor | None) -> Tensor:
    """Rows of a vocabulary in one that has grown since: the first are replaced, those that were added stay."""
    if like is None or value.shape[1:] != like.shape[1:] or len(value) >= len(like):
        return value
    return torch.cat([value.to(like), like[len(value) :]])


def _renamed(weights: dict[str, Tensor], known: set[str]) -> dict[str, Tensor]:
    """Older checkpoints say ``language_model.model.layers`` for ``model.language_model.layers``."""
    renamed = {}
    for name, value in weights.items():
        prefix, bare = ("base_model.model.", name.removeprefix("base_model.model."))
        prefix = prefix if name.startswith(prefix) else ""
        moved = bare.replace("language_model.lm_head", "lm_head")
        moved = moved.replace("language_model.model.", "model.language_model.")
        candidates = (name, prefix + moved, bare, moved)
        renamed[next((c for c in candidates if c in known), name)] = value
    return renamed
