"""Cost of the block when answering, and savings by encoding true lengths.

    python benchmarks/prefill.py                          # small models, CPU
    python benchmarks/prefill.py --real-shapes            # true sizes, random weights, bf16: a GPU with 40 GB
    python benchmarks/prefill.py --family qwen2_audio --lengths 3 30

Every figure is a ratio of two things measured in turns in one run. Time to first token is everything from
waveform to first token: features, tower, prefill. The paper's Table 2 and E compare the same. The limit is the time
that the sizes' FLOPs would take at the rate of this machine's fastest matrix product, or the weights' bytes at that
of its memory, whichever is longer.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from coat.audio import Clip
from coat.backbones import REGISTRY
from coat.backbones.base import Backbone
from coat.backbones.features import AudioFeatures
from coat.backbones.work import active_parameters, count
from coat.benchmark.inference import work_of
from coat.benchmark.latency import Clock, now
from coat.data.conversation import Conversation
from coat.testing.checkpoints import REAL_SIZES, Sizes, random_backbone
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import PromptBuilder
from limits import Limits, measure_limits

SMALL = Sizes(512, 1536, 8, 8, 8, None, 256, 4, 4, (8, 2, 256))
NEW_TOKENS = 32


def main() -> None:
    """Measure every family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="*", default=sorted(REGISTRY))
    parser.add_argument("--lengths", nargs="*", type=float, default=[2, 10, 29.9, 60])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--real-shapes", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    limits = measure_limits(device, torch.bfloat16 if args.real_shapes else torch.float32)
    kind = "true sizes, random weights" if args.real_shapes else "small models"
    print(f"{limits}; {kind}; medians of {args.repeats}\n")
    for family in args.family:
        backbone = build(family, args.real_shapes, device)
        prefill_table(backbone, args.lengths, args.repeats, limits)
        if family in ("qwen2_audio", "audio_flamingo3"):
            tower_table(backbone, [length for length in args.lengths if length <= 30], args.repeats)
        del backbone
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def build(family: str, real: bool, device: str) -> Backbone:
    """Random weights; true sizes are made on the device in bf16."""
    if not real:
        return random_backbone(family, sizes=SMALL).to(device)
    return random_backbone(family, sizes=REAL_SIZES[family], dtype=torch.bfloat16, device=device)


def prefill_table(backbone: Backbone, lengths: list[float], repeats: int, limits: Limits) -> None:
    """Time to first token and decode time, with the block against without, and against what arithmetic allows."""
    model = ThinkingModel(backbone).eval()
    builders = {"plain": PromptBuilder(backbone, None), "block": model.builder}
    weights = sum(p.numel() * p.element_size() for p in backbone.model.parameters())
    print(f"{backbone.family}: block against no block; {weights / 1e9:.1f} GB of weights\n")
    columns = (
        "audio", "think tokens", "prompt", "TFLOP, plain", "first token, plain", "plain / limit", "block / limit",
        "block / plain", "FLOPs, block / plain", "a token more, plain", "plain / limit", "block / plain",
    )  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for seconds in lengths:
        if seconds > backbone.audio_spec.max_seconds:
            continue
        item = question(seconds)
        timed = in_turns({kind: partial(answer, model, b, item) for kind, b in builders.items()}, repeats)
        sizes = {k: make_batch(b, [item]).input_ids.shape[1] for k, b in builders.items()}
        work = work_of(backbone, seconds, text=sizes["plain"] - backbone.num_audio_tokens(round(seconds * 16_000)))
        least = limits.seconds(work.tower + work.prefill, weights)
        least_block = limits.seconds(work.tower + work.prefill_block, weights)
        (first, decode), (first_block, decode_block) = timed["plain"], timed["block"]
        cells = (
            f"{seconds:g} s", f"{sizes['block'] - sizes['plain'] - 2}", f"{sizes['block']}",
            f"{(work.tower + work.prefill) / 1e12:.2f}", f"{1000 * first:.1f} ms", f"{first / least:.2f}",
            f"{first_block / least_block:.2f}", f"{first_block / first:.2f}", f"{work.more:.2f}",
            f"{1000 * decode / NEW_TOKENS:.1f} ms",
            f"{decode / NEW_TOKENS / limits.seconds(work.step, decoder_bytes(backbone) + work.cache):.2f}",
            f"{decode_block / decode:.2f}",
        )  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
    print()


def decoder_bytes(backbone: Backbone) -> float:
    """Bytes of the weights that one decoded token reads."""
    each = next(backbone.lm_head.parameters()).element_size()
    return float(each * (active_parameters(backbone) + count(backbone.lm_head)))


def tower_table(backbone: Backbone, lengths: list[float], repeats: int) -> None:
    """The tower over the true length against the stock model's 30 s, and how far the embeddings are apart."""
    extractor = backbone.feature_extractor
    print(f"{backbone.family}: features and tower over the true length against 30 s\n")
    print("| audio | 30 s | true length | 30 s / true length | largest difference |\n| --- | --- | --- | --- | --- |")
    for seconds in lengths:
        wave = question(seconds).clips[0].waveform

        def ours(wave: np.ndarray = wave) -> torch.Tensor:
            return backbone.audio_embeddings(backbone.audio_features([wave]))[0]

        def stock(wave: np.ndarray = wave) -> torch.Tensor:
            made = extractor(
                [wave], sampling_rate=extractor.sampling_rate, padding="max_length", return_attention_mask=True,
                return_tensors="pt",
            )  # fmt: skip
            count = torch.tensor([backbone.num_audio_tokens(len(wave))])
            whole = torch.tensor([made["attention_mask"].sum()])
            features = AudioFeatures(made["input_features"], whole, count, torch.ones(1, dtype=torch.long))
            return backbone.audio_embeddings(features)[0]

        timed = in_turns({"ours": partial(seconds_of, ours), "stock": partial(seconds_of, stock)}, repeats)
        with torch.inference_mode():
            apart = float((ours() - stock()).abs().max())
        print(
            f"| {seconds:g} s | {1000 * timed['stock']:.1f} ms | {1000 * timed['ours']:.1f} ms "
            f"| {timed['stock'] / timed['ours']:.2f} | {apart:.1e} |",
            flush=True,
        )
    print()


@torch.inference_mode()
def answer(model: ThinkingModel, builder: PromptBuilder, item: Conversation) -> tuple[float, float]:
    """Seconds to the first token, and from it to the last."""
    began = now()
    batch = make_batch(builder, [item], padding_side="left").to(model.backbone.device)
    prefill = model.prepare_prefill(batch)
    clock = Clock()
    model.backbone.generate(
        **prefill, max_new_tokens=1 + NEW_TOKENS, min_new_tokens=1 + NEW_TOKENS,
        do_sample=False, suppress_tokens=list(model.tokens.ids), pad_token_id=0, streamer=clock,
    )  # fmt: skip
    first, last = clock.times[0], clock.times[-1]
    return first - began, last - first


def question(seconds: float) -> Conversation:
    """About noise."""
    wave = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)
    return Conversation([{"role": "user", "content": "<audio>What is said?"}], [Clip(wave, 16_000)])


def in_turns(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Any]:
    """Medians of what each gives, measured in turns so that the machine's moods hit all alike."""
    found: dict[str, list] = {key: [] for key in work}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for key, function in work.items():
                value = function()
                if turn:  # the first warms up
                    found[key].append(value)
    return {key: np.median(values, axis=0) for key, values in found.items()}


def seconds_of(function: Callable[[], object]) -> float:
    """Seconds of one call, the device's work included."""
    began = now()
    function()
    return now() - began


if __name__ == "__main__":
    main()
