"""Rows are understood whole or refused by field; what docs/data.md shows is what is done."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coat.backbones import REGISTRY, backbone_class
from coat.data.checks import KINDS, check_manifest
from coat.data.formats import KNOWN, canonical
from coat.data.index import open_manifest
from coat.data.manifest import RowError, row_of
from coat.data.reading import Record
from coat.errors import CoatError
from coat.thinking.tokens import RESERVED

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


def read(raw, **options):
    return row_of(Record(1, "line 1", raw), Path("/data"), answered=True, **options)


def shown():
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def refused():
    part = PAGE[PAGE.index("### What is refused") :]
    return [
        (row.replace(r"\|", "|"), why) for row, why in re.findall(r"^\| `(\{.*?\})` \| (.*?) \|$", part, re.MULTILINE)
    ]


def outcome(raw):
    """The row, or why there is none."""
    try:
        return read(raw)
    except RowError as error:
        return error


def test_the_page_has_examples():
    assert len(shown()) >= 18
    assert len(refused()) >= 20


@pytest.mark.parametrize("line", shown())
def test_every_form_of_the_page_is_read_whole(line):
    raw = json.loads(line)
    row = read(raw)
    assert row.answer
    text = json.dumps(raw)
    assert len(row.audios) == len(set(re.findall(r"[\w/]+\.wav", text)))


@pytest.mark.parametrize(("line", "why"), refused())
def test_everything_that_the_page_refuses_is_refused(line, why):
    with pytest.raises(RowError, match=re.escape(why)):
        read(json.loads(line))


ASKED = {"question": "?", "answer": "x"}
CLIP = {"audio": "a.wav", "text": "hello"}


@pytest.mark.parametrize(
    ("raw", "start", "end", "seconds"),
    [
        ({**CLIP, "start": 1.5, "end": 2}, 1.5, 2.0, None),
        ({**CLIP, "start": 1.5}, 1.5, None, None),
        ({**CLIP, "offset": 1, "duration": 2.5}, 1.0, 3.5, None),
        ({**CLIP, "offset": 0, "duration": 2.5}, 0.0, 2.5, None),
        ({**CLIP, "duration": 2.5}, 0.0, None, 2.5),
        ({**CLIP, "seconds": 2.5}, 0.0, None, 2.5),
        ({"audios": [{"path": "a.wav", "offset": 1, "duration": 2}], "text": "x"}, 1.0, 3.0, None),
        ({"audios": [{"path": "a.wav", "start": 1, "end": 3}], "text": "x", "seconds": 2}, 1.0, 3.0, 2.0),
    ],
)
def test_stretches_are_where_the_row_says(raw, start, end, seconds):
    (ref,) = read(raw).audios
    assert (ref.start, ref.end, ref.known_seconds) == (start, end, seconds)


@pytest.mark.parametrize(
    "name", ["audio_filepath", "wav", "file", "path", "audio_url", "speech", "sound", "audio_file"]
)
def test_names_that_others_give_to_clips(name):
    assert [str(ref.path) for ref in read({name: "a.wav", "text": "x"}).audios] == ["/data/a.wav"]


@pytest.mark.parametrize("name", ["Audios", "audi", "waves"])
def test_names_that_are_nearly_right_are_guessed(name):
    with pytest.raises(RowError, match=rf"the field '{name}' is not known"):
        read({name: "a.wav", "text": "x"})
    assert read({name: "a.wav", "text": "x"}, ignore=[name]).audios == []


@pytest.mark.parametrize(("answer", "text"), [(3, "3"), (2.5, "2.5"), (True, "true"), (False, "false"), ("3", "3")])
def test_numbers_and_truth_values_are_answers(answer, text):
    assert read({"question": "?", "answer": answer}).answer == text
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    assert read({"messages": messages}).answer == text


@pytest.mark.parametrize("mask", [{"loss": False}, {"loss": 0}, {"weight": 0}, {"weight": 0.0}])
def test_turns_that_are_not_to_be_trained_on(mask):
    messages = [
        {"role": "user", "content": "?"}, {"role": "assistant", "content": "no", **mask},
        {"role": "user", "content": "!"}, {"role": "assistant", "content": "yes", "loss": True},
    ]  # fmt: skip
    assert [message.get("loss", True) for message in read({"messages": messages}).messages] == [True, False, True, True]
    with pytest.raises(RowError, match="no assistant message to train on"):
        read({"messages": messages[:2]})


def test_alpaca_has_an_instruction_and_an_input():
    raw = {"instruction": "Translate.", "input": "chat", "output": "cat"}
    assert read(raw).messages[0]["content"] == "Translate.\nchat"
    assert read({**raw, "input": ""}).messages[0]["content"] == "Translate."


def test_control_tokens_of_every_family_are_refused():
    placeholders = {backbone_class(family).audio_token for family in REGISTRY} - {"<sound>"}  # read as <audio>
    for token in (*placeholders, *RESERVED, "<|audio_bos|>", "<|audio_eos|>", "so [BEGIN_AUDIO] it"):
        for raw in ({**ASKED, "question": token}, {**ASKED, "answer": token}):
            with pytest.raises(RowError, match="control token"):
                read(raw)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({**CLIP, "text": "\ud800"}, "half a character"),
        ({**CLIP, "audio": "\ud800.wav"}, "half a character"),
        ({**CLIP, "id": "\udfff"}, "half a character"),
        ({**CLIP, "seconds": 10**400}, "a number of seconds"),
        ({**CLIP, "seconds": 0}, "'seconds' of the row is 0"),
        ({**CLIP, "end": float("inf")}, "a number of seconds"),
        ({**CLIP, "start": "1"}, "a number of seconds"),
        ({**CLIP, "start": True}, "a number of seconds"),
        ({**CLIP, "audio": "x" * 300}, "none that a file system takes"),
        ({**CLIP, "audio": "a\0b"}, "none that a file system takes"),
        ({**CLIP, "audio": 3}, "must be a path"),
        ({**CLIP, "audio": [["a.wav"]]}, "must be a path, or an object"),
        ({**CLIP, "channel": 1.5}, "whole number"),
        ({**CLIP, "choices": "a, b"}, "must be a list of texts, not text"),
        ({**CLIP, "choices": [["a"]]}, "an option of 'choices' must be"),
        ({**CLIP, "id": [1]}, "'id' must be text or a number"),
        ({**CLIP, "task": 3}, "'task' must be text"),
        ({**CLIP, "metadata": "x"}, "'metadata' must be an object"),
        ({**CLIP, "offset": 1, "start": 1}, "both 'start' and 'offset'"),
        ({**CLIP, "lang": "en", "language": "de"}, "says again"),
        ({**CLIP, "history": [["a"]]}, "'history' must be a list of pairs"),
        ({**ASKED, "messages": [{"role": "user", "content": "x"}]}, "both 'messages' and"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "from": "human", "content": "x"}]}, "both 'role' and 'from'"),
        ({"messages": [{"role": "user", "content": "x", "loss": True}]}, "only assistant messages"),
        ({"messages": [{"role": "user", "content": "x", "nmae": "bob"}]}, "in a message, the field 'nmae'"),
        ({"messages": [{"role": "user", "content": [{"type": "audio", "audio": "a.wav", "x": 1}]}]}, "audio entry"),
        ({"system": "a", "messages": [{"role": "system", "content": "b"}]}, "a field of its own"),
    ],
)
def test_values_that_are_none(raw, problem):
    with pytest.raises(RowError, match=re.escape(problem)):
        read(raw)


def test_empty_fields_say_nothing():
    empty = {"images": [], "tools": "", "chosen": None, "audios": [], "anything": {}}
    assert read({**ASKED, **empty}).answer == "x"


ODD = ["<audio>", "<sound>x", "user", "assistant", "text", "audio", "\ud800", "x" * 300, "data:x", 10**400]
INNER = ["role", "content", "type", "text", "audio", "path", "url", "loss", "from", "value"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=8)
    | st.just("a.wav")
    | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=4),
    max_leaves=12,
)
rows = st.dictionaries(st.sampled_from(sorted(KNOWN)) | st.text(max_size=5), values, max_size=5)


@settings(max_examples=400, deadline=None)
@given(rows | values)
def test_no_value_whatever_ends_in_anything_but_a_named_row(raw):
    found = outcome(raw)
    if isinstance(found, RowError):
        assert found.kind in KINDS
    else:
        assert any(message["role"] == "assistant" for message in found.messages)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=4))
def test_what_training_refuses_a_check_finds(tmp_path_factory, raws):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(raw) + "\n" for raw in raws))
    found = check_manifest(path, workers=1)
    try:
        open_manifest(path, answered=True)
        problem = ""
    except CoatError as error:
        problem = str(error)
    assert not problem or found.errors
    assert not problem or re.search(r"line \d|row|holds no|id '", problem)


def test_canonical_shows_its_example():
    row = canonical({"audio_filepath": "a.wav", "offset": 1.5, "duration": 2.0, "text": "hello"})
    assert row["audios"] == [{"path": "a.wav", "start": 1.5, "end": 3.5}]
