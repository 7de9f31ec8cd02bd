"""Sound events made of oscillators, noise and envelopes.

Each event takes a style in [0, 1): low and slow at one end, high and quick at the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, sosfilt

from coat.synthetic.world import SAMPLING_RATE

Synth = Callable[[int, float, np.random.Generator], np.ndarray]


def synthesise(event: str, samples: int, style: float, rng: np.random.Generator) -> np.ndarray:
    """One sound event, ``(samples,)`` float32 at 16 kHz, peak 1."""
    waveform = _SYNTHS[event](samples, style, rng)
    return (waveform / (np.abs(waveform).max() + 1e-9)).astype(np.float32)


def _time(samples: int) -> np.ndarray:
    return np.arange(samples) / SAMPLING_RATE


def _between(low: float, high: float, style: float) -> float:
    """A value on a logarithmic scale."""
    return float(low * (high / low) ** style)


def _noise(samples: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    band = butter(2, [low, min(high, 7600)], btype="band", fs=SAMPLING_RATE, output="sos")
    return sosfilt(band, rng.standard_normal(samples))


def _sweep(frequency: np.ndarray) -> np.ndarray:
    """A sine whose frequency in Hz is given for every sample."""
    return np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLING_RATE)


def _place(samples: int, starts: np.ndarray, sound: Callable[[], np.ndarray]) -> np.ndarray:
    out = np.zeros(samples)
    for start in (starts * SAMPLING_RATE).astype(int):
        if start < samples:
            piece = sound()[: samples - start]
            out[start : start + len(piece)] += piece
    return out


def _burst(seconds: float, decay: float, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    n = round(seconds * SAMPLING_RATE)
    return _noise(n, low, high, rng) * np.exp(-_time(n) / decay)


def _regular(samples: int, period: float, jitter: float, rng: np.random.Generator) -> np.ndarray:
    starts = np.arange(rng.uniform(0, period), samples / SAMPLING_RATE, period)
    return np.clip(starts + rng.normal(0, jitter * period, len(starts)), 0, None)


def _rain(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    hiss = 0.3 * _noise(n, _between(1500, 4000, style), 7500, rng)
    drops = rng.uniform(0, n / SAMPLING_RATE, round(_between(60, 300, style)))
    return hiss + _place(n, np.sort(drops), lambda: _burst(0.01, 0.002, 2000, 7000, rng))


def _wind(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    gust = 0.6 + 0.4 * np.sin(2 * np.pi * _between(0.3, 0.9, style) * _time(n) + rng.uniform(0, 6))
    return gust * _noise(n, _between(100, 300, style), _between(400, 1200, style), rng)


def _siren(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    wail = np.sin(2 * np.pi * _between(0.4, 3.0, style) * _time(n) + rng.uniform(0, 6))
    tone = _sweep(_between(600, 1000, style) * 2 ** (0.5 * wail))
    return tone + 0.3 * tone**3


def _alarm(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    tone = np.sign(_sweep(np.full(n, _between(900, 3000, rng.uniform()))))
    beat = (_time(n) * _between(2, 6, style) + rng.uniform()) % 1.0
    return tone * (beat < 0.5)


def _bell(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    base = _between(350, 1400, style)
    t = _time(round(1.8 * SAMPLING_RATE))
    partials = [(1.0, 1.0), (2.0, 0.6), (2.76, 0.5), (5.4, 0.3)]
    strike = sum(a * np.sin(2 * np.pi * base * r * t) * np.exp(-t * (1.5 + r)) for r, a in partials)
    return _place(n, _regular(n, rng.uniform(0.9, 1.6), 0.02, rng), lambda: np.asarray(strike))


def _applause(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    claps = np.sort(rng.uniform(0, n / SAMPLING_RATE, round(_between(30, 120, style))))
    return _place(n, claps, lambda: rng.uniform(0.3, 1) * _burst(0.06, 0.012, 700, 3500, rng))


def _knocking(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    low = _between(150, 450, style)
    return _place(n, _regular(n, _between(0.5, 0.2, style), 0.05, rng), lambda: _burst(0.1, 0.02, low, 2 * low, rng))


def _engine(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    speed = _between(35, 110, style) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(0.2, 0.8) * _time(n)))
    phase = np.cumsum(speed) / SAMPLING_RATE
    return (phase % 1.0 - 0.5) + 0.4 * (2 * phase % 1.0 - 0.5) + 0.1 * _noise(n, 80, 800, rng)


def _bird(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    def chirp() -> np.ndarray:
        t = np.linspace(0, 1, round(rng.uniform(0.06, 0.14) * SAMPLING_RATE))
        pitch = _between(2500, 4500, style) * (1 + 0.35 * np.sin(np.pi * t * rng.uniform(1, 3)))
        return _sweep(pitch) * np.hanning(len(t))

    return _place(n, _regular(n, rng.uniform(0.14, 0.3), 0.2, rng), chirp)


def _telephone(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    base = _between(420, 900, style)
    tone = _sweep(np.full(n, base)) + _sweep(np.full(n, base * 1.18))
    trill = np.sign(np.sin(2 * np.pi * 20 * _time(n))) * 0.5 + 0.5
    return tone * trill * ((_time(n) + rng.uniform(0, 1.4)) % 1.4 < 0.8)


def _footsteps(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    def step() -> np.ndarray:
        heel, toe = _burst(0.12, 0.015, 80, 400, rng), 0.5 * _burst(0.12, 0.01, 600, 2500, rng)
        return heel + np.roll(toe, round(0.05 * SAMPLING_RATE))

    return _place(n, _regular(n, _between(0.75, 0.35, style), 0.03, rng), step)


def _thunder(n: int, style: float, rng: np.random.Generator) -> np.ndarray:
    start = rng.uniform(0.05, 0.4)
    rumble = _noise(n, 30, _between(120, 400, style), rng)
    late = np.clip(_time(n) - start, 0, None)
    swell = np.where(late > 0, np.exp(-late / _between(1.5, 0.6, style)), 0.0)
    return rumble * swell * (1 + 0.8 * np.abs(np.sin(2 * np.pi * rng.uniform(1.5, 4) * late)))


_SYNTHS: dict[str, Synth] = {
    "rain": _rain, "wind": _wind, "siren": _siren, "alarm": _alarm, "bell": _bell, "applause": _applause,
    "knocking": _knocking, "engine": _engine, "bird": _bird, "telephone": _telephone,
    "footsteps": _footsteps, "thunder": _thunder,
}  # fmt: skip
