"""Families by name and by checkpoint."""

import pytest

from coat.api.model import CoatModel
from coat.backbones import MODEL_TYPES, REGISTRY, backbone_class, family_of, load_backbone
from coat.errors import CoatError
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import noise


def test_every_family_is_known_by_its_model_type():
    assert set(MODEL_TYPES.values()) == set(REGISTRY)
    for family in REGISTRY:
        assert backbone_class(family).family == family
        assert "/" in backbone_class(family).hub_id


@pytest.mark.parametrize("family", sorted(REGISTRY))
def test_a_plain_checkpoint_is_recognised_and_answers_without_a_block(family, tmp_path):
    random_backbone(family, tmp_path)
    assert family_of(str(tmp_path)) == family
    coat = CoatModel.from_pretrained(tmp_path)
    assert not coat.model.thinking.enabled
    assert isinstance(coat.chat(noise(0.5), "What is said?", max_new_tokens=3), str)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    assert family_of(str(tmp_path)) is None
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert family_of(str(tmp_path)) is None
    with pytest.raises(CoatError, match="no checkpoint of a known family"):
        CoatModel.from_pretrained(tmp_path)


def test_a_text_only_template_of_the_tokenizer_is_passed_over_as_the_stock_processor_does(tiny_path, tmp_path):
    import json
    import shutil

    from transformers import Qwen2AudioProcessor

    folder = tmp_path / "hub"
    shutil.copytree(tiny_path, folder)
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["chat_template"] = "{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}"
    path.write_text(json.dumps(config))
    loaded = load_backbone("qwen2_audio", str(folder))
    messages = [{"role": "user", "content": [{"type": "audio", "audio": "x"}, {"type": "text", "text": "What?"}]}]
    stock = Qwen2AudioProcessor.from_pretrained(folder, chat_template=None)
    stock.chat_template = stock.default_chat_template
    expected = stock.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert loaded.render(messages, add_generation_prompt=True) == expected


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    random_backbone("audio_flamingo3", tmp_path)
    with pytest.raises(CoatError, match="of the family audio_flamingo3, not qwen2_audio") as caught:
        load_backbone("qwen2_audio", str(tmp_path))
    assert caught.value.remedy == "Set backbone.family: audio_flamingo3"
