"""Sound files as other programs write them: ffmpeg, sox, lame, and what happens to files on their way."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile

PROGRAMS = ("ffmpeg", "sox", "lame")
RATE = 16_000


def missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def run(*command: str | Path, out: Path | None = None) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, check=True)
    if out is not None:
        out.write_bytes(done.stdout)


def ffmpeg(*arguments: str | Path, out: Path) -> Path:
    run("ffmpeg", "-v", "error", "-y", *arguments, out)
    return out


def speechlike(path: Path, seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> Path:
    """Noise bands and a gliding tone under an envelope of syllables: codecs meet all that speech has."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time)
    made = []
    for channel in range(channels):
        tone = np.sin(2 * np.pi * (180 + 40 * channel) * time + 6 * np.sin(2 * np.pi * 0.7 * time))
        hiss = np.convolve(rng.normal(0, 1, len(time)), np.ones(8) / 8, mode="same")
        made.append(0.35 * envelope * (tone + 0.25 * hiss))
    soundfile.write(path, np.stack(made, axis=1), rate, subtype="PCM_16")
    return path


def everything(folder: Path) -> dict[str, Path]:
    """More than forty files of more than twenty kinds, by what they are."""
    made: dict[str, Path] = {}
    short = speechlike(folder / "short.wav", 2.78)
    long = speechlike(folder / "long.wav", 19.2, seed=1)
    wide = speechlike(folder / "wide.wav", 3.1, 44_100, 2, seed=2)
    studio = speechlike(folder / "studio.wav", 2.2, 48_000, 1, seed=3)
    phone = speechlike(folder / "phone.wav", 2.4, 8_000, 1, seed=4)
    for name, source in (("short", short), ("wide", wide), ("studio", studio)):
        for kind in ("flac", "mp3", "ogg", "opus", "m4a", "aac", "webm", "aiff", "au"):
            made[f"{kind} {name}"] = ffmpeg("-i", source, out=folder / f"{name}.{kind}")
        made[f"wav {name}"] = source
    for codec in ("pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw",
                  "adpcm_ima_wav", "adpcm_ms"):  # fmt: skip
        made[f"wav {codec}"] = ffmpeg("-i", short, "-c:a", codec, out=folder / f"{codec}.wav")
    made["caf"] = ffmpeg("-i", short, out=folder / "short.caf")
    made["w64"] = ffmpeg("-i", short, out=folder / "short.w64")
    made["wma"] = ffmpeg("-i", wide, out=folder / "wide.wma")
    made["ac3"] = ffmpeg("-i", studio, out=folder / "studio.ac3")
    made["mka vorbis"] = ffmpeg("-i", wide, "-c:a", "libvorbis", out=folder / "wide.mka")
    made["alac"] = ffmpeg("-i", short, "-c:a", "alac", out=folder / "alac.m4a")
    made["wavpack"] = ffmpeg("-i", short, out=folder / "short.wv")
    made["mp2"] = ffmpeg("-i", wide, out=folder / "wide.mp2")
    picture = ("-f", "lavfi", "-i", "testsrc=d=3:s=64x48:r=5")
    made["mp4 with pictures"] = ffmpeg(*picture, "-i", short, "-c:a", "aac", out=folder / "video.mp4")
    made["webm with pictures"] = ffmpeg(*picture, "-i", studio, "-c:v", "libvpx", out=folder / "video.webm")
    made["avi with pictures"] = ffmpeg(*picture, "-i", wide, out=folder / "video.avi")
    run("sox", phone, folder / "short.sph")
    made["nist sphere"] = folder / "short.sph"
    # Lengths that no header says, or that it says wrongly.
    run("lame", "--quiet", "-V", "4", "-t", long, folder / "no-xing.mp3")
    made["vbr mp3 without a Xing header"] = folder / "no-xing.mp3"
    run("ffmpeg", "-v", "error", "-i", long, "-q:a", "4", "-f", "mp3", "-", out=folder / "pipe.mp3")
    made["mp3 through a pipe"] = folder / "pipe.mp3"
    made["vbr mp3"] = ffmpeg("-i", long, "-q:a", "4", out=folder / "vbr.mp3")
    run("ffmpeg", "-v", "error", "-i", short, "-f", "flac", "-", out=folder / "pipe.flac")
    made["flac through a pipe"] = folder / "pipe.flac"
    run("ffmpeg", "-v", "error", "-i", short, "-f", "wav", "-", out=folder / "pipe.wav")
    made["wav through a pipe"] = folder / "pipe.wav"
    run("sox", short, "-t", "wav", "-", out=folder / "sox-pipe.wav")
    made["wav through sox's pipe"] = folder / "sox-pipe.wav"
    run("ffmpeg", "-v", "error", "-i", studio, "-f", "ogg", "-c:a", "libopus", "-", out=folder / "pipe.opus")
    made["opus through a pipe"] = folder / "pipe.opus"
    made["wav of a recorder that was killed"] = unfinished(short, folder / "killed.wav")
    for kind in ("mp3", "opus", "ogg", "flac", "aac"):
        made[f"joined {kind}"] = joined(made[f"{kind} short"], folder / f"joined.{kind}")
    return made


def unfinished(wav: Path, out: Path) -> Path:
    """A WAV file whose data chunk says that it holds nothing."""
    data = bytearray(wav.read_bytes())
    place = data.index(b"data")
    data[place + 4 : place + 8] = bytes(4)
    out.write_bytes(data)
    return out


def joined(path: Path, out: Path) -> Path:
    """Two files joined as ``cat`` does it."""
    out.write_bytes(path.read_bytes() * 2)
    return out


def by_ffmpeg(path: Path, rate: int, channels: int) -> np.ndarray:
    """What the ffmpeg program decodes, ``(channels, samples)`` float32."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "a:0", "-f", "f32le", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    del rate
    return np.frombuffer(done.stdout, np.float32).reshape(-1, channels).T
