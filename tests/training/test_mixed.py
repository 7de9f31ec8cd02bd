"""Rows of one step at strides of their own, and without a block: the same losses as each row has alone."""

from collections import Counter
from itertools import product

import pytest
import torch

from coat.checkpoints.building import add_heads, build_experts, build_model, feature_dims
from coat.config.reading import parse_recipe
from coat.data.manifest import read_manifest
from coat.losses import masked_loss
from coat.training.dataset import TrainingCollator
from coat.training.run import train
from coat.training.targets import expert_targets

MIXED = {0: 0.25, 1: 0.25, 2: 0.25, 4: 0.25}


def recipe(path, manifest, **thinking):
    return parse_recipe(
        {
            "backbone": {"path": str(path)},
            "lora": {"rank": 2, "alpha": 4},
            "heads": {"num_heads": 2, "ffn_ratio": 1.0},
            "thinking": thinking,
            "stages": [
                {"name": "one", "steps": 3, "learning_rate": 1e-3,
                 "experts": {"audio_reconstruction": "auto", "standin_affect": "auto"}},
            ],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 8, "micro_batch_size": 8, "logging_steps": 1, "seed": 3},
        }
    )  # fmt: skip


def sums(model, experts, batch):
    """Sums of every loss over a batch's rows."""
    output = model(batch)
    found = {"ce": torch.nn.functional.cross_entropy(output.response_logits, output.response_labels, reduction="sum")}
    if batch.think_lengths is None:
        return found
    for name, expert in experts.items():
        target = expert_targets(expert, batch, output.audio_embeddings, output.audio_lengths, model.builder)
        found[name] = masked_loss(expert.loss, output.predictions[name], target, output.think_mask)
    return found


@pytest.fixture(scope="module")
def built(tiny_path, manifest):
    asked = recipe(tiny_path, manifest, mixed=MIXED)
    model = build_model(asked)
    experts = build_experts(asked, model)
    add_heads(model, feature_dims(experts), asked)
    model.eval()
    return model, experts, [row for row in read_manifest(manifest) if row.audios][:8]


def collator(model, experts, **options):
    return TrainingCollator(model.builder, [each for each in experts.values() if each.needs_waveform], **options)


def test_a_mixed_batch_has_the_losses_of_its_rows_alone(built):
    model, experts, rows = built
    (batch,) = collator(model, experts, seed=2).batches(rows)
    lengths = batch.think_lengths.tolist()
    assert 0 in lengths, "a row has no block"
    assert len(set(batch.think_strides)) > 2
    together = sums(model, experts, batch)
    waveforms = [each for each in experts.values() if each.needs_waveform]
    singles = [
        single
        for row in rows
        for stride in MIXED
        for single in TrainingCollator(model.builder.at(stride), waveforms).batches([row])
    ]
    alone = Counter()
    for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
        same = (single for single in singles if torch.equal(single.input_ids[0], ids[mask.bool()]))
        for name, value in sums(model, experts, next(same)).items():
            alone[name] += float(value)
    assert together.keys() == alone.keys()
    for name, value in together.items():
        assert float(value) == pytest.approx(alone[name], rel=1e-4)


def test_strides_are_drawn_by_seed_and_rows_alone(built):
    model, experts, rows = built
    strides = [collator(model, experts, seed=seed).batches(rows)[0].think_lengths.tolist() for seed in (1, 1, 2)]
    assert strides[0] == strides[1] != strides[2]
    counts = Counter()
    drawn = collator(model, {}, seed=0)
    for pair in product(rows, rows):
        (batch,) = drawn.batches(pair)
        if batch.think_lengths is None:
            counts[0] += 2
            continue
        counts.update(
            stride if length else 0 for stride, length in zip(batch.think_strides, batch.think_lengths, strict=True)
        )
    assert set(counts) == set(MIXED)
    assert all(20 < count < 44 for count in counts.values()), counts  # of 128


def test_it_trains_and_answers_at_every_stride(tiny_path, manifest, tmp_path):
    from coat import CoatModel

    folder = train(recipe(tiny_path, manifest, mixed=MIXED), tmp_path / "run", say=lambda _: None)
    model = CoatModel.from_pretrained(folder, device="cpu")
    assert model.thinking.mixed == MIXED
    row = next(row for row in read_manifest(manifest) if row.audios)
    question = [{"role": "user", "content": [{"type": "audio", "audio": str(row.audios[0].path)},
                                             {"type": "text", "text": "?"}]}]  # fmt: skip
    for stride in MIXED:
        (answer,) = model.generate([question], max_new_tokens=2, thinking=model.thinking.at(stride))
        assert isinstance(answer, str)


def test_without_experts_too(tiny_path, manifest, tmp_path):
    plain = recipe(tiny_path, manifest, mixed=MIXED)
    stages = [stage.model_copy(update={"experts": {}}) for stage in plain.stages]
    train(plain.model_copy(update={"stages": stages}), tmp_path / "run", say=lambda _: None)
