"""The embedded server on every family."""

import openai
import pytest
import torch

from coat.data.conversation import Conversation
from coat.generation import generate
from coat.generation.decoding import Decoding
from coat.testing.clips import conversation, noise
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel
from tests.serving.conftest import ask, encoded, running

pytestmark = pytest.mark.conformance


def test_it_answers_as_the_library_does(loaded):
    model = ThinkingModel(loaded).eval()
    clip = noise(1.33337)
    with running(model, max_new_tokens=8) as (url, _):
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        answer = client.chat.completions.create(
            model="miniature", messages=ask(encoded(clip.waveform, subtype="FLOAT"))
        )
        text = client.chat.completions.create(model="miniature", messages=[{"role": "user", "content": "hello"}])
        too_long = noise(min(loaded.audio_spec.max_seconds, 630.0) + 1).waveform
        with pytest.raises(openai.BadRequestError, match=r"hears at most|at most \d+ are served"):
            client.chat.completions.create(model="miniature", messages=ask(encoded(too_long)))
    expected = generate(
        model, [Conversation([{"role": "user", "content": "<audio>What note is this?"}], [clip])], max_new_tokens=8
    )[0]
    assert answer.choices[0].message.content.strip() == expected
    count = loaded.num_audio_tokens(len(clip.waveform))
    assert answer.usage.prompt_tokens_details.think_tokens == count + 2  # with the ends of the block
    assert text.usage.prompt_tokens_details.audio_tokens == 0


@pytest.mark.parametrize("most", [None, 400])
@torch.inference_mode()
def test_rows_that_come_and_go_say_what_they_say_alone(loaded, most):
    """Shorter and longer prompts join between tokens, past the window of layers that have one; others leave.

    A long prompt may be read in parts, between which the others go on.
    """
    model = ThinkingModel(loaded).eval()
    lengths = (1.0, 0.4, 25.0, 1.7)
    prefills = [
        model.prepare_prefill(make_batch(model.builder, [conversation(s, answer=None, seed=i)], padding_side="left"))
        for i, s in enumerate(lengths)
    ]
    options = {"do_sample": False, "suppress_tokens": list(model.tokens.ids)}
    alone = [loaded.generate(**each, max_new_tokens=24, **options)[0].tolist() for each in prefills]
    decoding, rows, said = Decoding(loaded, model.tokens.ids), [], [[] for _ in lengths]

    def step(leave=()):
        tokens = decoding.likeliest() if rows else []
        for row, token in zip(rows, tokens, strict=True):
            said[row].append(token)
        staying = [place for place, row in enumerate(rows) if row not in leave]
        decoding.keep(staying)
        decoding.step([tokens[place] for place in staying])
        rows[:] = [rows[place] for place in staying]

    for joins, leaves in (((0, 1), ()), ((), ()), ((2,), ()), ((), ()), ((), (0, 1)), ((3,), ()), ((), (2,)), ((), ())):
        for row in joins:
            for _ in decoding.read(**prefills[row], most=most):
                step()
            rows.append(row)
        step(leaves)
    if most is None:
        assert [len(tokens) for tokens in said] == [5, 5, 5, 3]
        assert decoding.mask.shape[1] == prefills[3]["attention_mask"].shape[1] + 3  # padding left with the longer rows
    else:
        assert len(said[0]) > 5, "others went on while the longest was read"
    for tokens, expected in zip(said, alone, strict=True):
        assert tokens[: len(expected)] == expected[: len(tokens)]
