"""SpidR, PANNs, emotion2vec and Resemblyzer against what their upstream modules gave, and how their weights are had."""

import numpy as np
import pytest
import soundfile
import soxr
import torch
from safetensors.torch import load_file, save_file

from coat.audio import load_audio
from coat.audio_batch import AudioBatch
from coat.errors import CoatError
from coat.experts import expert_class
from coat.experts import weights as weights_module
from coat.experts.emotion2vec import EMOTIONS, alibi_slopes
from coat.experts.panns import audioset_labels
from tests.experts.references import read, sounds

pytestmark = pytest.mark.experts

NAMES = ("spidr", "panns", "emotion2vec", "resemblyzer")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr(weights_module, "experts_folder", lambda: folder)
    return folder


@pytest.fixture
def checkpoint(name, tmp_path):
    """A file as the makers publish it: their names, pickled tensors, more than is needed."""
    _, state, _ = read(name)
    path = tmp_path / "official.pt"
    torch.save({"model": state, "iteration": 7}, path)
    return str(path)


def test_features_are_upstream_s(name, checkpoint):
    """Through the way that users come: a checkpoint, converted, loaded."""
    upstream, _, expected = read(name)
    assert len(upstream) == 40 or upstream == "Resemblyzer-0.1.4"  # a commit, or a release
    expert = expert_class(name)(weights=checkpoint).freeze()
    clips = sounds(expert.sampling_rate)
    for clip, features in zip(clips, expected, strict=True):
        mine, frames = expert.features(clip[None], torch.tensor([len(clip)]))
        assert int(frames[0]) == len(features)
        torch.testing.assert_close(mine[0], features, atol=1e-4, rtol=1e-5)


def test_a_batch_of_unequal_clips_gives_the_same(name, checkpoint):
    _, _, expected = read(name)
    expert = expert_class(name)(weights=checkpoint).freeze()
    clips = sounds(expert.sampling_rate)
    lengths = torch.tensor([len(clip) for clip in clips])
    together, frames = expert.features(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths)
    for row, count, features in zip(together, frames.tolist(), expected, strict=True):
        torch.testing.assert_close(row[:count], features, atol=1e-4, rtol=1e-5)


def test_a_long_clip_in_parts_is_what_it_is_whole(name, checkpoint, monkeypatch):
    """Ten minutes in 2 GB and not in 43: attention for some frames at once, convolutions over some seconds."""
    if name in ("panns", "resemblyzer"):
        pytest.skip("has no attention")
    expert = expert_class(name)(weights=checkpoint).freeze()
    at_once = []
    expert.frames.norms[0].register_forward_pre_hook(lambda _, inputs: at_once.append(inputs[0].shape[-2]))
    waveforms, lengths = 0.1 * torch.randn(2, 5 * 16_000), torch.tensor([80_000, 37_123])
    with torch.inference_mode():
        whole, counts = expert.features(waveforms, lengths)
        monkeypatch.setattr("coat.experts.speech.FRAMES_AT_ONCE", 37)
        monkeypatch.setattr("coat.experts.speech.SCORES_AT_ONCE", 5_000)
        parts, again = expert.features(waveforms, lengths)
    assert torch.equal(counts, again)
    assert at_once[0] == 16_000 - 1  # the first layer of five seconds
    assert max(at_once[1:]) == 37 * 64 + 15  # and of 37 frames
    for one, other, count in zip(whole, parts, counts.tolist(), strict=True):
        torch.testing.assert_close(one[:count], other[:count], atol=2e-5, rtol=1e-4)


def heard_in(expert, path):
    """Features of a file, through decoding, mixing and resampling."""
    waveforms, lengths = AudioBatch.of([load_audio(path)], [expert.sampling_rate]).at(expert.sampling_rate)
    return expert.features(waveforms, lengths)[0][0]


def test_a_stereo_file_is_heard_as_its_mix(name, checkpoint, tmp_path):
    _, _, expected = read(name)
    expert = expert_class(name)(weights=checkpoint).freeze()
    for clip, features in zip(sounds(expert.sampling_rate), expected, strict=True):
        side = float(clip.std()) * torch.randn(len(clip)).numpy()
        stereo = np.stack([clip.numpy() + side, clip.numpy() - side], 1)
        soundfile.write(tmp_path / "stereo.wav", stereo, expert.sampling_rate, subtype="FLOAT")
        torch.testing.assert_close(heard_in(expert, tmp_path / "stereo.wav"), features, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_a_file_of_another_rate_is_heard_alike(name, checkpoint, tmp_path, rate):
    """A chirp within every band; what is left is the difference between two resamplers."""
    _, _, expected = read(name)
    expert = expert_class(name)(weights=checkpoint).freeze()
    chirp = sounds(expert.sampling_rate)[3].numpy()
    soundfile.write(tmp_path / "other.wav", soxr.resample(chirp, expert.sampling_rate, rate), rate, subtype="FLOAT")
    mine = heard_in(expert, tmp_path / "other.wav")
    inner = slice(1, len(expected[3]) - 2)  # a sound that begins or ends at full level does not survive resampling
    spread = (expected[3] - expected[3].mean(0))[inner].square().mean()
    assert (mine[inner] - expected[3][inner]).square().mean() < 1e-4 * spread


def test_a_checkpoint_is_converted_once(name, checkpoint, cache, monkeypatch):
    cls = expert_class(name)
    first = cls.prepare(checkpoint)
    assert first.suffix == ".safetensors"
    assert [path.name for path in cache.iterdir()] == [first.name]
    monkeypatch.setattr(cls, "convert", classmethod(lambda *_: pytest.fail("converted again")))
    assert cls.prepare(checkpoint) == first
    assert load_file(first).keys() == cls(weights="random", sizes="tiny").state_dict().keys() | {
        key for key in load_file(first) if key.startswith("classifier")
    }


def test_safetensors_are_taken_too(name, tmp_path):
    _, state, _ = read(name)
    path = tmp_path / "official.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    assert expert_class(name)(weights=str(path)).feature_dim in (16, 32, 64)


def test_code_in_a_checkpoint_is_not_run(name, tmp_path):
    class Bad:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    path = tmp_path / "bad.pt"
    torch.save({"model": Bad()}, path)
    with pytest.raises(CoatError, match="without running code"):
        expert_class(name)(weights=str(path))


def test_without_a_network_the_command_is_named(name):
    cls = expert_class(name)
    with pytest.raises(CoatError) as caught:
        cls(weights="https://nowhere.invalid/weights.pt")
    assert "could not be fetched" in caught.value.problem
    if name == "resemblyzer":
        assert "pip install --no-deps resemblyzer==0.1.4" in caught.value.remedy
    else:
        assert f"curl -L -o {cls.remedy().split('curl -L -o ')[1].split()[0]} http" in caught.value.remedy
        assert f"--set experts.{name}.weights=" in caught.value.remedy
    with pytest.raises(CoatError, match="There are no weights"):
        cls(weights="./nothing/here")


def test_a_file_that_was_changed_is_refused(name, checkpoint, monkeypatch):
    cls = expert_class(name)
    monkeypatch.setattr(cls, "source", checkpoint)
    monkeypatch.setattr(cls, "checksum", "0" * 64)
    with pytest.raises(CoatError, match="is not the file"):
        cls(weights="official")


def test_other_weights_are_refused_by_name(name, tmp_path):
    _, state, _ = read(name)
    short = dict(list(state.items())[: len(state) // 2])
    path = tmp_path / "half.pt"
    torch.save(short, path)
    with pytest.raises(CoatError, match=f"are not those of {name}"):
        expert_class(name)(weights=str(path))


def test_official_sizes_are_the_published_ones(name):
    with torch.device("meta"):
        expert = expert_class(name)(weights="random", sizes="official")
    assert expert.feature_dim == {"spidr": 768, "panns": 2048, "emotion2vec": 768, "resemblyzer": 256}[name]
    millions = sum(p.numel() for p in expert.parameters()) / 1e6
    published = {"spidr": 93.1, "panns": 80.8, "emotion2vec": 93.4, "resemblyzer": 1.4}
    assert millions == pytest.approx(published[name], abs=0.5)


def test_the_classifier_is_shared_and_frozen():
    """§3.3.1: what g_cls hears in the prediction is compared with what it hears in the target."""
    panns = expert_class("panns")(weights="random", sizes="tiny").freeze()
    target = torch.rand(2, 5, panns.feature_dim)
    prediction = (target + 0.3).requires_grad_()
    mask = torch.ones(2, 5, dtype=torch.bool)
    loss = panns.loss(prediction, target, mask).sum()
    loss.backward()
    wanted = panns.classifier(target).sigmoid()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(panns.classifier(prediction), wanted)
    (gradient,) = torch.autograd.grad(plain * 10, prediction)  # mean over 10 frames, as the sum above is not
    torch.testing.assert_close(prediction.grad, gradient)
    assert panns.classifier.weight.grad is None
    torch.testing.assert_close(panns.loss(target, target, mask), torch.zeros(2, 5), atol=1e-6, rtol=0)


def test_pictures_have_names():
    panns = expert_class("panns")(weights="random", sizes="tiny").freeze()
    picture = panns.visualise(torch.rand(9, panns.feature_dim))
    assert len(audioset_labels()) == 527
    assert (audioset_labels()[0], audioset_labels()[137]) == ("Speech", "Music")
    assert len(picture.labels) == len(picture.image) == 12
    _, state, _ = read("emotion2vec")
    affect = expert_class("emotion2vec")(weights="random", sizes="tiny")
    assert affect.visualise(torch.rand(9, 64)).labels is None
    affect.build(affect.sizes_of(affect.convert(state)))
    assert affect.freeze().visualise(torch.rand(9, 64)).labels == EMOTIONS


def test_slopes_of_alibi():
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(12)[8:] == alibi_slopes(16)[0::2][:4]
