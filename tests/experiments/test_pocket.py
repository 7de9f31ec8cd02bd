"""What pocket learns from, and what is collected of it; flite's voices where they are installed."""

from ctypes.util import find_library

import numpy as np
import pytest
import torch
from experiments.pocket import collect
from experiments.pocket.align import LETTERS, TOWER, Letters, by_sequence, by_times, spell, targets
from experiments.pocket.lessons import written
from experiments.pocket.measure import scores
from experiments.pocket.voices import Flite, Word, spelled, timed
from peft import LoraConfig, get_peft_model

from coat.pocket.hearing import apply
from coat.testing.qwen2_audio import make_qwen2_audio, train_tokenizer


@pytest.fixture
def backbone():
    return make_qwen2_audio(train_tokenizer([" ".join(f"x {LETTERS}")] * 50), seed=3)


def test_flite_says_when_words_are_spoken():
    if find_library("flite_cmu_us_slt") is None:
        pytest.skip("flite is not installed")
    sentence = "The tower's tilting, don't you see it?"
    samples, words = Flite().say(sentence, "us_slt")
    own = timed(sentence, words)
    assert [word.text for word in own] == ["the", "tower's", "tilting", "don't", "you", "see", "it"]
    assert all(word.begin < word.end for word in own)
    assert own[-1].end < len(samples) / 16_000 < 4
    silence = np.abs(samples[: int(own[0].begin * 16_000 * 0.5)]).max()
    assert silence < np.abs(samples).max() / 10


def test_sentences_that_are_read_otherwise_than_written_are_left_out():
    assert timed("the cat", [Word("the", 0.0, 0.1), Word("cat", 0.1, 0.4)]) is not None
    assert timed("12 cats", [Word("twelve", 0.0, 0.1), Word("cats", 0.1, 0.4)]) is None
    assert spelled("A well-known, old man's hat!") == ["a", "well", "known", "old", "man's", "hat"]
    assert written("it is so") == "It is so."
    assert written("Is it?") == "Is it?"


def test_each_token_has_the_letter_of_its_time(backbone):
    """Tokens of Qwen2-Audio are 40 ms apart, the first at 10 ms: 10, 50, 90, 130, 170, 210 ms."""
    first, later = 1, 1 + len(LETTERS)
    found = targets([["ab", 0.04, 0.16]], 6, backbone)
    assert found == [0, first, first, later + 1, 0, 0]
    assert targets([["ab", 0.08, 0.32]], 6, backbone, speed=2.0) == found


def adapted(backbone, folder, target, alpha, rank=4):
    """A random adapter of the backbone as it is, saved; the backbone with it merged."""
    lora = LoraConfig(r=rank, lora_alpha=alpha, target_modules=target, modules_to_save=["multi_modal_projector"])
    model = get_peft_model(backbone.model, lora)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(str(folder))
    backbone.model = model.merge_and_unload()


def test_what_is_collected_is_what_the_adapters_merge_to(backbone, tmp_path):
    """One of the tower, one of the language model, and one of both with another rank, upon what was collected."""
    torch.manual_seed(0)
    plain = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    language_model = r".*language_model.*\.(q_proj|down_proj)"
    adapted(backbone, tmp_path / "sequence", TOWER, alpha=4)
    adapted(backbone, tmp_path / "more", language_model, alpha=8)
    adapted(backbone, tmp_path / "whole", f"{TOWER}|{language_model}", alpha=6, rank=2)
    wanted = backbone.model.state_dict()
    first, hearing = tmp_path / "first.safetensors", tmp_path / "hearing.safetensors"
    collect.main([str(tmp_path / "sequence"), str(tmp_path / "more"), "--to", str(first)])
    collect.main([str(tmp_path / "whole"), "--onto", str(first), "--to", str(hearing)])
    other = make_qwen2_audio(backbone.tokenizer, seed=3)
    other.model.load_state_dict(plain)
    apply(other, hearing)
    changed = 0
    for name, value in other.model.state_dict().items():
        torch.testing.assert_close(value, wanted[name], atol=2e-3, rtol=1e-2)
        changed += not torch.equal(value, plain[name])
    # Six kinds of the tower's layers, two of the language model's, and the projector's weight and bias.
    config = backbone.model.config
    layers = config.audio_config.encoder_layers * 6 + config.text_config.num_hidden_layers * 2
    assert changed == layers + 2


@pytest.mark.parametrize("loss", [by_times, by_sequence])
def test_states_that_are_the_letters_have_the_least_loss(backbone, loss):
    letters = Letters(backbone)
    states = embedded(letters, [1, 4])
    right, wrong = (float(loss(letters, [states], [classes])) for classes in ([1, 4], [2, 5]))
    assert right < 0.5 < wrong
    assert float(letters.unlike(states)) == pytest.approx(0, abs=1e-6)
    assert float(letters.unlike(2 * states)) == pytest.approx(0.1)


def test_letters_are_read_as_words(backbone):
    letters = Letters(backbone)
    classes = spell(["it's", "all"])
    assert classes[0] <= len(LETTERS) < classes[1], "the first letter of a word is another token"
    assert letters.read(embedded(letters, classes)) == "it's al"
    *most, last = classes
    said = [0, classes[0], *most, 0, last, last]  # repetitions are one; a blank keeps two apart
    assert letters.read(embedded(letters, said)) == "it's all"


def embedded(letters, classes):
    """States as long as the language model's embeddings are, each its class."""
    with torch.no_grad():
        states = torch.cat([letters.blank[None], letters.embeddings])[classes]
        return states * (letters.norm / states.norm(dim=1, keepdim=True))


def test_scores_are_word_errors_and_right_answers_of_each_kind():
    def row(name, task, answer):
        messages = [{"role": "user", "content": "<audio>?"}, {"role": "assistant", "content": answer}]
        return {"id": name, "task": task, "source": "flite", "messages": messages}

    rows = [
        row("a", "transcription", "The cat sat."),
        row("b", "transcription", "Yes"),
        row("c", "instrument", "A flute."),
        row("d", "instrument", "A harp."),
    ]
    assert scores(rows, {"a": "the cat", "b": "yes", "c": "a flute", "d": "A piano."}) == {
        "transcription, flite (WER), 2 clips": "25.0 %",
        "instrument, flite (right), 2 clips": "50.0 %",
    }
    assert scores(rows, {"a": "the cat sat"}) == {"transcription, flite (WER), 1 clips": "0.0 %"}
