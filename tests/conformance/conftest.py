"""Every registered family as a tiny checkpoint on disk, loaded anew for each test by the code that loads real ones."""

import pytest

from coat.backbones import REGISTRY, load_backbone
from coat.miniature.families import random_backbone


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory):
    made = {}

    def path(family):
        if family not in made:
            made[family] = str(tmp_path_factory.mktemp(family) / "tiny")
            random_backbone(family, made[family])
        return made[family]

    return path


@pytest.fixture(params=sorted(REGISTRY))
def loaded(request, tiny_checkpoints):
    return load_backbone(request.param, tiny_checkpoints(request.param))
