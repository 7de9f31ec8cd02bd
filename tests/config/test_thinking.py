"""How think tokens are spread over audio tokens."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from coat.config.thinking import ThinkingConfig


@given(st.integers(0, 4000), st.integers(1, 9), st.one_of(st.none(), st.integers(1, 2000)))
def test_every_audio_token_is_covered_within_the_budget(length, stride, most):
    thinking = ThinkingConfig(stride=stride, max_tokens=most)
    count, clip_stride = thinking.num_think_tokens(length), thinking.clip_stride(length)
    assert (count - 1) * clip_stride < length <= count * clip_stride or length == count == 0
    assert clip_stride % stride == 0
    assert most is None or count <= most
    if most is None or math.ceil(length / stride) <= most:
        assert clip_stride == stride


def test_a_budget_lengthens_the_stride_of_long_clips_alone():
    thinking = ThinkingConfig(max_tokens=100)
    assert [thinking.clip_stride(length) for length in (0, 100, 101, 750)] == [1, 1, 2, 8]
    assert [thinking.num_think_tokens(length) for length in (0, 100, 101, 750)] == [0, 100, 51, 94]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"stride": 0}, "stride"), ({"max_tokens": 0}, "max_tokens"), ({"placement": "nowhere"}, "assistant_prefix"),
     ({"fill": "noise"}, "token, audio, random"),
     ({"positions": "here"}, "sequence, audio"), ({"mixed": {1: 0.5}}, "add up to 1, got 0.5"),
     ({"mixed": {-1: 0.5, 1: 0.5}}, "from 0 up"), ({"mixed": {1: 1.0, 2: 0.0}}, "shares above 0"),
     ({"mixed": {1: 1.0}, "enabled": False}, "there is none")],
)  # fmt: skip
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ThinkingConfig(**fields)


def test_recipes_refuse_unknown_fields():
    adapter = TypeAdapter(ThinkingConfig)
    assert adapter.validate_python({"stride": 2}) == ThinkingConfig(stride=2)
    with pytest.raises(ValidationError, match="strid"):
        adapter.validate_python({"strid": 2})


def test_mixed_strides_are_numbers_after_json_too():
    import json
    from dataclasses import asdict

    thinking = ThinkingConfig(mixed={0: 0.5, 2: 0.5})
    assert ThinkingConfig(**json.loads(json.dumps(asdict(thinking)))) == thinking
    assert thinking.at(4) == ThinkingConfig(stride=4)
    assert thinking.at(0) == ThinkingConfig(enabled=False)
