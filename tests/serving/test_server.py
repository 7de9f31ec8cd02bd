"""The embedded server through OpenAI's own client."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import soundfile

from coat.audio import decode_audio
from coat.serving.engine import EngineLimits
from coat.serving.guard import GuardSettings
from tests.serving.conftest import ask, b64, encoded, running, tone


@pytest.fixture(scope="module")
def note():
    return encoded(tone(), subtype="FLOAT")


def said(client, messages, **options):
    return client.chat.completions.create(model="miniature", messages=messages, **options)


def test_it_answers_as_the_library_does(client, coat_model, note):
    answer = said(client, ask(note))
    clip = decode_audio(note)
    assert answer.choices[0].message.content == coat_model.chat(clip, "What note is this?")
    assert answer.choices[0].finish_reason == "stop"
    count = coat_model.model.backbone.num_audio_tokens(32_000)
    details = answer.usage.prompt_tokens_details
    assert (details.audio_tokens, details.think_tokens) == (count, count + 2)  # the ends of the block are tokens of it
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("MP3", None), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS")]
)
def test_formats_and_rates(client, form, subtype):
    rate = 48_000 if subtype == "OPUS" else 44_100
    data = encoded(tone(rate=rate), rate, form, subtype)
    name = form.lower()
    by_input = said(client, ask(data, form=name))
    url = {"type": "audio_url", "audio_url": {"url": f"data:audio/{name};base64,{b64(data)}"}}
    by_url = said(client, [{"role": "user", "content": [url, {"type": "text", "text": "What note is this?"}]}])
    assert by_input.choices[0].message.content == by_url.choices[0].message.content
    assert by_input.usage.prompt_tokens_details.audio_tokens == pytest.approx(50, abs=2)


def test_streams_give_the_same_text_and_usage(client, note):
    whole = said(client, ask(note))
    chunks = list(said(client, ask(note), stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage


def test_the_block_can_be_left_out(client, note):
    plain = said(client, ask(note), extra_body={"mm_processor_kwargs": {"audio_think": False}})
    thinking = said(client, ask(note))
    assert plain.usage.prompt_tokens_details.think_tokens == 0
    assert plain.usage.prompt_tokens_details.audio_tokens == 50
    assert thinking.usage.prompt_tokens - plain.usage.prompt_tokens == 52


def test_each_request_has_its_own_budget(client, note):
    """Fifty audio tokens, and a block of 50, 25, 13 or none, its two ends counted; asked for at once, in one batch."""
    asked = {1: 52, 2: 27, 4: 15, None: 52}
    kinds = [{"audio_think_stride": stride} if stride else {} for stride in asked] + [{"audio_think": False}]

    def ask_with(options):
        return said(client, ask(note), extra_body={"mm_processor_kwargs": options})

    alone = [ask_with(options) for options in kinds]
    with ThreadPoolExecutor(len(kinds)) as pool:
        together = list(pool.map(ask_with, kinds))
    assert [each.usage.prompt_tokens_details.think_tokens for each in together] == [*asked.values(), 0]
    assert [e.choices[0].message.content for e in together] == [e.choices[0].message.content for e in alone]
    with pytest.raises(openai.BadRequestError, match="audio_think_stride"):
        ask_with({"audio_think_stride": 0})


def test_options_are_kept(client, note):
    assert said(client, ask(note), max_tokens=1).usage.completion_tokens == 1
    assert said(client, ask(note), max_tokens=1).choices[0].finish_reason == "length"
    full = said(client, ask(note)).choices[0].message.content
    cut = said(client, ask(note), stop=full[2:4])
    assert cut.choices[0].message.content == full[:2]
    drawn = [said(client, ask(note), temperature=1.5, seed=seed).choices[0].message.content for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_text_alone_several_clips_and_turns(client, coat_model, note):
    assert (
        said(client, [{"role": "user", "content": "Repeat: the red dog"}]).usage.prompt_tokens_details.think_tokens == 0
    )
    two = ask(note)[0]["content"][:1] * 2
    both = said(client, [{"role": "user", "content": [*two, {"type": "text", "text": "What note is this?"}]}])
    assert both.usage.prompt_tokens_details.think_tokens == 104
    first = said(client, ask(note)).choices[0].message.content
    turns = [*ask(note), {"role": "assistant", "content": first}, *ask(note, "And this?")]
    assert (
        said(client, [{"role": "system", "content": "Be brief."}, *turns]).usage.prompt_tokens_details.think_tokens
        == 104
    )


def test_transcriptions(client, coat_model, note):
    answer = client.audio.transcriptions.create(model="miniature", file=("a.wav", note))
    assert answer.text == coat_model.chat(decode_audio(note), "What is said?")
    text = client.audio.transcriptions.create(model="miniature", file=("a.wav", note), response_format="text")
    assert text.strip() == answer.text
    events = list(client.audio.transcriptions.create(model="miniature", file=("a.wav", note), stream=True))
    assert "".join(e.delta for e in events if e.type == "transcript.text.delta") == answer.text == events[-1].text


def test_models_health_metrics(client, server, note):
    assert [model.id for model in client.models.list()] == ["miniature"]
    assert client.models.retrieve("miniature").owned_by == "coat"
    with pytest.raises(openai.NotFoundError, match="this server has 'miniature'"):
        client.chat.completions.create(model="gpt-4o", messages=ask(note))
    assert httpx.get(server[0] + "/health").json() == {"status": "ok"}
    said(client, ask(note))
    page = httpx.get(server[0] + "/metrics").text
    assert 'coat_requests_total{path="/v1/chat/completions",status="200"}' in page
    for name in ("coat_think_tokens_total", "coat_time_to_first_token_seconds_count", "coat_requests_waiting"):
        assert name in page


def test_requests_are_answered_together_and_each_as_it_would_be_alone(coat_model):
    clips = [encoded(tone(1 + 0.3 * i, frequency=220 * 2 ** (i / 12)), subtype="FLOAT") for i in range(8)]
    limits = EngineLimits(max_batch=8, max_wait=0.5)
    with running(coat_model.model, limits=limits) as (url, engine):
        sizes = []
        engine.observe = sizes.append
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        alone = [said(client, ask(clip)).choices[0].message.content for clip in clips]
        sizes.clear()
        answers = [None] * len(clips)

        def work(index):
            options = {"stream": True} if index % 2 else {}
            out = said(client, ask(clips[index]), **options)
            if index % 2:
                answers[index] = "".join(chunk.choices[0].delta.content or "" for chunk in out)
            else:
                answers[index] = out.choices[0].message.content

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(clips))]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert answers == alone
        assert max(sizes) > 1


def test_a_key_is_asked_for_where_there_is_one(coat_model, note):
    with running(coat_model.model, guard=GuardSettings(api_key="secret")) as (url, _):
        with pytest.raises(openai.AuthenticationError, match="Bearer"):
            said(openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0), ask(note))
        assert said(openai.OpenAI(base_url=url + "/v1", api_key="secret", max_retries=0), ask(note))
        assert httpx.get(url + "/health").status_code == 200


def test_too_many_waiting_are_turned_away(coat_model, note):
    limits = EngineLimits(max_batch=1, max_queue=1)
    with running(coat_model.model, limits=limits) as (url, _):
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        outcomes = []

        def work():
            try:
                outcomes.append(said(client, ask(note)).choices[0].finish_reason)
            except openai.RateLimitError as error:
                outcomes.append(error.response.headers["retry-after"])

        threads = [threading.Thread(target=work) for _ in range(12)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(outcomes) == 12
        assert {"stop", "1"} == set(outcomes)


def test_answers_that_take_too_long_are_given_up(coat_model, note):
    with running(coat_model.model, request_timeout=0.001) as (url, _):
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIStatusError) as caught:
            said(client, ask(note))
        assert caught.value.status_code == 504


def test_a_client_that_goes_away_frees_its_place(client, server, note):
    _, engine = server
    stream = said(client, ask(note, "Repeat: " + "the red dog " * 30), stream=True)
    next(iter(stream))
    stream.close()
    for _ in range(200):
        if engine.num_running == 0:
            return
        threading.Event().wait(0.05)
    raise AssertionError("the request was still being answered")


def test_soundfile_writes_what_these_tests_need():
    assert {"WAV", "MP3", "FLAC", "OGG"} <= set(soundfile.available_formats())
