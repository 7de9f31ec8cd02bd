"""Families by name and by checkpoint."""

import pytest

from coat.api import Coat
from coat.backbones import MODEL_TYPES, REGISTRY, backbone_class, family_of
from coat.errors import CoatError
from coat.miniature.families import random_backbone
from tests.conftest import noise


def test_every_family_is_known_by_its_model_type():
    assert set(MODEL_TYPES.values()) == set(REGISTRY)
    for family in REGISTRY:
        assert backbone_class(family).family == family
        assert "/" in backbone_class(family).hub_id


@pytest.mark.parametrize("family", sorted(REGISTRY))
def test_a_plain_checkpoint_is_recognised_and_answers_without_a_block(family, tmp_path):
    random_backbone(family, tmp_path)
    assert family_of(str(tmp_path)) == family
    coat = Coat.load(tmp_path)
    assert not coat.model.settings.enabled
    assert isinstance(coat.chat(noise(0.5), "What is said?", max_new_tokens=3), str)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    assert family_of(str(tmp_path)) is None
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert family_of(str(tmp_path)) is None
    with pytest.raises(CoatError, match="no checkpoint of a known family"):
        Coat.load(tmp_path)
