"""Think tokens out of a vocabulary's unused ones."""

import pytest

from coat.api.model import CoatModel
from coat.config.reading import parse_recipe
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.export.checkpoint import export
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import noise, user
from coat.thinking.model import ThinkingModel
from coat.thinking.reserved import name_reserved
from coat.thinking.tokens import RESERVED
from coat.training.run import train


@pytest.fixture
def voxtral():
    return random_backbone("voxtral")


def test_the_last_unused_tokens_get_the_names(voxtral):
    before = voxtral.tokenizer
    named = name_reserved(before)
    assert [before.convert_ids_to_tokens(i) for i in (37, 38, 39)] == ["<SPECIAL_37>", "<SPECIAL_38>", "<SPECIAL_39>"]
    assert [named.convert_ids_to_tokens(i) for i in (37, 38, 39)] == list(RESERVED)
    assert len(named) == len(before)
    text = "hello <|audio_think|> [INST] there"
    assert named(text, add_special_tokens=False)["input_ids"].count(38) == 1
    assert (
        named.decode(named("a<|audio_think|>b", add_special_tokens=False)["input_ids"], skip_special_tokens=True)
        == "ab"
    )
    assert name_reserved(named) is named


def test_tokens_that_are_no_special_ones_yet_become_special():
    """Gemma's vocabulary holds its unused tokens as words like any others."""
    tokenizer = random_backbone("gemma4").tokenizer
    tokenizer.add_tokens([f"<unused{i}>" for i in range(4)], special_tokens=False)
    ids = tokenizer.convert_tokens_to_ids(["<unused1>", "<unused2>", "<unused3>"])
    named = name_reserved(tokenizer)
    assert named.convert_tokens_to_ids(list(RESERVED)) == ids
    assert named.decode(ids, skip_special_tokens=True) == ""
    assert named.audio_token_id == tokenizer.audio_token_id


def test_a_vocabulary_without_any_is_refused():
    backbone = random_backbone("qwen2_audio")
    with pytest.raises(CoatError, match="has no tokens that are kept unused"):
        ThinkingModel(backbone, ThinkingConfig(tokens="reserved"))


def test_an_unknown_origin_is_refused():
    with pytest.raises(ValueError, match="tokens must be one of added, reserved"):
        ThinkingConfig(tokens="new")


@pytest.mark.parametrize("like_hub", [False, True])
def test_a_run_is_trained_exported_and_read_back_without_a_row_more(tmp_path, manifest, like_hub):
    base = tmp_path / "base"
    rows = random_backbone("voxtral", base, like_hub=like_hub).embedding.weight.shape[0]
    recipe = parse_recipe(
        {
            "backbone": {"family": "voxtral", "path": str(base)},
            "thinking": {"tokens": "reserved", "stride": 50},
            "stages": [{"name": "one", "steps": 2, "learning_rate": 0.02, "experts": {"audio_reconstruction": 1.0}}],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 2, "micro_batch_size": 2, "precision": "fp32"},
        }
    )
    run = train(recipe, tmp_path / "run")
    out = export(run, tmp_path / "export", say=lambda line: None)
    answers = []
    for place in (run, out):
        model = CoatModel.from_pretrained(str(place))
        assert model.model.backbone.embedding.weight.shape[0] == rows
        assert model.model.tokens.ids == (37, 38, 39)
        answers.append(model.chat(noise(0.9), "What?", max_new_tokens=4))
        prompt = model.model.builder.build([user("<audio>What?")], [100])
        assert prompt.input_ids.count(38) == 2
    assert answers[0] == answers[1]
