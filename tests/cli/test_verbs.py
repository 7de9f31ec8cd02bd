import shlex
import shutil
import sys

import click
import pytest
import typer

from coat.cli import main
from coat.cli.app import app
from tests.cli.command import coat
from tests.cli.test_errors import wave


def test_help_names_every_verb(tmp_path):
    out = coat("--help", cwd=tmp_path).stdout
    assert all(verb in out for verb in ("demo", "train", "chat", "experts", "doctor"))


def test_doctor_says_what_is_there(tmp_path):
    out = coat("doctor", cwd=tmp_path)
    assert out.returncode == 0
    assert "torch" in out.stdout
    assert "device" in out.stdout


def test_doctor_names_what_is_missing(monkeypatch):
    from coat.cli.doctor import examine

    monkeypatch.setattr(shutil, "which", lambda name: None)
    findings = {finding.what: finding for finding in examine()}
    assert "apt-get install espeak-ng" in findings["espeak-ng"].remedy
    assert findings["torch"].remedy == ""


def test_experts_show_their_licences(tmp_path):
    out = coat("experts", cwd=tmp_path).stdout
    assert "basic_pitch" in out
    assert "Apache-2.0" in out


def test_a_checked_recipe_is_shown_whole(tmp_path):
    from pathlib import Path

    recipes = Path(__file__).parents[2] / "recipes"
    names = sorted(path.name for path in recipes.glob("*.yaml") if path.name != "shared-training.yaml")
    assert len(names) >= 4
    for name in names:
        result = coat("train", recipes / name, "--check", "--set", "training.seed=9", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "seed: 9" in result.stdout


@pytest.mark.parametrize("question", ["What is said?", "What can be heard?"])
def test_the_miniature_answers(tmp_path, question):
    wave(tmp_path / "a.wav", 2.5)
    result = coat("chat", "--miniature", "a.wav", question, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert "Traceback" not in result.stderr


def test_experts_are_checked_and_shown(tmp_path):
    checked = coat("experts", "check", "standin_affect", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "times real time" in checked.stdout
    wave(tmp_path / "a.wav", 1.5)
    shown = coat("experts", "show", "basic_pitch", "a.wav", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert (tmp_path / "a-basic_pitch.png").read_bytes().startswith(b"\x89PNG")


def test_experts_that_cannot_be_had_say_how(tmp_path):
    missing = coat("experts", "check", "spidr", "--weights", "./none.pt", cwd=tmp_path)
    assert missing.returncode == 2
    assert "curl -L -o spidr_base.pt" in missing.stderr
    alone = coat("experts", "check", "audio_reconstruction", cwd=tmp_path)
    assert "cannot be run alone" in " ".join(alone.stderr.replace("│", " ").split())


@pytest.fixture
def small(tmp_path):
    """A manifest of four clips beside the miniature's backbone."""
    import json

    from coat.checkpoints.references import miniature_folder

    rows = []
    for index in range(4):
        wave(tmp_path / f"{index}.wav", 0.6 + 0.2 * index)
        messages = [{"role": "user", "content": "<audio>?"}, {"role": "assistant", "content": "yes"}]
        rows.append(json.dumps({"audios": [f"{index}.wav"], "messages": messages}))
    (tmp_path / "m.jsonl").write_text("\n".join(rows))
    return f"qwen2_audio:{miniature_folder() / 'backbone'}"


def test_features_are_prepared_from_a_manifest(tmp_path, small):
    asked = ("data", "features", "m.jsonl", "--experts", "standin_speech,basic_pitch", "--backbone", small)
    assert "no data.cache" in coat(*asked, cwd=tmp_path).stderr
    estimate = coat(*asked, "--cache", "features", "--dry-run", cwd=tmp_path)
    assert estimate.returncode == 0, estimate.stderr
    assert "standin_speech" in estimate.stdout
    assert "kB" in estimate.stdout
    assert not list((tmp_path / "features").glob("*/*.parquet"))
    made = coat(*asked, "--cache", "features", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    shards = list((tmp_path / "features").glob("*/*.parquet"))
    assert len(shards) == 2
    shards[0].write_bytes(b"broken")
    broken = coat(*asked, "--cache", "features", cwd=tmp_path)
    assert broken.returncode == 2
    assert "--verify" in broken.stderr
    mended = coat(*asked, "--cache", "features", "--verify", cwd=tmp_path)
    assert "Damaged, and removed" in mended.stdout
    assert sorted((tmp_path / "features").glob("*/*.parquet")) == sorted(shards)


def test_features_of_a_manifest_need_experts_and_a_backbone(tmp_path, small):
    bare = coat("data", "features", "m.jsonl", "--cache", "features", cwd=tmp_path)
    assert "--experts" in bare.stderr
    without = coat("data", "features", "m.jsonl", "--cache", "features", "--experts", "log_mel", cwd=tmp_path)
    assert "--backbone" in without.stderr


def test_a_decoder_for_the_eye_is_fitted(tmp_path, small):
    result = coat("experts", "decoder", "m.jsonl", "--backbone", small, "--steps", "5", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "held-out clips" in result.stdout
    assert (tmp_path / "decoder.safetensors").is_file()


def _verbs(command, path=("coat",)):
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from _verbs(below, (*path, name))
    else:
        yield " ".join(path), command


VERBS = dict(_verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_shows_an_example_that_its_parser_takes(verb):
    command = VERBS[verb]
    paragraphs = [" ".join(text.split()) for text in command.help.split("\n\n")]
    examples = [text for text in paragraphs if text.startswith(verb)]
    assert examples, command.help
    for example in examples:
        arguments = shlex.split(example.removeprefix(verb))
        with click.Context(command) as context:
            given, left, _ = command.make_parser(context).parse_args(arguments)  # raises for unknown options
        assert not left, "more arguments than it takes"
        missing = [each.name for each in command.params if each.required and given.get(each.name) is None]
        assert not missing, example


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("coat demo", "coat view")])
@pytest.mark.parametrize("fault", ["missing", "a folder", "another kind"])
def test_what_a_person_may_type_ends_in_words(verb, fault, tmp_path, monkeypatch, capsys):
    """Every verb's own example where its files are missing, are folders, or hold something else.

    Without a hub and an index of packages, and in a home where nothing was fetched.
    """
    paragraphs = [" ".join(text.split()) for text in VERBS[verb].help.split("\n\n")]
    arguments = shlex.split(next(text for text in paragraphs if text.startswith(verb)))
    for name in arguments[2:]:
        path = tmp_path / name.partition("=")[2] if "=" in name else tmp_path / name
        if fault == "missing" or name.startswith("-") or "." not in path.name or ":" in name:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if fault == "a folder":
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe nothing that is wanted")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    said = "".join(capsys.readouterr())
    assert ended.value.code in (0, 1, 2, 3, None), said
    assert "Traceback" not in said
    assert said


NOWHERE = "/proc/nowhere/out"  # nobody, the superuser included, can write there


@pytest.mark.parametrize(
    "words",
    [
        "export miniature --out OUT", "export miniature --adapter-only --out OUT", "demo --out OUT",
        "train recipes/laptop.yaml --set data.train_dataset=ROWS --out OUT",
        "train recipes/laptop.yaml --set data.train_dataset=ROWS --set data.cache=OUT --out TMP/run",
        "data features recipes/laptop.yaml --set data.train_dataset=ROWS --cache OUT",
        "eval run miniature --tasks ROWS --out OUT", "cost miniature --out OUT",
        "ablate recipes/laptop.yaml --set data.train_dataset=ROWS --tasks ROWS --out OUT",
        "reconstruct miniature --manifest ROWS --out OUT/page.html",
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_written_is_named(words, manifest, tmp_path, monkeypatch, capsys):
    words = words.replace("OUT", NOWHERE).replace("ROWS", str(manifest)).replace("TMP", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["coat", *shlex.split(words)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = "".join(capsys.readouterr())
    assert ended.value.code in (2, 3), said
    assert "Traceback" not in said
    assert "/proc/nowhere" in said.replace("\n", "").replace("│", "").replace(" ", ""), said
