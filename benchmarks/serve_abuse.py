"""The embedded server under attack: bounded, on loopback, with a limit of 128 file descriptors.

    python benchmarks/serve_abuse.py

For each attack: the slowest of the health checks that were asked for meanwhile, what became of an ordinary request that
was sent at the same time, the server's memory, and what it wrote to its log. The server is a process of its own.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import soundfile

SECONDS = 12
DESCRIPTORS = 128


def main() -> None:
    """Attack in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "coat", "serve", "miniature", "--backend", "transformers", "--port", str(port)]
        command += ["--max-batch", "2"]  # so that some requests wait when the server is told to end
        server = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_few_descriptors)
        try:
            _wait_for(url)
            print("| attack | slowest health check | ordinary request | server's memory | log |\n|" + " --- |" * 5)
            for name, attack in ATTACKS.items():
                before = os.fstat(log.fileno()).st_size
                checks, ordinary = watched(url, port, attack)
                memory = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096 / 2**20
                grown = os.fstat(log.fileno()).st_size - before
                print(f"| {name} | {checks} | {ordinary} | {memory:.0f} MB | {grown / 1000:.1f} kB |", flush=True)
            print(f"\nSIGTERM with 20 requests of one client each: {terminated(server, url)}")
        finally:
            server.kill()


def watched(url: str, port: int, attack: Callable[[int], None]) -> tuple[str, str]:
    """The slowest health check during an attack, and how an ordinary request went."""
    thread = threading.Thread(target=attack, args=(port,), daemon=True)
    thread.start()
    time.sleep(0.5)
    said: list[str] = []
    asking = threading.Thread(target=lambda: said.append(ordinary(url)), daemon=True)
    asking.start()
    slowest, failed, until = 0.0, 0, time.monotonic() + SECONDS
    while time.monotonic() < until and (thread.is_alive() or asking.is_alive() or slowest == 0.0):
        began = time.monotonic()
        try:
            httpx.get(url + "/health", timeout=5)
        except httpx.HTTPError:
            failed += 1
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.1)
    thread.join(SECONDS)
    asking.join(60)
    return f"{1000 * slowest:.0f} ms" + (f", {failed} failed" if failed else ""), said[0] if said else "no answer"


def ordinary(url: str) -> str:
    """One question about two seconds of sound."""
    began = time.monotonic()
    try:
        answer = httpx.post(url + "/v1/chat/completions", json=question(sound(2.0)), timeout=50)
    except httpx.HTTPError as error:
        return f"{type(error).__name__} after {time.monotonic() - began:.1f} s"
    return f"{answer.status_code} in {time.monotonic() - began:.2f} s"


def silent_connections(port: int) -> None:
    """140 connections that never say anything."""
    held = []
    for _ in range(140):
        with suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=1))
    time.sleep(SECONDS - 2)
    for each in held:
        each.close()


def long_texts(port: int) -> None:
    """Six messages of 900,000 characters."""
    body = question(None, "the red dog " * 75_000)
    _together(6, lambda: httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=60))


def bombs(port: int) -> None:
    """Twenty clips of 8 channels at 655,350 Hz in one request."""
    wave = np.tile(np.sin(np.arange(2 * 655_350) / 50)[:, None] * 0.3, (1, 8))
    clip = base64.b64encode(_encoded(wave, 655_350, "FLAC")).decode()
    body = question(None)
    part = {"type": "input_audio", "input_audio": {"data": clip, "format": "flac"}}
    body["messages"][0]["content"] = [part] * 20 + body["messages"][0]["content"]
    with suppress(httpx.HTTPError):
        httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=60)


def departures(port: int) -> None:
    """Sixteen requests for a thousand tokens whose clients leave at once."""
    body = question(sound(2.0)) | {"max_tokens": 1000, "temperature": 2.0}
    content = json.dumps(body).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: "
    for _ in range(16):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(head.encode() + f"{len(content)}\r\n\r\n".encode() + content)


def malformed(port: int) -> None:
    """Two hundred addresses and bodies that no client sends."""
    for index in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /v1/models/%ff%00" + str(index).encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.recv(1024)


ATTACKS = {
    "none": lambda _: None,
    "140 silent connections": silent_connections,
    "6 texts of 0.9 MB": long_texts,
    "20 clips of 8 channels at 655 kHz": bombs,
    "16 clients that leave": departures,
    "200 malformed addresses": malformed,
}


def terminated(server: subprocess.Popen, url: str) -> str:
    """How twenty requests end when the server is told to."""
    statuses: list[str] = []

    def ask() -> None:
        try:
            body = question(sound(2.0)) | {"max_tokens": 200, "logit_bias": {str(i): -100 for i in range(8)}}
            answer = httpx.post(url + "/v1/chat/completions", json=body, timeout=90)
            statuses.append(str(answer.status_code))
        except httpx.HTTPError as error:
            statuses.append(type(error).__name__)

    began = time.monotonic()
    threads = [threading.Thread(target=ask) for _ in range(20)]
    [thread.start() for thread in threads]
    time.sleep(1.0)  # all of them are in by then
    server.terminate()
    server.wait(90)
    ended = time.monotonic() - began
    [thread.join(90) for thread in threads]
    return f"{ {status: statuses.count(status) for status in sorted(set(statuses))} }, gone after {ended:.1f} s"


def question(clip: bytes | None, text: str = "What note is this?") -> dict:
    """A request."""
    content: list[dict] = [{"type": "text", "text": text}]
    if clip:
        data = base64.b64encode(clip).decode()
        content.insert(0, {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    return {"model": "miniature", "messages": [{"role": "user", "content": content}], "max_tokens": 16}


def sound(seconds: float) -> bytes:
    """A tone."""
    return _encoded(0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 16_000)) / 16_000), 16_000, "WAV")


def _encoded(wave: np.ndarray, rate: int, form: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=form)
    return buffer.getvalue()


def _together(count: int, work: Callable[[], object]) -> None:
    def once() -> None:
        with suppress(httpx.HTTPError):
            work()

    threads = [threading.Thread(target=once) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]


def _few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def _wait_for(url: str) -> None:
    for _ in range(600):
        with suppress(httpx.HTTPError):
            if httpx.get(url + "/health", timeout=1).status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    main()
