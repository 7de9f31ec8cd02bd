"""From a question to its first token: ours with the block against transformers without it.

    python benchmarks/first_token.py                       # small models in the proportions of 7B, CPU
    python benchmarks/first_token.py --real-shapes         # true sizes, random weights, bf16: a GPU with 40 GB

Both begin with a waveform and a question and end with one greedy token: transformers with the family's own template,
processor, model and ``generate``, ours with the prompt builder, the tower over the clip's true length, and the block.
The limit is what the FLOPs of a plain answer of true length would take at the rate of this machine's fastest matrix
product.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch

from coat.backbones.base import Backbone
from coat.benchmark.inference import work_of
from coat.data.conversation import Conversation
from coat.testing.checkpoints import REAL_SIZES, Sizes, random_backbone
from coat.testing.conformance.stock import stock_inputs, stock_processor
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from limits import measure_limits
from prefill import in_turns, question, seconds_of

# The output layer is 7 % of the language model's weights, as in Qwen2.5-7B.
PROPORTIONATE = Sizes(512, 1536, 8, 8, 8, 4096, 256, 4, 4)
FAMILIES = ("qwen2_audio", "qwen2_5_omni", "audio_flamingo3")


def main() -> None:
    """Measure the paper's families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="*", default=FAMILIES)
    parser.add_argument("--lengths", nargs="*", type=float, default=[2, 10, 29.9])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--real-shapes", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if args.real_shapes else torch.float32
    limits = measure_limits(device, dtype)
    print(f"{limits}; {'true sizes' if args.real_shapes else 'small models'}; medians of {args.repeats}\n")
    columns = ("family", "audio", "transformers, no block", "ours, no block", "ours, block", "no block / transformers",
               "block / transformers", "no block / limit")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for family in args.family:
        sizes = REAL_SIZES[family] if args.real_shapes else PROPORTIONATE
        backbone = random_backbone(family, sizes=sizes, dtype=dtype, device=device if args.real_shapes else None)
        model = ThinkingModel(backbone.to(device)).eval()
        processor = stock_processor(backbone)
        for seconds in (length for length in args.lengths if length <= backbone.audio_spec.max_seconds):
            item = question(seconds)
            work = {
                "stock": partial(seconds_of, partial(stock_token, backbone, processor, item)),
                "plain": partial(seconds_of, partial(our_token, model, item, think=False)),
                "block": partial(seconds_of, partial(our_token, model, item)),
            }
            timed = in_turns(work, args.repeats)
            cost = work_of(backbone, seconds, text=20)
            least = limits.seconds(cost.tower + cost.prefill)
            milliseconds = [f"{1000 * timed[name]:.0f} ms" for name in work]
            against = [(name, timed["stock"]) for name in ("plain", "block")] + [("plain", least)]
            ratios = [f"{timed[name] / other:.2f}" for name, other in against]
            print(f"| {' | '.join([family, f'{seconds:g} s', *milliseconds, *ratios])} |", flush=True)
        del backbone, model


@torch.inference_mode()
def stock_token(backbone: Backbone, processor: object, item: Conversation) -> torch.Tensor:
    """Chat template, processor and generate, as the family's model card has them."""
    inputs = stock_inputs(backbone, item.clips, processor=processor)
    inputs = {name: value.to(backbone.device) for name, value in inputs.items()}
    return backbone.model.generate(**inputs, max_new_tokens=1, min_new_tokens=1, do_sample=False)


@torch.inference_mode()
def our_token(model: ThinkingModel, item: Conversation, *, think: bool = True) -> torch.Tensor:
    """The same by this package."""
    builder = model.builder if think else model.builder.at(0)
    batch = make_batch(builder, [item], padding_side="left").to(model.backbone.device)
    return model.backbone.generate(
        **model.prepare_prefill(batch), max_new_tokens=1, min_new_tokens=1, do_sample=False,
        suppress_tokens=list(model.tokens.ids),
    )  # fmt: skip


if __name__ == "__main__":
    main()
