"""Audio Flamingo 3 (``nvidia/audio-flamingo-3-hf``)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from coat.backbones.adapters import no_bitsandbytes
from coat.backbones.base import AudioFeatures
from coat.backbones.whisper import WhisperBackbone, log_mel, mel_frames
from coat.errors import CoatError
from coat.hub import locate

THINK_SUBFOLDER = "think"


class AudioFlamingo3(WhisperBackbone):
    """Audio Flamingo 3: AF-Whisper over windows of 30 s, a two-layer projector, Qwen2.5. One clip, up to 10 min.

    Attributes:
        max_audio_len: The longest clip in seconds, as the checkpoint's processor has it. That processor cuts what is
            longer, with a warning; here it is refused by name.
    """

    family = "audio_flamingo3"
    hub_id = "nvidia/audio-flamingo-3-hf"
    model_class = "AudioFlamingo3ForConditionalGeneration"
    audio_token = "<sound>"
    max_clips = 1
    max_audio_len: float = 600.0
    # What its think mode was trained to see at the end of a question.
    think_prompt = "\nPlease think and reason about the input audio before you respond."

    @classmethod
    def from_pretrained(cls, path: str, **options: Any) -> Self:
        """See :meth:`Backbone.from_pretrained`; the longest clip is what the processor says."""
        import transformers

        backbone = super().from_pretrained(path, **options)
        fields, _ = transformers.ProcessorMixin.get_processor_dict(path)
        backbone.max_audio_len = float(fields.get("max_audio_len") or fields.get("max_seconds") or cls.max_audio_len)
        backbone.audio_spec = backbone._audio_spec()
        return backbone

    @property
    def _max_seconds(self) -> float:
        """Processors cut to whole windows."""
        window = self.feature_extractor.chunk_length
        return float(self.max_audio_len // window * window)

    def num_audio_tokens(self, num_samples: int) -> int:
        """See :meth:`Backbone.num_audio_tokens`: the sum over windows, as the tower gives them."""
        extractor = self.feature_extractor
        whole, rest = divmod(num_samples, extractor.n_samples)
        tail = self.window_tokens(mel_frames(extractor, rest)) if rest else 0
        return whole * self.window_tokens(extractor.nb_max_frames) + tail

    def audio_features(self, waveforms: list[np.ndarray]) -> AudioFeatures:
        """Log-mel ``(W, mels, frames)`` of the windows of all clips; a short clip costs what is in it."""
        size = self.feature_extractor.n_samples
        cut = [[wave[i : i + size] for i in range(0, len(wave), size)] for wave in waveforms]
        pieces = [piece for pieces in cut for piece in pieces]
        values, lengths = log_mel(self.feature_extractor, pieces, look_ahead=self.look_ahead)
        counts = torch.tensor([self.num_audio_tokens(len(wave)) for wave in waveforms])
        return AudioFeatures(values, lengths, counts, torch.tensor([len(pieces) for pieces in cut]))

    def encode(self, features: AudioFeatures) -> list[Tensor]:
        """See :meth:`Backbone.encode`."""
        rows = self.encode_windows(features)
        assert features.windows is not None
        ends = features.windows.cumsum(0).tolist()
        return [torch.cat(rows[end - n : end]) for end, n in zip(ends, features.windows.tolist(), strict=True)]

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
