"""Whatever comes in: the right status, a message that helps, and a server that goes on."""

import io
import json
import random
import socket
import time
import wave

import httpx
import numpy as np
import pytest

from tests.serving.conftest import ask, encoded, tone


@pytest.fixture(scope="module")
def http(server):
    with httpx.Client(base_url=server[0], timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def good():
    return encoded(tone(0.5))


def post(http, messages, **fields):
    return http.post(
        "/v1/chat/completions", json={"model": "miniature", "messages": messages, "max_tokens": 4, **fields}
    )


def three_hours():
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 1, 200, 0, "NONE", ""))
        file.writeframes(bytes(200 * 3 * 3600))
    return buffer.getvalue()


def assert_refused(response, status, message):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert message in error["message"], error
    assert error["type"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read as audio"),
        (b"RIFF????WAVEfmt ", "cannot be read as audio"),
        (b"not audio at all" * 99, "cannot be read as audio"),
        (encoded(tone(2), form="MP3")[:40], "cannot be read as audio"),
        (encoded(np.zeros(0, np.float32)), "lasts 0 ms"),
        (encoded(tone(0.05)), "lasts 50 ms"),
        (encoded(np.full(16_000, np.nan, np.float32), subtype="FLOAT"), "NaN"),
        (encoded(np.full(16_000, np.inf, np.float32), subtype="FLOAT"), "NaN or infinite"),
        (three_hours(), "10800.0 s; this model hears at most 30 s"),
    ],
    ids=["empty", "header", "noise", "mp3 head", "no samples", "short", "nan", "infinite", "three hours"],
)
def test_bad_audio(http, data, message):
    assert_refused(post(http, ask(data)), 400, message)
    assert_refused(
        http.post("/v1/audio/transcriptions", data={"model": "miniature"}, files={"file": ("a.wav", data)}),
        400,
        message,
    )


def test_a_truncated_mp3_says_how_much_was_good(http):
    whole = encoded(tone(4), form="MP3")
    answer = post(http, ask(whole[: len(whole) // 2], form="mp3"))
    assert_refused(answer, 400, "its header says 3.95 s, and 1.98 s could be decoded")


def audio_part(**fields):
    return [{"role": "user", "content": [{"type": "input_audio", "input_audio": fields}]}]


def url_part(url):
    return [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("messages", "status", "message"),
    [
        (audio_part(data="&&&&", format="wav"), 400, "messages[0].content[0]: the audio is not base64"),
        (audio_part(data=7), 400, "messages[0].content[0].input_audio.data"),
        (audio_part(), 400, "data"),
        ([], 400, "messages"),
        ("hello", 400, "messages"),
        ([{"role": "user"}], 400, "content"),
        ([{"role": "pilot", "content": "x"}], 400, "role"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], 400, "image_url"),
        ([{"role": "assistant", "content": "x"}], 400, "last message must be the user's"),
        ([{"role": "user", "content": "<|audio_think|>"}], 400, "think tokens"),
        ([{"role": "user", "content": "<|AUDIO|>"}], 400, "audio placeholder"),
        ([{"role": "user", "content": "word " * 40_000}], 400, "the language model has 4096 positions"),
        (url_part("data:audio/wav,abc"), 400, "must be base64"),
        (url_part("file:///etc/passwd"), 400, "data: or http(s)"),
        (url_part("/etc/passwd"), 400, "data: or http(s)"),
        (url_part("http://127.0.0.1:1/a.wav"), 400, "does not fetch audio from '127.0.0.1'"),
        (url_part("https://example.org/a.wav"), 400, "does not fetch audio from 'example.org'"),
    ],
)
def test_bad_messages(http, messages, status, message):
    assert_refused(post(http, messages), status, message)


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "other"}, 404, "There is no model 'other'"),
        ({"model": 3}, 400, "model"),
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"n": 2}, 400, "n"),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"logprobs": True}, 400, "logprobs"),
        ({"response_format": {"type": "json_object"}}, 400, "Only text answers"),
        ({"stream": "maybe"}, 400, "stream"),
        ({"seed": -1}, 400, "seed"),
        ({"top_p": 0}, 400, "top_p"),
    ],
)
def test_bad_fields(http, good, fields, status, message):
    assert_refused(post(http, ask(good), **fields), status, message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"null", "malformed"),
        (b"[]", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"model": "miniature"}', "malformed: messages"),
        (b"[" * 5000, "parsing the body"),
    ],
)
def test_bad_json(http, body, message):
    response = http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert_refused(response, 400, message)


def test_unknown_paths_and_methods(http):
    assert_refused(http.get("/v1/nothing"), 404, "Not Found")
    assert_refused(http.get("/v1/chat/completions"), 405, "Method Not Allowed")
    assert_refused(http.post("/v1/audio/transcriptions", data={"model": "miniature"}), 400, "file")


def test_bodies_that_are_too_large(http):
    """Told at once where the length is announced, and as soon as it shows where it is not."""
    assert_refused(http.post("/v1/chat/completions", content=b" " * (5 * 2**20)), 413, "at most 4194304")

    def endless():
        for _ in range(200):
            yield b" " * 2**20

    try:
        response = http.post("/v1/chat/completions", content=endless())
    except httpx.TransportError:
        pass  # the server closed the connection under the sender's hands
    else:
        assert_refused(response, 413, "more than 4194304")
    assert http.get("/health").status_code == 200


def test_a_slow_client_is_not_waited_for(server):
    host, port = server[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        began = time.monotonic()
        answer = link.recv(65536)
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert time.monotonic() - began < 10


FRAGMENTS = [
    None, True, -1, 0, 1e308, 10**30, "", "x", "\x00", "�😀",
    "<|im_end|>", "<audio>", "<|audio_think_end|>", [], {}, [[]],
    {"type": "text"}, {"type": "text", "text": "hi"}, {"type": "input_audio", "input_audio": {"data": "AAAA"}},
    {"url": "data:,"}, "data:audio/wav;base64,AAAA", ["user"], "assistant", {"role": "user", "content": "hi"},
]  # fmt: skip


def mutate(rng, value, depth=0):
    """A value with something somewhere in it replaced, dropped, doubled or cut."""
    if depth > 6 or rng.random() < 0.12:
        return rng.choice(FRAGMENTS)
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: mutate(rng, value[key], depth + 1)}
    if isinstance(value, list) and value:
        index = rng.randrange(len(value))
        changed = mutate(rng, value[index], depth + 1)
        return [*value[:index], changed, *value[index + rng.randrange(2) :]]
    if isinstance(value, str) and value:
        cut = rng.randrange(len(value))
        return rng.choice([value[:cut], value[:cut] + rng.choice("\x00&=é😀") + value[cut:], value * 2])
    return rng.choice(FRAGMENTS)


def corrupt(rng, data):
    """Audio with bytes changed, or cut."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[: rng.randrange(1, len(data))]) if rng.random() < 0.5 else bytes(data)


def test_two_thousand_mutated_requests(http, good):
    """Every answer is a proper one, none is a fault of the server's, and it still answers well after."""
    rng = random.Random(0)
    sounds = [good, *(encoded(tone(0.5), form=form) for form in ("FLAC", "OGG", "MP3"))]
    statuses = {}
    for number in range(2000):
        data = rng.choice(sounds)
        body = {"model": "miniature", "messages": ask(data), "max_tokens": 2}
        if number % 4 == 0:
            body["messages"] = ask(corrupt(rng, data))
        else:
            body = mutate(rng, body)
        content = json.dumps(body).encode()
        if number % 10 == 9:
            content = corrupt(rng, content)
        response = http.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
        assert response.status_code in (200, 400, 404), (number, response.status_code, response.text, content[:300])
        if response.status_code == 200 and b'"stream": true' not in content:
            assert "choices" in response.json()
        elif response.status_code != 200:
            assert response.json()["error"]["message"]
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
    assert statuses[400] > 500
    assert statuses[200] > 100
    assert post(http, ask(good)).status_code == 200
    assert http.get("/health").json() == {"status": "ok"}
