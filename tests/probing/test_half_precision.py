"""Whatever looks at think states, with the backbone in bf16 as it is on every GPU."""

import numpy as np
import pytest
import torch

from coat.api.model import CoatModel
from coat.checkpoints.building import build_experts
from coat.checkpoints.references import miniature_folder, run_in
from coat.probing.head_scores import score_heads
from coat.probing.probes import collect_states
from coat.probing.reconstructions import reconstruct
from coat.reports.plots import plot_listening, strips_of
from coat.testing.clips import conversation
from coat.view.listen import Listener


@pytest.fixture(scope="module")
def halved():
    loaded = CoatModel.from_pretrained("miniature", heads=True)
    loaded.model.backbone.model.to(torch.bfloat16)
    return loaded


def test_chat_and_think(halved):
    clip = conversation(1.0).clips[0]
    assert isinstance(halved.chat(clip, "What note is this?"), str)
    thought = halved.think(clip)
    assert thought.think_hidden.dtype == torch.bfloat16
    assert all(torch.isfinite(prediction).all() for prediction in thought.predictions.values())


def test_reconstructions_scores_and_probes(halved):
    model = halved.model
    experts = build_experts(run_in(miniature_folder()).recipe, model)
    asked = conversation(1.0, answer=None)
    made = reconstruct(model, experts, asked)
    assert plot_listening(asked.clips[0], strips_of(made)).axes
    loads = [lambda seed=seed: conversation(1.0, answer=None, seed=seed) for seed in range(3)]
    assert {found.clips for found in score_heads(model, experts, loads)} == {3}
    states = collect_states(model, [asked, conversation(1.4, answer=None, seed=1)])
    assert np.isfinite(states.think).all()
    assert np.isfinite(states.pre_generation).all()


def test_the_live_page(tmp_path):
    listener = Listener(miniature_folder())
    listener.model.backbone.model.to(torch.bfloat16)
    clip = conversation(1.0).clips[0]
    assert listener.look(clip).axes
    assert listener.answer(clip, "What note is this?", baseline=False).text is not None
    assert listener.answer(clip, "What note is this?", baseline=True).think_tokens == 0
