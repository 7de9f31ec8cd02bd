"""Every registered expert."""

import copy
from functools import partial

import pytest
import torch

from coat.errors import CoatError
from coat.experts import expert_class, expert_names, make_expert
from coat.experts.emotion2vec import Emotion2Vec
from coat.experts.encoder import Encoder
from coat.experts.resemblyzer import Resemblyzer
from coat.experts.spidr import SpidR
from coat.experts.weights import PretrainedExpert
from coat.testing.conformance import AUDIO_SPEC, ExpertConformance
from tests.experts.tiny_encoders import MAKERS, make

NAMES = [*sorted(set(expert_names()) - {"encoder"}), *(f"encoder:{kind}" for kind in sorted(MAKERS))]


def tiny(name, folder=None):
    """As light as it can be had: published weights are not here, so random ones."""
    kind, _, encoder = name.partition(":")
    options = {}
    if encoder:
        options = {"kind": "encoder", "model": make(encoder, folder)}
    elif issubclass(expert_class(kind), PretrainedExpert):
        options = {"weights": "random", "sizes": "tiny"}
    return make_expert(encoder or kind, options, hidden_size=24, audio_spec=AUDIO_SPEC)


class Nowhere(torch.nn.Module):
    """No position."""

    def forward(self, x, real):
        return torch.zeros_like(x)


@pytest.mark.conformance
@pytest.mark.experts
class TestExperts(ExpertConformance):
    @pytest.fixture(scope="class", params=NAMES)
    @classmethod
    def maker(cls, request, tmp_path_factory):
        return partial(tiny, request.param, tmp_path_factory.mktemp("encoder"))

    def in_place(self, expert):
        # Random attention and recurrence: test_encoder.py and test_resemblyzer.py in tests/experts have their times.
        if isinstance(expert, Encoder | Resemblyzer):
            return None
        if not isinstance(expert, SpidR | Emotion2Vec):
            return expert
        alone = copy.deepcopy(expert)
        alone.blocks, alone.positions = torch.nn.ModuleList(), Nowhere()
        return alone


def test_unknown_experts_and_options_are_named():
    with pytest.raises(CoatError, match="Did you mean 'basic_pitch'"):
        expert_class("basic_pich")
    with pytest.raises(CoatError, match="does not take"):
        make_expert("standin_speech", {"speed": 3}, hidden_size=24, audio_spec=AUDIO_SPEC)
