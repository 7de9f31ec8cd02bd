import pytest
import torch

from coat.backbones.positions import Places


def test_a_prompt_may_come_in_parts_and_its_answer_follows_its_last_position():
    places = Places(torch.tensor([[0, 1, 2, 1, 2, 3], [0, 0, 1, 2, 3, 4]]))

    def given(length, rows=2):
        inputs, options = places(None, (), {"inputs_embeds": torch.zeros(rows, length, 8), "use_cache": True})
        assert inputs == ()
        assert options["use_cache"]
        return options["position_ids"].tolist()

    assert given(4) == [[0, 1, 2, 1], [0, 0, 1, 2]]
    assert given(2) == [[2, 3], [3, 4]]
    assert given(1) == [[4], [5]]
    assert given(1, rows=4) == [[5], [5], [6], [6]], "two samples of each"
    with pytest.raises(RuntimeError, match="2 tokens came at once"):
        given(2, rows=4)
