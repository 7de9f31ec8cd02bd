"""Sound in: decode to the end, mix to mono, resample, refuse what a model cannot hear."""

from coat.audio.clip import AudioSpec, Clip, check_clip
from coat.audio.errors import AudioError
from coat.audio.limits import MIN_SECONDS, too_long
from coat.audio.loading import decode_audio, load_audio, measure_audio

__all__ = [
    "MIN_SECONDS",
    "AudioError",
    "AudioSpec",
    "Clip",
    "check_clip",
    "decode_audio",
    "load_audio",
    "measure_audio",
    "too_long",
]
