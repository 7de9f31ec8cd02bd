import json

import numpy as np
import pytest
import soundfile

from coat.audio import AudioError
from coat.data.checks import KINDS, check_manifest
from coat.data.manifest import read_manifest
from coat.errors import CoatError
from coat.testing.clips import assistant, user
from coat.thinking.prompt import PromptBuilder
from coat.thinking.tokens import add_think_tokens
from coat.training.dataset import fits
from tests.cli.command import coat

RATE = 16_000


@pytest.fixture
def bad(tmp_path):
    """A manifest with one thing of every kind wrong with it, and two good rows."""
    rng = np.random.default_rng(0)

    def sound(name, samples, rate=RATE):
        soundfile.write(tmp_path / f"{name}.wav", np.asarray(samples, dtype=np.float32), rate, subtype="FLOAT")

    good = rng.normal(0, 0.1, RATE)
    sound("good", good)
    sound("other", rng.normal(0, 0.1, RATE))
    sound("again", good)
    sound("loud", np.clip(rng.normal(0, 3, RATE // 2).repeat(3), -1, 1))
    sound("silent", np.zeros(RATE))
    sound("telephone", rng.normal(0, 0.1, 8000), 8000)
    sound("short", good[:160])
    sound("long", rng.normal(0, 0.1, 3 * RATE))
    (tmp_path / "text.wav").write_text("no sound")
    names = ("good", "other", "again", "loud", "silent", "telephone", "short", "long", "text", "gone")
    rows = [row(name, question=f"<audio>What is {name}?") for name in names]
    rows.append(row("good", called="good-2", question="<audio>What is good?"))  # the same in every word
    rows.append(row("other", called="other"))
    rows.append(row("other", called="lies", question="<audio>How long?") | {"seconds": 9.0})
    rows.append(row("other", called="rounds", question="<audio>How long is it?") | {"seconds": 1.1})
    rows.append({"id": "void", "audios": [], "messages": [user("?"), assistant(" ")]})
    lines = [json.dumps(item) for item in rows] + ["{broken"]
    for index in range(40):
        options = ["cat", "dog"]
        item = row("good", called=f"choice-{index}", question=f"<audio>Which? {index}", answer="(A) cat")
        lines.append(json.dumps(item | {"choices": options, "task": "choice"}))
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def row(name, called=None, question="<audio>What?", answer="a sound"):
    return {
        "id": called or name,
        "audios": [f"{name}.wav"],
        "messages": [user(question), assistant(answer)],
        "task": "x",
    }


def test_everything_is_found(bad):
    found = check_manifest(bad, max_seconds=2.5)
    kinds = {kind: [finding.row for finding in items] for kind, items in found.by_kind().items()}
    # The kinds that are left have tests of their own.
    assert set(KINDS) - set(kinds) == {
        "no answer", "damaged audio", "wrong stretch", "cancelling channels", "over full scale", "constant offset",
        "unusable prompt",
    }  # fmt: skip
    assert kinds["malformed row"] == ["line 16"]
    assert kinds["empty answer"] == ["line 15"]
    assert kinds["wrong duration"] == ["rounds"]
    assert kinds["duplicate id"] == ["other"]
    assert kinds["missing file"] == ["gone"]
    assert kinds["unreadable audio"] == ["text"]
    assert kinds["too short"] == ["short"]
    assert kinds["too long"] == ["long"]
    assert kinds["silent"] == ["silent"]
    assert kinds["clipped"] == ["loud"]
    assert kinds["low rate"] == ["telephone"]
    assert kinds["duplicate row"] == ["good"]
    assert "again.wav" in found.by_kind()["duplicate audio"][0].text + found.by_kind()["duplicate audio"][0].row
    assert "A 100%" in found.by_kind()["unbalanced choices"][0].text
    assert found.rows == 56
    assert found.clips == 10
    assert found.rates == {16_000: 5, 8_000: 1}
    assert kinds["another duration"] == ["lies"]
    assert found.errors == 8


def test_without_audio_nothing_is_decoded(bad):
    found = check_manifest(bad, audio=False)
    assert not found.seconds
    assert "silent" not in found.by_kind()
    assert "duplicate id" in found.by_kind()


def test_balanced_choices_are_left_alone(tmp_path):
    rows = [
        {"id": str(i), "messages": [user("Which?"), assistant("AB"[i % 2])], "choices": ["cat", "dog"]}
        for i in range(60)
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert check_manifest(path).letters == {0: 30, 1: 30}
    assert not check_manifest(path).errors
    assert "unbalanced choices" not in check_manifest(path).by_kind()


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(CoatError, match="no manifest"):
        check_manifest(tmp_path / "none.jsonl")


def test_a_manifest_without_rows_is_not_sound(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(CoatError, match=r"empty\.jsonl holds no rows"):
        check_manifest(tmp_path / "empty.jsonl")


def test_the_command_ends_as_continuous_integration_wants_it(bad, tmp_path):
    result = coat("data", "check", "data.jsonl", "--workers", "1", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    for kind in ("missing file", "clipped", "duplicate audio"):
        assert kind in result.stdout
    page = (tmp_path / "data.jsonl.check.html").read_text()
    assert "<audio controls" in page
    assert page.count("data:image/png") == 5
    good = tmp_path / "good.jsonl"
    good.write_text(json.dumps(row("good")) + "\n" + json.dumps(row("telephone")) + "\n")
    assert coat("data", "check", "good.jsonl", "--workers", "1", cwd=tmp_path).returncode == 0
    assert coat("data", "check", "good.jsonl", "--workers", "1", "--strict", cwd=tmp_path).returncode == 1


def test_every_kind_of_bad_clip_has_its_name(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, RATE).astype(np.float32)

    def sound(name, samples):
        soundfile.write(tmp_path / name, samples, RATE, subtype="FLOAT")
        return name

    whole = (tmp_path / sound("whole.wav", noise)).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    clips = {
        "damaged audio": "cut.wav",
        "cancelling channels": sound("against.wav", np.stack([noise, -noise], 1)),
        "over full scale": sound("integers.wav", noise * 30_000),
        "constant offset": sound("offset.wav", noise + 0.5),
        "wrong stretch": {"path": "whole.wav", "start": 0.5, "end": 4.0},
        "another duration": {"path": sound("other.wav", rng.normal(0, 0.1, 2 * RATE)), "seconds": 9.0},
    }
    rows = [{"id": kind, "audios": [clip], "question": "?", "answer": kind} for kind, clip in clips.items()]
    rows.append({"id": "unanswered", "audio": "whole.wav", "question": "?"})
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = check_manifest(path, workers=1).by_kind()
    assert {kind: [each.row for each in items] for kind, items in found.items()} == {
        **{kind: [kind] for kind in clips}, "no answer": ["line 7"],
    }  # fmt: skip
    row = read_manifest(path)[4]
    with pytest.raises(AudioError, match="Row wrong stretch"):  # training says the same
        row.conversation(answered=True)


def test_without_a_backbone_a_file_of_hours_stops_after_one(tmp_path):
    soundfile.write(tmp_path / "hours.flac", np.zeros(2 * 3600 * 8000, np.int16), 8000)
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"audio": "hours.flac", "text": "x"}) + "\n")
    (finding,) = check_manifest(path, workers=1).findings
    assert finding.kind == "too long"


def test_with_a_backbone_every_prompt_is_built_as_training_builds_it(tmp_path, tiny_path, backbone):
    """What the tokenizer, the template and the longest prompt refuse is found before training starts."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    rows = [
        {"id": "good", "audio": "a.wav", "question": "?", "answer": "x"},
        {"id": "long", "audio": "a.wav", "question": "? " * 400, "answer": "x"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    takes = fits(PromptBuilder(backbone, add_think_tokens(backbone.tokenizer)), max_tokens=200)
    found = {each.row: each.kind for each in check_manifest(path, fits=takes, workers=1).findings}
    assert found["long"] == "unusable prompt"
    assert "good" not in found
    result = coat("data", "check", "m.jsonl", "--backbone", f"qwen2_audio:{tiny_path}", "--max-tokens", "200",
                  "--workers", "1", cwd=tmp_path)  # fmt: skip
    assert result.returncode == 1
    assert "unusable prompt" in result.stdout
