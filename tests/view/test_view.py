"""The live page in a real browser without a window."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from coat.checkpoints.references import miniature_folder
from coat.errors import CoatError
from coat.testing.clips import RATE
from coat.view.listen import Listener
from coat.view.page import EXAMPLES, build_page, took

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def listener():
    return Listener(miniature_folder())


@pytest.fixture(scope="module")
def tone(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "tone.wav"
    time = np.arange(2 * RATE) / RATE
    soundfile.write(path, (0.3 * np.sin(2 * np.pi * 440 * time) * np.exp(-time)).astype(np.float32), RATE)
    return path


def test_both_answers_are_the_models_own(listener, tone):
    from coat.api.model import CoatModel
    from coat.backbones import load_backbone
    from coat.config.thinking import ThinkingConfig
    from coat.data.conversation import Conversation
    from coat.generation import generate
    from coat.thinking.model import ThinkingModel

    clip, question = listener.clip(tone), "What note is this?"
    thought = listener.answer(clip, question, baseline=False)
    assert thought.text == CoatModel.from_pretrained("miniature").chat(tone, question, max_new_tokens=64)
    assert thought.think_tokens == listener.model.backbone.num_audio_tokens(2 * RATE) + 2
    plain = listener.answer(clip, question, baseline=True)
    base = load_backbone("qwen2_audio", str(miniature_folder() / "backbone"))
    model = ThinkingModel(base, ThinkingConfig(enabled=False)).eval()
    asked = Conversation([{"role": "user", "content": f"<audio>{question}"}], [clip])
    assert [plain.text] == generate(model, [asked], max_new_tokens=64)
    assert plain.think_tokens == 0
    assert 0 < plain.first <= plain.total
    assert listener.answer(clip, question, baseline=False).text == thought.text, "and back again"
    assert "think tokens in the prompt" in took(thought)
    assert "think" not in took(plain)


def test_what_was_heard_is_on_one_time_axis(listener, tone):
    figure = listener.look(listener.clip(tone))
    axes = figure.axes
    assert len(axes) == 1 + 2 * len(listener.experts)
    assert all(each.get_xlim() == axes[0].get_xlim() for each in axes)
    titles = [each.get_title(loc="left") for each in axes]
    assert sum("expert" in title for title in titles) == len(listener.experts)
    with pytest.raises(CoatError, match="no audio file"):
        listener.clip("nowhere.wav")


def run_like_the_miniature(folder, *, heads):
    """A run that was stopped after the miniature's last step: its weights are a checkpoint of a stage."""
    shipped = miniature_folder()
    checkpoint = folder / "stages" / "2-experts" / "checkpoint-650"
    shutil.copytree(shipped / "adapter", checkpoint / "adapter")
    shutil.copytree(shipped / "backbone", folder / "backbone")
    shutil.copy(shipped / "recipe.yaml", folder)
    if heads:
        shutil.copy(shipped / "heads.safetensors", checkpoint)
    return checkpoint


def test_a_checkpoint_of_a_run_is_looked_through_as_the_run_is(listener, tone, tmp_path):
    checkpoint = Listener(run_like_the_miniature(tmp_path / "run", heads=True))
    clip = listener.clip(tone)
    assert checkpoint.experts.keys() == listener.experts.keys()
    assert (checkpoint.compares, checkpoint.answers_as) == (True, "CoAT")
    titles = [[axes.get_title(loc="left") for axes in each.look(clip).axes] for each in (checkpoint, listener)]
    assert titles[0] == titles[1]


def test_a_run_without_heads_is_shown_by_its_clip(tone, tmp_path):
    block = Listener(run_like_the_miniature(tmp_path / "run", heads=False))
    assert not block.experts
    assert block.compares
    titles = [axes.get_title(loc="left") for axes in block.look(block.clip(tone)).axes]
    assert titles == ["", "log-mel spectrogram", "pitch roll"]


def test_a_plain_checkpoint_has_one_answer(tone, tiny_path, tmp_path):
    from coat.api.model import CoatModel

    plain = Listener(tiny_path)
    assert (plain.compares, plain.answers_as) == (False, "Answer")
    heard = plain.answer(plain.clip(tone), "What note is this?", baseline=False, max_new_tokens=4)
    assert heard.text == CoatModel.from_pretrained(tiny_path).chat(tone, "What note is this?", max_new_tokens=4)
    assert heard.think_tokens == 0
    assert len(plain.look(plain.clip(tone)).axes) == 3
    with pytest.raises(CoatError, match="has no heads"):
        Listener(tiny_path, decoder=tmp_path / "decoder.safetensors")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_page_in_a_browser(listener, tone, request):
    """Ask about nothing, drop a clip, see the picture, ask, read both answers."""
    tone = request.config.getoption("--clip") or tone
    pytest.importorskip("gradio")
    sync = pytest.importorskip("playwright.sync_api")
    page = build_page(listener, "What miniature hears", EXAMPLES)
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, show_error=True)
    try:
        with sync.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1280, "height": 1100})
            tab.goto(url)
            tab.locator("#ask").wait_for(timeout=60_000)
            tab.locator("#ask").click()
            tab.get_by_text("Drop or record a clip first.").wait_for(timeout=60_000)
            for example in EXAMPLES:
                assert tab.get_by_text(Path(example).name).count()
            tab.locator("#clip input[type=file]").first.set_input_files(str(tone))
            tab.locator("#picture img").wait_for(timeout=120_000)
            tab.locator("#question textarea").fill("What note is this?")
            tab.locator("#ask").click()
            tab.get_by_text("think tokens in the prompt").wait_for(timeout=120_000)
            clip = listener.clip(tone)
            for name, baseline in (("#coat", False), ("#baseline", True)):
                expected = listener.answer(clip, "What note is this?", baseline=baseline).text
                assert tab.locator(f"{name} textarea").input_value() == expected
            assert tab.locator("#picture img").get_attribute("src")
            shot = request.config.getoption("--screenshot")
            if shot:
                tab.get_by_text("Drop or record a clip first.").wait_for(state="hidden", timeout=60_000)
                tab.wait_for_timeout(1000)
                tab.screenshot(path=shot, full_page=True)
            browser.close()
    finally:
        page.close()
