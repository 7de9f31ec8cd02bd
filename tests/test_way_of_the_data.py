"""docs/architecture.md, step by step."""

import torch

from coat.audio import Clip
from coat.data.conversation import Conversation
from coat.data.manifest import read_manifest
from coat.experts import make_expert
from coat.heads import make_head
from coat.losses import masked_sum, response_cross_entropy
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from coat.training.targets import expert_targets


def test_the_way_of_the_data(manifest, backbone):
    row = read_manifest(manifest)[0]
    conversation = row.conversation(answered=True)
    assert isinstance(conversation, Conversation)
    (clip,) = conversation.clips
    assert isinstance(clip, Clip)

    waveform = clip.at(backbone.audio_spec.sampling_rate)
    count = backbone.num_audio_tokens(len(waveform))
    assert backbone.audio_features([waveform]).num_audio_tokens.tolist() == [count]

    model = ThinkingModel(backbone)
    prompt = model.builder.build(conversation.messages, [count])
    assert len(prompt.input_ids) == len(prompt.labels)
    assert prompt.blocks[0].num_think_tokens == count

    expert = make_expert("standin_speech", hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
    model.heads[expert.name] = make_head("transformer", backbone.hidden_size, expert.feature_dim, num_heads=1)
    batch = make_batch(model.builder, [conversation], live_rates=[expert.sampling_rate])
    assert batch.input_ids[0].tolist() == prompt.input_ids

    output = model(batch)
    assert output.think_hidden.shape == (1, count, backbone.hidden_size)
    target = expert_targets(expert, batch, output.audio_embeddings, output.audio_lengths, model.builder)
    assert output.predictions[expert.name].shape == target.shape == (1, count, expert.feature_dim)

    loss = response_cross_entropy(output.response_logits, output.response_labels) / batch.num_response_tokens
    loss = (
        loss
        + masked_sum(expert.loss(output.predictions[expert.name], target, output.think_mask), output.think_mask)
        / batch.num_think_tokens
    )
    assert torch.isfinite(loss)
    loss.backward()
