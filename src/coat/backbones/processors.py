"""Every family's own processor for audio and text, which :class:`coat.CoatProcessor` wraps. Exports carry this file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from transformers import BatchFeature

from coat.backbones.token_counts import FRAMES_PER_VOXTRAL_TOKEN, chunked_frames, gemma4_tokens, pooled_frames

# Families whose processor in transformers serves audio and text as it is.
STOCK = {
    "qwen2_audio": "Qwen2AudioProcessor",
    "audio_flamingo3": "AudioFlamingo3Processor",
    "music_flamingo": "MusicFlamingoProcessor",
    "glm_asr": "GlmAsrProcessor",
}
# Families whose model calls the mask of its features otherwise, or takes none.
MASK = dict.fromkeys(("audio_flamingo3", "music_flamingo", "glm_asr", "gemma4"), "input_features_mask")
MASK["voxtral"] = ""


def family_processor(family: str, feature_extractor: Any, tokenizer: Any, chat_template: str | None) -> Any:
    """The family's processor: in transformers where it can be made, else one that does the same to audio and text.

    Raises:
        ValueError: No processor is known for the family.
    """
    if family in OWN:
        return OWN[family](feature_extractor, tokenizer)
    if family not in STOCK:
        raise ValueError(f"no processor is known for the family {family!r}: add it to coat.backbones.processors")
    import transformers

    return getattr(transformers, STOCK[family])(feature_extractor, tokenizer, chat_template=chat_template)


def has_processor(family: str) -> bool:
    """Whether :func:`family_processor` knows the family."""
    return family in STOCK or family in OWN


def feature_names(family: str) -> list[str]:
    """Names of the model's audio inputs: the features, and their mask where there is one."""
    return ["input_features", *filter(None, [MASK.get(family, "feature_attention_mask")])]


class AudioTextProcessor(ABC):
    """Processor for audio and text of a family whose stock one needs torchvision, for images alone.

    Ids and features are those of the stock one.

    Args:
        feature_extractor: Waveforms to log-mel.
        tokenizer: Tokenizer of the family.

    Attributes:
        placeholder: The token that stands for a clip; the tokenizer's own ``audio_token`` if empty.
    """

    placeholder = ""

    def __init__(self, feature_extractor: Any, tokenizer: Any) -> None:
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer
        self.audio_token = self.placeholder or tokenizer.audio_token

    def __call__(
        self, text: Any, audio: list[np.ndarray] | None = None, *, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        """See the stock processor's ``__call__``."""
        of_text = kwargs.pop("text_kwargs", {})
        options = {name: value for name, value in kwargs.items() if name not in ("audio_kwargs", "sampling_rate")}
        options |= of_text
        return_tensors = options.pop("return_tensors", return_tensors)
        texts = [text] if isinstance(text, str) else list(text)
        features = self._features(audio) if audio else {}
        counts = iter(features.pop("num_audio_tokens", []))
        given, found = len(audio or []), sum(part.count(self.audio_token) for part in texts)
        if given != found:
            raise ValueError(f"{given} clips and {found} {self.audio_token} in the text: they must be equally many")
        texts = [self._expand(part, counts) for part in texts]
        if return_tensors is not None:
            options.setdefault("padding", True)
        encoded = self.tokenizer(texts, return_tensors=return_tensors, **options)
        return BatchFeature({**encoded, **features}, tensor_type=return_tensors)

    def _expand(self, text: str, counts: Iterator[int]) -> str:
        head, *tail = text.split(self.audio_token)
        return head + "".join(self._placeholders(next(counts)) + piece for piece in tail)

    def _placeholders(self, count: int) -> str:
        """Text that stands for a clip of so many audio tokens."""
        return self.audio_token * count

    @abstractmethod
    def _features(self, audio: list[np.ndarray]) -> dict[str, Any]:
        """The model's inputs of some clips, and ``num_audio_tokens`` of each."""


class Qwen3OmniAudioProcessor(AudioTextProcessor):
    """Qwen3-Omni's processor for a clip alone: nothing is filled up, and a last frame that is not whole is left out.

    The stock one fills the shorter clips of a batch up to the longest, which changes their last frames and may add one.
    """

    def _features(self, audio: list[np.ndarray]) -> dict[str, Any]:
        extractor = self.feature_extractor
        options = {"sampling_rate": extractor.sampling_rate, "padding": True, "truncation": False}
        rows = [extractor(clip, return_tensors="np", **options)["input_features"][0] for clip in audio]
        frames = np.array([len(clip) // extractor.hop_length for clip in audio])
        longest = int(frames.max())
        values = [np.pad(row[:, :n], ((0, 0), (0, longest - n))) for row, n in zip(rows, frames, strict=True)]
        return {
            "input_features": np.stack(values),
            "feature_attention_mask": (np.arange(longest) < frames[:, None]).astype(np.int32),
            "num_audio_tokens": [chunked_frames(int(count)) for count in frames],
        }


class Qwen25OmniAudioProcessor(AudioTextProcessor):
    """Qwen2.5-Omni's processor: it pads to 300 s first, of which what the transform cannot see is left out."""

    def _features(self, audio: list[np.ndarray]) -> dict[str, Any]:
        extractor = self.feature_extractor
        longest = max(-(-len(clip) // extractor.hop_length) for clip in audio) * extractor.hop_length
        features = extractor(
            audio, sampling_rate=extractor.sampling_rate, return_attention_mask=True, return_tensors="np",
            padding="max_length", max_length=min(longest + extractor.n_fft, extractor.n_samples),
        )  # fmt: skip
        frames = features["attention_mask"].sum(-1)
        kept = int(frames.max())
        return {
            "input_features": features["input_features"][..., :kept],
            "feature_attention_mask": features["attention_mask"][:, :kept],
            "num_audio_tokens": [pooled_frames(int(count)) for count in frames],
        }


class Gemma4AudioProcessor(AudioTextProcessor):
    """Gemma 4's processor, which says of each token whether it stands for text (0) or sound (3)."""

    def __call__(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """See the stock processor's ``__call__``."""
        inputs = super().__call__(*args, **kwargs)
        audio = self.tokenizer.audio_token_id
        ids = inputs["input_ids"]
        inputs["mm_token_type_ids"] = (
            3 * (ids == audio).long()
            if hasattr(ids, "long")
            else [[3 * (token == audio) for token in row] for row in ids]
        )
        return inputs

    def _placeholders(self, count: int) -> str:
        return self.tokenizer.boa_token + super()._placeholders(count) + self.tokenizer.eoa_token

    def _features(self, audio: list[np.ndarray]) -> dict[str, Any]:
        features = self.feature_extractor(audio, truncation=False, return_tensors="np")
        frames = features["input_features_mask"].sum(-1)
        return {**features, "num_audio_tokens": [gemma4_tokens(int(count)) for count in frames]}


class VoxtralAudioProcessor(AudioTextProcessor):
    """Voxtral's processor: clips are filled up to whole windows of 30 s, all of whose tokens are given to the model.

    The stock one takes no text with audio, and hands both to Mistral's own tokenizer.
    """

    placeholder = "[AUDIO]"

    def _features(self, audio: list[np.ndarray]) -> dict[str, Any]:
        clips = [whole_windows(self.feature_extractor, clip) for clip in audio]
        tokens = self.feature_extractor.nb_max_frames // FRAMES_PER_VOXTRAL_TOKEN
        return {
            "input_features": np.concatenate(clips),
            "num_audio_tokens": [len(windows) * tokens for windows in clips],
        }


def whole_windows(extractor: Any, waveform: np.ndarray) -> np.ndarray:
    """Log-mel of a clip that is filled up to whole windows of 30 s, ``(W, mels, frames)``.

    Its loudest frame sets what is silent in all of them.
    """
    made = extractor(
        waveform, sampling_rate=extractor.sampling_rate, padding=True, pad_to_multiple_of=extractor.n_samples,
        truncation=False, return_tensors="np",
    )  # fmt: skip
    features = made["input_features"][0]
    return np.stack(np.split(features, features.shape[-1] // extractor.nb_max_frames, axis=-1))


OWN: dict[str, Callable[[Any, Any], AudioTextProcessor]] = {
    "qwen2_5_omni": Qwen25OmniAudioProcessor,
    "qwen3_omni": Qwen3OmniAudioProcessor,
    "gemma4": Gemma4AudioProcessor,
    "voxtral": VoxtralAudioProcessor,
}
