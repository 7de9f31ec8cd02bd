import numpy as np
import pytest
import torch

from coat.experts import make_expert
from coat.experts.basic_pitch import intervals_of, notes_of
from coat.probing.head_scores import score_heads
from coat.testing.clips import conversation
from coat.thinking.model import ThinkingModel


class Says(torch.nn.Module):
    """A head that is told what to say."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, states, mask):
        return self.make(states, mask)


@pytest.fixture
def model(backbone):
    return ThinkingModel(backbone).eval()


def heads_that(model, expert, loads, change):
    """Heads whose predictions are the targets, changed."""
    from coat.thinking.batch import make_batch
    from coat.training.targets import expert_targets

    def make(states, mask):
        batch = make_batch(model.builder, [load() for load in loads], live_rates=[expert.sampling_rate])
        output = model.audio_embeddings(batch)
        lengths = torch.tensor([len(row) for row in output])
        padded = torch.nn.utils.rnn.pad_sequence(output, batch_first=True)
        return change(expert_targets(expert, batch, padded, lengths, model.builder).float())

    return Says(make)


@pytest.mark.parametrize(
    ("change", "cosine", "explained"),
    [(lambda t: t, 1.0, 1.0), (lambda t: t * 0 + t.mean((0, 1)), None, 0.0)],
    ids=["the target", "its mean"],
)
def test_the_target_scores_one_and_its_mean_nothing(model, change, cosine, explained):
    expert = make_expert("standin_affect", hidden_size=model.backbone.hidden_size, audio_spec=model.backbone.audio_spec)
    loads = [lambda seed=seed: conversation(0.8, answer=None, seed=seed) for seed in range(3)]
    model.heads["standin_affect"] = heads_that(model, expert, loads, change)
    (found,) = score_heads(model, {"standin_affect": expert}, loads)
    assert found.clips == 3
    assert found.explained == pytest.approx(explained, abs=0.02)
    if cosine is not None:
        assert found.cosine.value == pytest.approx(cosine, abs=1e-3)


def test_notes_by_hand():
    contour = np.zeros((50, 264), dtype=np.float32)
    contour[5:15, 3 * 48 : 3 * 48 + 1] = 0.9  # A4: 48 semitones above A0, for 0.4 s at 25 a second
    contour[5:15, 3 * 48 + 1] = 0.5  # its upper third belongs to the same key
    contour[20:22, 3 * 50] = 0.9  # too short
    contour[30:40, 3 * 52] = 0.2  # too faint
    (note,) = notes = notes_of(contour, 25.0)
    assert (note.label, note.confidence) == ("A4", pytest.approx(0.9))
    spans, pitches = intervals_of(notes)
    np.testing.assert_allclose(spans, [[0.2, 0.6]])
    np.testing.assert_allclose(pitches, [440.0])


def test_pitch_is_measured_in_notes(model):
    pytest.importorskip("mir_eval")
    expert = make_expert("basic_pitch", hidden_size=model.backbone.hidden_size, audio_spec=model.backbone.audio_spec)
    from coat.audio import Clip

    time = np.arange(16_000) / 16_000
    tone = (0.4 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    wave = torch.from_numpy(Clip(tone, 16_000).at(expert.sampling_rate))[None]
    target = expert.targets(
        wave, torch.tensor([wave.shape[1]]), torch.tensor([25]), token_rate=25.0, first_token_seconds=0.02
    )[0].float()  # fmt: skip
    assert expert.agreement(target, target, 25.0) == {"note F1": pytest.approx(1.0)}
    assert expert.agreement(target * 0, target, 25.0)["note F1"] == 0.0
