"""Think tokens in tokenizers of all kinds."""

import json

import pytest
from tokenizers import Tokenizer

from coat.backbones import load_backbone
from coat.errors import CoatError
from coat.testing.checkpoints import random_backbone
from coat.testing.qwen2_audio import train_tokenizer
from coat.thinking.model import ThinkingModel
from coat.thinking.tokens import RESERVED, add_think_tokens


@pytest.fixture
def tokenizer():
    return train_tokenizer(["the small red dog"], 300)


def test_they_are_added_once(tokenizer):
    before = len(tokenizer)
    tokens = add_think_tokens(tokenizer)
    assert tokens.ids == (before, before + 1, before + 2)
    assert add_think_tokens(tokenizer) == tokens
    assert len(tokenizer) == before + 3
    assert tokenizer(RESERVED[1])["input_ids"] == [tokens.think]


def test_ids_with_gaps_are_refused_because_they_do_not_survive_saving(tmp_path):
    backbone = random_backbone("qwen2_audio", tmp_path)
    tokenizer = backbone.tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"]["<|reserved|>"] = max(tokenizer.get_vocab().values()) + 40
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    with pytest.raises(CoatError, match="gaps"):
        ThinkingModel(backbone)


def test_rows_that_are_added_are_the_same_at_every_load(tmp_path):
    """No spare row: the output layer's new rows are saved nowhere, and are in every softmax."""
    random_backbone("audio_flamingo3", tmp_path, like_hub=True)
    first, second = (ThinkingModel(load_backbone("audio_flamingo3", str(tmp_path))).backbone for _ in range(2))
    for layer in ("embedding", "lm_head"):
        one, other = getattr(first, layer).weight, getattr(second, layer).weight
        assert one.equal(other)
        assert one[-3:].equal(one[:-3].mean(0, keepdim=True).expand(3, -1))
