"""Every registered family."""

import pytest

from coat.backbones import backbone_class
from coat.errors import CoatError
from coat.testing.conformance import BackboneConformance
from tests.conformance.conftest import VARIANTS, variant_name


@pytest.mark.conformance
class TestFamilies(BackboneConformance):
    @pytest.fixture(params=VARIANTS, ids=variant_name)
    def loaded(self, request, copies):
        return copies(request.param)


def test_unknown_families_are_named():
    with pytest.raises(CoatError, match="Did you mean 'qwen2_audio'"):
        backbone_class("qwen2_adio")
