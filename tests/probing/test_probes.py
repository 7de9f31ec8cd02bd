import numpy as np
import torch

from coat.audio import Clip
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import Conversation
from coat.heads import make_head
from coat.probing.probes import collect_states, probe
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import RATE, conversation, user
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel

RNG = np.random.default_rng(0)


def test_a_probe_reads_what_is_there_and_nothing_else():
    labels = [str(i % 3) for i in range(240)]
    states = np.eye(3)[[int(x) for x in labels]] @ RNG.normal(size=(3, 10)) + 0.1 * RNG.normal(size=(240, 10))
    there = probe(states[:120], labels[:120], states[120:], labels[120:])
    assert there.score.value > 0.95
    assert there.confidence.mean() > 0.7
    assert there.said.tolist() == labels[120:]
    shuffled = RNG.permutation(labels).tolist()
    chance = probe(states[:120], shuffled[:120], states[120:], shuffled[120:])
    assert chance.score.low < 1 / 3 + 0.1 < 0.6
    assert chance.score.value < 0.55


def test_states_are_the_models_own(backbone):
    model = ThinkingModel(backbone).eval()
    items = [conversation(0.5, answer=None), conversation(0.9, answer=None, seed=4)]
    states = collect_states(model, items, batch_size=2)
    alone = collect_states(model, items[1:], batch_size=1)
    for name in ("audio", "think", "pre_generation"):
        np.testing.assert_allclose(getattr(states, name)[1], getattr(alone, name)[0], atol=1e-4)
    output = model(make_batch(model.builder, items[1:]))
    np.testing.assert_allclose(states.think[1], output.think_hidden[0].mean(0).detach(), atol=1e-4)
    np.testing.assert_allclose(states.pre_generation[1], output.end_hidden[0].detach(), atol=1e-4)


def test_silence_that_was_added_is_in_no_mean():
    """Of the 375 audio tokens that Voxtral makes of two seconds, 25 stand for sound."""
    model = ThinkingModel(random_backbone("voxtral")).eval()
    item = conversation(2.0, answer=None)
    states = collect_states(model, [item])
    with torch.inference_mode():
        output = model(make_batch(model.builder, [item]))
    for name, every in (("think", output.think_hidden[0]), ("audio", output.audio_embeddings[0])):
        assert len(every) == 375
        np.testing.assert_allclose(getattr(states, name)[0], every[:25].mean(0), atol=1e-4)
        assert not np.allclose(getattr(states, name)[0], every.mean(0), atol=1e-3)


def test_a_baseline_has_no_think_states(backbone):
    model = ThinkingModel(backbone, ThinkingConfig(enabled=False)).eval()
    assert collect_states(model, [conversation(0.5, answer=None)]).think is None


def test_a_head_is_measured_in_its_expert_s_own_terms(backbone):
    """R2 of the features says little of notes; whether each is there says it."""
    from coat.experts import make_expert
    from coat.probing.reconstructions import reconstruct

    class Same(torch.nn.Module):
        """Whatever the states, the features of the clip itself, a little off."""

        def forward(self, states, mask):
            return self.features[:, : states.shape[1]] * 0.999

    model = ThinkingModel(backbone).eval()
    pitch = make_expert("basic_pitch", hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
    time = np.arange(2 * RATE) / RATE
    tone = Clip((0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32), RATE)
    asked = Conversation([user("<audio>What is heard?")], [tone])
    waveform = torch.from_numpy(tone.at(pitch.sampling_rate))[None]
    count, spec = backbone.num_audio_tokens(2 * RATE), backbone.audio_spec
    model.heads["basic_pitch"] = head = Same()
    head.features = pitch.targets(
        waveform, torch.tensor([waveform.shape[1]]), torch.tensor([count]), token_rate=spec.token_rate,
        first_token_seconds=spec.first_token_seconds,
    ).float()  # fmt: skip
    (item,) = reconstruct(model, {"basic_pitch": pitch}, asked)
    assert item.how_well == "note F1 1.00"
    head.features = head.features * 0
    (silent,) = reconstruct(model, {"basic_pitch": pitch}, asked)
    assert silent.how_well == "note F1 0.00"


def test_reconstructions_and_their_picture(backbone):
    from coat.experts import make_expert
    from coat.probing.reconstructions import reconstruct
    from coat.reports.plots import plot_reconstructions

    model = ThinkingModel(backbone).eval()
    experts = {
        name: make_expert(name, hidden_size=backbone.hidden_size, audio_spec=backbone.audio_spec)
        for name in ("audio_reconstruction", "standin_affect")
    }
    torch.manual_seed(0)
    for name, expert in experts.items():
        model.heads[name] = make_head("linear", backbone.hidden_size, expert.feature_dim)
    made = reconstruct(model, experts, conversation(0.8, answer=None))
    assert [item.expert for item in made] == list(experts)
    for item in made:
        assert item.target.image.shape == item.prediction.image.shape
        assert item.explained <= 1.0
        assert item.how_well == f"R² {item.explained:.2f}"
    assert plot_reconstructions(made).startswith("data:image/png;base64,")
