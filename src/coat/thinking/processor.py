"""A family's own processor, whose ids hold the thinking block.

Whatever takes a processor (``generate``, pipelines, trainers, servers, evaluation kits) then thinks without
knowing: ``apply_chat_template(..., add_generation_prompt=True, tokenize=True)`` and ``__call__`` return ids
with the block in place. An export carries this file and the modules it imports, for those without the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from coat.audio.limits import problem_of
from coat.thinking.block import audio_segments, insert_blocks, insert_filler, plan_blocks, refuse_think_tokens
from coat.thinking.pace import Pace, Spans
from coat.thinking.tokens import THINK, THINK_END, THINK_START, ThinkTokens

# Families whose processor in transformers serves audio and text as it is.
STOCK = {"qwen2_audio": "Qwen2AudioProcessor", "audio_flamingo3": "AudioFlamingo3Processor"}
# Outputs with one entry a token, and what stands for "nothing" in them.
PER_TOKEN = {"labels": -100, "mm_token_type_ids": 0, "token_type_ids": 0}


class CoatProcessor(ProcessorMixin):
    """Feature extractor, tokenizer and chat template of a family, and the block.

    Args:
        feature_extractor: Waveforms to log-mel.
        tokenizer: With the three think tokens.
        chat_template: The family's own.
        family: Its key in recipes.
        audio_token: The placeholder.
        assistant_header: The text that opens an assistant turn.
        placement: Where blocks stand, see :mod:`coat.thinking.block`.
        stride: Audio tokens that one think token stands for.
        max_tokens: Think tokens of a clip at most; a longer clip gets a longer stride.
        merge_db: Neighbours that differ by less share a think token, see :mod:`coat.thinking.pace`.
        max_seconds: The longest clip; what is longer is refused, never cut.
    """

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        chat_template: str | None = None,
        family: str = "qwen2_audio",
        audio_token: str = "<|AUDIO|>",
        assistant_header: str = "<|im_start|>assistant\n",
        placement: str = "assistant_prefix",
        stride: int = 1,
        max_tokens: int | None = None,
        merge_db: float = 0.0,
        max_seconds: float = 30.0,
    ) -> None:
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        self.family = family
        self.audio_token = audio_token
        self.assistant_header = assistant_header
        self.placement = placement
        self.stride = stride
        self.max_tokens = max_tokens
        self.merge_db = merge_db
        self.max_seconds = max_seconds
        self.audio_token_id = int(tokenizer.convert_tokens_to_ids(audio_token))
        self.think_tokens = ThinkTokens(*tokenizer.convert_tokens_to_ids([THINK_START, THINK, THINK_END]))
        self._inner = _inner_processor(family, feature_extractor, tokenizer, chat_template)

    def __call__(self, text: Any = None, audio: Any = None, *, audio_think: bool = True, **kwargs: Any) -> BatchFeature:
        """Ids with blocks, attention mask and the features that the family's model takes.

        Args:
            text: One prompt or several, with a placeholder for each clip, or none.
            audio: Clips, ``(samples,)`` at the feature extractor's rate.
            audio_think: False leaves the block out: the plain model.
            **kwargs: Of the family's own processor.

        Raises:
            ValueError: A text holds think tokens, a clip cannot be heard (see :mod:`coat.audio.limits`), or audio
                has no assistant turn after it.
        """
        for clip in _flat(audio):
            self._check(clip)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("images", "videos") or value}
        # Padding is the text's alone: said to both, it would undo the windows of the feature extractor.
        given: dict[str, Any] = {name: kwargs.pop(name) for name in ("padding", "padding_side") if name in kwargs}
        of_text: dict[str, Any] = {"padding_side": "left", **given, **kwargs.pop("text_kwargs", {})}
        if of_text.get("return_tensors", kwargs.get("return_tensors")) is not None:
            of_text.setdefault("padding", True)
        clips = None if audio is None else list(_flat(audio))
        inputs = self._inner(text=text, audio=clips, text_kwargs=of_text, **kwargs)
        return self._insert(inputs, clips or [], of_text["padding_side"], audio_think)

    @property
    def pace(self) -> Pace:
        """How many audio tokens a think token stands for."""
        return Pace(self.stride, self.max_tokens, self.merge_db)

    def _check(self, clip: np.ndarray) -> None:
        problem = problem_of(clip, self.feature_extractor.sampling_rate, self.max_seconds)
        if problem:
            raise ValueError(f"a clip {problem.text} {problem.remedy}")

    def _insert(self, inputs: BatchFeature, clips: list[np.ndarray], side: str, audio_think: bool) -> BatchFeature:
        """Take padding off, put blocks in, pad again."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        tensors = isinstance(ids, torch.Tensor)
        keep = [[bool(flag) for flag in row] for row in _rows(mask)]
        rows = [_kept(row, flags) for row, flags in zip(_rows(ids), keep, strict=True)]
        header = self.tokenizer(self.assistant_header, add_special_tokens=False)["input_ids"]
        refuse_think_tokens(rows, self.think_tokens)
        plans = [
            plan_blocks(
                row, audio_token=self.audio_token_id, assistant_header=header, tokens=self.think_tokens,
                placement=self.placement, spans=spans,  # type: ignore[arg-type]
            )
            for row, spans in zip(rows, self._spans(rows, clips), strict=True)
        ] if audio_think else [[] for _ in rows]  # fmt: skip
        rows = [insert_blocks(row, plan, self.think_tokens) for row, plan in zip(rows, plans, strict=True)]
        out: dict[str, list[list[int]]] = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
        fills = {"input_ids": int(self.tokenizer.pad_token_id), "attention_mask": 0, **PER_TOKEN}
        for name in PER_TOKEN.keys() & inputs.keys():
            kept = [_kept(row, flags) for row, flags in zip(_rows(inputs[name]), keep, strict=True)]
            out[name] = [insert_filler(row, plan, fills[name]) for row, plan in zip(kept, plans, strict=True)]
        padded = tensors or not all(all(flags) for flags in keep)
        for name, value in out.items():
            value = _pad(value, fills[name], side) if padded else value
            inputs[name] = torch.tensor(value) if tensors else value
        return inputs

    def _spans(self, rows: list[list[int]], clips: list[np.ndarray]) -> Iterator[list[Spans]]:
        """Of every row's clips."""
        waveforms = iter(clips)
        for row in rows:
            yield [self.pace.spans(length, next(waveforms)) for _, length in audio_segments(row, self.audio_token_id)]

    @property
    def model_input_names(self) -> list[str]:
        """What the family's model takes."""
        features = "input_features_mask" if self.family == "audio_flamingo3" else "feature_attention_mask"
        return ["input_ids", "attention_mask", "input_features", features]


class OmniAudioProcessor:
    """What the processors of the Omni families do to audio and text.

    The stock ones cannot be made without torchvision, which they use for images alone; ids and features are
    the same.

    Args:
        feature_extractor: Waveforms to log-mel.
        tokenizer: The family's.
        family: ``qwen2_5_omni`` or ``qwen3_omni``.
    """

    def __init__(self, feature_extractor: Any, tokenizer: Any, family: str) -> None:
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer
        self.family = family
        self.audio_token = tokenizer.audio_token

    def __call__(
        self, text: Any, audio: list[np.ndarray] | None = None, *, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        """See :meth:`CoatProcessor.__call__`."""
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
        return head + "".join(self.audio_token * next(counts) + piece for piece in tail)

    def _features(self, audio: list[np.ndarray]) -> dict[str, Any]:
        extractor = self.feature_extractor
        hop = int(extractor.hop_length)
        options: dict[str, Any] = {"padding": True, "truncation": False}
        if self.family == "qwen2_5_omni":
            # The family pads to 300 s before the transform; padding that the transform cannot see is left out.
            longest = max(-(-len(clip) // hop) for clip in audio) * hop + extractor.n_fft
            options = {"padding": "max_length", "max_length": min(longest, extractor.n_samples)}
        features = extractor(
            audio, sampling_rate=extractor.sampling_rate, return_attention_mask=True, return_tensors="np", **options
        )
        mask = features["attention_mask"]
        longest = int(mask.sum(-1).max())
        return {
            "input_features": features["input_features"][..., :longest],
            "feature_attention_mask": mask[:, :longest],
            "num_audio_tokens": [self._tokens(int(frames)) for frames in mask.sum(-1)],
        }

    def _tokens(self, frames: int) -> int:
        if self.family == "qwen2_5_omni":
            return ((frames - 1) // 2 + 1 - 2) // 2 + 1
        whole, rest = divmod(frames, 100)
        for _ in range(3):
            rest = (rest - 1) // 2 + 1
        return whole * 13 + rest


def _inner_processor(family: str, feature_extractor: Any, tokenizer: Any, chat_template: str | None) -> Any:
    if family not in STOCK:
        return OmniAudioProcessor(feature_extractor, tokenizer, family)
    import transformers

    return getattr(transformers, STOCK[family])(feature_extractor, tokenizer, chat_template=chat_template)


def _flat(audio: Any) -> Iterator[np.ndarray]:
    """Clips, out of one, a list, or a list for each conversation."""
    if audio is None:
        return
    if isinstance(audio, str):
        raise TypeError("clips are arrays here; apply_chat_template loads files and URLs")
    if isinstance(audio, list | tuple) and not (audio and np.isscalar(audio[0])):
        for part in audio:
            yield from _flat(part)
    else:
        yield np.asarray(audio, dtype=np.float32)


def _rows(value: Any) -> list[list[int]]:
    return value.tolist() if hasattr(value, "tolist") else [list(row) for row in value]


def _kept(row: list[int], flags: list[bool]) -> list[int]:
    return [item for item, flag in zip(row, flags, strict=True) if flag]


def _pad(rows: list[list[int]], fill: int, side: str) -> list[list[int]]:
    longest = max(len(row) for row in rows)
    if side == "left":
        return [[fill] * (longest - len(row)) + row for row in rows]
    return [row + [fill] * (longest - len(row)) for row in rows]
