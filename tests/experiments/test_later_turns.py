"""Second questions about a clip, and where their block stands."""

from experiments.later_turns import FIRST, WHERE, ElsewhereBuilder, two_turns

from coat.testing.clips import assistant, user
from coat.thinking.model import ThinkingModel


def row(clip, task, answer):
    messages = [user(f"<audio>{task}?"), assistant(answer)]
    return {"id": f"{clip}-{task}", "task": task, "group": "g", "messages": messages, "audios": [clip]}


ROWS = [
    row("a.wav", "instrument", "strings"), row("a.wav", "pitch_class", "c"), row("b.wav", "mood", "sad"),
    row("b.wav", "transcription", "the dog"), row("c.wav", "event", "siren"),
]  # fmt: skip


def test_a_second_question_follows_another_of_its_clip():
    made = {row["task"]: row for row in two_turns(ROWS, ROWS, seed=0)}
    assert [m["content"] for m in made["pitch_class"]["messages"]] == [
        "<audio>instrument?",
        "strings",
        "pitch_class?",
        "c",
    ]
    assert [m["content"] for m in made["mood"]["messages"]] == ["<audio>transcription?", "the dog", "mood?", "sad"]
    # nothing else may be asked of these clips before
    assert made["event"] == ROWS[4]
    assert made["instrument"] == ROWS[0]
    assert made["pitch_class"]["audios"] == ["a.wav"]
    assert len({row["id"] for row in made.values()}) == len(ROWS)


def test_no_scarce_answer_is_given_away_and_shares_hold():
    many = [{**each, "audios": [f"{n}.wav"], "id": f"{n}-{each['task']}"} for n in range(200) for each in ROWS[:2]]
    made = two_turns(many, many, seed=1, share=0.5)
    second = [row for row in made if len(row["messages"]) == 4]
    assert 60 < len(second) < 140, "half of the 200 notes"
    assert {row["messages"][0]["content"] for row in second} <= {f"<audio>{task}?" for task in FIRST}
    assert made == two_turns(many, many, seed=1, share=0.5)


def test_blocks_stand_where_they_are_said_to(backbone):
    builder = ThinkingModel(backbone).builder
    start, think, end = builder.tokens.ids
    messages = [user("<audio>What is said?"), assistant("the dog"), user("Who speaks?")]
    block = [start, *[think] * 5, end]
    made = {where: ElsewhereBuilder(builder, where).build(messages, [5]).input_ids for where in WHERE}
    assert made["kept"] == builder.build(messages, [5]).input_ids
    bare = [token for token in made["kept"] if token not in builder.tokens.ids]
    assert made["out"] == bare
    assert made["moved"] == bare + block
    assert made["twice"] == made["kept"] + block
    # the states of the first answer's prompt serve the second as they are
    first = builder.build(messages[:1], [5]).input_ids
    assert made["kept"][: len(first)] == first
