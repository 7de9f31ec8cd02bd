"""A family's own processor, whose ids hold the thinking block.

Whatever takes a processor (``generate``, pipelines, trainers, servers, evaluation kits) then thinks without
knowing: ``apply_chat_template(..., add_generation_prompt=True, tokenize=True)`` and ``__call__`` return ids
with the block in place. An export carries this file and the modules it imports, for those without the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from coat.audio.limits import problem_of
from coat.backbones.processors import family_processor, feature_names
from coat.config.thinking import ThinkingConfig
from coat.thinking.block import insert_blocks, insert_filler, plan_blocks, positions_at_audio, refuse_think_tokens
from coat.thinking.tokens import THINK, THINK_END, THINK_START, ThinkTokens

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
        max_seconds: The longest clip; what is longer is refused, never truncated.
        thinking: Settings of the block, or their fields; blocks are left out where it is not enabled.

    Example:
        >>> import numpy as np
        >>> from coat import CoatModel
        >>> processor = CoatModel.from_pretrained("miniature").model.processor()
        >>> content = [{"type": "audio", "audio": np.ones(16_000) * 0.1}, {"type": "text", "text": "What is heard?"}]
        >>> content[0]["audio"][::2] *= -1
        >>> inputs = processor.apply_chat_template(
        ...     [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
        ... )
        >>> inputs["input_ids"][0].count(processor.tokenizer.convert_tokens_to_ids("<|audio_think|>"))
        25
    """

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        chat_template: str | None = None,
        # transformers fills positional arguments alone; none of these may be left out.
        family: str = "",
        audio_token: str = "",
        assistant_header: str = "",
        max_seconds: float = 0.0,
        thinking: ThinkingConfig | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        self.family = family
        self.audio_token = audio_token
        self.assistant_header = assistant_header
        self.max_seconds = max_seconds
        self.thinking = thinking if isinstance(thinking, ThinkingConfig) else ThinkingConfig(**(thinking or {}))
        self.audio_token_id = int(tokenizer.convert_tokens_to_ids(audio_token))
        self.think_tokens = ThinkTokens(*tokenizer.convert_tokens_to_ids([THINK_START, THINK, THINK_END]))
        self._inner = family_processor(family, feature_extractor, tokenizer, chat_template)

    def __call__(
        self,
        text: Any = None,
        audio: Any = None,
        *,
        audio_think: bool = True,
        audio_think_stride: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Ids with blocks, attention mask and the features that the family's model takes.

        Args:
            text: One prompt or several, with a placeholder for each clip, or none.
            audio: Clips, ``(samples,)`` at the feature extractor's rate.
            audio_think: False leaves the block out: the plain model.
            audio_think_stride: Audio tokens for each think token; as the model is configured if None.
            **kwargs: Options of the family's own processor.

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
        thinking = self.thinking.at(audio_think_stride) if audio_think_stride else self.thinking
        return self._insert(inputs, of_text["padding_side"], thinking if audio_think else thinking.at(0))

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Content of ``processor_config.json``."""
        return {**super().to_dict(*args, **kwargs), "thinking": asdict(self.thinking)}

    def _check(self, clip: np.ndarray) -> None:
        problem = problem_of(clip, self.feature_extractor.sampling_rate, self.max_seconds)
        if problem:
            raise ValueError(f"a clip {problem.text} {problem.remedy}")

    def _insert(self, inputs: BatchFeature, side: str, thinking: ThinkingConfig) -> BatchFeature:
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
                thinking=thinking,
            )
            if thinking.enabled
            else []
            for row in rows
        ]  # fmt: skip
        rows = [insert_blocks(row, plan, self.think_tokens) for row, plan in zip(rows, plans, strict=True)]
        out: dict[str, list[list[int]]] = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
        if thinking.enabled and thinking.positions == "audio":
            audio = self.audio_token_id
            out["position_ids"] = [positions_at_audio(r, audio_token=audio, tokens=self.think_tokens) for r in rows]
        fills = {"input_ids": int(self.tokenizer.pad_token_id), "attention_mask": 0, "position_ids": 0, **PER_TOKEN}
        for name in PER_TOKEN.keys() & inputs.keys():
            kept = [_kept(row, flags) for row, flags in zip(_rows(inputs[name]), keep, strict=True)]
            out[name] = [insert_filler(row, plan, fills[name]) for row, plan in zip(kept, plans, strict=True)]
        padded = tensors or not all(all(flags) for flags in keep)
        for name, value in out.items():
            value = _pad(value, fills[name], side) if padded else value
            inputs[name] = torch.tensor(value) if tensors else value
        return inputs

    @property
    def model_input_names(self) -> list[str]:
        """Names of the model's inputs."""
        return ["input_ids", "attention_mask", "position_ids", *feature_names(self.family)]


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
