"""Numbers that go wrong without a word: beyond half precision, NaN at padding, another precision's cache."""

import pytest
import torch

from coat.backbones import load_backbone
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.experts import make_expert
from coat.features.store import TowerSource
from coat.losses import masked_loss
from coat.testing.clips import conversation
from coat.thinking.batch import encode, make_batch
from coat.thinking.model import ThinkingModel


def test_targets_beyond_half_precision_are_refused(backbone):
    expert = make_expert("standin_speech", {}, hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
    real = expert.features
    expert.features = lambda *given: (real(*given)[0] * 1e9, real(*given)[1])
    with pytest.raises(CoatError, match=r"Features of expert standin_speech reach .*65,504"):
        expert.targets(
            torch.randn(1, 16_000), torch.tensor([16_000]), torch.tensor([25]), token_rate=25.0, first_token_seconds=0.0
        )


def test_a_nan_at_padding_reaches_no_gradient():
    def squares(prediction, target, mask):
        return (prediction - target).square().mean(-1)

    prediction = torch.randn(2, 5, 3, requires_grad=True)
    target = torch.randn(2, 5, 3)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    clean = masked_loss(squares, prediction, target, mask)
    (expected,) = torch.autograd.grad(clean, prediction)
    target[1, 3:] = float("nan")
    loss = masked_loss(squares, prediction, target, mask)
    assert loss == clean
    (gradient,) = torch.autograd.grad(loss, prediction)
    torch.testing.assert_close(gradient, expected)


def test_embeddings_of_another_precision_are_not_those_of_this_one(tiny_path):
    """Weights that bf16 holds exactly, as the hub's: the same numbers, used in another precision."""
    loaded = load_backbone("qwen2_audio", str(tiny_path), dtype=torch.bfloat16)
    half = TowerSource(loaded).fingerprint()
    loaded.model.float()
    assert TowerSource(loaded).fingerprint() != half
    loaded.model.bfloat16()
    assert TowerSource(loaded).fingerprint() == half


def test_a_prompt_beyond_the_models_positions_is_refused(backbone):
    model = ThinkingModel(backbone, ThinkingConfig())
    most = backbone.max_positions
    encode(model.builder, conversation(0.5, text="x " * 20))
    with pytest.raises(CoatError, match=f"the language model has {most} positions"):
        encode(model.builder, conversation(0.5, text="x " * most))


def test_heads_read_the_states_of_a_model_in_half_precision(tiny_path):
    """As on every GPU: the backbone in bf16, heads in float32, no autocast around them."""
    model = ThinkingModel(load_backbone("qwen2_audio", str(tiny_path), dtype=torch.bfloat16), ThinkingConfig())
    for name in ("one", "two"):
        model.heads[name] = torch.nn.Module()
        model.heads[name].linear = torch.nn.Linear(model.backbone.hidden_size, 3)
        model.heads[name].forward = lambda think, mask, head=model.heads[name]: head.linear(think)
    output = model.eval()(make_batch(model.builder, [conversation(0.5), conversation(0.9)]))
    for prediction in output.predictions.values():
        assert prediction.dtype == torch.float32
        assert torch.isfinite(prediction).all()


@pytest.mark.parametrize("what", ["rows", "full"])
def test_what_is_trained_is_in_full_precision_beside_a_model_in_half(tiny_path, what):
    """A step of 1e-5 on weights in bf16 would be rounded away for five of six of them."""
    model = ThinkingModel(load_backbone("qwen2_audio", str(tiny_path), dtype=torch.bfloat16), ThinkingConfig())
    model.add_lora(rank=2, alpha=4, train_embeddings=what)
    trained = {name: p for name, p in model.backbone.model.named_parameters() if p.requires_grad}
    assert trained
    assert {p.dtype for p in trained.values()} == {torch.float32}
    if what == "full":
        (weight,) = (p for name, p in trained.items() if "modules_to_save" in name)
        before = weight.detach().clone()
        torch.optim.SGD([weight], lr=1e-5).step(lambda: weight.sum().backward() or 0.0)
        assert (weight != before).all()
    output = model.eval()(make_batch(model.builder, [conversation(0.5)]))
    assert output.response_logits.dtype == torch.bfloat16


def test_one_process_takes_one_device_whatever_is_there(tmp_path, caplog, monkeypatch):
    from transformers import TrainingArguments

    from coat.config.recipe import StageConfig, TrainingConfig
    from coat.training.trainer import training_arguments

    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: 4))  # as on a machine with four
    args = training_arguments(tmp_path, StageConfig(name="x", steps=1), TrainingConfig())
    assert (args.n_gpu, args.train_batch_size) == (1, 16)
    assert "torchrun --nproc-per-node 4" in caplog.text
