"""Rows as other trainers' documentation shows them."""

import pytest

from coat.data.formats import canonical

USER = {"role": "user", "content": "<audio>What is heard?"}
SAID = {"role": "assistant", "content": "Rain."}


def brought(raw):
    row = canonical(raw)
    assert all(clip.keys() == {"path"} for clip in row["audios"])
    return [(m["role"], m["content"]) for m in row["messages"]], [clip["path"] for clip in row["audios"]]


@pytest.mark.parametrize(
    ("raw", "messages", "audios"),
    [
        # this project's own, and ms-swift's
        (
            {"messages": [USER, SAID], "audios": ["a.wav"]},
            [("user", USER["content"]), ("assistant", "Rain.")],
            ["a.wav"],
        ),
        (
            {"query": "<audio>Transcribe.", "response": "hello there", "audios": "/data/c.wav"},
            [("user", "<audio>Transcribe."), ("assistant", "hello there")],
            ["/data/c.wav"],
        ),
        (
            {"system": "Be brief.", "history": [["<audio>Who?", "A child."]], "query": "Sure?", "response": "Yes.",
             "audio": "a.wav"},
            [("system", "Be brief."), ("user", "<audio>Who?"), ("assistant", "A child."), ("user", "Sure?"),
             ("assistant", "Yes.")],
            ["a.wav"],
        ),
        # ms-swift: no mark at all, clips come first
        (
            {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Which is louder?"}, SAID],
             "audios": ["a.wav", "b.wav"]},
            [("system", "x"), ("user", "<audio><audio>Which is louder?"), ("assistant", "Rain.")],
            ["a.wav", "b.wav"],
        ),
        # LLaMA-Factory
        (
            {"conversations": [{"from": "human", "value": "<audio>What instrument is playing?"},
                               {"from": "gpt", "value": "A flute."}], "audios": ["clips/flute_01.wav"]},
            [("user", "<audio>What instrument is playing?"), ("assistant", "A flute.")],
            ["clips/flute_01.wav"],
        ),
        # Qwen2-Audio
        (
            {"messages": [{"role": "user", "content": [{"type": "audio", "audio_url": "/data/x.wav"},
                                                       {"type": "text", "text": "What is heard?"}]}, SAID]},
            [("user", "<audio>What is heard?"), ("assistant", "Rain.")],
            ["/data/x.wav"],
        ),
        # Qwen2.5-Omni: text items everywhere, file URLs
        (
            {"messages": [{"role": "system", "content": [{"type": "text", "text": "You are helpful."}]},
                          {"role": "user", "content": [{"type": "text", "text": "Name it: "},
                                                       {"type": "audio", "audio": "file:///data/x.wav"}]},
                          {"role": "assistant", "content": [{"type": "text", "text": "jazz"}]}]},
            [("system", "You are helpful."), ("user", "Name it: <audio>"), ("assistant", "jazz")],
            ["/data/x.wav"],
        ),
        # OpenAI's way in ms-swift
        (
            {"messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "x.wav"}},
                                                       {"type": "text", "text": "?"}]}, SAID]},
            [("user", "<audio>?"), ("assistant", "Rain.")],
            ["x.wav"],
        ),
        # Qwen-Audio
        (
            {"conversations": [{"from": "user", "value": "Audio 1: <audio>/data/x.wav</audio>\nWho speaks?"},
                               {"from": "assistant", "value": "A child."}]},
            [("user", "<audio>Who speaks?"), ("assistant", "A child.")],
            ["/data/x.wav"],
        ),
        # Qwen3-ASR
        (
            {"audio": "/data/u1.wav", "text": "language English<asr_text>good morning"},
            [("user", "<audio>"), ("assistant", "good morning")],
            ["/data/u1.wav"],
        ),
        # Qwen2-Audio's evaluation, Kimi's evaluation
        (
            {"audio": "x.wav", "prompt": "What emotion?", "gt": "joy", "source": "meld"},
            [("user", "<audio>What emotion?"), ("assistant", "joy")],
            ["x.wav"],
        ),
        (
            {"index": 3, "audio_path": ["x.wav"], "question": "What emotion?", "answer": "joy"},
            [("user", "<audio>What emotion?"), ("assistant", "joy")],
            ["x.wav"],
        ),
        # text alone
        ({"instruction": "Say a colour.", "output": "red"}, [("user", "Say a colour."), ("assistant", "red")], []),
    ],
)  # fmt: skip
def test_rows_of_others_are_read_as_they_are(raw, messages, audios):
    assert brought(raw) == (messages, audios)


def test_other_fields_stay():
    row = canonical({"audio": "x.wav", "text": "language German<asr_text>guten Tag", "id": "u1", "licence": "CC0"})
    assert (row["id"], row["licence"], row["language"]) == ("u1", "CC0", "German")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (["x"], "must be an object"),
        ({"id": 3}, "neither 'messages' nor"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role 'tool'"),
        ({"messages": ["hello"]}, "'role' and 'content'"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": "x.png"}]}]}, "'image' are not known"),
        ({"messages": [{"role": "user", "content": [{"type": "audio", "audio": [0.1]}]}]}, "must name its file"),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio", "audio": "x"}]}], "audios": ["x"]},
            "both inside the messages and in 'audios'",
        ),
        ({"messages": [{"role": "assistant", "content": "x"}], "audios": ["x"]}, "no user message"),
    ],
)
def test_what_could_only_be_guessed_is_refused(raw, problem):
    with pytest.raises(ValueError, match=problem):
        canonical(raw)
