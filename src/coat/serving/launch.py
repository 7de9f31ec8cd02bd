"""Start a server: vLLM where it is installed and knows the family, else the embedded one."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from coat.backbones import backbone_class
from coat.checkpoints.references import AdapterRef, BaseRef, Checkpoint, RunRef, resolve
from coat.errors import CoatError
from coat.serving.vllm import ARCHITECTURES

Backend = Literal["auto", "vllm", "transformers"]


@dataclass(frozen=True)
class ServeOptions:
    """Options of ``coat serve``.

    Attributes:
        model_path: A run, an export or a plain checkpoint, in a folder or on the hub.
        name: The model's name in requests; that of the folder if None.
        host, port: Address to listen on.
        api_key: Required beyond loopback.
        backend: Name of the server.
        allowed_hosts: Hosts that audio may be fetched from.
        allowed_origins: Origins of web pages that may call the embedded server.
        max_batch, max_queue, max_new_tokens, max_body_mb, max_prompt_tokens, request_timeout: The embedded server's.
        transcription_prompt: Prompt of transcription requests.
        extra: Passed to vLLM as it is.
    """

    model_path: str
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    backend: Backend = "auto"
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_batch: int = 16
    max_queue: int = 128
    max_new_tokens: int = 1024
    max_body_mb: int = 64
    max_prompt_tokens: int = 16_384
    request_timeout: float = 300.0
    transcription_prompt: str = "Transcribe the speech."
    extra: tuple[str, ...] = ()

    @property
    def served_name(self) -> str:
        """The model's name in requests."""
        path = Path(self.model_path)
        return self.name or (path.resolve().name if path.exists() else self.model_path)


def serve(options: ServeOptions, say: Callable[[str], None] = print) -> None:
    """Serve until told to stop.

    Raises:
        CoatError: There is no model at that path, a key is missing, or what was asked for is not installed.
    """
    check_key(options)
    ref = resolve(options.model_path)
    # Named as it was given, loaded from where it is.
    options = replace(options, name=options.served_name, model_path=ref.path)
    backend, why = choose_backend(options, ref)
    say(f"Serving {options.served_name} with {backend}: {why}")
    if backend == "vllm":
        command = vllm_command(options, options.model_path)
        os.execve(command[0], command, {**os.environ, **vllm_environment(options)})
    _serve_embedded(options, say)


def check_key(options: ServeOptions) -> None:
    """Beyond loopback everyone who reaches the port could use the model.

    Raises:
        CoatError: There is no key, and the host is not loopback.
    """
    if options.api_key is None and not _is_loopback(options.host):
        raise CoatError(
            f"Serving on {options.host} without an API key would let everyone who reaches it use the model.",
            "Add --api-key-file FILE, or serve on 127.0.0.1.",
        )


def choose_backend(options: ServeOptions, ref: Checkpoint) -> tuple[str, str]:
    """Which server, and why.

    Args:
        options: Options of the command.
        ref: The model to serve.

    Raises:
        CoatError: vLLM was asked for and cannot be used.
    """
    if options.backend == "transformers":
        return "transformers", "as asked for."
    missing = _why_not_vllm(ref)
    if missing is None:
        return "vllm", "it is installed, and knows the family." if options.backend == "auto" else "as asked for."
    if options.backend == "vllm":
        raise CoatError(f"vLLM cannot serve this: {missing}", "Leave out --backend for the embedded server.")
    return "transformers", missing


def vllm_command(options: ServeOptions, folder: str) -> list[str]:
    """Command that starts vLLM's OpenAI server on an export; vLLM finds the plug-in by its entry point."""
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder,
        "--served-model-name", options.served_name, "--host", options.host, "--port", str(options.port),
        # Where nothing is allowed, a name that cannot exist: vLLM takes an empty list for "everywhere".
        "--allowed-media-domains", *(options.allowed_hosts or ("none.invalid",)),
    ]  # fmt: skip
    return [*command, *options.extra]


def vllm_environment(options: ServeOptions) -> dict[str, str]:
    """Environment of vLLM: the key, which a command line would show to everyone on the machine."""
    env = {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0"}
    return env | ({"VLLM_API_KEY": options.api_key} if options.api_key else {})


def _why_not_vllm(ref: Checkpoint) -> str | None:
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed (pip install vllm)."
    if isinstance(ref, RunRef):
        return f"vLLM serves exports, and this is a run (coat export {ref.path} --out DIR)."
    if isinstance(ref, AdapterRef):
        return "vLLM serves whole exports, and this is an adapter alone."
    if isinstance(ref, BaseRef):
        return "this is a plain checkpoint, which vLLM serves by itself (vllm serve)."
    stock = backbone_class(ref.family).model_class.replace("Thinker", "")
    return None if f"Coat{stock}" in ARCHITECTURES else f"the plug-in does not serve {ref.family} there."


def _serve_embedded(options: ServeOptions, say: Callable[[str], None]) -> None:
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client", "multipart")
               if importlib.util.find_spec(name) is None]  # fmt: skip
    if missing:
        raise CoatError(f"The embedded server needs {', '.join(missing)}.", "pip install 'coat-audio[serve]'")
    import uvicorn

    from coat.checkpoints import load_model
    from coat.serving.app import ServerSettings, make_app
    from coat.serving.engine import Engine, EngineLimits
    from coat.serving.guard import GuardSettings
    from coat.serving.listening import Server, bounded, bounds, check_port
    from coat.serving.metrics import Metrics

    check_port(options.host, options.port)
    model = load_model(options.model_path, answers_only=True)
    metrics = Metrics()
    limits = EngineLimits(
        max_batch=options.max_batch, max_queue=options.max_queue, max_prompt_tokens=options.max_prompt_tokens
    )
    engine = Engine(model, limits, metrics.batch.observe)
    settings = ServerSettings(
        name=options.served_name,
        guard=GuardSettings(
            api_key=options.api_key,
            max_body_bytes=options.max_body_mb * 2**20,
            private_metrics=not _is_loopback(options.host),
        ),
        allowed_hosts=options.allowed_hosts,
        allowed_origins=options.allowed_origins,
        max_new_tokens=options.max_new_tokens,
        request_timeout=options.request_timeout,
        transcription_prompt=options.transcription_prompt,
    )
    say(f"http://{options.host}:{options.port}/v1")
    most, backlog = bounds()
    config = uvicorn.Config(
        make_app(engine, settings, metrics),
        host=options.host,
        port=options.port,
        log_level="warning",
        http=bounded(most),
        ws="none",
        backlog=backlog,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=60,
        h11_max_incomplete_event_size=64 * 1024,
    )
    Server(config, engine.drain).run()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
