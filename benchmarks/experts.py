"""Cost of experts: speed over real time here, and FLOPs beside the backbone's at real shapes.

    python benchmarks/experts.py                     # random weights of the published sizes
    python benchmarks/experts.py --seconds 10 --clips 8

Work is counted as floating-point operations of one clip: an expert's by PyTorch's own counter, those of tower and
language model of Qwen2-Audio-7B with the block from their sizes. The limit is the time that an expert's work would take
at the rate of the machine's fastest matrix product.
"""

from __future__ import annotations

import argparse
import resource

import torch

from coat.audio import AudioSpec
from coat.benchmark.latency import now
from coat.experts import make_expert
from coat.testing.checkpoints import REAL_SIZES
from limits import counting, measure_limits

NAMES = {"spidr": {"weights": "random"}, "panns": {"weights": "random"}, "emotion2vec": {"weights": "random"},
         "basic_pitch": {}}  # fmt: skip


def main() -> None:
    """Time and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = backbone_flops(args.seconds)
    limits = measure_limits(device, torch.float32)
    print(f"{limits}; {args.clips} clips of {args.seconds:g} s\n")
    print(f"Qwen2-Audio-7B, tower and decoder with the block: {backbone / 1e12:.2f} TFLOP a clip, forward\n")
    print("| expert | parameters | GFLOP a clip | of the backbone's forward | times real time | measured / limit |")
    print("| --- | --- | --- | --- | --- | --- |")
    audio_spec = AudioSpec(16_000, 25.0, 0.01, 30.0)
    for key, options in NAMES.items():
        expert = make_expert(key, options, hidden_size=1, audio_spec=audio_spec).to(device)
        samples = round(args.seconds * expert.sampling_rate)
        waves = 0.1 * torch.randn(args.clips, samples, generator=torch.Generator().manual_seed(0)).to(device)
        lengths = torch.full((args.clips,), samples, device=device)
        with torch.inference_mode(), counting() as counter:
            expert.features(waves[:1], lengths[:1])
        flops = counter.get_total_flops()
        times = []
        with torch.inference_mode():
            for turn in range(args.repeats + 1):
                began = now()
                expert.features(waves, lengths)
                if turn:
                    times.append(now() - began)
        median = sorted(times)[len(times) // 2]
        speed = args.clips * args.seconds / median
        least = limits.seconds(args.clips * flops)
        millions = sum(p.numel() for p in expert.parameters()) / 1e6
        print(f"| {key} | {millions:.1f} M | {flops / 1e9:.1f} | {flops / backbone:.1%} | {speed:.0f} "
              f"| {median / least:.2f} |", flush=True)  # fmt: skip
    peak = (
        torch.cuda.max_memory_allocated() / 2**30
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )
    print(f"\nPeak memory of the whole run: {peak:.1f} GiB")


def backbone_flops(seconds: float) -> float:
    """Of one clip's forward at true sizes: two for each weight and token, and attention over all pairs."""
    sizes = REAL_SIZES["qwen2_audio"]
    audio = int(seconds * 25)
    tokens = 2 * audio + 60
    layer = (
        sizes.hidden_size**2 * (2 + 2 * sizes.kv_heads / sizes.heads) + 3 * sizes.hidden_size * sizes.intermediate_size
    )
    decoder = sizes.decoder_layers * (2 * layer * tokens + 4 * tokens**2 * sizes.hidden_size)
    frames = 2 * audio
    tower = sizes.tower_layers * (2 * 12 * sizes.tower_size**2 * frames + 4 * frames**2 * sizes.tower_size)
    return decoder + tower


if __name__ == "__main__":
    main()
