"""How a model is opened: its block as configured, at another stride, or left out."""

import pytest

from coat.errors import CoatError
from coat.evaluation.backends.base import described, processor_options
from coat.evaluation.backends.opening import BackendOptions, open_backend


def test_a_budget_of_thinking_is_that_of_its_prompts_and_its_fingerprint():
    ways = (BackendOptions(), BackendOptions(stride=2), BackendOptions(stride=4), BackendOptions(think=False))
    opened = [open_backend("miniature", options)[0] for options in ways]
    messages = [{"role": "user", "content": "<audio>What is said?"}]
    counts = [sum(b.length for b in each.builder.build(messages, [50]).blocks) for each in opened]
    assert counts == [52, 27, 15, 0]
    assert len({each.fingerprint for each in opened}) == 4


def test_a_stride_without_a_block_is_refused(tiny_path):
    with pytest.raises(CoatError, match="no thinking block"):
        open_backend(str(tiny_path), BackendOptions(stride=2))


def test_servers_are_asked_for_it_by_name():
    asked = [processor_options(think=think, stride=stride) for think, stride in ((True, None), (True, 2), (False, 2))]
    assert asked == [{}, {"audio_think_stride": 2}, {"audio_think": False}]
    assert [described(each) for each in asked] == ["block", "block of stride 2", "no block"]
