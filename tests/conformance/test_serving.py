"""The embedded server on every family."""

import openai
import pytest

from coat.data.conversation import Conversation
from coat.generation import generate
from coat.testing.clips import noise
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
