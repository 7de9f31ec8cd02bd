"""Any encoder of transformers: its own output, at the times that it is of."""

import pytest
import torch

from coat.audio import AudioSpec
from coat.errors import CoatError
from coat.experts import make_expert
from coat.testing.clips import noise
from tests.experts.tiny_encoders import make

pytestmark = pytest.mark.experts

HEARING = AudioSpec(16_000, 25.0, 0.01, 30.0)


def encoder(kind, folder, name="mine", **options):
    return make_expert(
        name, {"kind": "encoder", "model": make(kind, folder), **options}, hidden_size=8, audio_spec=HEARING
    )


def heard(expert, seconds=1.5):
    wave = torch.from_numpy(noise(seconds, rate=expert.sampling_rate).waveform)
    with torch.inference_mode():
        features, frames = expert.features(wave[None], torch.tensor([len(wave)]))
    return wave, features[0, : int(frames[0])]


@pytest.mark.parametrize(
    ("kind", "rate", "frame_rate", "first"),
    [
        ("wav2vec2", 16_000, 50, 0.0125), ("hubert", 16_000, 50, 0.0125), ("wavlm", 16_000, 50, 0.0125),
        ("data2vec-audio", 16_000, 50, 0.0125), ("whisper", 16_000, 50, 0.0), ("ast", 16_000, 10, 0.08),
        ("clap", 48_000, 3.2, 0.15625), ("encodec", 24_000, 75, 1 / 150), ("mimi", 24_000, 12.5, 0.04),
    ],
)  # fmt: skip
def test_rates_and_times(kind, rate, frame_rate, first, tmp_path):
    expert = encoder(kind, tmp_path)
    assert expert.sampling_rate == rate
    assert expert.frame_rate == pytest.approx(frame_rate)
    assert expert.first_frame_seconds == pytest.approx(first)
    _, features = heard(expert, 12.3)
    assert len(features) == pytest.approx(12.3 * frame_rate, abs=2.5)
    assert features.shape[1] == expert.feature_dim


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "data2vec-audio"])
def test_waveform_encoders_give_transformers_own_states(kind, tmp_path):
    from transformers import AutoFeatureExtractor, AutoModel

    wave, features = heard(encoder(kind, tmp_path, layer=1))
    extractor, model = AutoFeatureExtractor.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path).eval()
    inputs = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states[1][0]
    torch.testing.assert_close(features, states, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "data2vec-audio", "encodec", "mimi"])
@pytest.mark.parametrize("seconds", [2.5, 3.013, 4.6, 4.99])
def test_long_clips_are_heard_in_windows_at_the_same_times(kind, seconds, tmp_path, monkeypatch):
    """Nearly what they are in one piece, frame by frame; how nearly depends on how far a model hears."""
    expert = encoder(kind, tmp_path)
    _, whole = heard(expert, seconds)
    monkeypatch.setattr("coat.experts.encoder.WINDOW_SECONDS", 1)
    monkeypatch.setattr("coat.experts.encoder.CONTEXT_SECONDS", 1)
    lengths, encoded = [], expert.reader._encoded
    monkeypatch.setattr(expert.reader, "_encoded", lambda wave: lengths.append(len(wave)) or encoded(wave))
    _, windows = heard(expert, seconds)
    assert len(lengths) > 1
    assert max(lengths) <= 3 * expert.sampling_rate  # a window and both its neighbours
    assert windows.shape == whole.shape
    moved = {shift: (windows[2 + shift : len(whole) - 2 + shift] - whole[2:-2]).square().mean() for shift in (-1, 0, 1)}
    assert min(moved, key=moved.__getitem__) == 0
    assert float(moved[0]) < 0.05 * float(whole.var(0).mean())


def test_whisper_gives_the_first_frames_of_its_window(tmp_path):
    from transformers import AutoFeatureExtractor, WhisperModel

    wave, features = heard(encoder("whisper", tmp_path))
    extractor, model = AutoFeatureExtractor.from_pretrained(tmp_path), WhisperModel.from_pretrained(tmp_path).eval()
    mel = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt")["input_features"]
    with torch.inference_mode():
        states = model.encoder(mel).last_hidden_state[0]
    assert len(features) == 75
    torch.testing.assert_close(features, states[:75], atol=1e-5, rtol=1e-5)


def test_ast_pools_its_patches_over_frequency(tmp_path):
    from transformers import ASTModel, AutoFeatureExtractor

    expert = encoder("ast", tmp_path, pooling="max")
    wave, features = heard(expert)
    extractor, model = AutoFeatureExtractor.from_pretrained(tmp_path), ASTModel.from_pretrained(tmp_path).eval()
    inputs = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        patches = model(**inputs, output_hidden_states=True).hidden_states[-1][0, 2:]
    torch.testing.assert_close(features, patches.view(12, 101, -1).amax(0)[:15], atol=1e-5, rtol=1e-5)


def test_two_encoders_of_one_kind_are_told_apart(tmp_path):
    low = encoder("hubert", tmp_path / "h", name="low", layer=0)
    high = encoder("hubert", tmp_path / "h", name="high", layer=2)
    assert (low.name, high.name) == ("low", "high")
    assert low.fingerprint() != high.fingerprint()


@pytest.mark.parametrize(
    ("options", "message"), [({"layer": 7}, "no layer 7"), ({"pooling": "sum"}, "no pooling 'sum'")]
)
def test_bad_options(options, message, tmp_path):
    with pytest.raises(CoatError, match=message):
        encoder("hubert", tmp_path, **options)


def test_other_models_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CoatError, match="is a 'bert'"):
        make_expert("x", {"kind": "encoder", "model": str(tmp_path)}, hidden_size=8, audio_spec=HEARING)
