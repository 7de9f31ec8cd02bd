"""Pocket against the programs that its parts were made for. ``make test-pocket`` runs these: they fetch 240 MB."""

import subprocess
import tempfile
from shutil import which

import numpy as np
import pytest
import torch

from coat import CoatModel
from coat.audio import load_audio
from coat.backbones import load_backbone
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.pocket.build import build
from coat.pocket.hearing import write
from coat.pocket.packages import ENCODER, LANGUAGE_MODEL, PACKAGES, content_of, fetch
from coat.pocket.recordings import TRANSCRIBE
from coat.testing.clips import noise
from coat.thinking.batch import make_batch

pytestmark = pytest.mark.pocket

QUESTIONS = (
    "What is the capital of France?", "How many days has a week?", "What colour is the sky?", "Name a fruit.",
    "What is the opposite of hot?", "Which animal barks?", "What is two plus two?", "Who wrote Hamlet?",
    "What do bees make?", "Which planet do we live on?", "What is water made of?", "Name a musical instrument.",
    "What is the largest ocean?", "How many legs has a spider?", "What comes after Monday?", "What melts in the sun?",
    "Which language is spoken in Spain?", "What does a doctor do?", "Name a vegetable.", "Say hello.",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    try:
        fetch(PACKAGES, folder, say=lambda _: None)
    except CoatError as error:
        pytest.skip(f"no package index here: {error}")
    return folder


@pytest.fixture(scope="module")
def pocket(wheels, tmp_path_factory):
    said = []
    folder = build(tmp_path_factory.mktemp("built") / "pocket", wheels=wheels, hearing=None, say=said.append)
    assert any("MIT" in line for line in said)
    assert build(folder, wheels=wheels, hearing=None, say=lambda _: None) == folder  # at once: it is there
    return folder


@pytest.fixture(scope="module")
def taught(wheels, tmp_path_factory):
    """As ``coat pocket build`` puts it together."""
    return build(tmp_path_factory.mktemp("taught") / "pocket", wheels=wheels, say=lambda _: None)


def test_the_tower_hears_as_ctranslate2_does(pocket, wheels, tmp_path):
    """On two seconds of noise in a window of 30; both in float32, from the same float16 weights."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    (tmp_path / "model.bin").write_bytes(content_of(ENCODER, wheels))
    _side_files(wheels, tmp_path)
    backbone = load_backbone("qwen2_audio", str(pocket))
    clip = noise(2.0).waveform
    whole = backbone.feature_extractor(clip, sampling_rate=16_000, return_tensors="np")["input_features"]
    theirs = ctranslate2.models.Whisper(str(tmp_path)).encode(
        ctranslate2.StorageView.from_array(whole.astype(np.float32))
    )
    tower = backbone.audio_tower
    with torch.inference_mode():
        states = torch.nn.functional.gelu(tower.conv1(torch.from_numpy(whole)))
        states = torch.nn.functional.gelu(tower.conv2(states)).transpose(1, 2) + tower.embed_positions.weight
        for layer in tower.layers:
            states = layer(states, None)
        ours = tower.layer_norm(states)
    np.testing.assert_allclose(ours.numpy(), np.array(theirs), atol=5e-3)


def test_the_language_model_speaks_as_it_did_before_the_graft(pocket, wheels, tmp_path):
    """Against transformers' own reading of the file: logits, and greedy answers to twenty questions."""
    from transformers import AutoModelForCausalLM

    (tmp_path / "model.gguf").write_bytes(content_of([LANGUAGE_MODEL], wheels))
    before = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32).eval()
    after = CoatModel.from_pretrained(pocket, dtype="float32", device="cpu")
    same = 0
    for question in QUESTIONS:
        prompt = after.model.backbone.render([{"role": "user", "content": question}], add_generation_prompt=True)
        ids = torch.tensor([after.tokenizer(prompt)["input_ids"]])
        with torch.inference_mode():
            wanted = before(ids).logits[0, -1]
            found = after.model.backbone.model(input_ids=ids).logits[0, -1, : len(wanted)]
            answer = before.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=after.tokenizer.eos_token_id)
        # The checkpoint is in float16: weights are rounded once.
        torch.testing.assert_close(found, wanted, atol=0.1, rtol=0.0)
        said = after.generate([[{"role": "user", "content": question}]], max_new_tokens=12)[0]
        same += said == after.tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert same >= 19


def test_learned_weights_are_applied(pocket, wheels, tmp_path):
    learned = tmp_path / "hearing.safetensors"
    bias = torch.arange(576) / 1024
    write(learned, {"projector.linear.bias.whole": bias})
    folder = build(tmp_path / "pocket", wheels=wheels, hearing=learned, say=lambda _: None)
    plain, taught = (load_backbone("qwen2_audio", str(each)).model.state_dict() for each in (pocket, folder))
    (changed,) = (name for name, value in taught.items() if not torch.equal(value, plain[name]))
    torch.testing.assert_close(taught[changed].float(), bias)
    assert "has learned to transcribe" in (folder / "README.md").read_text()


def test_it_answers_in_text_before_and_after_it_learned_to_hear(pocket, taught):
    for folder in (pocket, taught):
        model = CoatModel.from_pretrained(folder, device="cpu")
        assert "Paris" in model.chat(None, "What is the capital of France?", max_new_tokens=12)


def test_it_hears_what_a_strange_voice_says(taught):
    """A synthesiser of no training clip: each sentence is likelier in its own recording than in the others'."""
    if not which("espeak-ng"):
        pytest.skip("espeak-ng is not installed")
    model = CoatModel.from_pretrained(taught, device="cpu")
    sentences = [
        "The children are playing in the garden.", "He bought a new car last week.",
        "Please close the window.", "The water in the lake is cold.",
    ]  # fmt: skip
    clips = [espeak(sentence) for sentence in sentences]
    losses = torch.tensor([[loss_of(model, clip, sentence) for clip in clips] for sentence in sentences])
    assert losses.argmin(1).tolist() == [0, 1, 2, 3]


def test_it_is_tuned_with_coat(taught, tmp_path):
    """The whole method on it, a few steps long: block, an expert, resume, export, the same answer from the export."""
    import json

    import soundfile

    from coat.config.reading import parse_recipe
    from coat.training.run import train

    sentences = ["Yes.", "No.", "Good morning.", "See you later."]
    rows = []
    for index, sentence in enumerate(sentences):
        clip = espeak(sentence)
        soundfile.write(tmp_path / f"{index}.wav", clip.waveform, clip.sampling_rate)
        messages = [{"role": "user", "content": f"<audio>{TRANSCRIBE}"}, {"role": "assistant", "content": sentence}]
        rows.append({"audios": [f"{index}.wav"], "messages": messages})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "backbone": {"path": str(taught)},
        "lora": {"rank": 4, "alpha": 8},
        "stages": [{"name": "one", "steps": 6, "learning_rate": 1e-3, "experts": {"audio_reconstruction": "auto"}}],
        "data": {"train_dataset": str(tmp_path / "train.jsonl")},
        "training": {
            "batch_size": 4,
            "micro_batch_size": 4,
            "precision": "fp32",
            "logging_steps": 1,
            "warmup_ratio": 0,
        },
    }
    folder = train(parse_recipe(recipe), tmp_path / "run", say=lambda _: None)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss/ce"] < lines[0]["loss/ce"]
    assert lines[-1]["loss/audio_reconstruction"] < lines[0]["loss/audio_reconstruction"]
    model = CoatModel.from_pretrained(folder, device="cpu")
    exported = CoatModel.from_pretrained(model.save_pretrained(tmp_path / "export"), device="cpu")
    asked = str(tmp_path / "2.wav"), TRANSCRIBE
    assert exported.chat(*asked, max_new_tokens=12) == model.chat(*asked, max_new_tokens=12)


def espeak(sentence):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/said.wav"
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "150", "-w", path, sentence], check=True)
        return load_audio(path)


@torch.inference_mode()
def loss_of(model, clip, sentence):
    """Cross-entropy of a transcript, a token."""
    messages = [{"role": "user", "content": f"<audio>{TRANSCRIBE}"}, {"role": "assistant", "content": sentence}]
    output = model.model(make_batch(model.model.builder, [Conversation(messages, [clip])]))
    return float(torch.nn.functional.cross_entropy(output.response_logits.float(), output.response_labels))


def _side_files(wheels, folder):
    """What the library reads beside the weights."""
    import zipfile

    with zipfile.ZipFile(wheels / ENCODER[-1].wheel) as wheel:
        for name in wheel.namelist():
            if "/data/" in name and not name.endswith(ENCODER[-1].member.rpartition("/")[2]):
                (folder / name.rpartition("/")[2]).write_bytes(wheel.read(name))
