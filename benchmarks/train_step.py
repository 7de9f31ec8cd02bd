"""The price of thinking in training: one step without the block, with it, with heads, with experts.

    python benchmarks/train_step.py                      # a small random Qwen2-Audio, on whatever is here
    python benchmarks/train_step.py --shape 7b           # real shapes with random weights; needs a GPU of 24 GB

Ways of training take turns within one run, so that their ratios hold on a noisy machine; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coat.audio import Clip
from coat.backbones.work import count, language_flops, tower_flops
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import Conversation
from coat.experts import make_expert
from coat.experts.base import Expert
from coat.heads import make_head
from coat.losses import masked_sum, response_cross_entropy
from coat.testing.checkpoints import REAL_SIZES, random_backbone
from coat.testing.qwen2_audio import make_qwen2_audio, train_tokenizer
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import PromptBuilder
from coat.training.targets import expert_targets
from limits import Limits, measure_limits

EXPERTS = ("audio_reconstruction", "standin_speech", "standin_affect", "basic_pitch")
# Width, encoder layers, decoder layers, attention heads, feed-forward ratio of the language model.
SHAPES = {
    "tiny": {"hidden_size": 128, "encoder_layers": 2, "decoder_layers": 4, "num_heads": 2},
    "small": {"hidden_size": 512, "encoder_layers": 6, "decoder_layers": 8, "num_heads": 8},
}
PARTS = ("prepare", "tower", "language model", "heads", "targets", "losses", "backward", "optimizer")


@dataclass(frozen=True)
class Way:
    """One way of training."""

    title: str
    think: bool = True
    experts: tuple[str, ...] = ()
    cached: bool = False


WAYS = (
    Way("fine-tuning, no block", think=False),
    Way("+ block"),
    Way("+ block, reconstruction", experts=EXPERTS[:1]),
    Way("+ block, four heads, features cached", experts=EXPERTS, cached=True),
    Way("+ block, four heads, experts live", experts=EXPERTS),
)


class Clock:
    """Adds up the seconds of each part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        """The time, after whatever the device was given is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the seconds within."""
        start = self.now()
        yield
        self.seconds[name] += self.now() - start


class Bench:
    """One model that takes a step in any of the ways."""

    def __init__(self, shape: str, clips: int, seconds: float, checkpointing: bool) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(0)
        if shape == "7b":
            backbone = random_backbone(
                "qwen2_audio", sizes=REAL_SIZES["qwen2_audio"], dtype=torch.bfloat16, device="cuda"
            )
        else:
            backbone = make_qwen2_audio(train_tokenizer(["What is said?"], 300), **SHAPES[shape])
        self.model = ThinkingModel(backbone, ThinkingConfig())
        self.plain_builder = ThinkingModel(backbone, ThinkingConfig(enabled=False)).builder
        self.model.add_lora(rank=16, alpha=32)
        if checkpointing:
            options = {"use_reentrant": False}
            backbone.language_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)  # type: ignore
        hidden, audio_spec = backbone.hidden_size, backbone.audio_spec
        heads = {"num_heads": min(8, hidden // 64), "ffn_ratio": 4.0}
        self.experts: dict[str, Expert] = {}
        for name in EXPERTS:
            expert = make_expert(name, None, hidden_size=hidden, audio_spec=audio_spec)
            self.experts[name] = expert.to(self.device)
            self.model.heads[name] = make_head("transformer", hidden, expert.feature_dim, **heads)
        self.model.to(self.device).train()
        self.checkpointing = checkpointing
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-4)
        rng = np.random.default_rng(0)
        messages = [
            {"role": "user", "content": "<audio>What is said?"},
            {"role": "assistant", "content": "the small red dog finds two boats by the river"},
        ]
        waveforms = rng.normal(0, 0.1, (clips, round(seconds * 16_000))).astype(np.float32)
        self.conversations = [Conversation(messages, [Clip(wave, 16_000, "noise")]) for wave in waveforms]
        self.cached: dict[str, torch.Tensor] = {}

    def step(self, way: Way) -> dict[str, float]:
        """Seconds of each part of one step, and of the whole."""
        clock, model = Clock(self.device), self.model
        start = clock.now()
        builder = self._builder(way)
        with clock.part("prepare"):
            needed = [self.experts[name] for name in way.experts if self.experts[name].needs_waveform]
            rates = [] if way.cached else sorted({expert.sampling_rate for expert in needed})
            batch = make_batch(builder, self.conversations, live_rates=rates).to(self.device)
        if way.cached:
            batch.targets.update({expert.name: self.cached[expert.name] for expert in needed})
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")
        with self._heads_timed(clock), mixed:
            with clock.part("tower"):
                batch = replace(batch, audio=model.audio_embeddings(batch))
            with clock.part("language model"):
                output = model(batch, way.experts)
        clock.seconds["language model"] -= clock.seconds["heads"]
        with clock.part("targets"):
            audio, lengths = output.audio_embeddings, output.audio_lengths
            targets = {name: expert_targets(self.experts[name], batch, audio, lengths, builder) for name in way.experts}
        if not way.cached:
            self.cached.update(targets)
        with clock.part("losses"), mixed:
            loss = response_cross_entropy(output.response_logits, output.response_labels) / 100
            for name in way.experts:
                losses = self.experts[name].loss(output.predictions[name], targets[name], output.think_mask)
                loss = loss + masked_sum(losses, output.think_mask) / output.think_mask.sum()
        with clock.part("backward"):
            loss.backward()
        with clock.part("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return {**clock.seconds, "step": clock.now() - start}

    def flops(self, way: Way) -> float:
        """FLOPs of one step: frozen weights pass forward and back to their inputs, trained ones thrice."""
        backbone = self.model.backbone
        batch = make_batch(self._builder(way), self.conversations)
        rows, length = batch.input_ids.shape
        think = 0 if batch.think_lengths is None else int(batch.think_lengths.sum())
        seconds = self.conversations[0].clips[0].seconds
        lora = sum(p.numel() for name, p in self.model.named_parameters() if "lora_" in name)
        passes = 3 if self.checkpointing else 2
        work = passes * rows * language_flops(backbone, length, logits=len(batch.labels[batch.labels >= 0]) // rows)
        work += 6 * lora * rows * length + rows * tower_flops(backbone, seconds)
        for name in way.experts:
            work += 6 * count(self.model.heads[name]) * think
            if not way.cached:
                work += rows * seconds * 1e9 * self.experts[name].gflops_per_second
        return work

    def _builder(self, way: Way) -> PromptBuilder:
        return self.model.builder if way.think else self.plain_builder

    @contextmanager
    def _heads_timed(self, clock: Clock) -> Iterator[None]:
        began: dict[torch.nn.Module, float] = {}

        def before(head: torch.nn.Module, *_: Any) -> None:
            began[head] = clock.now()

        def after(head: torch.nn.Module, *_: Any) -> None:
            clock.seconds["heads"] += clock.now() - began[head]

        hooks = [head.register_forward_pre_hook(before) for head in self.model.heads.values()]
        hooks += [head.register_forward_hook(after) for head in self.model.heads.values()]
        yield
        for hook in hooks:
            hook.remove()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[*SHAPES, "7b"], default="small")
    parser.add_argument("--clips", type=int, default=4, help="rows a step")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each clip")
    parser.add_argument("--rounds", type=int, default=7, help="measured turns of each way, after one to warm up")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()

    bench = Bench(options.shape, options.clips, options.seconds, options.checkpointing)
    measured: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(options.rounds + 1):
        # Live comes before cached in a turn: it leaves the features that the cached way reads.
        for way in sorted(WAYS, key=lambda way: way.cached):
            figures = bench.step(way)
            if turn:
                measured[way.title].append(figures)
    limits = measure_limits(bench.device, torch.bfloat16 if bench.device.type == "cuda" else torch.float32)
    report(bench, options, measured, limits)


def report(
    bench: Bench, options: argparse.Namespace, measured: dict[str, list[dict[str, float]]], limits: Limits
) -> None:
    """A table of medians, ratios and shares."""
    median = {
        way.title: {
            part: statistics.median(figures.get(part, 0.0) for figures in measured[way.title])
            for part in (*PARTS, "step")
        }
        for way in WAYS
    }
    ratios = {
        way.title: statistics.median(
            ours["step"] / base["step"] for ours, base in zip(measured[way.title], measured[WAYS[0].title], strict=True)
        )
        for way in WAYS
    }
    setting = (
        f"{options.shape}, {options.clips} x {options.seconds:g} s, Python {platform.python_version()}, "
        f"{datetime.now(UTC):%Y-%m-%d}; {limits}"
    )
    work = {way.title: bench.flops(way) for way in WAYS}
    plain = work[WAYS[0].title]
    columns = ("way", "ms a step", "ratio", "FLOPs' ratio", "step / limit", *PARTS)
    lines = [setting, "", f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    for way in WAYS:
        row = median[way.title]
        shares = (f"{row[part] / row['step']:.0%}" for part in PARTS)
        against = row["step"] / limits.seconds(work[way.title])
        figures = (
            f"{1000 * row['step']:.0f}",
            f"{ratios[way.title]:.2f}",
            f"{work[way.title] / plain:.2f}",
            f"{against:.2f}",
        )
        lines.append(f"| {' | '.join((way.title, *figures, *shares))} |")
    if bench.device.type == "cuda":
        lines += ["", f"Peak memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"]
    print("\n".join(lines))
    if options.json:
        facts = {"setting": setting, "ratios": ratios, "flops": work, "median_seconds": median}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
