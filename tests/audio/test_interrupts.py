"""An interrupt while a clip is decoded is an interrupt, wherever it falls: no file is damaged by it."""

import random
import signal
import time
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from coat.audio.decoding import count_samples, decode
from coat.audio.libsndfile import encode_sound

RATE, TRIES = 16_000, 150

# What falls into a destructor is said by Python, and goes no further.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class InterruptedHere(BaseException):
    """As ``KeyboardInterrupt``, which would end the tests where one of them lost it."""


@pytest.fixture
def alarm():
    def ring(*_):
        raise InterruptedHere

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "bytes"])
@pytest.mark.parametrize("kind", ["flac", "wav", "ogg"])
def test_an_interrupt_is_no_damage(kind, in_memory, alarm, tmp_path):
    path = tmp_path / f"clip.{kind}"
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    soundfile.write(path, samples, RATE)
    source, rng, caught = path.read_bytes() if in_memory else path, random.Random(0), 0
    whole, _ = decode(source, "clip")  # which imports what it needs
    began = time.perf_counter()
    decode(source, "clip")
    longest = 1.2 * (time.perf_counter() - began)
    for _ in range(TRIES):
        with suppress(InterruptedHere):
            alarm(rng.uniform(1e-5, longest))
            for work in (decode, count_samples):
                work(source, "clip")  # raises AudioError where the interrupt was taken for the end of the file
            alarm(0)
            continue
        caught += 1
    assert caught > TRIES / 10
    np.testing.assert_array_equal(decode(source, "clip")[0], whole)


@pytest.mark.parametrize(
    "kind", [{"container": "FLAC"}, {"container": "OGG", "subtype": "VORBIS"}], ids=["flac", "ogg"]
)
def test_an_interrupt_leaves_no_part_of_a_file(kind, alarm):
    samples = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    rng, caught = random.Random(0), 0
    whole = len(encode_sound(samples, RATE, **kind))
    began = time.perf_counter()
    encode_sound(samples, RATE, **kind)
    longest = 1.2 * (time.perf_counter() - began)
    for _ in range(TRIES // 5):
        with suppress(InterruptedHere):
            alarm(rng.uniform(1e-5, longest))
            made = encode_sound(samples, RATE, **kind)
            alarm(0)
            assert len(made) == whole
            continue
        caught += 1
    assert caught
