"""A backbone that is pre-trained with blocks in its prompts has think tokens of its own, which were trained."""

import shutil

import pytest

from coat.checkpoints import load_model
from coat.config.thinking import ThinkingConfig
from coat.thinking.model import ThinkingModel
from pretrain_miniature import pretrain

pytestmark = pytest.mark.slow


def test_its_think_tokens_are_trained_and_stay_where_they_are(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("pretrain_miniature.NUM_WORD_ROWS", 4)  # texts, which have no block
    shutil.copytree(corpus, tmp_path / "corpus")
    tables = []
    for steps in (1, 3):
        folder = pretrain(tmp_path / "corpus", tmp_path / f"after-{steps}", steps=steps, batch_size=8, blocks=0.75)
        backbone = load_model(folder).backbone
        size = len(backbone.model.get_input_embeddings().weight)
        think = ThinkingModel(backbone, ThinkingConfig()).tokens.ids
        tables.append(backbone.model.get_input_embeddings().weight.detach())
        assert len(tables[-1]) == size, "the tokens were in the checkpoint, which did not grow"
    moved = (tables[1] - tables[0]).abs().amax(-1)
    assert moved[list(think)].min() > 1e-3, "Adam moves what has a gradient by the learning rate"
    assert moved[-1] < 1e-4, "a spare row has none"
