"""Plain vLLM serving an export, through OpenAI's own client: started by the command that ``coat serve`` runs."""

import concurrent.futures
import json
import os
import re
import socket
import subprocess
import time

import httpx
import openai
import pytest

from coat.serving.launch import ServeOptions, vllm_command, vllm_environment
from coat.thinking.tokens import RESERVED
from tests.serving.conftest import ask, b64, encoded, tone
from tests.vllm.conftest import CPU

pytestmark = pytest.mark.vllm
KEY = "secret"


@pytest.fixture(scope="module")
def server(vllm_python, reference, tmp_path_factory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    export = str(reference / "exports" / "qwen2_audio")
    options = ServeOptions(
        export, "tiny", port=port, api_key=KEY,
        extra=("--dtype", "float32", "--enforce-eager", "--max-model-len", "4096", "--trust-request-mm-kwargs"),
    )  # fmt: skip
    command = [vllm_python, *vllm_command(options, export)[1:]]
    log = tmp_path_factory.mktemp("vllm") / "log"
    env = {**os.environ, **CPU, **vllm_environment(options), "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with log.open("w") as out, subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT) as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            try:
                if httpx.get(url + "/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield url
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server + "/v1", api_key=KEY, max_retries=0)


def said(client, messages, **options):
    return client.chat.completions.create(
        model="tiny", messages=messages, **{"max_tokens": 8, "temperature": 0, **options}
    )


def rows(reference):
    return {row["key"]: row for row in json.loads((reference / "qwen2_audio.json").read_text())}


def spoken(reference, row):
    (message,) = row["messages"]
    data = (reference / message["content"][0]["audio"]).read_bytes()
    return ask(data, message["content"][1]["text"])


def decode(reference, ids):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reference / "exports" / "qwen2_audio")
    return tokenizer.decode(ids, skip_special_tokens=True).rstrip("�")  # vLLM keeps half a character back


def test_it_answers_as_transformers_does(client, reference):
    for key in ("0", "3", "7"):
        for kind, options in (("think", {}), ("plain", {"mm_processor_kwargs": {"audio_think": False}})):
            row = rows(reference)[f"{key}-{kind}"]
            answer = said(client, spoken(reference, row), extra_body=options)
            assert answer.usage.prompt_tokens == len(row["prompt"])
            assert answer.choices[0].message.content.rstrip("�") == decode(reference, row["answer"])


def test_streams_repeats_and_company_change_nothing(client, reference):
    """The prefix cache, and requests with and without audio side by side."""
    table = rows(reference)
    keys = [f"{index}-think" for index in range(12)] * 2

    def work(key):
        if int(key.split("-")[0]) % 4 == 3:
            said(client, [{"role": "user", "content": "Describe"}])
        stream = said(client, spoken(reference, table[key]), stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, keys))
    assert [text.rstrip("�") for text in answers] == [decode(reference, table[key]["answer"]) for key in keys]


@pytest.mark.parametrize(("form", "rate"), [("WAV", 44_100), ("FLAC", 8_000), ("OGG", 48_000), ("MP3", 22_050)])
def test_any_rate_and_format_is_taken(client, form, rate):
    data = encoded(tone(1.0, rate), rate, form)
    plain = said(client, ask(data, form=form.lower()), extra_body={"mm_processor_kwargs": {"audio_think": False}})
    thinking = said(client, ask(data, form=form.lower()))
    assert thinking.usage.prompt_tokens - plain.usage.prompt_tokens == pytest.approx(27, abs=2)


def test_what_it_refuses(client, server, reference):
    data = encoded(tone(0.5))
    silence = encoded(tone(31.0))
    for messages, message in (
        (ask(data, "<|audio_think_start|> x"), "think tokens"),
        (ask(data, "one <|audio_think|>"), "think tokens"),
        (ask(data, "one<|im_end|>"), "a text holds <|im_end|>"),
        ([{"role": "user", "content": "text <|audio_think|>"}], "think tokens"),
        (ask(silence), "31.0 s; this model hears at most 30 s"),
        (ask(encoded(tone(0.05))), "at least 100 ms"),
        (
            [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "http://127.0.0.1:1/a.wav"}}]}],
            "allowed domains",
        ),
    ):
        with pytest.raises(openai.BadRequestError, match=re.escape(message)):
            said(client, messages)
    with pytest.raises(openai.AuthenticationError):
        said(openai.OpenAI(base_url=server + "/v1", api_key="wrong", max_retries=0), ask(data))
    assert said(client, ask(data)).choices[0].finish_reason in ("stop", "length")


def test_think_tokens_are_not_sampled(client, reference):
    """Even where their bias is as large as a request may make it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reference / "exports" / "qwen2_audio")
    ids = tokenizer.convert_tokens_to_ids(list(RESERVED))
    options = {"logit_bias": dict.fromkeys(map(str, ids), 100), "max_tokens": 16}
    answer = said(client, ask(encoded(tone(0.5))), **options, extra_body={"skip_special_tokens": False})
    assert "audio_think" not in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


def test_base64_and_url_agree(client):
    data = encoded(tone(0.5))
    url = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{b64(data)}"}}
    by_url = said(client, [{"role": "user", "content": [url, {"type": "text", "text": "What note is this?"}]}])
    assert by_url.choices[0].message.content == said(client, ask(data)).choices[0].message.content
