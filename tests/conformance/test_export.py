"""Every family trained for a step, exported, and loaded by those who should: us, transformers, PEFT."""

import json
import re
import shutil
from pathlib import Path

import pytest
import soundfile
import torch
import transformers

from coat.api.model import CoatModel
from coat.backbones import backbone_class
from coat.checkpoints import load_model
from coat.checkpoints.references import run_in
from coat.config.reading import parse_recipe
from coat.data.conversation import Conversation, user_message
from coat.errors import CoatError
from coat.export.checkpoint import export, keep_base_preprocessing, logits_of, probe_batch
from coat.export.hub import push
from coat.serving.vllm import ARCHITECTURES
from coat.testing.clips import RATE, noise
from coat.thinking.batch import make_batch
from coat.training.run import train
from tests.conformance.conftest import VARIANTS, variant_name
from tests.prepared import Prepared

pytestmark = pytest.mark.conformance
QUESTION = "What is said?"


@pytest.fixture(scope="module", params=VARIANTS, ids=variant_name)
def trained(request, tiny_checkpoints, manifest, tmp_path_factory):
    """A run of two steps, with the side files of a base that must not get lost."""
    family, like_hub = request.param
    base = tiny_checkpoints(family, like_hub)
    torch.save({"Chelsie": {"cond": torch.zeros(2)}}, f"{base}/spk_dict.pt")
    recipe = parse_recipe(
        {
            "backbone": {"family": family, "path": base},
            "stages": [{"name": "one", "steps": 2, "learning_rate": 0.02, "experts": {"audio_reconstruction": 1.0}}],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 4, "micro_batch_size": 4, "precision": "fp32"},
        }
    )
    return train(recipe, tmp_path_factory.mktemp(family) / "run")


@pytest.fixture(scope="module")
def exported(trained):
    return export(trained, trained.parent / "export", say=lambda line: None)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, noise(0.9).waveform, RATE)
    return str(path)


def family_of(run):
    return load_model(run).backbone.family


def test_it_answers_as_the_run_does(trained, exported, clip):
    run, copy = CoatModel.from_pretrained(trained), CoatModel.from_pretrained(exported)
    assert copy.chat(clip, QUESTION, max_new_tokens=12) == run.chat(clip, QUESTION, max_new_tokens=12)
    probe = probe_batch(run.model)
    torch.testing.assert_close(logits_of(copy.model, probe), logits_of(run.model, probe), atol=1e-4, rtol=1e-4)
    assert any(p.abs().sum() > 0 for name, p in run.model.named_parameters() if "lora_B" in name)


def test_a_run_that_only_answers_has_no_adapter_beside_its_weights(trained):
    run, plain = load_model(trained), load_model(trained, answers_only=True)
    assert plain.peft is None
    assert not any("lora" in name for name, _ in plain.named_parameters())
    probe = probe_batch(run)
    torch.testing.assert_close(logits_of(plain, probe), logits_of(run, probe), atol=1e-4, rtol=1e-4)


def test_positions_of_thinking_travel(trained, tmp_path):
    """A run whose think tokens stand at their audio: exported, it answers so in transformers' own classes too."""
    recipe = trained / "recipe.yaml"
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "recipe.yaml").write_text(recipe.read_text().replace("positions: sequence", "positions: audio"))
    folder = export(run, tmp_path / "export", say=lambda line: None)
    model = load_model(folder)
    assert model.thinking.positions == "audio"
    content = [{"type": "audio", "audio": noise(0.9).waveform}, {"type": "text", "text": QUESTION}]
    inputs = transformers.AutoProcessor.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    asked = make_batch(model.builder, [Conversation([user_message(QUESTION, clips=1)], [noise(0.9)])])
    with torch.inference_mode():
        logits = model.backbone.model(**inputs).logits[:, -1]
    expected = model.backbone.logits(model.prefill_states(asked)[0][:, -1])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_its_files_say_what_servers_must_know(trained, exported):
    config = json.loads((exported / "config.json").read_text())
    assert all(name.startswith("Coat") for name in config["architectures"])
    generation = json.loads((exported / "generation_config.json").read_text())
    model = load_model(exported)
    assert set(model.tokens.ids) <= set(generation["suppress_tokens"])
    assert model.backbone.tokenizer.convert_tokens_to_ids(model.backbone.end_of_turn) in generation["eos_token_id"]
    assert (exported / "spk_dict.pt").is_file()
    card = (exported / "README.md").read_text()
    assert "What is heard?" in card
    names = "Qwen|audio-flamingo|music-flamingo|GLM-ASR|Voxtral|gemma"
    assert re.search(rf"^# ({names})[\w.-]+ with Continuous Audio Thinking$", card, re.MULTILINE)
    assert "/tmp" not in card  # a path of whoever trained it
    if "thinker_config" in config:
        base = json.loads(Path(run_in(trained).recipe.backbone.path, "config.json").read_text())
        theirs = base.get("thinker_config", base)["text_config"]
        assert config["thinker_config"]["text_config"]["tie_word_embeddings"] is theirs["tie_word_embeddings"]


def test_what_the_base_says_of_images_stays(trained, exported):
    """The stock processor, and vLLM by it, cannot be made without."""
    base = Path(run_in(trained).recipe.backbone.path)
    for name in ("preprocessor_config.json", "processor_config.json"):
        theirs = json.loads((base / name).read_text()) if (base / name).is_file() else {}
        ours = json.loads((exported / name).read_text())
        for field in ("image_processor_type", "image_processor", "video_processor", "image_seq_length"):
            assert ours.get(field) == theirs.get(field)
    assert json.loads((exported / "processor_config.json").read_text())["processor_class"] == "CoatProcessor"


def test_a_base_s_own_chat_template_does_not_come_back_with_it(tmp_path):
    """Older processors' files hold one; it has no guard against turns in texts."""
    for part, fields in (("base", {"chat_template": "open", "image_seq_length": 280}), ("out", {"audio_token": "x"})):
        (tmp_path / part).mkdir()
        (tmp_path / part / "processor_config.json").write_text(json.dumps(fields))
    keep_base_preprocessing(tmp_path / "out", tmp_path / "base")
    kept = json.loads((tmp_path / "out" / "processor_config.json").read_text())
    assert kept == {"image_seq_length": 280, "audio_token": "x"}


def test_vllm_s_plug_in_knows_it(exported):
    assert set(json.loads((exported / "config.json").read_text())["architectures"]) <= ARCHITECTURES.keys()


@pytest.mark.parametrize("token", ["<|audio_think|>", "begin", "end"])
def test_its_template_refuses_texts_that_hold_turns_or_think_tokens(exported, token):
    backbone = load_model(exported).backbone
    tokenizer, template = backbone.tokenizer, (exported / "chat_template.jinja").read_text()
    token = dict(zip(("begin", "end"), backbone.turn_tokens, strict=True)).get(token, token)
    for content in (f"so {token}", [{"type": "text", "text": f"so {token}"}]):
        with pytest.raises(Exception, match="never written by users"):
            tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], chat_template=template, tokenize=False
            )
    plain = [{"role": "user", "content": "so"}]
    assert "so" in tokenizer.apply_chat_template(plain, chat_template=template, tokenize=False)


def test_the_full_omni_model_loads_it(exported):
    config = json.loads((exported / "config.json").read_text())
    if "thinker_config" not in config:
        pytest.skip("is no part of a larger model")
    name = config["architectures"][0].removeprefix("Coat")
    full = getattr(transformers, name).from_pretrained(exported)
    mine = load_model(exported).backbone.model
    assert not full.has_talker
    for (key, value), (other, expected) in zip(
        full.thinker.state_dict().items(), mine.state_dict().items(), strict=True
    ):
        assert key == other
        torch.testing.assert_close(value, expected)


@pytest.fixture(scope="module")
def without_us():
    """A Python that cannot import this package."""
    with Prepared("from tests.conformance.without_us import answer") as python:
        yield python


def test_plain_transformers_generates_from_it(exported, clip, without_us):
    """The processor's source is in the folder."""
    coat = CoatModel.from_pretrained(exported)
    name, suppressed = coat.model.backbone.model_class, list(coat.model.tokens.ids)
    done = without_us.run(f"print(answer({str(exported)!r}, {clip!r}, {name!r}, {suppressed!r}))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == coat.chat(clip, QUESTION, max_new_tokens=12)


def test_peft_users_load_the_adapter_alone(trained, tmp_path):
    """As the model card says; where rows are added, those of the output layer are never predicted, and may differ."""
    from peft import PeftModel

    run = load_model(trained)
    folder = export(trained, tmp_path / "adapter", adapter_only=True, say=lambda line: None)
    assert not list(folder.glob("model*.safetensors"))
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert type(processor).__name__ == "CoatProcessor"
    model = backbone_class(run.backbone.family).from_pretrained(run_in(trained).recipe.backbone.path).model
    rows = model.get_input_embeddings().num_embeddings
    if len(processor.tokenizer) > rows:
        model.resize_token_embeddings(len(processor.tokenizer))
    adapted = PeftModel.from_pretrained(model, folder).eval()
    ids = torch.tensor([[*range(9), *run.tokens.ids]])
    with torch.inference_mode():
        expected = run.backbone.model(ids).logits[..., :rows]
        torch.testing.assert_close(adapted(ids).logits[..., :rows], expected)


def test_a_run_without_a_block_is_exported_without_one(tiny_checkpoints, manifest, tmp_path, clip):
    recipe = parse_recipe(
        {
            "backbone": {"family": "qwen2_audio", "path": tiny_checkpoints("qwen2_audio", like_hub=True)},
            "thinking": {"enabled": False},
            "stages": [{"name": "one", "steps": 2, "learning_rate": 0.02}],
            "data": {"train_dataset": str(manifest)},
            "training": {"batch_size": 4, "micro_batch_size": 4, "precision": "fp32"},
        }
    )
    run = train(recipe, tmp_path / "run", say=lambda _: None)
    folder = export(run, tmp_path / "export", say=lambda _: None)
    copy = CoatModel.from_pretrained(folder)
    assert not copy.model.thinking.enabled
    assert copy.chat(clip, QUESTION, max_new_tokens=8) == CoatModel.from_pretrained(run).chat(
        clip, QUESTION, max_new_tokens=8
    )
    content = [{"type": "audio", "audio": clip}, {"type": "text", "text": QUESTION}]
    ids = transformers.AutoProcessor.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        processor_kwargs={"return_tensors": "pt"},
    )["input_ids"][0].tolist()  # fmt: skip
    assert not set(ids) & set(copy.model.tokens.ids)
    assert "writes none" in (folder / "README.md").read_text()


def test_a_taken_folder_is_refused(trained, exported):
    with pytest.raises(CoatError, match="is there already"):
        export(trained, exported)


def test_uploads_say_what_they_would_do_and_why_they_cannot(exported, monkeypatch):
    files = dict(push(exported, "someone/something", dry_run=True))
    assert {"config.json", "model.safetensors", "README.md", "processing_coat.py"} <= set(files)
    with pytest.raises(CoatError, match="not a name on the hub"):
        push(exported, "no name/at/all", dry_run=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CoatError, match="switched off"):
        push(exported, "someone/something")
