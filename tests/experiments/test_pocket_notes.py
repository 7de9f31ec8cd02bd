import torch
from experiments.pocket import layers
from experiments.pocket.notes import NAMES, PITCH, SPLITS, Split, notes, write_teacher

from coat.audio import load_audio
from coat.experts import make_expert
from coat.files import write_jsonl
from coat.synthetic.music import find_soundfont
from coat.testing.checkpoints import random_backbone
from coat.testing.conformance import AUDIO_SPEC


def test_a_note_sounds_as_it_is_labelled(tmp_path):
    """By the pitch expert, which has not been told: labels an octave off would pass, a semitone off would not."""
    (tmp_path / "clips").mkdir()
    made = notes(tmp_path, "test", Split(8, find_soundfont(), (0, 40, 73), 0))
    assert [row["task"] for row in made] == ["instrument", PITCH] * 8
    pitch = make_expert("basic_pitch", hidden_size=24, audio_spec=AUDIO_SPEC)
    right = 0
    for row in made[1::2]:
        wave = torch.from_numpy(load_audio(row["audios"][0]).at(pitch.sampling_rate))[None]
        features, _ = pitch.hear(wave, torch.tensor([wave.shape[1]]))
        contour = pitch.posteriorgram(features)[0].mean(0)
        classes = torch.zeros(12).index_add_(0, (torch.arange(264) // 3 + 21) % 12, contour)
        right += NAMES.get(int(classes.argmax())) == row["messages"][-1]["content"]
    assert right >= 7
    again = notes(tmp_path, "test", Split(8, find_soundfont(), (0, 40, 73), 0))
    assert again == made


def test_the_teacher_is_the_tower_s_own_encoder(tmp_path):
    backbone = random_backbone("qwen2_audio", tmp_path / "parts")
    write_teacher(tmp_path / "parts", tmp_path / "teacher")
    teacher = make_expert(
        "whisper", {"kind": "encoder", "model": str(tmp_path / "teacher")}, hidden_size=24, audio_spec=AUDIO_SPEC
    )
    mine, theirs = teacher.reader.encoder.state_dict(), backbone.audio_tower.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, msg=name)
    torch.manual_seed(0)
    features, frames = teacher.features(0.1 * torch.randn(1, 16_000), torch.tensor([16_000]))
    assert features.shape == (1, 50, backbone.audio_size)
    assert frames.tolist() == [50]


def test_each_layer_of_a_tower_is_probed(tmp_path, capsys, monkeypatch):
    """A tower of random weights; what enters its layers tells notes apart: chance is one in seven."""
    (tmp_path / "clips").mkdir()
    random_backbone("qwen2_audio", tmp_path / "parts")
    for name, count in (("train", 42), ("dev", 21)):
        rows = notes(tmp_path, name, Split(count, find_soundfont(), (0, 40, 73), 0))
        write_jsonl(tmp_path / f"notes-{name}{'-200-seed0' * (name == 'train')}.jsonl", rows)
    monkeypatch.setattr(layers, "FITTED_ON", (42,))
    layers.main([f"untaught={tmp_path / 'parts'}", "--out", str(tmp_path)])
    printed = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == ["layer", "untaught, 42"]
    found = {layer: float(score) for layer, score in printed[2:]}
    assert list(found) == ["0", "1", "2", "projector"]
    assert found["0"] > 30


def test_held_out_notes_are_of_other_instruments_and_another_soundfont():
    train, dev, test = (SPLITS[name] for name in ("train", "dev", "test"))
    assert not set(dev.programs) & set(test.programs)
    assert train.soundfont not in (dev.soundfont, test.soundfont)
