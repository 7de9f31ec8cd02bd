"""``coat serve``: which server, with what key; and the process itself, from start to a clean end."""

import signal
import socket
import subprocess
import sys
import time

import httpx
import openai
import pytest

from coat.checkpoints.references import miniature_folder, resolve
from coat.errors import CoatError
from coat.export.checkpoint import export
from coat.serving import launch
from coat.serving.launch import ServeOptions
from tests.serving.conftest import ask, encoded, tone


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.2.1"])
def test_loopback_needs_no_key(host):
    launch.check_key(ServeOptions("x", host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_beyond_it_a_key_is_required(host):
    with pytest.raises(CoatError, match="without an API key"):
        launch.check_key(ServeOptions("x", host=host))
    launch.check_key(ServeOptions("x", host=host, api_key="k"))


def test_without_vllm_the_embedded_server_is_chosen_and_says_why():
    ref = resolve("miniature")
    backend, why = launch.choose_backend(ServeOptions("miniature"), ref)
    assert (backend, "not installed" in why) == ("transformers", True)
    with pytest.raises(CoatError, match="vLLM cannot serve this"):
        launch.choose_backend(ServeOptions("miniature", backend="vllm"), ref)


def test_with_vllm_it_is_chosen_for_exports_of_a_family_that_the_plug_in_knows(monkeypatch, exported, tiny_path):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: object())
    export_ref = resolve(exported)
    assert launch.choose_backend(ServeOptions("x"), export_ref)[0] == "vllm"
    assert launch.choose_backend(ServeOptions("x", backend="transformers"), export_ref)[0] == "transformers"
    assert "coat export" in launch.choose_backend(ServeOptions("x"), resolve("miniature"))[1]
    assert "which vLLM serves by itself" in launch.choose_backend(ServeOptions("x"), resolve(tiny_path))[1]


def test_the_key_is_not_on_the_command_line():
    options = ServeOptions("x", api_key="secret", allowed_hosts=("a.org",), extra=("--dtype", "float32"))
    command = launch.vllm_command(options, "DIR")
    assert "secret" not in command
    assert launch.vllm_environment(options)["VLLM_API_KEY"] == "secret"
    assert command[-2:] == ["--dtype", "float32"]
    assert command[command.index("--allowed-media-domains") + 1] == "a.org"
    closed = launch.vllm_command(ServeOptions("x"), "DIR")
    assert closed[closed.index("--allowed-media-domains") + 1] == "none.invalid"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(miniature_folder(), tmp_path_factory.mktemp("export") / "mini", say=lambda line: None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, process):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()[-3000:]
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError("it did not start")


def test_the_process_serves_an_export_and_ends_cleanly(exported, tmp_path, coat_model):
    port = free_port()
    (tmp_path / "key").write_text("secret\n")
    command = [sys.executable, "-m", "coat", "serve", str(exported), "--port", str(port),
               "--api-key-file", str(tmp_path / "key"), "--backend", "auto"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="secret", max_retries=0)
            data = encoded(tone(), subtype="FLOAT")
            answer = client.chat.completions.create(model="mini", messages=ask(data))
            process.send_signal(signal.SIGTERM)
            said = process.stderr.read()
            assert process.wait(60) in (0, -signal.SIGTERM)
        finally:
            process.kill()
    assert answer.usage.prompt_tokens_details.think_tokens == 52
    assert "Serving mini with transformers: vLLM is not installed" in said
    assert "Traceback" not in said


def test_transformers_own_server_thinks_without_knowing(exported, coat_model):
    """The block lives in the processor: a server that was not made for it serves it."""
    from coat.audio import decode_audio

    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(exported), "--port", str(port),
               "--device", "cpu", "--dtype", "float32", "--trust-remote-code"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
            data = encoded(tone(), subtype="FLOAT")
            answer = client.chat.completions.create(model=str(exported), messages=ask(data), max_tokens=32)
        finally:
            process.kill()
    assert answer.choices[0].message.content.strip() == coat_model.chat(decode_audio(data), "What note is this?")
    plain = coat_model.model.backbone.num_audio_tokens(32_000)
    assert answer.usage.prompt_tokens > 2 * plain
