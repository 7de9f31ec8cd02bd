from pathlib import Path
from shutil import which

import pytest
from typer.testing import CliRunner

from coat import CoatModel
from coat.audio import load_audio
from coat.cli.app import app
from coat.pocket.recordings import SENTENCE, SHIPPED, ask, recordings


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


def test_some_recordings_ship_with_the_package(monkeypatch):
    """Without packages of recordings and without a synthesiser, there are a human voice and a drum to ask about."""
    monkeypatch.setattr("coat.pocket.recordings.which", lambda _: None)
    found = recordings()
    shipped = [each for each in found if Path(str(each.audio)).parent == SHIPPED]
    assert [each.title for each in shipped] == ["drum", "tabla", "novel, read aloud", "novel, read aloud"]
    assert {path.name for path in SHIPPED.glob("*.flac")} == {each.audio.name for each in shipped}
    licences = (SHIPPED / "LICENCES.md").read_text()
    for each in shipped:
        assert 0.2 < load_audio(each.audio).seconds < 4
        assert each.audio.stem.removeprefix("sense_and_sensibility") in licences


def test_the_command_shows_every_answer():
    shown = CliRunner().invoke(app, ["pocket", "hear", "miniature"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("note of a soundfont") == (3 if which("fluidsynth") else 0)
