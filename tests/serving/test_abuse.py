"""The server under attack, and at its end: bounded, on loopback alone."""

import io
import json
import signal
import socket
import threading
import time

import httpx
import numpy as np
import pytest
import soundfile

from coat.errors import CoatError
from coat.serving.engine import BYTES_A_TOKEN, Engine, EngineLimits, StoppingError
from coat.serving.guard import GuardSettings
from coat.serving.listening import Server, bounded, check_port
from coat.serving.schema import Options
from tests.serving.conftest import ask, encoded, running, tone
from tests.serving.test_engine import Ear, item


def few():
    return bounded(most=8, header_seconds=0.5)


def opened(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def is_closed(connection, seconds):
    connection.settimeout(seconds)
    try:
        return connection.recv(1024) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def body(**fields):
    return {"model": "miniature", "messages": ask(encoded(tone())), **fields}


def test_silent_connections_neither_last_nor_keep_others_out(coat_model):
    protocol = few()
    with running(coat_model.model, protocol=protocol) as (url, _):
        silent = [opened(url) for _ in range(40)]
        assert httpx.get(url + "/health").status_code == 200  # at once: whoever has been silent longest makes room
        assert all(is_closed(each, 5) for each in silent)
        assert httpx.get(url + "/health").status_code == 200
        assert not protocol._silent


def test_a_head_in_crumbs_has_no_more_time_than_a_silent_one(coat_model):
    with running(coat_model.model, protocol=few()) as (url, _):
        slow = opened(url)
        began = time.monotonic()
        try:
            for byte in b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100:
                slow.send(bytes([byte]))
                time.sleep(0.05)
        except ConnectionError:
            pass
        assert is_closed(slow, 5)
        assert time.monotonic() - began < 4


def test_a_connection_that_asks_again_is_kept(coat_model):
    with running(coat_model.model, protocol=few()) as (url, _), httpx.Client() as client:
        assert client.get(url + "/health").status_code == 200
        time.sleep(1.0)  # longer than a head may take: that is the time of the keep-alive
        assert client.get(url + "/health").status_code == 200


def test_what_waits_is_refused_at_once_when_the_server_ends(coat_model):
    engine = Engine(coat_model.model, EngineLimits(max_batch=1, max_wait=0.0))
    ears = [Ear() for _ in range(5)]
    jobs = [engine.submit(item("Repeat: " + "dog " * 20), Options(max_tokens=60), ear) for ear in ears]
    deadline = time.monotonic() + 30
    while not engine.num_running:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    began = time.monotonic()
    engine.drain()
    refused = [job for job in jobs if job.error]
    assert time.monotonic() - began < 1
    assert len(refused) >= 3
    assert all(isinstance(job.error, StoppingError) for job in refused)
    with pytest.raises(StoppingError):
        engine.submit(item(), Options(max_tokens=1), Ear())
    [ear.wait() for ear in ears]
    engine.stop()
    answered = [job for job in jobs if not job.error]
    assert answered
    assert all(job.finish_reason for job in answered)


def test_clients_hear_of_the_end_by_503_with_a_time_to_ask_again(coat_model):
    with running(coat_model.model, limits=EngineLimits(max_batch=1, max_wait=0.0)) as (url, engine):
        outcomes = []
        request = body(messages=[{"role": "user", "content": "Repeat: " + "dog " * 20}], max_tokens=60)

        def work(stream):
            response = httpx.post(url + "/v1/chat/completions", json=request | {"stream": stream}, timeout=60)
            outcomes.append((response.status_code, response.headers, response.text))

        threads = [threading.Thread(target=work, args=(index % 2 == 1,)) for index in range(6)]
        [thread.start() for thread in threads]
        deadline = time.monotonic() + 30
        while engine.num_waiting < 2:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        engine.drain()
        [thread.join() for thread in threads]
    refused = [headers for status, headers, _ in outcomes if status == 503]
    ended = [text for status, _, text in outcomes if status == 200 and "shutting down" in text]
    whole = [text for status, _, text in outcomes if status == 200 and "shutting down" not in text]
    assert len(refused) + len(ended) >= 2
    assert all(headers["retry-after"] == "5" for headers in refused)
    assert len(refused) + len(ended) + len(whole) == 6


def test_a_signal_drains_before_uvicorn_waits():
    drained = []
    server = Server.__new__(Server)
    server._drain, server._captured_signals = (lambda: drained.append(True)), []
    server.should_exit = server.force_exit = False
    server.handle_exit(signal.SIGTERM, None)
    assert drained
    assert server.should_exit


def test_long_texts_are_refused_before_they_are_tokenised(coat_model, monkeypatch):
    engine = Engine(coat_model.model, EngineLimits(max_prompt_tokens=100))
    monkeypatch.setattr(engine.model.builder, "build", lambda *_, **__: pytest.fail("it was tokenised"))
    with pytest.raises(CoatError, match="Send less text"):
        engine.submit(item("a" * (100 * BYTES_A_TOKEN + 1)), Options(max_tokens=1), Ear())
    engine.stop()


@pytest.mark.parametrize("form", ["FLAC", "OGG"])
def test_sound_that_is_small_until_it_is_decoded(coat_model, form):
    rate, seconds, channels = (655_350, 2.0, 8) if form == "FLAC" else (48_000, 9.0, 2)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, format=form) as file:
        for part in np.array_split(np.tile(tone(seconds, rate)[:, None], (1, channels)), 100):
            file.write(part)
    data = buffer.getvalue()
    limits = EngineLimits(max_prompt_tokens=200)  # eight seconds of stereo at 48 kHz
    with running(coat_model.model, limits=limits) as (url, _):
        began = time.monotonic()
        answer = httpx.post(url + "/v1/chat/completions", json={**body(), "messages": ask(data)}, timeout=60)
        assert answer.status_code == 400
        assert "over all its channels" in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"] == "messages[0].content[0]"
        assert time.monotonic() - began < 5


def test_clips_share_what_may_be_decoded_for_a_request(coat_model):
    stereo = encoded(np.tile(tone(2.0, 48_000)[:, None], (1, 2)), 48_000)
    limits = EngineLimits(max_prompt_tokens=125)  # five seconds
    messages = [{"role": "user", "content": [part for _ in range(3) for part in ask(stereo)[0]["content"][:1]]}]
    with running(coat_model.model, limits=limits) as (url, _):
        answer = httpx.post(url + "/v1/chat/completions", json={**body(), "messages": messages}, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content[2]"


def test_a_client_that_leaves_frees_its_place_without_a_stream_too(coat_model):
    with running(coat_model.model, max_new_tokens=4000) as (url, engine):
        content = json.dumps(body(logit_bias={str(end): -100 for end in coat_model.model.backbone.end_ids})).encode()
        connection = opened(url)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n"
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        deadline = time.monotonic() + 30
        while not engine.num_running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (job,) = engine._running
        connection.close()
        while engine.num_running:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert job.cancelled
        assert len(job.tokens) < 4000


def test_what_fails_unforeseen_is_told_in_openais_form_and_counted(coat_model, monkeypatch, caplog):
    with running(coat_model.model) as (url, engine):

        def broken(*_):
            raise RuntimeError("no such luck \ud800")

        monkeypatch.setattr(engine, "submit", broken)
        answer = httpx.post(url + "/v1/chat/completions", json=body())
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        assert len(answer.headers["x-request-id"]) == 32
        counted = httpx.get(url + "/metrics").text
        assert 'coat_requests_total{path="/v1/chat/completions",status="500"} 1.0' in counted
    lines = [record.getMessage() for record in caplog.records if record.name == "coat"]
    assert any(answer.headers["x-request-id"] in line and "RuntimeError" in line for line in lines)


@pytest.mark.parametrize("target", ["/v1/models/%ff", "/v1/models/%00", "/%ed%a0%80", "//", "/v1/models/" + "a" * 5000])
def test_addresses_that_no_client_writes(server, target):
    connection = opened(server[0])
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    connection.settimeout(10)
    said = b""
    while piece := connection.recv(65536):
        said += piece
    status, _, rest = said.partition(b"\r\n")
    assert int(status.split()[1]) in (400, 404), status
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"]


def test_keys_methods_and_heads(coat_model):
    guard = GuardSettings(api_key="secret", private_metrics=True)
    with running(coat_model.model, guard=guard) as (url, _):
        for scheme in ("Bearer", "bearer", "BEARER"):
            assert httpx.get(url + "/v1/models", headers={"Authorization": f"{scheme} secret"}).status_code == 200
        for wrong in ("Basic secret", "Bearer", "secret", "Bearer secretly"):
            refused = httpx.get(url + "/v1/models", headers={"Authorization": wrong})
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        assert httpx.get(url + "/metrics").status_code == 401
        assert httpx.get(url + "/metrics", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert httpx.head(url + "/health").status_code == 200
        assert httpx.delete(url + "/health").headers["allow"]


def test_a_port_that_is_taken_is_said_before_anything_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CoatError, match="Nothing can listen"):
            check_port("127.0.0.1", taken.getsockname()[1])
