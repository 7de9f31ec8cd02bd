import json

import pytest
import torch

from coat.backbones import family_of, load_backbone
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import conversation
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("gemma4") / "tiny"
    random_backbone("gemma4", path, like_hub=True)
    return path


@pytest.fixture
def model(folder):
    return ThinkingModel(load_backbone("gemma4", str(folder)))


def test_a_feature_extractor_within_the_processor_s_file_is_read(folder, tmp_path):
    """So it is on the hub, where no preprocessor_config.json is."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    extractor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    nested = {"processor_class": "Gemma4Processor", "feature_extractor": extractor | {"hop_length_ms": 20.0}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert family_of(str(tmp_path)) == "gemma4"
    assert load_backbone("gemma4", str(tmp_path)).audio_spec.token_rate == 12.5


def test_sizes_that_do_not_hear_are_refused(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"audio_config": None}))
    with pytest.raises(CoatError, match="has no audio tower: of its sizes, E2B and E4B hear"):
        load_backbone("gemma4", str(tmp_path), weights=False)


def test_logits_are_held_within_a_range(model):
    hidden = torch.randn(3, 64) * 1e4
    plain, held = model.backbone.lm_head(hidden), model.backbone.logits(hidden)
    assert plain.abs().max() > 100
    torch.testing.assert_close(held, 30 * torch.tanh(plain / 30))


def test_random_vectors_are_as_large_as_what_is_looked_up(folder):
    """The family scales what it looks up: as large as its rows, a control would be an eighth of a token."""
    model = ThinkingModel(load_backbone("gemma4", str(folder)), ThinkingConfig(fill="random"))
    batch = make_batch(model.builder, [conversation(2.0)])
    thinks = batch.input_ids == model.tokens.think
    made = model.prepare_prefill(batch)["embeddings"][thinks]
    assert float(made.std()) == pytest.approx(8 * float(model.backbone.embedding.weight.std()), rel=0.1)


def test_new_tokens_begin_as_padding_in_every_layer(model):
    table = model.backbone.language_model.embed_tokens_per_layer
    padding = model.backbone.tokenizer.pad_token_id
    assert len(table.weight) == max(model.tokens.ids) + 1
    for token in model.tokens.ids:
        torch.testing.assert_close(table.weight[token], table.weight[padding], rtol=0, atol=0)


def test_audio_placeholders_are_padding_to_the_layers_and_think_tokens_are_themselves(model):
    batch = make_batch(model.builder, [conversation(0.5)])
    read = model.backbone.token_inputs(batch.input_ids)["per_layer_inputs"]
    table = model.backbone.language_model.embed_tokens_per_layer
    assert read.shape == (*batch.input_ids.shape, 4, 16)
    heard = batch.input_ids == model.backbone.audio_token_id
    padding = table(torch.tensor(model.backbone.tokenizer.pad_token_id)).view(4, 16)
    torch.testing.assert_close(read[heard], padding.expand(int(heard.sum()), 4, 16))
    with torch.no_grad():
        table.weight[model.tokens.think] = 1.0
    again = model.backbone.token_inputs(batch.input_ids)["per_layer_inputs"]
    thinks = batch.input_ids == model.tokens.think
    assert (again - read)[thinks].abs().min() > 0
    assert not (again - read)[~thinks].any()
