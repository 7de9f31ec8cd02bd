from shutil import which

import pytest
from typer.testing import CliRunner

from coat import CoatModel
from coat.cli.app import app
from coat.pocket.recordings import SENTENCE, ask, recordings


def test_what_this_machine_can_play_is_asked_about():
    if not (which("espeak-ng") and which("fluidsynth")):
        pytest.skip("espeak-ng and fluidsynth are not installed")
    found = recordings()
    assert SENTENCE in [each.reference for each in found]
    assert {"A piano.", "A violin.", "A flute."} <= {each.reference for each in found}
    made = [each for each in found if each.title in ("espeak-ng", "note of a soundfont")]
    model = CoatModel.from_pretrained("miniature", device="cpu")
    heard = list(ask(model, made))
    assert [each.recording for each in heard] == made
    assert all(each.answer and each.seconds > 0 for each in heard)


def test_the_command_shows_every_answer():
    shown = CliRunner().invoke(app, ["pocket", "hear", "miniature"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("note of a soundfont") == (3 if which("fluidsynth") else 0)
