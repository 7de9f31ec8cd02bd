"""Every field of a request is served or refused by name; null is the default; no request is a fault of the server's."""

import base64
import shutil

import httpx
import pytest
import torch

from coat.serving.sampling import RowSampler
from coat.serving.schema import ChatRequest, Options
from tests.audio.files import ffmpeg
from tests.serving.conftest import ask, b64, encoded, tone
from tests.serving.test_bad_input import assert_refused, audio_part, post, url_part


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server[0], timeout=60) as client:
        yield client


TEXT = [{"role": "user", "content": "Repeat: the red dog"}]


@pytest.mark.parametrize(
    ("field", "value", "guess"),
    [
        ("max_token", 4, "Did you mean 'max_tokens'?"),
        ("temprature", 0, "Did you mean 'temperature'?"),
        ("guided_choice", ["a"], ""),
        ("guided_json", {"a": 1}, ""),
        ("structured_outputs", {"choice": ["a"]}, ""),
        ("functions", [{"name": "f"}], ""),
        ("stop_token_ids", [3], ""),
        ("ignore_eos", True, ""),
        ("best_of", 2, ""),
        ("reasoning_effort", "low", ""),
        ("audio", {"voice": "alloy"}, ""),
        ("prediction", {"type": "content"}, ""),
    ],
)
def test_fields_that_are_not_served_are_refused_by_name(http, field, value, guess):
    response = post(http, TEXT, **{field: value})
    assert_refused(response, 400, f"{field} is not served here.")
    assert guess in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == field


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"store": True}, "store"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"mm_processor_kwargs": {"audio_thnk": False}}, "mm_processor_kwargs.audio_thnk"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"logit_bias": {"0" * 19 + "1999999": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {"5": 200}}, "logit_bias.5"),
        ({"stop": ["x"] * 20}, "stop"),
    ],
)
def test_values_that_are_not_served_are_refused_by_name(http, fields, param):
    response = post(http, TEXT, **fields)
    assert_refused(response, 400, "")
    assert response.json()["error"]["param"].startswith(param)


def test_null_is_the_default_of_every_optional_field(http):
    plain = post(http, TEXT).json()["choices"]
    nulls = dict.fromkeys(set(ChatRequest.model_fields) - {"model", "messages", "max_tokens"})
    assert post(http, TEXT, **nulls).json()["choices"] == plain
    empty = {"tools": [], "functions": [], "stop": [], "logit_bias": {}, "metadata": {}, "user": ""}
    assert post(http, TEXT, **empty).json()["choices"] == plain
    book = {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "modalities": ["text"],
            "parallel_tool_calls": True, "tool_choice": "auto", "n": 1, "logprobs": False}  # fmt: skip
    assert post(http, TEXT, **book).json()["choices"] == plain


def test_a_servers_own_message_may_come_back(client):
    note = ask(encoded(tone()))
    said = client.chat.completions.create(model="miniature", messages=note, max_tokens=8).choices[0].message
    turns = [*note, said, {"role": "user", "content": "And this?"}]
    assert client.chat.completions.create(model="miniature", messages=turns, max_tokens=8).choices[0].message.content
    empty = [*note, {"role": "assistant", "content": None}, {"role": "user", "content": "And this?"}]
    assert client.chat.completions.create(model="miniature", messages=empty, max_tokens=8).usage.completion_tokens


def test_a_user_who_says_nothing_is_refused(http):
    assert_refused(post(http, [{"role": "user", "content": None}]), 400, "a user message must have content")
    assert_refused(post(http, [{"role": "user", "content": "x", "name": "bob"}]), 400, "messages[0].name is not served")


@pytest.mark.parametrize("wrap", [
    lambda data: base64.encodebytes(data).decode(),
    lambda data: "data:audio/wav;base64," + b64(data),
    lambda data: "DATA:audio/wav;BASE64," + b64(data).replace("A", "A\r\n", 3),
])  # fmt: skip
def test_base64_as_programs_write_it(http, wrap):
    data = encoded(tone(0.5))
    asked = audio_part(data=wrap(data), format=None)
    assert post(http, asked).json()["choices"] == post(http, audio_part(data=b64(data), format="wav")).json()["choices"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="not installed: ffmpeg")
@pytest.mark.parametrize("kind", ["webm", "m4a", "opus", "mp3"])
def test_what_browsers_and_telephones_record(http, tmp_path, kind):
    (tmp_path / "a.wav").write_bytes(encoded(tone(2)))
    data = ffmpeg("-i", tmp_path / "a.wav", out=tmp_path / f"a.{kind}").read_bytes()
    answer = post(http, ask(data, form=kind))
    assert answer.status_code == 200, answer.text
    assert 48 <= answer.json()["usage"]["prompt_tokens_details"]["audio_tokens"] <= 53
    files = {"file": (f"a.{kind}", data)}
    assert http.post("/v1/audio/transcriptions", data={"model": "miniature"}, files=files).status_code == 200


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities[] is not served here."),
        ({"langauge": "en"}, "Did you mean 'language'?"),
        ({"include[]": "logprobs"}, "include[] is not served here."),
        ({"response_format": "srt"}, "'srt' needs the times of words"),
        ({"response_format": "yaml"}, "not 'yaml'"),
        ({"language": "frr"}, "Did you mean 'fr'?"),
    ],
)
def test_fields_of_transcriptions(http, field, message):
    files = {"file": ("a.wav", encoded(tone(0.5)))}
    assert_refused(
        http.post("/v1/audio/transcriptions", data={"model": "miniature", **field}, files=files), 400, message
    )


def test_two_files_in_one_transcription_are_refused(http):
    files = [("file", ("a.wav", encoded(tone(0.5)))), ("file", ("b.wav", encoded(tone(0.5))))]
    response = http.post("/v1/audio/transcriptions", data={"model": "miniature"}, files=files)
    assert_refused(response, 400, "file is given twice")


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "miniature", "messages": [{"role": "user", "content": "\\ud800"}]}',
        '{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
        '{"model": "miniature", "messages": [{"role": "user", "content": "x"}], "stop": "\\udfff"}',
        '{"model": "miniature", "messages": [{"role": "user", "content": "x"}], "\\ud800": 1}',
        '{"model": "miniature", "messages": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"model": "miniature", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        '{"model": "miniature", "messages": [{"role": "user", "content": "x"}], "seed": ' + "9" * 5000 + "}",
        "\xff\xfe",
        "",
        "[]",
        "null",
    ],
)
def test_bodies_that_no_client_sends(http, body):
    content = body.encode("latin-1" if body.startswith("\xff") else "utf-8")
    response = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert_refused(response, 400, "")


@pytest.mark.parametrize("url", ["https://[::1/a.wav", "http://host:99999/a.wav", "http:///a.wav", "https://\u0000/a"])
def test_addresses_that_are_none(http, url):
    assert_refused(post(http, url_part(url)), 400, "")


def test_what_no_model_should_hear_is_refused(http):
    for wave, message in ((tone() * 30_000, "full scale is 1"), (tone() + 0.5, "constant offset")):
        assert_refused(post(http, ask(encoded(wave, subtype="FLOAT"))), 400, message)


def scored(options, said=(), prompt=()):
    """Scores 0 to 5 after a row's penalties and biases."""
    return RowSampler(options, prompt).ruled(said, torch.arange(6.0))


def test_penalties_are_those_of_openai_and_transformers():
    said = [5, 5, 4]
    after = scored(Options(frequency_penalty=0.5, presence_penalty=1.0), said)
    assert after.tolist() == [0, 1, 2, 3, 4 - 0.5 - 1, 5 - 1.0 - 1]
    assert scored(Options(repetition_penalty=2.0), said, prompt=[3]).tolist() == [0, 1, 2, 1.5, 2, 2.5]
    assert scored(Options(logit_bias={0: 100.0, 5: -100.0})).tolist() == [100, 1, 2, 3, 4, -95]
    assert scored(Options(), said, prompt=[3]).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("rule", "kept"), [({"top_k": 2}, {4, 5}), ({"top_p": 0.7}, {4, 5}), ({"min_p": 0.3}, {4, 5}), ({"top_k": 1}, {5})]
)
def test_rows_sample_among_the_tokens_that_their_rules_leave(rule, kept):
    samplers = [RowSampler(Options(temperature=1.0, seed=seed, **rule)) for seed in range(200)]
    drawn = {sampler.choose([], torch.arange(6.0)) for sampler in samplers}
    assert drawn == kept


def test_a_biased_token_is_said_and_think_tokens_never(http, coat_model):
    tokenizer = coat_model.model.backbone.tokenizer
    red = tokenizer("red", add_special_tokens=False)["input_ids"][0]
    answer = post(http, TEXT, logit_bias={str(red): 100}).json()["choices"][0]["message"]["content"]
    assert answer == "red" * 4
    think = {str(token): 100 for token in coat_model.model.tokens.ids}
    assert "think" not in post(http, TEXT, logit_bias=think).json()["choices"][0]["message"]["content"]
    repeated = post(http, TEXT, logit_bias={str(red): 100}, frequency_penalty=2, presence_penalty=2, max_tokens=60)
    assert repeated.status_code == 200
