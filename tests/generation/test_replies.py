import pytest
import torch

from coat.config.thinking import ThinkingConfig
from coat.generation import generate
from coat.testing.clips import conversation
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel


@pytest.fixture(params=[True, False], ids=["block", "no block"])
def model(request, backbone):
    return ThinkingModel(backbone, ThinkingConfig(enabled=request.param)).eval()


CONVERSATIONS = [
    conversation(0.5, answer=None),
    conversation(1.3, text="Describe the audio.", answer=None, seed=2),
    conversation(text="hello", answer=None),
    conversation(0.3, 0.9, answer=None, seed=3),
]


def test_batched_answers_equal_single_ones(model):
    together = generate(model, CONVERSATIONS, max_new_tokens=12)
    assert together == [generate(model, [item], max_new_tokens=12)[0] for item in CONVERSATIONS]


def test_left_padded_logits_equal_single_ones(model):
    batch = make_batch(model.builder, CONVERSATIONS, padding_side="left")
    hidden, _ = model.prefill_states(batch)
    for row, item in enumerate(CONVERSATIONS):
        alone, _ = model.prefill_states(make_batch(model.builder, [item], padding_side="left"))
        torch.testing.assert_close(
            model.backbone.lm_head(hidden[row, -1]), model.backbone.lm_head(alone[0, -1]), atol=1e-4, rtol=1e-4
        )


def test_think_tokens_are_never_generated(model):
    """Even by a model that wants nothing else."""
    with torch.no_grad():
        model.backbone.lm_head.weight[list(model.tokens.ids)] = 50 * model.backbone.lm_head.weight.abs().amax()
    text = generate(model, CONVERSATIONS[:2], max_new_tokens=12)
    assert not any("audio_think" in answer for answer in text)
    batch = make_batch(model.builder, CONVERSATIONS[:2], padding_side="left")
    prefill = model.prepare_prefill(batch)
    free = model.backbone.generate(**prefill, max_new_tokens=4, do_sample=False)
    suppressed = model.backbone.generate(
        **prefill, max_new_tokens=4, do_sample=False, suppress_tokens=list(model.tokens.ids)
    )
    assert not set(suppressed.flatten().tolist()) & set(model.tokens.ids)
    del free


def test_the_block_costs_no_decoding_steps(model):
    """The block is in the prompt: decoding starts at the answer."""
    batch = make_batch(model.builder, CONVERSATIONS[:1], padding_side="left")
    count = int((batch.input_ids == model.tokens.think).sum())
    assert count == (model.backbone.num_audio_tokens(8000) if model.thinking.enabled else 0)
