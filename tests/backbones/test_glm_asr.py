import json

import pytest

from coat.backbones import load_backbone
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import assistant, user
from coat.thinking.model import ThinkingModel
from coat.thinking.prompt import IGNORE, PromptBuilder


@pytest.fixture
def backbone():
    return random_backbone("glm_asr")


def test_a_prompt_is_the_published_one(backbone):
    """As vLLM's own tests of ``zai-org/GLM-ASR-Nano-2512`` write it: a clip is a turn within the user's."""
    prompt = PromptBuilder(backbone, None).build([user("<audio>Please transcribe this audio into text")], [2])
    assert backbone.tokenizer.decode(prompt.input_ids) == (
        "<|user|>\n<|begin_of_audio|><|pad|><|pad|><|end_of_audio|><|user|>\n"
        "Please transcribe this audio into text<|assistant|>\n"
    )


def test_an_answer_is_closed_by_what_opens_the_next_turn(backbone):
    """The family has no token that ends a turn, and stops where the user would speak."""
    model = ThinkingModel(backbone)
    messages = [user("<audio>What is said?"), assistant("the red dog"), user("Sure?"), assistant("yes")]
    prompt = model.builder.build(messages, [1])
    think = "<|audio_think_start|><|audio_think|><|audio_think_end|>"
    assert backbone.tokenizer.decode(prompt.input_ids) == (
        f"<|user|>\n<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\nWhat is said?<|assistant|>\n{think}"
        "the red dog<|user|>\nSure?<|assistant|>\nyes<|user|>"
    )
    trained = [label for label in prompt.labels if label != IGNORE]
    assert backbone.tokenizer.decode(trained) == "the red dog<|user|>yes<|user|>"
    ends = backbone.tokenizer.convert_tokens_to_ids(["<|user|>", "<|endoftext|>", "<|observation|>"])
    assert backbone.end_ids == ends


@pytest.mark.parametrize(("fields", "seconds"), [({}, 630.0), ({"max_audio_len": 100}, 90.0)])
def test_clips_are_as_long_as_whole_windows_of_the_processor(backbone, tmp_path, fields, seconds):
    """It says 655 s, and cuts to 21 windows of 30 s."""
    backbone.save_pretrained(str(tmp_path))
    (tmp_path / "processor_config.json").write_text(json.dumps(fields))
    assert load_backbone("glm_asr", str(tmp_path)).audio_spec.max_seconds == seconds
