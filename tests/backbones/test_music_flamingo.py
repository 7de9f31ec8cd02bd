import json

import numpy as np
import pytest
import torch

from coat.backbones import family_of, load_backbone
from coat.errors import CoatError
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import noise


@pytest.fixture
def folder(tmp_path):
    random_backbone("music_flamingo", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("fields", "seconds"), [({}, 1200.0), ({"max_audio_len": 1800}, 1800.0), ({"max_seconds": 1800.0}, 1800.0)]
)
def test_the_longest_clip_is_the_processor_s(folder, fields, seconds):
    """Audio Flamingo Next hears 30 minutes, and says so there; an export says it in its own field."""
    (folder / "processor_config.json").write_text(json.dumps(fields))
    assert family_of(str(folder)) == "music_flamingo"
    assert load_backbone("music_flamingo", str(folder)).audio_spec.max_seconds == seconds


def test_a_sound_that_comes_again_is_told_apart_by_its_time(folder):
    """The tower sees both windows alike; the rotation by time does not."""
    backbone = load_backbone("music_flamingo", str(folder))
    twice = backbone.audio_features([np.tile(noise(30.0).waveform, 2)])
    with torch.no_grad():
        first, second = backbone.encode(twice)[0].split(750)
    turned = (first - second).abs().amax(0)
    size = 2 * 12  # a fifth of 64 for each of two axes
    assert float(turned[:size].max()) > 0.1
    torch.testing.assert_close(first[:, size:], second[:, size:], atol=1e-5, rtol=1e-5)


def test_it_has_no_adapter_that_thinks_in_text(folder):
    with pytest.raises(CoatError, match="no think mode of its own"):
        load_backbone("music_flamingo", str(folder)).load_think_mode()
