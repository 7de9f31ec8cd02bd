"""The embedded server, really listening, on the miniature that ships with the package."""

import base64
import io
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
import uvicorn

from coat.api.model import CoatModel
from coat.serving.app import ServerSettings, make_app
from coat.serving.engine import Engine, EngineLimits
from coat.serving.guard import GuardSettings
from coat.serving.listening import MAX_CONNECTIONS, Server, bounded


@contextmanager
def running(model, *, limits=None, protocol=None, **settings):
    """A server on a free port; yields its address and its engine."""
    engine = Engine(model, limits or EngineLimits(max_wait=0.02))
    app = make_app(engine, ServerSettings(**{"name": "miniature", **settings}))
    protocol = protocol or bounded(MAX_CONNECTIONS)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=20, http=protocol
    )  # fmt: skip
    server = Server(config, engine.drain)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", engine
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"
        assert not engine.alive


@pytest.fixture(scope="session")
def coat_model():
    return CoatModel.from_pretrained("miniature")


@pytest.fixture(scope="session")
def server(coat_model):
    guard = GuardSettings(max_body_bytes=4 * 2**20, body_timeout=3.0)
    with running(coat_model.model, guard=guard, max_new_tokens=64, transcription_prompt="What is said?") as (
        url,
        engine,
    ):
        yield url, engine


@pytest.fixture(scope="session")
def client(server):
    import openai

    return openai.OpenAI(base_url=server[0] + "/v1", api_key="none", max_retries=0)


def tone(seconds=2.0, rate=16_000, frequency=440.0):
    time_ = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * time_)).astype(np.float32)


def encoded(wave, rate=16_000, form="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


def ask(data, text="What note is this?", form="wav"):
    return [
        {
            "role": "user",
            "content": [
                {"type": "input_audio", "input_audio": {"data": b64(data), "format": form}},
                {"type": "text", "text": text},
            ],
        }
    ]
