import json

import datasets
import numpy as np
import pytest
import soundfile

from coat.errors import CoatError
from coat.evaluation.items import Sound, can_rotate, read_options, value_of, which_option
from coat.evaluation.sources import measured, open_manifest_tasks, open_task, open_tasks, orders_of, write_sample
from coat.evaluation.task import Task, load_task, task_names
from coat.testing.clips import RATE

MMAU = load_task("mmau")


def heard_and_asked(message):
    """How many clips stand before a question, and the question."""
    (*sounds, text) = message["content"]
    assert all(part == {"type": "audio"} for part in sounds)
    return len(sounds), text["text"]


@pytest.mark.parametrize(
    "value",
    [
        '["a", "b", "c"]', ["a", "b", "c"], ["A. a", "B. b", "C. c"], "(A) a\n(B) b\n(C) c", "(A) a (B) b (C) c",
        "A. a\nB. b\nC. c",
    ],
)  # fmt: skip
def test_options_are_read_however_they_are_held(value):
    assert read_options(MMAU, {"choices": value}, "row") == ("a", "b", "c")


def test_options_in_columns_leave_out_what_is_not_there():
    task = load_task("air_bench_speech")
    raw = {"choice_a": "real", "choice_b": "fake", "choice_c": None, "choice_d": None}
    assert read_options(task, raw, "row") == ("real", "fake")
    with pytest.raises(CoatError, match=r"Row 7.*1 option"):
        read_options(task, {"choice_a": "real"}, "7")


@pytest.mark.parametrize(
    ("answer", "answer_is", "place"),
    [("Rain", "text", 1), ("B", "letter", 1), ("(B) Rain", "letter", 1), ("b", "letter", 1), ("rain ", "text", 1),
     ("A", "text", 2), ("A", "letter", 0), ("Snow", "text", None), ("D", "letter", None)],
)  # fmt: skip
def test_the_right_option_by_text_or_letter(answer, answer_is, place):
    assert which_option(answer, ["Dog", "Rain", "A"], answer_is) == place


def test_every_task_opens_its_sample(tmp_path):
    for name in task_names():
        task = load_task(name)
        opened = measured(open_task(task, "sample", tmp_path))
        assert len(opened.items) == len(task.sample), name
        assert not opened.bad
        for item in opened.items:
            assert 0.5 < item.seconds < 2
            sound, prompt = heard_and_asked(item.conversation(task)[-1])
            assert sound == len(item.clips) == (2 if item.id == "p2" else 1)
            assert "{" not in prompt
            assert "None" not in prompt, "an option that is not there is not shown"


def test_columns_within_a_column_are_read(tmp_path):
    """MMAU v05.15.25 holds ids and facts as JSON in one column, and letters in its options."""
    (opened,) = open_tasks(["mmau_v05_15_25"], "sample", tmp_path)
    assert not opened.bad
    assert [item.id for item in opened.items] == ["v1", "v2", "v3"]
    assert [item.right for item in opened.items] == [2, 0, 4]
    assert opened.items[2].options == ("Flute", "Violin", "Guitar", "Drums", "Harp")
    facts = {"task": "speech", "category": "Reasoning", "difficulty": "medium", "dataset": "voxceleb"}
    assert opened.items[1].facts == facts


def test_clips_may_be_files_beside_the_rows(tmp_path):
    """MMAU-Pro names one file or several in its data's folder, and has questions with nothing to choose from."""
    task = load_task("mmau_pro")
    whole = [
        *task.sample,
        {**task.sample[0], "id": "open", "choices": [], "answer": "A gull calls, then an owl."},
        {**task.sample[0], "id": "instruction", "answer": None, "kwargs": '{"num_words": 5}'},
        {**task.sample[0], "id": "gone", "audio_path": ["data/gone.wav"]},
        {**task.sample[0], "id": "outside", "audio_path": ["../secret.wav"]},
    ]
    folder = tmp_path / "mmau_pro"
    write_sample(task, folder)
    datasets.Dataset.from_list(whole).to_parquet(folder / "sample.parquet")
    opened = measured(open_task(task, str(tmp_path)))
    assert [item.id for item in opened.items] == ["p1", "p2", "p3"]
    assert [len(item.clips) for item in opened.items] == [1, 2, 1]
    assert opened.items[1].facts == {"category": "multi", "length_type": "short"}
    assert opened.skipped == {"without options": ["open", "instruction"]}
    assert sorted(opened.bad) == ["gone", "row 6"]
    assert "no audio file" in opened.bad["gone"]
    assert "no file within" in opened.bad["row 6"]
    with pytest.raises(CoatError, match="files beside its rows") as caught:
        open_task(task)
    assert "data.zip" in caught.value.remedy


@pytest.mark.parametrize("held", [{"b": {"c": 1}}, '{"b": {"c": 1}}'])
def test_a_value_within_a_column_is_found_however_it_is_held(held):
    assert value_of({"a": held}, "a.b.c") == 1
    assert value_of({"a": held}, "a.b.d") is value_of({"a": held}, "a.x.c") is value_of({"a": held}, "x.b") is None
    assert value_of({"a.b": 2, "a": held}, "a.b") == 2
    assert value_of({"a": "no JSON"}, "a.b") is value_of({"a": "[1]"}, "a.b") is None


def test_prompts_are_the_published_ones(tmp_path):
    opened = {each.task.name: each for each in open_tasks(["mmau", "mmar", "librispeech_clean"], "sample", tmp_path)}
    prompts = {name: measured(each).items[0].conversation(each.task)[0] for name, each in opened.items()}
    asked = {name: heard_and_asked(message)[1] for name, message in prompts.items()}
    assert asked["mmau"] == (
        "What kind of sound is heard?\nA. Dog barking\nB. A car horn\nC. Rain\nD. Piano\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert asked["mmar"].endswith("Who speaks first?\nA. A woman\nB. A man\nC. A child\nD. Nobody\nThe best answer is:")
    item = measured(opened["mmar"]).items[0]
    (message,) = item.conversation(opened["mmar"].task, 0, "qwen2_audio")
    assert heard_and_asked(message)[1].endswith("is: <|en|>")
    assert asked["librispeech_clean"] == "Please recognize the speech and only output the recognized content:"


def test_orders_rotate_options_and_the_right_one(tmp_path):
    item = measured(open_task(MMAU, "sample", tmp_path)).items[0]
    assert [item.rotated(order)[item.right_in(order)] for order in range(4)] == ["Rain"] * 4
    assert len(orders_of(item, 4)) == 4
    two = measured(open_task(MMAU, "sample", tmp_path)).items[1]
    assert len(orders_of(two, 4)) == 2, "two options have two orders"


def write_manifest(folder, rows):
    for index in range(3):
        soundfile.write(folder / f"{index}.wav", np.full(RATE // 2, 0.1 * index, dtype=np.float32), RATE)
    path = folder / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(index, question, answer, **more):
    messages = [{"role": "user", "content": f"<audio>{question}"}, {"role": "assistant", "content": answer}]
    return {"id": f"r{index}", "audios": [f"{index}.wav"], "messages": messages, **more}


def test_a_manifest_is_a_task_for_each_of_its_tasks(tmp_path):
    question = "Which?\nA. dog\nB. cat\nAnswer with the letter."
    rows = [
        row(0, question, "B", task="choice", choices=["dog", "cat"]),
        row(1, "What is said?", "the red dog", task="transcription"),
        row(2, "What is it?", "rain", task="event", source="mine"),
    ]
    opened = {each.task.name: measured(each) for each in open_manifest_tasks(write_manifest(tmp_path, rows))}
    assert {name: each.task.kind for name, each in opened.items()} == {
        "choice": "choice", "transcription": "transcript", "event": "exact",
    }  # fmt: skip
    choice = opened["choice"].items[0]
    assert can_rotate(choice)
    turned = choice.conversation(opened["choice"].task, 1)[-1]
    assert heard_and_asked(turned) == (1, "Which?\nA. cat\nB. dog\nAnswer with the letter.")
    assert (choice.right, choice.right_in(1), choice.reference) == (1, 0, "cat")
    assert opened["event"].items[0].facts == {"source": "mine"}


def test_rows_that_cannot_be_asked_are_named(tmp_path):
    rows = [row(0, "?", "yes"), {"id": "r9", "audios": ["gone.wav"], "messages": row(0, "?", "no")["messages"]},
            {"id": "r8", "messages": [{"role": "user", "content": "hello"}]}]  # fmt: skip
    (opened,) = open_manifest_tasks(write_manifest(tmp_path, rows))
    ready = measured(opened)
    assert [item.id for item in ready.items] == ["r0"]
    assert "no answer" in ready.bad["r8"]
    assert "gone.wav" in ready.bad["r9"]


def test_long_clips_are_left_out_and_named(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(121 * 1000, dtype=np.float32), 1000)
    rows = [row(0, "?", "yes"), {**row(1, "?", "no"), "audios": ["long.wav"]}]
    (opened,) = open_manifest_tasks(write_manifest(tmp_path, rows))
    assert measured(opened).skipped == {"longer than 120 s": ["r1"]}


def test_a_changed_data_set_says_which_column_is_gone(tmp_path):
    task = load_task("meld")
    open_task(task, "sample", tmp_path)
    renamed = task.model_copy(update={"columns": task.columns.model_copy(update={"answer": "Mood"})})
    with pytest.raises(CoatError, match=r"no column Mood for meld; it has .*Emotion"):
        open_task(renamed, str(tmp_path / "meld"))


def test_stretches_of_channels_are_cut_out(tmp_path):
    stereo = np.stack([np.full(RATE, 0.01), np.full(RATE, 0.05)], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "call.wav", stereo, RATE, subtype="FLOAT")
    sound = Sound.of_file(tmp_path / "call.wav", 0.25, 0.75, 1)
    clip = sound.load()
    assert clip.seconds == 0.5
    np.testing.assert_allclose(clip.waveform, 0.05)
    assert sound.measure()[0] == 0.5
    assert sound.measure()[1] != Sound.of_file(tmp_path / "call.wav", 0.25, 0.75, 0).measure()[1]


def test_eval2000_as_the_ldc_publishes_it(tmp_path):
    folder = tmp_path / "hub5e_00"
    folder.mkdir()
    soundfile.write(folder / "sw_4390.wav", np.zeros((8000, 2), dtype=np.float32), 8000)
    (folder / "sw_4390.wav").rename(folder / "sw_4390.sph")  # libsndfile knows files by what they hold
    lines = ["#Language: eng", '0.10 0.40 A: yeah {laugh} it\'s <contraction e_form="x"> fine', "0.5 0.9 B: %uh who-"]
    (folder / "sw_4390.txt").write_text("\n".join(lines))
    opened = measured(open_task(load_task("switchboard"), str(tmp_path)))
    assert [item.reference for item in opened.items] == ["yeah it's fine", "uh"]
    assert [item.cluster for item in opened.items] == ["sw_4390-A", "sw_4390-B"]
    assert [round(item.seconds, 2) for item in opened.items] == [0.3, 0.4]
    assert opened.items[0].facts == {"subset": "switchboard"}
    (folder / "sw_4390.txt").unlink()
    with pytest.raises(CoatError, match="none of sw_4390"):
        open_task(load_task("switchboard"), str(tmp_path))


def test_a_task_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: Mine\nkind: label\nlabels: {up: [rising], down: []}\nprompt: 'Which: {labels}?'\n")
    task = load_task(path)
    assert task.ask("") == "Which: up or down?"
    path.write_text("title: Mine\nkind: label\nprompt: 'Which {of}?'\nlables: {}\n")
    with pytest.raises(CoatError, match="lables"):
        load_task(path)
    with pytest.raises(CoatError, match="Did you mean 'mmau'"):
        load_task("mmauu")
    assert isinstance(load_task("voxpopuli"), Task)
