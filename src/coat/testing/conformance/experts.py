"""Conformance tests of experts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from coat.audio import AudioSpec
from coat.experts.base import Expert
from coat.testing.conformance.memory import memory_of_five_minutes, waves

# The backbone that targets are aligned to.
AUDIO_SPEC = AudioSpec(sampling_rate=16_000, token_rate=25.0, first_token_seconds=0.01, max_seconds=30.0)


class ExpertConformance:
    """Subclass it in a test file, and say how your expert is made.

    Example::

        from coat.experts import make_expert
        from coat.testing.conformance import AUDIO_SPEC, ExpertConformance

        class TestLoudness(ExpertConformance):
            def make(self):
                return make_expert("my_package.loudness:Loudness", {}, hidden_size=24, audio_spec=AUDIO_SPEC)
    """

    def make(self) -> Expert:
        """The expert, anew at each call, with the same weights; small ones with random weights will do."""
        raise NotImplementedError

    def in_place(self, expert: Expert) -> Expert | None:
        """The expert without layers that carry a sound to other times, such as attention; None if nothing is left."""
        return expert

    @pytest.fixture(scope="class")
    @classmethod
    def maker(cls) -> Callable[[], Expert]:
        """Makes it, in this process and in others."""
        return cls().make

    @pytest.fixture(scope="class")
    @classmethod
    def expert(cls, maker: Callable[[], Expert]) -> Expert:
        """One for all tests."""
        return maker()

    def test_it_is_frozen_and_named(self, expert):
        assert not expert.training
        assert not any(p.requires_grad for p in expert.parameters())
        assert expert.licence

    def test_features_have_the_promised_size_and_rate(self, expert):
        if not expert.needs_waveform:
            pytest.skip("takes x_A from the backbone")
        waveforms, lengths = waves(expert, 0.4, 2.0)
        with torch.inference_mode():
            features, frames = expert.features(waveforms, lengths)
        assert features.shape == (2, int(frames.max()), expert.feature_dim)
        for count, length in zip(frames.tolist(), lengths.tolist(), strict=True):
            assert abs(count - length / expert.sampling_rate * expert.frame_rate) <= 1.5
        assert torch.isfinite(features).all()

    def test_a_clip_gives_the_same_targets_alone_and_in_a_batch(self, expert):
        if not expert.needs_waveform:
            pytest.skip("takes x_A from the backbone")
        waveforms, lengths = waves(expert, 0.4, 2.0, 1.1)
        counts = (lengths * 25 // expert.sampling_rate).clamp(min=1)
        axis = {"token_rate": 25.0, "first_token_seconds": 0.01}
        together = expert.targets(waveforms, lengths, counts, **axis)
        for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            alone = expert.targets(
                waveforms[row : row + 1, :length], lengths[row : row + 1], counts[row : row + 1], **axis
            )
            torch.testing.assert_close(together[row, :count], alone[0, :count], atol=2e-3, rtol=2e-3)

    @pytest.mark.parametrize("kind", ["silence", "loud", "short", "10 ms", "120 s"])
    def test_extreme_clips_stay_finite(self, expert, kind):
        if not expert.needs_waveform:
            pytest.skip("takes x_A from the backbone")
        waveforms, lengths = waves(expert, {"short": 0.1, "10 ms": 0.01, "120 s": 120.0}.get(kind, 1.0))
        scale = {"silence": 0.0, "loud": 100.0}.get(kind, 1.0)
        with torch.inference_mode():
            features, frames = expert.features(waveforms * scale, lengths)
        assert torch.isfinite(features).all()
        assert features.shape[1] == int(frames.max()) >= 1
        if kind == "120 s":  # a rate that is a little wrong would put the end of a long clip out of place
            assert abs(int(frames[0]) - 120 * expert.frame_rate) <= 1.5

    def test_five_minutes_fit_into_memory(self, expert, maker):
        """Neither attention, the square of a length, nor fine first layers may be as large as a clip is long."""
        if not expert.needs_waveform:
            pytest.skip("takes x_A from the backbone")
        assert memory_of_five_minutes(maker) < 2 * 2**30

    def test_what_is_not_sound_is_refused(self, expert):
        if not expert.needs_waveform:
            pytest.skip("takes x_A from the backbone")
        waveforms, lengths = waves(expert, 0.5)
        waveforms[0, 7] = torch.nan
        with pytest.raises(ValueError, match="NaN or infinite"):
            expert.targets(waveforms, lengths, torch.tensor([12]), token_rate=25.0, first_token_seconds=0.01)

    def test_a_burst_is_heard_where_it_is(self, expert):
        """Alignment: no feature is shifted by more than half a frame, the expert's or a token's.

        Two clips hold the same burst at two times, so that whatever an expert normalises by is the same for both:
        their features differ at the two bursts alone, each of which must be in the middle of the differences around it.
        """
        if not expert.needs_waveform:
            pytest.skip("takes x_A from the backbone")
        alone = self.in_place(expert)
        if alone is None:
            pytest.skip("its layers carry a burst on")
        rate = expert.sampling_rate
        quiet = np.random.default_rng(0).normal(0, 1e-3, round(1.5 * rate)).astype(np.float32)
        time = np.arange(round(0.04 * rate)) / rate
        burst = (np.sin(2 * np.pi * 1000 * time) * np.hanning(len(time))).astype(np.float32)
        both = np.stack([quiet, quiet])
        middles = (0.45, 0.97)
        for row, middle in zip(both, middles, strict=True):
            start = round(middle * rate) - len(burst) // 2
            row[start : start + len(burst)] += burst
        lengths, counts = torch.tensor([both.shape[1]] * 2), torch.tensor([37, 37])
        out = alone.targets(torch.from_numpy(both), lengths, counts, token_rate=25.0, first_token_seconds=0.01)
        out = out.float()
        moved = (out[1] - out[0]).square().sum(-1).float()
        times = 0.01 + torch.arange(37) / 25
        for middle in middles:
            near = (times - middle).abs() <= max(0.2, 1 / expert.frame_rate)
            centre = float((moved * times)[near].sum() / moved[near].sum())
            assert centre == pytest.approx(middle, abs=0.5 / min(25.0, expert.frame_rate))

    def test_its_loss_is_zero_at_the_target_and_ignores_padding(self, expert):
        target = torch.rand(2, 9, expert.feature_dim)
        mask = torch.ones(2, 9, dtype=torch.bool)
        mask[1, 5:] = False
        at_target = expert.loss(target.clone(), target, mask)
        away = expert.loss(target + 0.5, target, mask)
        assert at_target.shape == (2, 9)
        assert float(at_target[mask].max()) < float(away[mask].min())
        changed = target.clone()
        changed[1, 5:] = 77.0
        torch.testing.assert_close(expert.loss(target, changed, mask)[mask], at_target[mask])

    def test_it_can_be_looked_at_and_fingerprinted(self, expert, maker):
        picture = expert.visualise(torch.rand(9, expert.feature_dim))
        assert picture.image.shape[1] == 9
        assert expert.fingerprint() == maker().fingerprint()
