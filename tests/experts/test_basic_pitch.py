"""The port against onnxruntime, on the wheel's own file."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from coat.errors import CoatError
from coat.experts.basic_pitch import (
    HOP,
    NUM_BINS,
    NUM_CHANNELS,
    SAMPLING_RATE,
    WINDOW_SAMPLES,
    BasicPitch,
    cut_windows,
    find_onnx_file,
    read_onnx_weights,
)

pytestmark = pytest.mark.experts

CQT, FEATURES, CONTOUR = "Transpose__553:0", "Relu__38:0", "StatefulPartitionedCall:0"
TIME = np.arange(WINDOW_SAMPLES) / SAMPLING_RATE


@pytest.fixture(scope="module")
def expert():
    return BasicPitch()


def session(optimise: bool = True):
    model = onnx.load(find_onnx_file())
    for name in (CQT, FEATURES):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def reference():
    return session()


@pytest.fixture(scope="module")
def reference_unoptimised():
    return session(optimise=False)


def run(reference, window):
    outputs = reference.run([FEATURES, CONTOUR], {"serving_default_input_2:0": window[None, :, None]})
    return outputs[0], outputs[1]


def harmonic_note(midi: float, rng) -> np.ndarray:
    base = 440 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * base * h * TIME + rng.uniform(0, 6)) * np.exp(-TIME * h) / h for h in range(1, 9))


def signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    hiss = rng.normal(0, 1, WINDOW_SAMPLES)
    pulses = np.sign(np.sin(2 * np.pi * (110 + 30 * np.sin(6 * TIME)) * TIME)) * (np.sin(2 * np.pi * 3 * TIME) > -0.3)
    speech = np.convolve(pulses + 0.2 * hiss, rng.normal(0, 1, 64) * np.hanning(64), mode="same")
    made = {
        "chord": sum(harmonic_note(m, rng) for m in (60, 64, 67)) / 3 + 3e-3 * hiss,
        "sweep": np.sin(2 * np.pi * np.cumsum(80 * 60 ** (TIME / 2)) / SAMPLING_RATE) + 3e-3 * hiss,
        "speech-like": speech / np.abs(speech).max(),
        "noise": hiss / 4,
        "silence": np.zeros(WINDOW_SAMPLES),
        "pure tone": np.sin(2 * np.pi * 440 * TIME),
    }
    return {name: (0.5 * wave).astype(np.float32) for name, wave in made.items()}


@pytest.mark.parametrize("name", ["chord", "sweep", "speech-like", "noise", "silence"])
def test_contour_posteriorgram_equals_onnxruntime(expert, reference, name):
    window = signals()[name]
    _, contour = run(reference, window)
    with torch.inference_mode():
        mine = expert.posteriorgram(expert.network(torch.from_numpy(window)[None]))
    np.testing.assert_allclose(mine.numpy(), contour, atol=1e-4)


@pytest.mark.parametrize("name", ["speech-like", "noise", "silence"])
def test_features_equal_onnxruntime(expert, reference, name):
    window = signals()[name]
    features, _ = run(reference, window)
    np.testing.assert_allclose(activations(expert, window), features, atol=1e-4)


@pytest.mark.parametrize("name", sorted(signals()))
def test_features_are_no_further_from_onnxruntime_than_it_is_from_itself(
    expert, reference, reference_unoptimised, name
):
    """Loud tones leave most bins at float32's rounding noise, and the normalised log stretches it: with its
    graph optimisations on and off, onnxruntime differs from itself by more than 1e-4 there."""
    window = signals()[name]
    features, _ = run(reference, window)
    again, _ = run(reference_unoptimised, window)
    own = np.abs(features - again).max()
    assert np.abs(activations(expert, window) - features).max() <= max(1e-4, own)


@pytest.mark.parametrize("name", sorted(signals()))
def test_from_the_same_constant_q_transform_features_are_equal(expert, reference, name):
    """Everything after the transform is exact: what differs on tones is the transform's rounding alone."""
    window = signals()[name]
    parts, features = reference.run([CQT, FEATURES], {"serving_default_input_2:0": window[None, :, None]})
    magnitude = np.sqrt(((parts * expert.network.cqt.scale.numpy()[None, :, :, None]) ** 2).sum(-1))
    with torch.inference_mode():
        mine = expert.network.from_magnitudes(torch.from_numpy(magnitude).transpose(1, 2))
    np.testing.assert_allclose(channels(mine), features, atol=1e-4)


def activations(expert, window):
    with torch.inference_mode():
        return channels(expert.network(torch.from_numpy(window)[None]))


def channels(features):
    return features.unflatten(2, (NUM_CHANNELS, NUM_BINS)).permute(0, 2, 1, 3).numpy()


def test_a_clip_in_windows_is_as_long_as_it_should_be_and_ignores_padding(expert):
    rng = np.random.default_rng(0)
    lengths = torch.tensor([3000, 50_000, 90_000])
    waves = torch.from_numpy(rng.normal(0, 0.1, (3, 90_000)).astype(np.float32))
    loud = waves.clone()
    for row, length in enumerate(lengths):
        loud[row, length:] = 1e3
    with torch.inference_mode():
        features, frames = expert.features(loud, lengths)
        assert frames.tolist() == [n // HOP + 1 for n in lengths.tolist()]
        for row, length in enumerate(lengths):
            alone, count = expert.features(waves[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(features[row, : count[0]], alone[0], atol=2e-3, rtol=1e-3)


def test_windows_advance_by_exactly_the_frames_they_keep():
    length = 100_000
    windows, owners = cut_windows(torch.arange(1.0, length + 1)[None], torch.tensor([length]))
    assert owners.tolist() == [0] * len(windows)
    kept = windows[:, 15 * HOP :: HOP][:, :142]  # the first sample of every kept frame
    starts = kept.flatten()[: length // HOP + 1]
    torch.testing.assert_close(starts, torch.arange(0, length + 1, HOP).float()[: len(starts)] + 1)


def test_gradients_pass_through_h_and_weights_stay(expert):
    prediction = torch.rand(1, 6, expert.feature_dim, requires_grad=True)
    expert.loss(prediction, torch.rand(1, 6, expert.feature_dim), torch.ones(1, 6, dtype=torch.bool)).sum().backward()
    assert prediction.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in expert.parameters())


def test_padded_frames_do_not_reach_real_ones(expert):
    """h looks two frames to either side."""
    mask = torch.tensor([[True] * 4 + [False] * 3])
    prediction, target = torch.rand(2, 1, 7, expert.feature_dim)
    alone = expert.loss(prediction[:, :4], target[:, :4], mask[:, :4])
    padded = expert.loss(prediction.masked_fill(~mask[..., None], 99.0), target, mask)
    torch.testing.assert_close(padded[:, :4], alone)


def test_a_note_is_heard_at_its_place_and_time(expert):
    """A4 from 0.5 s to 1.0 s of a 1.5 s clip: bin 144, tokens 12 to 24."""
    n = round(1.5 * SAMPLING_RATE)
    time = np.arange(n) / SAMPLING_RATE
    gate = (time >= 0.5) & (time < 1.0)
    wave = sum(np.sin(2 * np.pi * 440 * h * time) / h for h in range(1, 6)) * gate * 0.3
    wave = (wave + np.random.default_rng(0).normal(0, 1e-3, n)).astype(np.float32)
    features = expert.targets(
        torch.from_numpy(wave)[None], torch.tensor([n]), torch.tensor([37]), token_rate=25.0, first_token_seconds=0.01
    )
    roll = expert.posteriorgram(features.clone())[0]
    assert abs(int(roll[18].argmax()) - (3 * 48 + 1)) <= 1
    note = roll[:, 3 * 48 : 3 * 48 + 3].amax(1) > 0.5
    heard = note.nonzero().flatten()
    assert abs(int(heard.min()) - 12) <= 2
    assert abs(int(heard.max()) - 24) <= 2
    picture = expert.visualise(features[0].float())
    assert picture.image.shape == (88, 37)
    assert picture.labels[3] == "C1"  # A0 is the first row
    assert int(picture.image[:, 18].argmax()) == 48  # A4, four octaves above
    assert [label for label in picture.labels if label] == [f"C{octave}" for octave in range(1, 9)]


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(CoatError, match="--no-deps basic-pitch"):
        read_onnx_weights(tmp_path / "nmp.onnx")


def test_another_network_is_refused(tmp_path):
    graph = onnx.helper.make_graph([], "empty", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(CoatError, match="not basic-pitch"):
        BasicPitch(tmp_path / "other.onnx")
