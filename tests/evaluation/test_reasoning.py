import pytest

from coat.api.model import CoatModel
from coat.backbones import REGISTRY
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import user_message
from coat.errors import CoatError
from coat.evaluation.backends.opening import BackendOptions, open_backend
from coat.reasoning import PROMPT, final_answer, reasoned, reasoning_prompt
from coat.testing.checkpoints import random_backbone
from coat.testing.clips import noise
from coat.thinking.model import ThinkingModel


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>It rains, so A is wrong.</think>\nC", "C"),
        ("I hear rain.\nAnswer: C. Rain", "C. Rain"),
        ("First the answer: B seems likely. But no.\n**Final answer:** C", "C"),
        ("The answer is: C", "C"),
        ("C", "C"),
        ("It answers the phone.\nAnswer: a telephone", "a telephone"),
        ("<think>a chain that was cut", ""),
    ],
)
def test_what_stands_after_the_chain(text, answer):
    assert final_answer(text) == answer


def test_a_family_is_asked_by_its_own_mode_once_that_is_on(backbone):
    assert reasoning_prompt(backbone) == PROMPT
    asked = reasoned([user_message("What?", clips=1)], PROMPT)
    assert asked == [user_message(f"What?{PROMPT}", clips=1)]
    assert reasoned([user_message("What?")], PROMPT) == [user_message(f"What?{PROMPT}")]
    assert reasoned([user_message("", clips=2)], PROMPT) == [user_message(PROMPT, clips=2)]


@pytest.mark.conformance
@pytest.mark.parametrize("family", sorted(REGISTRY))
def test_every_family_can_be_asked_to_think_in_text(family, monkeypatch):
    model = ThinkingModel(random_backbone(family), ThinkingConfig(enabled=False)).eval()
    seen = []
    build = model.builder.build
    monkeypatch.setattr(
        model.builder, "build", lambda messages, *a, **k: seen.append(messages) or build(messages, *a, **k)
    )
    monkeypatch.setattr("coat.api.model.MORE_TOKENS", 4)
    assert isinstance(CoatModel(model).chat(noise(0.5), "What?", max_new_tokens=2, text_cot=True), str)
    assert seen[0] == [user_message("What?" + PROMPT, clips=1)]
    if not model.backbone.think_prompt:
        with pytest.raises(CoatError, match="no think mode of its own"):
            model.backbone.load_think_mode()


@pytest.mark.parametrize("text_cot", ["prompt", "auto"])
def test_backends_are_opened_with_their_sentence(tiny_path, text_cot):
    backend, sentence = open_backend(str(tiny_path), BackendOptions(text_cot=text_cot))
    assert sentence == PROMPT
    assert backend.profile == "qwen2_audio"
    assert "no block" in backend.fingerprint
    with pytest.raises(CoatError, match="no think mode"):
        open_backend(str(tiny_path), BackendOptions(text_cot="own"))
    with pytest.raises(CoatError, match="cannot be known at an address") as caught:
        open_backend("http://localhost:9/v1", BackendOptions(text_cot="own"))
    assert "--profile" in caught.value.remedy


def test_audio_flamingos_own_mode_is_wanted_from_its_checkpoint(tmp_path):
    random_backbone("audio_flamingo3", tmp_path / "af3")
    with pytest.raises(CoatError, match="has no think mode"):
        open_backend(str(tmp_path / "af3"), BackendOptions(text_cot="auto", think_mode=str(tmp_path / "af3")))
