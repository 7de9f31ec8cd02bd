"""Clips that are asked about again are encoded once, within bounds."""

from coat.generation import Embeddings
from coat.testing.clips import conversation
from coat.thinking.batch import encode
from coat.thinking.model import ThinkingModel


def test_embeddings_are_kept_within_bytes(backbone):
    """A clip of ten minutes weighs as much as a hundred short ones."""
    model = ThinkingModel(backbone).eval()
    encoded = [encode(model.builder, conversation(0.4 + 0.2 * i, answer=None, seed=i)) for i in range(6)]
    kept = Embeddings(kept_bytes=3 * 4 * 15 * model.backbone.hidden_size)
    for item in encoded:
        kept.fill(model, [item])
        (clip,), (length,) = item.clips, item.num_audio_tokens
        assert len(kept.of(clip, length)) == length
        assert sum(row.nbytes for row in kept.rows.values()) <= max(kept.kept_bytes, kept.of(clip, length).nbytes)
    assert 1 <= len(kept.rows) < 6
    kept.fill(model, encoded)  # all of one batch stay, whatever they weigh
    assert len(kept.rows) == 6
