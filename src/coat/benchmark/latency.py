"""How long an answer takes, one question at a time: to the first token, from there to the last, in all (App. C).

Time to first token begins with the decoded clip and holds features, tower and prefill.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers.generation.streamers import BaseStreamer

from coat.data.conversation import Conversation
from coat.reasoning import reasoned
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel


@dataclass(frozen=True)
class Arm:
    """A way to answer.

    Attributes:
        name: For tables.
        think: Whether there is a thinking block.
        stride: Audio tokens that one think token stands for.
        reasoning: The sentence that asks for a chain of thought first; empty for none.
        more_tokens: That the chain may take.
    """

    name: str
    think: bool = False
    stride: int = 1
    reasoning: str = ""
    more_tokens: int = 0

    def asked(self, conversation: Conversation) -> Conversation:
        """The questions that are timed."""
        if not self.reasoning:
            return conversation
        return replace(conversation, messages=reasoned(conversation.messages, self.reasoning))


@dataclass(frozen=True)
class Timing:
    """Times of one answer.

    Attributes:
        first: Seconds to the first token.
        decode: From the first to the last.
        new_tokens: Decoded.
        prompt_tokens: Tokens of the prefill.
        think_tokens: Those of them that are the blocks and their ends.
        text: The answer itself.
    """

    first: float
    decode: float
    new_tokens: int
    prompt_tokens: int
    think_tokens: int
    text: str

    @property
    def total(self) -> float:
        """Seconds of the whole answer."""
        return self.first + self.decode


class Stopwatch(Protocol):
    """Answers one question in the way of an arm, and says how long it took."""

    def __call__(self, arm: Arm, conversation: Conversation, max_new_tokens: int) -> Timing:
        """Time one answer."""
        ...


class Clock(BaseStreamer):
    """When each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """Called for the prompt, where there is one of ids, and for every token."""
        if value.numel() == 1:
            self.times.append(now())

    def end(self) -> None:
        """Nothing to do."""


class LocalStopwatch:
    """By transformers, in this process, batches of one, nothing kept from one question to the next.

    Args:
        model: Its adapter should be merged: LoRA on the side costs time in every layer.
        baseline: Answers the arms without a block; the same model if None.
    """

    def __init__(self, model: ThinkingModel, baseline: ThinkingModel | None = None) -> None:
        self.model, self.baseline = model, baseline or model

    @torch.inference_mode()
    def __call__(self, arm: Arm, conversation: Conversation, max_new_tokens: int) -> Timing:
        """See :class:`Stopwatch`."""
        model = self.model if arm.think else self.baseline
        builder = model.prompt_builder(replace(model.thinking, enabled=arm.think, stride=arm.stride))
        tokenizer = model.backbone.tokenizer
        clock = Clock()
        began = now()
        batch = make_batch(builder, [arm.asked(conversation)], padding_side="left").to(model.backbone.device)
        new = model.backbone.generate(
            **model.prepare_prefill(batch), max_new_tokens=max_new_tokens + arm.more_tokens, do_sample=False,
            suppress_tokens=list(model.tokens.ids), streamer=clock,
        )  # fmt: skip
        think = 0 if batch.think_lengths is None else int(batch.think_lengths.sum()) + 2 * len(batch.think_lengths)
        times = clock.times[-new.shape[1] :]
        (text,) = tokenizer.batch_decode(new, skip_special_tokens=True)
        return Timing(
            times[0] - began, times[-1] - times[0], new.shape[1], batch.input_ids.shape[1], think, text.strip()
        )


class VllmStopwatch:
    """By vLLM, in this process, without its caches of prefixes and of processed audio.

    Strides are settings of an export: each but the first is served from a folder of links to it, one engine after
    another.

    Args:
        folder: An export.
        scratch: Folder for links.
        **options: Options of ``vllm.LLM``.
    """

    def __init__(self, folder: str, scratch: Path, **options: Any) -> None:
        self.folder, self.scratch, self.options = folder, scratch, options
        self.stride, self.engine = 0, None

    def __call__(self, arm: Arm, conversation: Conversation, max_new_tokens: int) -> Timing:
        """See :class:`Stopwatch`."""
        from coat.evaluation.backends.endpoint import spoken
        from vllm import SamplingParams

        engine = self._engine(arm.stride)
        params = SamplingParams(temperature=0, max_tokens=max_new_tokens + arm.more_tokens)
        messages = spoken(arm.asked(conversation))
        off = None if arm.think else {"audio_think": False}
        began = time.perf_counter()
        (answer,) = engine.chat(messages, params, use_tqdm=False, mm_processor_kwargs=off)
        total = time.perf_counter() - began
        stats = answer.metrics
        decode = stats.last_token_ts - stats.first_token_ts
        prompt, think = list(answer.prompt_token_ids), engine.coat_think_tokens
        return Timing(
            total - decode,
            decode,
            len(answer.outputs[0].token_ids),
            len(prompt),
            sum(token in think for token in prompt),
            answer.outputs[0].text.strip(),
        )

    def _engine(self, stride: int) -> Any:
        if stride == self.stride:
            return self.engine
        from coat.thinking.tokens import THINK, THINK_END, THINK_START
        from vllm import LLM

        self.engine = None  # one at a time: the old one's memory is wanted
        folder = strided(self.folder, stride, self.scratch)
        # Rates are wanted of every request, so nothing may be kept from one to the next.
        fixed = {"enable_prefix_caching": False, "mm_processor_cache_gb": 0, "disable_log_stats": False}
        engine = LLM(folder, **fixed, **self.options)
        tokens = engine.get_tokenizer().convert_tokens_to_ids([THINK_START, THINK, THINK_END])
        engine.coat_think_tokens = set(tokens)
        self.engine, self.stride = engine, stride
        return engine


def strided(folder: str, stride: int, scratch: Path) -> str:
    """An export at another stride: links to its files, and a processor's configuration that says so."""
    import json

    source = Path(folder).resolve()
    config = json.loads((source / "processor_config.json").read_text())
    if config["thinking"]["stride"] == stride:
        return str(source)
    target = scratch / f"stride-{stride}"
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name != "processor_config.json" and not (target / path.name).exists():
            (target / path.name).symlink_to(path)
    (target / "processor_config.json").write_text(
        json.dumps({**config, "thinking": {**config["thinking"], "stride": stride}})
    )
    return str(target)


def now() -> float:
    """The time when all that was asked of the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
