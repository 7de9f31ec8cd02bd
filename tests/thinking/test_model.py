import pytest
import torch
from torch import nn

from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.heads import make_head
from coat.testing.clips import conversation
from coat.thinking.batch import collate, encode, make_batch, split_segments
from coat.thinking.model import ThinkingModel


@pytest.fixture
def model(backbone):
    model = ThinkingModel(backbone)
    model.add_lora(rank=4, alpha=8)
    model.heads["probe"] = make_head("transformer", backbone.hidden_size, 12, num_heads=2)
    return model


def mixed(model):
    conversations = [conversation(0.5), conversation(text="hello"), conversation(0.3, 0.9, seed=3)]
    return make_batch(model.builder, conversations)


def test_only_lora_heads_and_three_rows_receive_gradients(model):
    output = model(mixed(model))
    loss = output.response_logits.logsumexp(-1).sum() + output.predictions["probe"].square().sum()
    loss.backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached <= set(model.trainable())
    assert any("lora_B" in name for name in reached)
    assert any("trainable_tokens" in name for name in reached)
    assert any(name.startswith("heads.probe") for name in reached)
    rows = [p for name, p in model.named_parameters() if "trainable_tokens_delta" in name]
    assert [tuple(p.shape) for p in rows] == [(3, model.backbone.hidden_size)]
    for name in model.trainable():
        assert "lora_" in name or "trainable_tokens" in name or name.startswith("heads."), name
    assert not any(p.requires_grad for p in model.backbone.audio_tower.parameters())


def test_think_hidden_is_what_lm_head_sees(model):
    batch = mixed(model)
    output = model.eval()(batch)
    stock = model.backbone.model(
        inputs_embeds=model.prepare_prefill(batch)["embeddings"],
        attention_mask=batch.attention_mask,
        output_hidden_states=True,
    )
    states = stock.hidden_states[-1][batch.input_ids == model.tokens.think]
    torch.testing.assert_close(output.think_hidden[output.think_mask], states, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.backbone.lm_head(states), stock.logits[batch.input_ids == model.tokens.think])


def test_a_batch_gives_what_each_conversation_gives_alone(model):
    model.eval()
    conversations = [conversation(0.5), conversation(1.3, seed=2), conversation(0.3, 0.9, seed=3)]
    together = model(make_batch(model.builder, conversations))
    clip = 0
    for item in conversations:
        alone = model(make_batch(model.builder, [item]))
        for states, mask in zip(alone.think_hidden, alone.think_mask, strict=True):
            length = int(mask.sum())
            torch.testing.assert_close(together.think_hidden[clip, :length], states[:length], atol=1e-4, rtol=1e-4)
            clip += 1
    assert clip == len(together.think_hidden)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_block_of_audio_is_the_token_and_what_each_one_stands_for(backbone, stride):
    model = ThinkingModel(backbone, ThinkingConfig(fill="audio", stride=stride))
    plain = model.prompt_builder(model.thinking.at(0))
    items = [encode(model.builder, conversation(0.5)), encode(plain, conversation(0.7, seed=2)),
             encode(model.builder, conversation(0.3, 0.9, seed=3))]  # fmt: skip
    batch = collate(model.builder, items)
    embeddings = model.prepare_prefill(batch)["embeddings"]
    token = backbone.embedding.weight[model.tokens.think]
    heard = model.audio_embeddings(batch)
    spans = [span.mean(0) for clip in (0, 2, 3) for span in heard[clip].split(stride)]
    thinks = batch.input_ids == model.tokens.think
    torch.testing.assert_close(embeddings[thinks], token + torch.stack(spans))
    stock = backbone.input_embeddings(batch.input_ids, heard)
    torch.testing.assert_close(embeddings[~thinks], stock[~thinks], rtol=0, atol=0)


def test_text_only_batch_passes(model):
    output = model(make_batch(model.builder, [conversation(text="hello")]))
    assert output.think_hidden is None
    assert len(output.response_logits) == len(output.response_labels) > 0


def test_cached_embeddings_change_nothing(model):
    model.eval()
    conversations = [conversation(0.5), conversation(1.3, seed=2)]
    live = make_batch(model.builder, conversations)
    rows = dict(
        zip([c.clips[0].content_key for c in conversations], model.backbone.tower_states(live.audio), strict=True)
    )
    cached = make_batch(model.builder, conversations, embed=lambda clip, count: rows[clip.content_key])
    torch.testing.assert_close(model(cached).response_logits, model(live).response_logits)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_stride_shortens_the_block(backbone, stride):
    model = ThinkingModel(backbone, ThinkingConfig(stride=stride))
    batch = make_batch(model.builder, [conversation(1.0)])
    count = backbone.num_audio_tokens(16_000)
    assert batch.think_lengths.tolist() == [-(-count // stride)]
    assert model(batch).think_hidden.shape[1] == -(-count // stride)


def test_lora_outside_the_language_model_is_refused(backbone):
    with pytest.raises(CoatError, match="outside the language model"):
        ThinkingModel(backbone).add_lora(rank=2, alpha=4, targets=r".*\.(q_proj|v_proj)")


def test_lora_that_matches_nothing_is_refused(backbone):
    with pytest.raises(CoatError, match="no module to adapt"):
        ThinkingModel(backbone).add_lora(rank=2, alpha=4, targets="nothing_like_this")


def test_adapter_survives_saving(model, tiny_path, tmp_path):
    from coat.backbones import load_backbone

    for name, p in model.trainable().items():
        if "lora_B" in name or "trainable_tokens" in name:
            nn.init.normal_(p, std=0.1)
    batch = mixed(model)
    expected = model.eval()(batch).response_logits
    model.save_adapter(str(tmp_path))
    fresh = ThinkingModel(load_backbone("qwen2_audio", str(tiny_path)))
    fresh.load_adapter(str(tmp_path))
    torch.testing.assert_close(fresh.eval()(batch).response_logits, expected)


def test_segments_that_do_not_add_up_are_an_error():
    with pytest.raises(ValueError, match="3 think tokens"):
        split_segments(torch.zeros(3, 2), torch.tensor([2, 2]))


def test_fsdp_is_told_what_to_gather_at_once(backbone):
    """By accelerate's own policy: every layer of decoder and tower is a unit of its own."""
    from types import SimpleNamespace

    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    model = ThinkingModel(backbone)
    plugin = SimpleNamespace(auto_wrap_policy=transformer_auto_wrap_policy, transformer_cls_names_to_wrap=None)
    policy = fsdp2_prepare_auto_wrap_policy(plugin, model)
    wrapped = [module for module in model.modules() if policy(module)]
    assert len(wrapped) == len(backbone.language_model.layers) + len(backbone.audio_tower.layers)
