import json

import pytest
import soundfile

from coat import CoatModel
from coat.errors import CoatError
from coat.testing.clips import RATE, noise


def test_a_clip_that_is_missing_ends_it_and_the_other_answers_are_kept(tmp_path):
    soundfile.write(tmp_path / "there.wav", noise(1.0).waveform, RATE)
    rows = [
        {
            "id": name,
            "task": "transcription",
            "audios": [str(tmp_path / f"{name}.wav")],
            "messages": [{"role": "user", "content": "<audio>What is said?"}, {"role": "assistant", "content": "yes"}],
        }
        for name in ("there", "missing")
    ]
    manifest = tmp_path / "test.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = CoatModel.from_pretrained("miniature", device="cpu")
    with pytest.raises(CoatError, match=r"1 questions failed in .*missing\.wav"):
        model.evaluate([manifest], tmp_path / "eval", max_new_tokens=4)
    soundfile.write(tmp_path / "missing.wav", noise(1.0, seed=1).waveform, RATE)
    scores = model.evaluate([manifest], tmp_path / "eval", max_new_tokens=4)
    assert scores["transcription"].leading.items == 2
