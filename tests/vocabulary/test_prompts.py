"""Prompts on real vocabularies: turns that are tokenised apart give the ids of the whole template.

Qwen's own vocabulary for the families that have a Qwen for a language model, with their audio tokens added; for Gemma 4
that of Gemma 3, with Gemma 4's control tokens; Mistral's for Voxtral, whose prompts are held to its own tokenizer.
"""

from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coat.backbones import REGISTRY
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import in_parts
from coat.errors import CoatError
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import assistant, noise, user
from coat.thinking.prompt import IGNORE, PromptBuilder
from coat.thinking.reserved import name_reserved
from coat.thinking.tokens import RESERVED, add_think_tokens
from tests.backbones.test_voxtral import mistral_ids

pytestmark = pytest.mark.vocabulary

VOCABULARY = dict.fromkeys(REGISTRY, "qwen3") | {"gemma4": "gemma3", "voxtral": "mistral"}
# Vocabularies that keep tokens unused.
KEEP = ("gemma4", "voxtral")
QUESTIONS = [
    "What is said?",
    "Welche Tonart hört man? A. C-Dur\nB. a-Moll\n\nAntworte mit dem Buchstaben.",
    "  Listen:\t3.14 × 10² — “quoted”, 'single', e.g. this…\n\n\nThen answer.  ",
    "这段音频里有几个人在说话？",
    "😀 C#m7♭5 at 120bpm; f(x)=x**2 // comment",
    "",
]
ANSWERS = ["The dog barks.", " leading space", "B", "Zwei\n\nAbsätze.", "两个人。", "C♯ minor 🎵", "123456.789"]
texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="<"), max_size=40)


@pytest.fixture(scope="module", params=sorted(REGISTRY))
def backbone(request, fetch_tokenizer):
    """A tiny member of a family that speaks a real vocabulary; its weights are not used."""
    made = random_backbone(request.param)
    special = [token.content for token in made.tokenizer.added_tokens_decoder.values() if token.special]
    tokenizer = fetch_tokenizer(VOCABULARY[request.param])
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([token for token in special if token not in known], special_tokens=True)
    made.tokenizer = tokenizer
    made.model.config.audio_token_id = tokenizer.convert_tokens_to_ids(made.audio_token)
    return made


def whole(backbone, messages, counts, *, add_generation_prompt):
    """Ids of the whole text of the template at once, placeholders expanded as processors expand them: in the text."""
    text = backbone.render([in_parts(message) for message in messages], add_generation_prompt=add_generation_prompt)
    head, *tail = text.split(backbone.audio_token)
    text = head + "".join(backbone.audio_token * n + piece for n, piece in zip(counts, tail, strict=True))
    return backbone.tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_are_the_template_s(backbone, question):
    builder = PromptBuilder(backbone, None)
    for messages, counts in (
        ([user(question)], []),
        ([user(f"<audio>{question}")], [25]),
        ([{"role": "system", "content": "Be brief."}, user(question)], []),
        ([{"role": "system", "content": "Be brief."}, user(f"<audio>{question}")], [7]),
    )[: 3 if backbone.family == "voxtral" else 4]:  # which takes no system prompt beside audio
        prompt = builder.build(messages, counts)
        assert prompt.input_ids == whole(backbone, messages, counts, add_generation_prompt=True)
        assert set(prompt.labels) == {IGNORE}


@pytest.mark.parametrize("answer", ANSWERS)
def test_several_turns_and_clips_are_the_template_s(backbone, answer):
    clips = 1 if backbone.max_clips else 3
    first = "<audio>" * min(clips, 2)
    messages = [user(f"{first}{QUESTIONS[1]}"), assistant(answer), user("<audio>" * (clips - 2) + "And now?"),
                assistant("Yes.\n")]  # fmt: skip
    counts = [25, 3, 50][:clips]
    prompt = PromptBuilder(backbone, None).build(messages, counts)
    assert prompt.input_ids == whole(backbone, messages, counts, add_generation_prompt=False)
    trained = [token for token, label in zip(prompt.input_ids, prompt.labels, strict=True) if label != IGNORE]
    said = backbone.tokenizer.decode(trained)
    assert said.count(backbone.end_of_turn) == 2
    assert answer.strip() in said


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=texts, answer=texts)
def test_any_text_is_tokenised_as_the_template_s(backbone, question, answer):
    messages = [user(f"<audio>{question}"), assistant(answer)]
    prompt = PromptBuilder(backbone, None).build(messages, [4])
    assert prompt.input_ids == whole(backbone, messages, [4], add_generation_prompt=False)


def test_an_answer_that_begins_with_a_line_break_follows_the_header_as_it_is_generated(backbone):
    """The template's text at once would merge the two breaks into a token that no answer begins with."""
    messages = [user("<audio>What is said?"), assistant("\nTwo lines.")]
    prompt = PromptBuilder(backbone, None).build(messages, [4])
    asked = PromptBuilder(backbone, None).build(messages[:1], [4])
    assert prompt.input_ids[: len(asked.input_ids)] == asked.input_ids
    answer = [label for label in prompt.labels if label != IGNORE]
    assert prompt.input_ids[len(asked.input_ids) :][: len(answer)] == answer
    assert backbone.tokenizer.decode(answer).strip().startswith("Two lines.")


def test_the_block_s_tokens_are_single_and_new(backbone):
    backbone = deepcopy(backbone)  # the other tests' has no think tokens
    before = len(backbone.tokenizer)
    tokens = add_think_tokens(backbone.tokenizer)
    assert tokens.ids == (before, before + 1, before + 2)
    prompt = PromptBuilder(backbone, tokens, ThinkingConfig()).build([user("<audio>What is said?")], [25])
    assert [prompt.input_ids.count(token) for token in tokens.ids] == [1, 25, 1]
    plain = PromptBuilder(backbone, None).build([user("<audio>What is said?")], [25]).input_ids
    assert [token for token in prompt.input_ids if token not in tokens.ids] == plain


def test_unused_tokens_may_be_the_block_s(backbone):
    """No token more, and every other text is tokenised as it was."""
    if backbone.family not in KEEP:
        with pytest.raises(CoatError, match="kept unused"):
            name_reserved(backbone.tokenizer)
        return
    before = {text: backbone.tokenizer(text)["input_ids"] for text in [*QUESTIONS, *ANSWERS]}
    size = len(backbone.tokenizer)
    named = name_reserved(backbone.tokenizer)
    assert len(named) == size
    assert {text: named(text)["input_ids"] for text in before} == before
    ids = named.convert_tokens_to_ids(list(RESERVED))
    assert named("".join(RESERVED), add_special_tokens=False)["input_ids"] == ids
    assert named.decode(ids, skip_special_tokens=True) == ""


@pytest.mark.parametrize("question", [question for question in QUESTIONS if question])
@pytest.mark.parametrize("answer", ANSWERS)
def test_voxtral_s_prompts_are_those_of_mistral_s_tokenizer(mistral, voxtral, question, answer):
    clips = [noise(seconds, seed=i).waveform for i, seconds in enumerate((0.7, 30.5))]
    counts = [voxtral.num_audio_tokens(len(clip)) for clip in clips]
    messages = [user(f"<audio>{question}"), assistant(answer), user(f"And <audio>? {question}")]
    mine = PromptBuilder(voxtral, None).build(messages, counts).input_ids
    assert mine == mistral_ids(mistral, messages, clips)


@pytest.fixture(scope="module")
def voxtral(fetch_tokenizer):
    made = random_backbone("voxtral")
    made.tokenizer = fetch_tokenizer("mistral")
    return made


@pytest.fixture(scope="module")
def mistral(mistral_folder):
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.from_file(str(mistral_folder / "tekken.json"))
