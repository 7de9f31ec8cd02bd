"""Musical clips by fluidsynth: many notes in one MIDI file, rendered once and cut apart."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coat.audio import load_audio
from coat.errors import CoatError
from coat.synthetic.world import SAMPLING_RATE

SOUNDFONTS = ("/usr/share/sounds/sf2", "/usr/share/soundfonts", "/opt/homebrew/share/soundfonts")
SLOT_SECONDS = 4.5
LEAD_SECONDS = 0.05


@dataclass(frozen=True)
class Passage:
    """The music of one clip: a General MIDI program and notes that start together, once or twice."""

    program: int
    notes: tuple[int, ...]
    velocity: int
    hold_seconds: float
    strikes: int


def find_soundfont() -> Path:
    """The General MIDI soundfont of this machine.

    Raises:
        CoatError: There is none in the usual folders.
    """
    for folder in SOUNDFONTS:
        found = sorted(Path(folder).glob("*.sf2"))
        preferred = [path for path in found if path.name == "TimGM6mb.sf2"]
        if preferred or found:
            return (preferred or found)[0]
    raise CoatError(
        f"No General MIDI soundfont (*.sf2) in {', '.join(SOUNDFONTS)}.",
        "Install one: apt-get install timgm6mb-soundfont",
    )


def play(passages: list[Passage], soundfont: Path | None = None) -> list[np.ndarray]:
    """Render passages, each ``(samples,)`` float32 at 16 kHz and ``SLOT_SECONDS`` long.

    Args:
        passages: Played one after another.
        soundfont: A General MIDI soundfont; that of this machine if None.
    """
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder) / "notes.mid", Path(folder) / "notes.wav"
        _write_midi(passages, midi)
        command = ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", "0.6", "-r", str(2 * SAMPLING_RATE)]
        files = ["-T", "wav", "-F", str(wav), str(soundfont or find_soundfont()), str(midi)]
        subprocess.run([*command, *files], check=True, capture_output=True)
        music = load_audio(wav).at(SAMPLING_RATE)
    slot = round(SLOT_SECONDS * SAMPLING_RATE)
    music = np.pad(music, (0, max(0, slot * len(passages) - len(music))))
    return [music[i * slot : (i + 1) * slot] for i in range(len(passages))]


def _write_midi(passages: list[Passage], path: Path) -> None:
    import mido

    ticks_per_second = 960  # 480 ticks a beat at 120 beats a minute
    track = mido.MidiTrack()
    events: list[tuple[float, object]] = []
    for index, passage in enumerate(passages):
        begin = index * SLOT_SECONDS
        events.append((begin, mido.Message("program_change", program=passage.program)))
        for strike in range(passage.strikes):
            on = begin + LEAD_SECONDS + strike * passage.hold_seconds
            off = on + passage.hold_seconds * 0.95
            for note in passage.notes:
                events.append((on, mido.Message("note_on", note=note, velocity=passage.velocity)))
                events.append((off, mido.Message("note_off", note=note, velocity=0)))
        events.append((begin + SLOT_SECONDS - 0.2, mido.Message("control_change", control=120, value=0)))
    now = 0
    for seconds, message in sorted(events, key=lambda pair: pair[0]):
        tick = round(seconds * ticks_per_second)
        track.append(message.copy(time=tick - now))  # type: ignore[attr-defined]
        now = tick
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(track)
    file.save(path)
