"""``python -m tests.conformance.long_clip EXPERT FOLDER``: the memory that ten minutes of sound ask of an expert.

In a process of its own: what is asked for is the highest that a process has held. One block of attention of those that
have several, for blocks come one after another and hold nothing once they are through.
"""

import resource
import sys

import torch

from coat.experts.speech import SpeechExpert
from tests.conformance.test_experts import tiny, waves

MINUTES = 10


def highest():
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    expert = tiny(*sys.argv[1:])
    if isinstance(expert, SpeechExpert):
        expert.blocks = expert.blocks[:1]
    with torch.inference_mode():
        expert.features(*waves(expert, 1.0))  # what libraries take once
        waveforms, lengths = waves(expert, 60.0 * MINUTES)
        before = highest()
        features, frames = expert.features(waveforms, lengths)
    assert abs(int(frames[0]) / expert.frame_rate - 60 * MINUTES) < 1
    assert torch.isfinite(features).all()
    sys.stdout.write(f"BYTES {highest() - before}")
