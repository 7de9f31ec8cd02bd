import csv
import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from coat.backbones import REGISTRY
from coat.backbones.work import cache_bytes, language_flops, tower_flops
from coat.benchmark.inference import (
    CostSettings,
    arms_of,
    measure,
    noise_questions,
    summarise,
    task_questions,
    work_of,
    write_csv,
)
from coat.benchmark.latency import Arm, LocalStopwatch, Timing, strided
from coat.errors import CoatError
from coat.evaluation.sources import open_tasks
from coat.testing.checkpoints import REAL_SIZES, Sizes, random_backbone
from coat.testing.clips import conversation, noise
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel

SIZES = Sizes(128, 384, 2, 2, 1, None, 128, 2, 2, (4, 2, 64))
FAMILIES = ("qwen2_audio", "audio_flamingo3", "qwen2_5_omni", "gemma4")
SMALL = CostSettings(
    samples=2, seeds=2, ranges=((0, 1), (1, 2)), max_new_tokens=3, reasoning_tokens=5, strides=(1, 2, 4)
)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seconds", [3.0, 20.0])
def test_flops_are_what_torch_counts(family, seconds):
    backbone = random_backbone(family, sizes=SIZES)
    backbone.model.set_attn_implementation("eager")  # the counter does not know the fused kernels
    model = ThinkingModel(backbone).eval()
    batch = make_batch(model.builder, [conversation(seconds, answer=None)], padding_side="left")
    prefill = model.prepare_prefill(batch)
    tokens = prefill["embeddings"].shape[1]
    with torch.no_grad(), FlopCounterMode(display=False) as language:
        backbone.lm_head(backbone.hidden_states(**prefill)[:, -1:])
    layers = [(128, 512), (256, tokens)] * 2 if family == "gemma4" else [(128, tokens)] * 2
    # Eager attention looks ahead, and behind its window, and masks it.
    masked = sum(4 * size * (tokens - min(i + 1, window)) for size, window in layers for i in range(tokens))
    assert language_flops(backbone, tokens) + masked == pytest.approx(language.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("family", sorted(REGISTRY))
@pytest.mark.parametrize("seconds", [4.0, 20.0])  # whole chunks, to which some towers pad their convolutions
def test_flops_of_the_tower_are_what_torch_counts(family, seconds):
    backbone = random_backbone(family, sizes=SIZES)
    backbone.model.set_attn_implementation("eager")
    features = backbone.audio_features([noise(seconds).waveform])
    with torch.no_grad(), FlopCounterMode(display=False) as tower:
        backbone.audio_embeddings(features)
    assert tower_flops(backbone, seconds) == pytest.approx(tower.get_total_flops(), rel=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_of_the_cache_are_what_is_kept(family):
    backbone = random_backbone(family, sizes=SIZES)
    out = backbone.language_model(inputs_embeds=torch.zeros(1, 37, 128), use_cache=True)
    kept = [t for layer in out.past_key_values.layers for t in (layer.keys, layer.values) if t is not None]
    held = sum(t.numel() * t.element_size() for t in kept)
    assert cache_bytes(backbone, 37, bytes_each=4) == held


def test_the_block_at_true_sizes():
    """Omni's 30 s: 750 tokens twice over; grouped queries keep 28 layers x 4 heads x 128 x 2 x 2 bytes each."""
    with torch.device("meta"):
        backbone = random_backbone("qwen2_5_omni", sizes=REAL_SIZES["qwen2_5_omni"])
    work = work_of(backbone, 30.0)
    assert (work.audio_tokens, work.block_tokens) == (750, 752)
    assert work.cache_block - work.cache == 752 * 2 * 28 * 4 * 128 * 2
    assert 1.4 < work.more < 2.0
    assert work.step_block / work.step < 1.05, "a later token hardly notices"
    assert work_of(backbone, 30.0, stride=4).block_tokens == 190


def test_qwen2_audio_hears_long_clips_in_pieces():
    backbone = random_backbone("qwen2_audio", sizes=SIZES)
    assert work_of(backbone, 60.0).audio_tokens == 2 * work_of(backbone, 30.0).audio_tokens


@pytest.fixture
def model(backbone):
    return ThinkingModel(backbone).eval()


def test_every_arm_is_timed_on_the_same_questions_and_resumes(model, tmp_path):
    arms = arms_of(SMALL, "\nThink.")
    assert [arm.name for arm in arms] == ["baseline", "text CoT", "CoAT", "CoAT, s = 2", "CoAT, s = 4"]
    questions = noise_questions(SMALL, 30.0, float("inf"))
    path = tmp_path / "timings.jsonl"
    lines = measure(LocalStopwatch(model), arms, questions, SMALL, path)
    assert len(lines) == 2 * 2 * 2 * 5
    for line in lines:
        tokens = model.backbone.num_audio_tokens(round(line["seconds"] * 16_000))
        stride = {"CoAT": 1, "CoAT, s = 2": 2, "CoAT, s = 4": 4}.get(line["arm"])
        expected = -(-tokens // stride) + 2 if stride else 0
        assert abs(line["think_tokens"] - expected) <= 1
        assert line["new_tokens"] <= (8 if line["arm"] == "text CoT" else 3)
        assert line["total"] == pytest.approx(line["first"] + line["decode"])
    kept = path.read_text().splitlines()
    path.write_text("\n".join(kept[:-3]) + "\n" + kept[-3][:10])
    counted = []
    again = measure(
        LocalStopwatch(model), arms, questions, SMALL, path, progress=lambda now, total: counted.append(now)
    )
    assert counted == [len(kept) - 3, 1, 1, 1]
    assert len(again) == len(kept)


def test_summaries_by_hand(tmp_path):
    def line(arm, seed, question, first, new_tokens):
        return {"arm": arm, "range": 0, "seed": seed, "question": question, "first": first, "decode": 1.0,
                "total": first + 1, "new_tokens": new_tokens, "think_tokens": 0, "prompt_tokens": 9}  # fmt: skip

    settings = CostSettings(samples=2, seeds=2, ranges=((0, 5), (5, 15)))
    lines = [line("baseline", s, q, 1.0 + s, 4) for s in (0, 1) for q in (0, 1)]
    lines += [line("CoAT", s, q, 2 * (1.0 + s), 4) for s in (0, 1) for q in (0, 1)]
    base, coat = summarise(lines, settings)
    assert (base.mean["first"], base.std["first"]) == (1.5, pytest.approx(np.std([1, 2], ddof=1)))
    assert coat.against == {"first": 2.0, "total": pytest.approx((3 / 2 + 5 / 3) / 2)}
    assert coat.questions == 4
    write_csv([base, coat], tmp_path / "summary.csv")
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert [row["arm"] for row in rows] == ["baseline", "CoAT"]
    assert float(rows[1]["first"]) == 3.0


def test_the_clock_ends_with_the_answer(model):
    timing = LocalStopwatch(model)(Arm("CoAT", think=True), conversation(0.8, answer=None), 6)
    assert isinstance(timing, Timing)
    assert timing.first > 0
    assert timing.decode >= 0
    assert timing.new_tokens <= 6
    assert timing.prompt_tokens > timing.think_tokens == model.backbone.num_audio_tokens(12_800) + 2


def test_questions_come_from_tasks_by_length(tmp_path):
    opened = open_tasks(["mmau", "gtzan"], "sample", tmp_path)
    questions = task_questions(opened, SMALL, 30.0)
    chosen = questions(0, 0)
    assert len(chosen) == 2
    assert all(0 < sum(clip.seconds for clip in asked.clips) <= 1 for asked in chosen)
    assert [c.messages for c in questions(0, 0)] == [c.messages for c in chosen]
    with pytest.raises(CoatError, match="No question"):
        task_questions(opened, CostSettings(ranges=((60, 120),)), None)


def test_an_export_at_another_stride_is_a_folder_of_links(tmp_path):
    export = tmp_path / "export"
    export.mkdir()
    (export / "model.safetensors").write_bytes(b"weights")
    (export / "processor_config.json").write_text(json.dumps({"thinking": {"stride": 1}, "family": "x"}))
    assert strided(str(export), 1, tmp_path / "links") == str(export)
    made = tmp_path / "links" / "stride-4"
    assert strided(str(export), 4, tmp_path / "links") == str(made)
    assert json.loads((made / "processor_config.json").read_text()) == {"thinking": {"stride": 4}, "family": "x"}
    assert (made / "model.safetensors").resolve() == export / "model.safetensors"
