"""Every registered family as a tiny checkpoint on disk, loaded by the code that loads real ones; each test has a copy.

Each comes twice: as a fresh checkpoint, and in the proportions of published ones, without a spare row
of the vocabulary, with tied embeddings, a generation configuration and the chat template in another file.
"""

from copy import deepcopy

import pytest

from coat.backbones import REGISTRY, load_backbone
from coat.testing.checkpoints import random_backbone

VARIANTS = [(family, like_hub) for family in sorted(REGISTRY) for like_hub in (False, True)]


def variant_name(variant):
    return variant[0] + "-hub" * variant[1]


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory):
    made = {}

    def path(family, like_hub=False):
        if (family, like_hub) not in made:
            made[family, like_hub] = str(tmp_path_factory.mktemp(family) / "tiny")
            random_backbone(family, made[family, like_hub], like_hub=like_hub)
        return made[family, like_hub]

    return path


@pytest.fixture(scope="session")
def copies(tiny_checkpoints):
    """A backbone of a variant as it was loaded; copying one takes a tenth of the time."""
    made = {}

    def copy(variant):
        if variant not in made:
            made[variant] = load_backbone(variant[0], tiny_checkpoints(*variant))
        return deepcopy(made[variant])

    return copy


@pytest.fixture(params=VARIANTS, ids=variant_name)
def loaded(request, copies):
    return copies(request.param)
