"""A conversation on the terminal."""

import subprocess
import sys

import pytest
import soundfile

from coat.checkpoints import load_model
from coat.cli.interactive import HELP, Dialogue, converse
from coat.data.conversation import Conversation, user_message
from coat.errors import CoatError
from coat.generation import generate
from coat.testing.clips import RATE, assistant, noise
from tests.cli.command import coat


@pytest.fixture(scope="module")
def model():
    return load_model("miniature", device="cpu")


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(0.9).waveform, RATE)
    return path


def test_it_remembers_its_turns(model, clip):
    dialogue = Dialogue(model, {"max_new_tokens": 8})
    heard = dialogue.add_audio(clip)
    first = dialogue.ask("What note is this?")
    second = dialogue.ask("Which instrument plays?")
    turns = [user_message("What note is this?", clips=1), assistant(first), user_message("Which instrument plays?")]
    assert generate(model, [Conversation(turns[:1], [heard])], max_new_tokens=8) == [first]
    assert generate(model, [Conversation(turns, [heard])], max_new_tokens=8) == [second]
    assert dialogue.messages == [*turns, assistant(second)]
    dialogue.reset()
    assert not dialogue.messages + dialogue.clips + dialogue.pending


def test_a_question_that_fails_leaves_no_trace(model, clip):
    dialogue = Dialogue(model)
    dialogue.add_audio(clip)
    with pytest.raises(CoatError, match="control token"):
        dialogue.ask("What is <|im_start|>?")
    assert (dialogue.messages, len(dialogue.pending)) == ([], 1)


def test_lines_are_commands_or_questions(model, clip):
    said = []
    lines = [f"/audio {clip}", "What note is this?", "", "/audio nothing.wav", "/what", "/reset", "/quit", "never"]
    converse(Dialogue(model, {"max_new_tokens": 4}), lines, said.append)
    heard, answer, missing, shown, reset = said
    assert "0.9 s" in heard
    assert answer
    assert "no audio file at nothing.wav" in missing
    assert shown == HELP
    assert reset == "A new conversation."


def test_without_a_question_the_command_reads_them_from_a_pipe(clip):
    command = ["chat", "miniature", "--audio", clip, "--max-new-tokens", "4"]
    done = coat(*command, cwd=".", said="What note is this?\n/quit\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == coat(*command, "What note is this?", cwd=".").stdout.strip() != ""


def test_the_miniature_talks_about_clips_without_a_question(clip):
    command = ["chat", "--miniature", clip, "--max-new-tokens", "4"]
    done = coat(*command, cwd=".", said="What note is this?")
    assert done.stdout.strip() == coat(*command, "What note is this?", cwd=".").stdout.strip() != ""


def test_the_version_is_told():
    done = subprocess.run([sys.executable, "-m", "coat", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("coat 0.")


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        (["run", "{clip}", "What is said?"], ("run", ["{clip}"], "What is said?")),
        (["run", "{clip}", "{clip}", "Same?"], ("run", ["{clip}", "{clip}"], "Same?")),
        (["run", "Hello"], ("run", [], "Hello")),
        (["run", "{clip}"], ("run", ["{clip}"], None)),
        (["run"], ("run", [], None)),
    ],
)
def test_model_clips_and_question_stand_in_this_order(tmp_path, arguments, read):
    from coat.cli.chat import _read

    clip = tmp_path / "a b.wav"
    clip.touch()
    model, clips, question = _read([given.format(clip=clip) for given in arguments])
    assert (model, [str(each) for each in clips], question) == (
        read[0],
        [c.format(clip=clip) for c in read[1]],
        read[2],
    )


@pytest.mark.parametrize(
    "arguments", [["run", "gone.wav", "What?"], ["run", "gone.wav"], ["run", "What?", "And that?"]]
)
def test_a_clip_that_is_not_there_is_no_question(arguments):
    from coat.cli.chat import _read

    with pytest.raises(CoatError, match="There is no audio file at"):
        _read(arguments)
