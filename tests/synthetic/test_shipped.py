"""The miniature that ships: small, whole, and it has learned something."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from coat.api.model import CoatModel
from coat.audio import Clip
from coat.checkpoints.references import miniature_folder
from coat.data.conversation import texts_of
from coat.data.manifest import read_manifest
from coat.errors import CoatError
from make_miniature import MAX_BYTES


@pytest.fixture(scope="module")
def coat():
    return CoatModel.from_pretrained("miniature", heads=True)


def test_it_is_small_and_holds_halves_and_no_paths():
    files = [path for path in miniature_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 3
    for path in weights:
        with safe_open(path, "pt") as tensors:
            assert {tensors.get_tensor(name).dtype for name in tensors.keys()} == {torch.float16}  # noqa: SIM118
    for path in files:
        if path.suffix in (".json", ".yaml", ".md"):
            assert "/home" not in path.read_text()
            assert "/tmp" not in path.read_text()


def test_its_card_holds_recipe_seed_version_and_scores():
    card = (miniature_folder() / "README.md").read_text()
    for words in ("recipe.yaml", "seed 0", "Code version", "pitch class", "mood", "transcription", "95 %"):
        assert words in card


def test_it_has_learned_the_small_world(coat, corpus):
    """On clips of another seed: far above chance where chance is a tenth, a twelfth, a quarter."""
    rows = read_manifest(corpus / "test.jsonl")
    for task, floor in (("event", 0.7), ("pitch_class", 0.35), ("mood", 0.4)):
        asked = [row for row in rows if row.task == task]
        assert len(asked) >= 4
        right = 0
        for row in asked:
            conversation = row.conversation(answered=False)
            (question,) = texts_of(conversation.messages[0])
            right += coat.chat(conversation.clips, question) == row.answer
        assert right / len(asked) >= floor, (task, right, len(asked))


def test_it_thinks_a_state_for_every_audio_token(coat):
    clip = Clip(np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32), 16_000)
    thought = coat.think(clip)
    tokens = coat.model.backbone.num_audio_tokens(40_000)
    assert thought.think_hidden.shape == (tokens, 128)
    assert {name: rows.shape[0] for name, rows in thought.predictions.items()} == dict.fromkeys(
        ("audio_reconstruction", "standin_speech", "standin_affect", "basic_pitch"), tokens
    )


def test_it_answers_without_audio_and_refuses_what_it_cannot_hear(coat):
    assert coat.chat(None, "What is the opposite of big?")
    with pytest.raises(CoatError, match="no audio file"):
        coat.chat("gone.wav", "What is said?")
