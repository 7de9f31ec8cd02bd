import pytest

from coat.data.conversation import Conversation, in_parts, texts_of, user_message, with_ending

SOUND = {"type": "audio"}


def text(words):
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("<audio>What?", [SOUND, text("What?")]),
        ("<audio><audio>", [SOUND, SOUND]),
        ("This <audio> or that <audio>?", [text("This "), SOUND, text(" or that "), SOUND, text("?")]),
        ("No clip.", "No clip."),
        ([text("It says <audio>.")], [text("It says <audio>.")]),
    ],
)
def test_marks_become_parts_once(content, parts):
    message = {"role": "user", "content": content, "loss": False}
    held = Conversation([message], []).messages
    assert held == [{**message, "content": parts}]
    assert Conversation(held, []).messages == held
    assert message["content"] == content, "what was given is left as it was"


def test_what_is_said_between_clips_and_at_the_end():
    message = in_parts({"role": "user", "content": "This <audio> or that <audio>"})
    assert list(texts_of(message)) == ["This ", " or that "]
    assert with_ending(message, "?")["content"][-2:] == [SOUND, text("?")]
    assert with_ending(user_message("Which", clips=1), "?") == user_message("Which?", clips=1)
    assert with_ending(user_message("Which"), "?") == user_message("Which?")
    assert list(texts_of(user_message("", clips=2))) == []
