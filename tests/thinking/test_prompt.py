import pytest

from coat.config.thinking import PLACEMENTS, ThinkingConfig
from coat.errors import CoatError
from coat.thinking.prompt import IGNORE, PromptBuilder
from coat.thinking.tokens import THINK, add_think_tokens


@pytest.fixture(params=PLACEMENTS)
def builder(request, backbone):
    return PromptBuilder(backbone, add_think_tokens(backbone.tokenizer), ThinkingConfig(placement=request.param))


USER = {"role": "user", "content": "<audio>What is said?"}
ANSWER = {"role": "assistant", "content": "the red dog"}


def test_training_and_generation_prompts_are_the_same_up_to_the_answer(builder):
    asked = builder.build([USER], [7])
    answered = builder.build([USER, ANSWER], [7])
    assert answered.input_ids[: len(asked.input_ids)] == asked.input_ids
    assert all(label == IGNORE for label in answered.labels[: len(asked.input_ids)])
    assert set(asked.labels) == {IGNORE}


def test_labels_are_the_answer_and_its_end(builder):
    prompt = builder.build([USER, ANSWER], [7])
    tokenizer = builder.backbone.tokenizer
    assert tokenizer.decode([t for t in prompt.labels if t != IGNORE]) == "the red dog<|im_end|>"
    think = set(builder.tokens.ids) | {builder.backbone.audio_token_id}
    assert not think & set(prompt.labels)
    assert all(label in (IGNORE, token) for label, token in zip(prompt.labels, prompt.input_ids, strict=True))


def test_an_answer_that_is_not_to_be_trained_on_is_read_and_not_labelled(builder):
    second = {"role": "user", "content": "Sure?"}
    masked = builder.build([USER, {**ANSWER, "loss": False}, second, {**ANSWER, "content": "yes"}], [7])
    plain = builder.build([USER, ANSWER, second, {**ANSWER, "content": "yes"}], [7])
    assert masked.input_ids == plain.input_ids
    assert builder.backbone.tokenizer.decode([t for t in masked.labels if t != IGNORE]) == "yes<|im_end|>"


def test_every_turn_with_audio_has_its_block_and_every_answer_its_labels(builder):
    second = {"role": "user", "content": "<audio><audio>And these?"}
    third = {"role": "user", "content": "Thanks"}
    prompt = builder.build([USER, ANSWER, second, ANSWER, third, ANSWER], [3, 5, 2])
    assert [block.num_think_tokens for block in prompt.blocks] == [3, 5, 2]
    decoded = builder.backbone.tokenizer.decode([t for t in prompt.labels if t != IGNORE])
    assert decoded == "the red dog<|im_end|>" * 3
    first = builder.build([USER], [3])
    assert prompt.input_ids[: len(first.input_ids)] == first.input_ids


def test_text_only_has_no_block(builder):
    prompt = builder.build([{"role": "user", "content": "hello"}, ANSWER], [])
    assert prompt.blocks == []
    assert not set(builder.tokens.ids) & set(prompt.input_ids)


@pytest.mark.parametrize(
    ("content", "counts", "message"),
    [
        ("<audio>hi", [], "0 audio clip"),
        ("hi", [3], "0 <audio> mark"),
        (f"<audio>hi {THINK}", [3], "think tokens"),
        ("<audio>hi <|AUDIO|>", [3], "placeholder"),
    ],
)
def test_bad_prompts_are_named(builder, content, counts, message):
    with pytest.raises(CoatError, match=message):
        builder.build([{"role": "user", "content": content}], counts, name="row-7")
    with pytest.raises(CoatError, match="row-7"):
        builder.build([{"role": "user", "content": content}], counts, name="row-7")


def test_adding_the_tokens_twice_changes_nothing(backbone):
    first = add_think_tokens(backbone.tokenizer)
    size = len(backbone.tokenizer)
    assert add_think_tokens(backbone.tokenizer) == first
    assert len(backbone.tokenizer) == size
