"""Conformance tests of audio inputs."""

import numpy as np
import pytest
import torch
from torch import nn

from coat.errors import CoatError
from coat.testing.clips import RATE, conversation, noise
from coat.testing.conformance.stock import Compared, stock_embeddings, stock_inputs
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel

LENGTHS = (0.2, 1.3, 29.99, 30.0, 30.01, 59.9, 60.001, 95.0)


class Hearing(Compared):
    """Audio: token counts, embeddings, times."""

    @pytest.mark.parametrize("seconds", LENGTHS)
    def test_placeholders_embeddings_and_formula_agree(self, loaded, seconds):
        item = conversation(seconds)
        if seconds > loaded.audio_spec.max_seconds:
            with pytest.raises(CoatError, match=f"hears at most {loaded.audio_spec.max_seconds:g} s"):
                make_batch(ThinkingModel(loaded).builder, [item])
            return
        features = loaded.audio_features([item.clips[0].waveform])
        count = loaded.num_audio_tokens(len(item.clips[0].waveform))
        assert features.num_audio_tokens.tolist() == [count] == [len(loaded.audio_embeddings(features)[0])]
        batch = make_batch(ThinkingModel(loaded).builder, [item])
        assert int((batch.input_ids == loaded.audio_token_id).sum()) == count
        stock = stock_inputs(loaded, item.clips, processor=self.stock_processor(loaded))["input_ids"]
        assert int((stock == loaded.audio_token_id).sum()) == count
        heard = loaded.heard_tokens(len(item.clips[0].waveform))
        assert heard <= count
        assert abs(heard / loaded.audio_spec.token_rate - seconds) < 2 / loaded.audio_spec.token_rate

    def test_embeddings_equal_those_of_the_stock_model(self, loaded):
        """The tower runs over true lengths here and, in some families, over 30 s there."""
        heard = [seconds for seconds in (0.2, 1.33337, 29.99, 31.7) if seconds <= loaded.audio_spec.max_seconds]
        clips = [noise(seconds, seed=i) for i, seconds in enumerate(heard)]
        mine = loaded.audio_embeddings(loaded.audio_features([clip.waveform for clip in clips]))
        for clip, embedding in zip(clips, mine, strict=True):
            torch.testing.assert_close(
                embedding, stock_embeddings(loaded, clip, self.stock_processor(loaded)), atol=1e-5, rtol=1e-5
            )

    def test_several_clips_in_a_batch_equal_each_alone(self, loaded):
        waves = [noise(s, seed=i).waveform for i, s in enumerate((0.3, 2.0, 1.1))]
        together = loaded.audio_embeddings(loaded.audio_features(waves))
        for wave, embedding in zip(waves, together, strict=True):
            alone = loaded.audio_embeddings(loaded.audio_features([wave]))[0]
            torch.testing.assert_close(embedding, alone, atol=1e-5, rtol=1e-5)

    def test_tokens_are_where_the_sound_is(self, loaded):
        """A click changes the token at its time most. Without attention, which carries it everywhere."""
        tower = loaded.audio_tower
        tower.layers = nn.ModuleList()
        audio_spec = loaded.audio_spec
        quiet = np.random.default_rng(0).normal(0, 1e-3, 3 * RATE).astype(np.float32)
        for second in (0.5, 0.98, 1.52, 2.4):
            clicked = quiet.copy()
            clicked[round(second * RATE)] = 1.0
            before, after = (loaded.audio_embeddings(loaded.audio_features([wave]))[0] for wave in (quiet, clicked))
            moved = (after - before).norm(dim=-1)
            times = audio_spec.first_token_seconds + torch.arange(len(moved)) / audio_spec.token_rate
            assert abs(float(times[moved.argmax()]) - second) <= 0.6 / audio_spec.token_rate
