"""Prometheus metrics, served at /metrics."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from coat.serving.engine import Engine, Job

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("coat_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        self.seconds = Histogram("coat_request_seconds", "Arrival to last token.", buckets=SECONDS, registry=registry)
        self.first = Histogram(
            "coat_time_to_first_token_seconds", "Arrival to first token.", buckets=SECONDS, registry=registry
        )
        self.queued = Histogram("coat_queue_seconds", "Arrival to batch.", buckets=SECONDS, registry=registry)
        self.batch = Histogram(
            "coat_batch_size", "Requests answered together.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.prompt = Counter("coat_prompt_tokens", "Tokens of prompts, think tokens included.", registry=registry)
        self.think = Counter(
            "coat_think_tokens", "Think tokens of prompts, the ends of blocks included.", registry=registry
        )
        self.completion = Counter("coat_completion_tokens", "Tokens of answers.", registry=registry)
        self.audio = Counter("coat_audio_seconds", "Seconds of audio heard.", registry=registry)
        self.waiting = Gauge("coat_requests_waiting", "Requests in the queue.", registry=registry)
        self.running = Gauge("coat_requests_running", "Requests being answered.", registry=registry)

    def watch(self, engine: Engine) -> None:
        """Read the queue when asked."""
        self.waiting.set_function(lambda: engine.num_waiting)
        self.running.set_function(lambda: engine.num_running)

    def answered(self, job: Job) -> None:
        """Count a job that came to an end."""
        self.seconds.observe(time.monotonic() - job.arrived)
        if job.started is not None:
            self.queued.observe(job.started - job.arrived)
        if job.first_token is not None:
            self.first.observe(job.first_token - job.arrived)
        self.prompt.inc(job.num_prompt_tokens)
        self.think.inc(job.num_think_tokens)
        self.completion.inc(len(job.tokens))
        self.audio.inc(sum(clip.seconds for clip in job.encoded.clips))

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)
