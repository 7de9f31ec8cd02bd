"""Sound and messages in the forms in which users hold them."""

import io

import numpy as np
import pytest
import soundfile

from coat.api.inputs import as_clip, conversation, question
from coat.data.conversation import user_message
from coat.errors import CoatError
from coat.testing.clips import noise

WAVE = noise(1.0).waveform


def encoded(wave=WAVE, rate=16_000):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        (WAVE, 16_000),
        (16_000, WAVE),
        {"array": WAVE, "sampling_rate": 16_000, "path": "a.wav"},
        {"bytes": encoded(), "path": None},
        encoded(),
        noise(1.0),
        (WAVE[None], 16_000),
        (WAVE[:, None], 16_000),
        (WAVE.astype(np.float64), 16_000),
    ],
    ids=["librosa", "gradio", "decoded", "undecoded", "bytes", "clip", "row", "column", "double"],
)
def test_forms_of_sound(form):
    clip = as_clip(form)
    np.testing.assert_allclose(clip.waveform, WAVE, atol=1e-6)
    assert (clip.sampling_rate, clip.waveform.dtype) == (16_000, np.float32)


def test_integers_are_put_on_the_scale_of_one():
    whole = np.array([-32768, 16384, 0] * 2000, np.int16)
    assert as_clip((whole, 16_000)).waveform[:3].tolist() == [-1.0, 0.5, 0.0]


@pytest.mark.parametrize("form", [WAVE, 7, {"array": WAVE}, (WAVE, WAVE), ("a.wav", 3), np.zeros((3, 4))])
def test_other_forms_are_refused_with_those_that_are_known(form):
    with pytest.raises(CoatError) as caught:
        as_clip(form)
    assert "sampling_rate" in caught.value.remedy


@pytest.mark.parametrize("axis", [0, 1], ids=["librosa", "soundfile"])
def test_channels_are_mixed_as_those_of_files_are(axis):
    """At the level at which they are heard: one live channel of two keeps its own."""
    stereo = np.stack([WAVE, np.zeros_like(WAVE)], axis)
    np.testing.assert_allclose(
        as_clip((stereo, 16_000)).waveform, as_clip(encoded(stereo if axis else stereo.T)).waveform
    )
    np.testing.assert_allclose(as_clip((stereo, 16_000)).waveform, WAVE)
    with pytest.raises(CoatError, match="cancel"):
        as_clip((np.stack([WAVE, -WAVE], axis), 16_000))


def test_a_spectrogram_is_no_sound():
    with pytest.raises(CoatError, match="128 channels"):
        as_clip((np.zeros((128, 3000), np.float32), 16_000))


def test_a_question_puts_clips_before_it_or_where_it_says():
    assert question([noise(1.0), noise(1.0)], "Same?").messages == [user_message("Same?", clips=2)]
    asked = question(noise(1.0), "Is <audio> loud?").messages[0]
    assert [part.get("text") for part in asked["content"]] == ["Is ", None, " loud?"]
    assert question(None, "Hello").clips == []


def test_chat_messages_with_parts():
    made = conversation(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "audio", "audio": noise(1.0)}, {"type": "text", "text": "A note?"}]},
            {"role": "assistant", "content": "C"},
            {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "audio", "path": noise(2.0)}]},
        ]
    )
    assert [m["content"] for m in made.messages] == [
        "Be brief.",
        [{"type": "audio"}, {"type": "text", "text": "A note?"}],
        "C",
        [{"type": "text", "text": "And"}, {"type": "audio"}],
    ]
    assert [clip.seconds for clip in made.clips] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "last message must be the user's"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "last message must be the user's"),
        ([{"role": "user"}], "message 1: 'content' must be text"),
        ([{"content": "a"}], "message 1: role None is not one of"),
        ([{"role": "usr", "content": "a"}], "message 1: role .usr. is not one of"),
        ([{"role": "user", "content": "a", "nmae": "b"}], "message 1: .*nmae"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": 3}], "message 2: 'content' must be text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "message 1: content items of type 'image' are not known"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "message 1: .*its sound once"),
        ([{"role": "user", "content": "the tag <audio>"}], "message 1: "),
        ([{"role": "assistant", "content": [{"type": "audio", "audio": noise(1.0)}]}], "message 1: .*assistant"),
    ],
)
def test_messages_that_are_not_understood_are_refused_by_place(messages, problem):
    with pytest.raises(CoatError, match=problem):
        conversation(messages)
