"""Spoken clips by espeak-ng."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from coat.audio import load_audio
from coat.synthetic.world import MAX_SECONDS, MOODS, SAMPLING_RATE


def speak(text: str, voice: str, mood: str, rng: np.random.Generator) -> np.ndarray | None:
    """Speak a sentence in a mood.

    Args:
        text: The words to say.
        voice: An espeak-ng voice, such as ``en-us+f2``.
        mood: A key of ``MOODS``; rate, pitch and loudness vary a little around it.
        rng: Random generator of the variation.

    Returns:
        ``(samples,)`` float32 at 16 kHz, silence trimmed at both ends; None if it would not fit a clip.
    """
    prosody = MOODS[mood]
    rate = round(prosody.rate * rng.uniform(0.93, 1.07))
    pitch = int(np.clip(prosody.pitch + rng.integers(-6, 7), 0, 99))
    amplitude = round(prosody.amplitude * rng.uniform(0.85, 1.15))
    ssml = f'<speak><prosody range="{prosody.pitch_range}">{text}</prosody></speak>'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["espeak-ng", "-m", "-v", voice, "-s", str(rate), "-p", str(pitch), "-a", str(amplitude)]
        subprocess.run([*command, "-w", str(path), ssml], check=True, capture_output=True)
        waveform = load_audio(path).at(SAMPLING_RATE)
    loud = np.flatnonzero(np.abs(waveform) > 0.01 * np.abs(waveform).max())
    waveform = waveform[loud[0] : loud[-1] + 1]
    return waveform if len(waveform) <= (MAX_SECONDS - 0.1) * SAMPLING_RATE else None
