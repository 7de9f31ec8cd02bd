"""Throughput and latency of the embedded server under load: bounded, on loopback.

    python benchmarks/serve_load.py                 # the miniature; 1, 4, 16, 64 clients, block and no block
    python benchmarks/serve_load.py --model-path runs/x/export --requests 256
    python benchmarks/serve_load.py --against ../other-checkout --clients 16 --rounds 0

The server is a process of its own, started as users start it. Every request must be answered: one that is lost
fails the run. Block and no block are measured in turns, in one run, and so is the server of another checkout. The
limit is what the FLOPs of the same answers, counted here without a server, allow at the rate of this machine's
fastest matrix product.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import openai
import soundfile
import torch

from coat import CoatModel
from coat.checkpoints.references import miniature_folder
from coat.config.thinking import ThinkingConfig
from limits import counting, measure_limits

LATE, LATE_SECONDS, LONG_TOKENS = 12, 0.2, 400
SOUNDS, NEW_TOKENS, QUESTION = 16, 24, "What is said?"


def main() -> None:
    """Start the servers, load them, stop them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", default=str(miniature_folder()))
    parser.add_argument("--clients", nargs="*", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, default=128, help="of each kind, at each number of clients")
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=6, help="more of them, in which memory may not pile up")
    parser.add_argument("--against", type=Path, help="a checkout of this repository, whose server is measured too")
    args = parser.parse_args()
    sources = {"this": Path(__file__).parents[1]} | ({"other": args.against.resolve()} if args.against else {})
    model = CoatModel.from_pretrained(args.model_path)
    ends, least = model.model.backbone.end_ids, least_seconds(model)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(serving(source, args)) for name, source in sources.items()}
        asyncio.run(load(servers, ends, least, args.clients, args.requests, args.rounds))


@contextlib.contextmanager
def serving(source: Path, args: argparse.Namespace) -> Iterator[Server]:
    """A server of a checkout, until it is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "coat", "serve", args.model_path, "--name", "m", "--port", str(port),
               "--backend", "transformers", "--max-batch", str(args.max_batch)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            client = openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=300
            )
            yield Server(client, process.pid)
        finally:
            process.terminate()
            process.wait(60)


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    client: openai.AsyncOpenAI
    pid: int


def wait_for(url: str, process: subprocess.Popen) -> None:
    """Until the server answers."""
    while process.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("the server did not start")


def least_seconds(model: CoatModel) -> dict[bool, float]:
    """Of a request, without and with the block: the FLOPs of its answer at the machine's peak, on average."""
    limits = measure_limits("cuda" if torch.cuda.is_available() else "cpu", torch.float32)
    print(limits, end="; ")
    least = {}
    for think in (False, True):
        options = {} if think else {"thinking": ThinkingConfig(enabled=False)}
        with counting() as counter:
            for index in range(SOUNDS):
                model.chat((noisy_note(index), 16_000), QUESTION, max_new_tokens=NEW_TOKENS, **options)
        least[think] = limits.seconds(counter.get_total_flops() / SOUNDS)
    return least


async def load(
    servers: dict[str, Server],
    ends: list[int],
    least: dict[bool, float],
    clients: list[int],
    requests: int,
    rounds: int,
) -> None:
    """Every number of clients, block and no block, every server in turn."""
    sounds = [encoded(noisy_note(index)) for index in range(SOUNDS)]
    for server in servers.values():
        await burst(server.client, sounds, 4, 16, think=True)  # warm up
    print(f"{requests} requests of each kind; 2 to 4 s of audio\n")
    columns = ("server", "clients", "block", "requests/s", "measured / limit", "median", "95 %", "first token, median",
               "server's memory")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for number, think, (name, server) in itertools.product(clients, (False, True), servers.items()):
        began = time.perf_counter()
        times = await burst(server.client, sounds, number, requests, think=think)
        spent = time.perf_counter() - began
        assert len(times) == requests, f"{requests - len(times)} requests were lost"
        first, whole = np.array(times).T
        print(
            f"| {name} | {number} | {'yes' if think else 'no'} | {requests / spent:.1f} "
            f"| {spent / requests / least[think]:.1f} "
            f"| {1000 * np.median(whole):.0f} ms | {1000 * np.quantile(whole, 0.95):.0f} ms "
            f"| {1000 * np.median(first):.0f} ms | {memory_mb(server.pid):.0f} MB |",
            flush=True,
        )
    print(f"\nThree tokens asked for while {LONG_TOKENS} are being made for another, median of {LATE}:")
    for name, server in servers.items():
        took = [await late(server.client, sounds[0], ends) for _ in range(LATE)]
        print(f"{name}: {1000 * np.median(took):.0f} ms, at most {1000 * max(took):.0f} ms", flush=True)
    if rounds:
        server = servers["this"]
        print(f"\nMemory after each of {rounds} more rounds of {requests} requests by {max(clients)} clients:", end=" ")
    for _ in range(rounds):
        assert len(await burst(server.client, sounds, max(clients), requests, think=True)) == requests
        print(f"{memory_mb(server.pid):.0f} MB", end=" ", flush=True)
    print()


async def late(client: openai.AsyncOpenAI, sound: str, ends: list[int]) -> float:
    """Seconds of a short request that comes while one is answered that may not end."""
    never = {str(token): -100 for token in ends}
    long = asyncio.create_task(
        client.chat.completions.create(model="m", messages=question(sound), max_tokens=LONG_TOKENS, logit_bias=never)
    )
    await asyncio.sleep(LATE_SECONDS)
    began = time.perf_counter()
    await client.chat.completions.create(model="m", messages=question(sound), max_tokens=3)
    took = time.perf_counter() - began
    await long
    return took


async def burst(
    client: openai.AsyncOpenAI, sounds: list[str], number: int, requests: int, *, think: bool
) -> list[tuple[float, float]]:
    """So many requests by so many clients; seconds to the first token and to the last, of each."""
    waiting = iter(range(requests))
    times: list[tuple[float, float]] = []

    async def work() -> None:
        for index in waiting:
            began, first = time.perf_counter(), None
            stream = await client.chat.completions.create(
                model="m", messages=question(sounds[index % len(sounds)]), max_tokens=NEW_TOKENS, stream=True,
                extra_body={"mm_processor_kwargs": {"audio_think": think}},
            )  # fmt: skip
            async for chunk in stream:
                if first is None and chunk.choices and chunk.choices[0].delta.content:
                    first = time.perf_counter() - began
            whole = time.perf_counter() - began
            times.append((first or whole, whole))

    await asyncio.gather(*(work() for _ in range(number)))
    return times


def question(sound: str) -> list:
    """About one clip."""
    audio = {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
    return [{"role": "user", "content": [audio, {"type": "text", "text": QUESTION}]}]


def noisy_note(index: int) -> np.ndarray:
    """2 to 4 s of a note in noise, at 16 kHz."""
    rng = np.random.default_rng(index)
    time_ = np.arange(round((2 + index / 8) * 16_000)) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * 220 * 2 ** (index / 12) * time_) + rng.normal(0, 0.02, len(time_))
    return wave.astype(np.float32)


def encoded(wave: np.ndarray) -> str:
    """A clip as base64."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format="WAV")
    return base64.b64encode(buffer.getvalue()).decode()


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    (line,) = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
