"""Ratings of single answers: reading replies, means and intervals. No model, no server."""

import pytest
from question_files import JUDGE_PROMPTS, MTBENCH, MTBENCH101, write_lines, write_mtbench

from text2grad.judge_prompts import read_judge_prompts
from text2grad.question_sets import SETS, Dialogue, read_dialogues
from text2grad.ratings import RatedDialogue, Rating, parse_rating, rating_figures, rating_table
from text2grad.schema import Unparseable, UserError

MT, MT101 = SETS["mtbench"], SETS["mtbench101"]


# -- replies


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("It is wrong.\n[[3]]", 3.0),
        ("Rating: [[ 7.5 ]]", 7.5),
        ("[[10]]", 10.0),
        ("[[1]] as I said: [[1.0]]", 1.0),
        ("of [4] parts, a list [[a]], so [[2]]", 2.0),
    ],
)
def test_a_rating_is_read(reply, score):
    assert parse_rating(reply) == Rating(score, reply)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("It is good.", "no rating in double square brackets"),
        ("Rating: [5]", "no rating in double square brackets"),
        ("[[rating]]", "no rating in double square brackets"),
        ("[[-3]]", "no rating in double square brackets"),
        ("[[3]] or rather [[4]]", "several ratings"),
        ("[[0]]", "rating outside 1 to 10"),
        ("[[10.5]]", "rating outside 1 to 10"),
        ("[[100]]", "rating outside 1 to 10"),
        ("", "no rating in double square brackets"),
    ],
)
def test_a_reply_without_one_rating_is_a_reason(reply, reason):
    assert parse_rating(reply) == Unparseable(reason, reply)


# -- figures


def test_mtbench_counts_every_rating():
    # writing: 8, 6 and 4; math: 1. All: 19 / 4 = 4.75, not the mean 3.5 of the categories' means.
    rated = [
        RatedDialogue("1", "writing", {1: 8.0, 2: 6.0}),
        RatedDialogue("2", "writing", {1: 4.0, 2: None}),
        RatedDialogue("3", "math", {1: 1.0, 2: None}),
    ]
    found = rating_figures(rated, MT, seed=1)
    assert (found["overall"]["mean"], found["overall"]["n"]) == (4.75, 4)
    assert (found["categories"]["writing"]["mean"], found["categories"]["writing"]["n"]) == (6.0, 3)
    assert found["categories"]["math"] == {"mean": 1.0, "interval": None, "n": 1}
    assert found["turns"]["1"]["mean"] == pytest.approx(13 / 3, abs=1e-12)
    assert (found["turns"]["2"]["mean"], found["turns"]["2"]["n"]) == (6.0, 1)
    low, high = found["overall"]["interval"]
    assert 1.0 <= low < 4.75 < high <= 7.0


def test_mtbench101_counts_the_worst_turn_and_the_mean_of_tasks():
    # MR: min(9, 5) = 5 and min(7, 8) = 7, mean 6; CM: 2, mean 2. Overall (6 + 2) / 2 = 4. The last
    # dialogue misses a rating: its worst turn is not known.
    rated = [
        RatedDialogue("MR-1", "MR", {1: 9.0, 2: 5.0}),
        RatedDialogue("MR-2", "MR", {1: 7.0, 2: 8.0}),
        RatedDialogue("CM-1", "CM", {2: 2.0}),
        RatedDialogue("CM-2", "CM", {2: None}),
    ]
    found = rating_figures(rated, MT101, seed=1)
    assert (found["overall"]["mean"], found["overall"]["n"]) == (4.0, 3)
    assert found["categories"]["MR"]["mean"] == 6.0
    assert found["categories"]["CM"] == {"mean": 2.0, "interval": None, "n": 1}
    assert found["turns"]["2"]["mean"] == 5.0  # (5 + 8 + 2) / 3
    assert found["categories"]["MR"]["interval"] == (5.0, 7.0)


def test_turns_of_one_dialogue_are_drawn_together():
    """Two equal turns of each dialogue say nothing more than one: the interval must not shrink."""
    scores = [1.0, 3.0, 5.0, 7.0, 9.0, 2.0, 4.0, 6.0]
    once = [RatedDialogue(str(n), "stem", {1: s}) for n, s in enumerate(scores)]
    twice = [RatedDialogue(str(n), "stem", {1: s, 2: s}) for n, s in enumerate(scores)]
    one, two = (rating_figures(rated, MT, seed=3)["overall"] for rated in (once, twice))
    assert one["interval"] == pytest.approx(two["interval"], abs=1e-9)
    assert (one["n"], two["n"]) == (8, 16)


def test_equal_ratings_have_an_interval_of_one_point():
    rated = [RatedDialogue(str(n), "stem", {1: 5.0, 2: 5.0}) for n in range(4)]
    assert rating_figures(rated, MT, seed=0)["overall"]["interval"] == (5.0, 5.0)


def test_the_table_names_tasks_and_turns():
    rated = [RatedDialogue("CM-1", "CM", {2: 2.0}), RatedDialogue("CM-2", "CM", {2: 4.0})]
    report = {"title": "MT-Bench-101", **rating_figures(rated, MT101, seed=1)}
    table = rating_table(report, MT101.names)
    assert "CM (context memory)" in table
    assert "turn 2" in table
    assert "3.000  [2.000, 4.000]  2" in table


# -- questions


def test_questions_and_references_of_mtbench(tmp_path):
    flags = write_mtbench(tmp_path)
    writing, math, stem = read_dialogues(MT, flags["data"], flags["references"])
    assert writing == Dialogue("1", "writing", ("Write of a dog.", "Make it shorter."))
    assert math.references == ("It is 4.", "It is 8.")
    assert stem.references == ()
    with pytest.raises(UserError, match=r"record 2 \(question 2, math\): .* give --references"):
        read_dialogues(MT, flags["data"], "")


def test_questions_may_hold_their_reference(tmp_path):
    row = {**MTBENCH[1], "reference": ["4", "8"]}
    path = write_lines(tmp_path / "q.jsonl", [row])
    assert read_dialogues(MT, path, "")[0].references == ("4", "8")


def test_dialogues_of_mtbench101(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", MTBENCH101)
    memory, math = read_dialogues(MT101, path, "")
    assert (memory.id, memory.first_rated, memory.references) == ("CM-1", 1, ())
    assert memory.given == ("A fine name.", "He is Rex.")
    assert (math.id, math.first_rated) == ("MR-1", 0)
    assert math.references == math.given == ("Good, 2 cats.", "You have 5.", "That is 10.")
    with pytest.raises(UserError, match="hold their own"):
        read_dialogues(MT101, path, path)


@pytest.mark.parametrize(
    ("questions", "row", "message"),
    [
        (MT, {"question_id": 1, "turns": ["a"]}, 'record 1: the key "category" is missing'),
        (MT, {**MTBENCH[0], "turns": "a"}, 'record 1: the key "turns" is missing'),
        (MT, {**MTBENCH[0], "turns": ["a", " "]}, 'record 1: "turns" 2 is no text'),
        (MT, {**MTBENCH[0], "question_id": True}, 'the key "question_id"'),
        (MT101, MTBENCH[0], 'record 1: the key "task" is missing'),
        (MT101, {**MTBENCH101[0], "history": ["a"]}, '"history" must hold objects'),
        (MT101, {**MTBENCH101[0], "history": [{"user": "a"}]}, '"bot" 1 is no text'),
        (
            MT101,
            {**MTBENCH101[0], "history": MTBENCH101[0]["history"][:1]},
            r"\(CM-1\): one turn, but the first turn of task CM is not rated",
        ),
    ],
)
def test_a_row_of_another_shape_is_named(tmp_path, questions, row, message):
    path = write_lines(tmp_path / "q.jsonl", [row])
    with pytest.raises(UserError, match=message):
        read_dialogues(questions, path, "")


def test_two_questions_of_one_id_are_named(tmp_path):
    path = write_lines(tmp_path / "q.jsonl", [MTBENCH[0], MTBENCH[2], MTBENCH[0]])
    with pytest.raises(UserError, match='records 1 and 3 have the same id "1"'):
        read_dialogues(MT, path, "")


# -- prompts


def test_published_prompts_fit_turn_and_category(tmp_path):
    prompts = read_judge_prompts(write_lines(tmp_path / "p.jsonl", JUDGE_PROMPTS), MT)
    plain = Dialogue("1", "writing", ("one?", "two?"))
    first = prompts.render(plain, ["{question_2} {answer}"])
    assert first[0] == {"role": "system", "content": "system of general"}
    assert first[1]["content"] == "Q one? A {question_2} {answer} as [[N]], not {braces}"
    second = prompts.render(plain, ["a", "b"])
    assert second[1]["content"].startswith("Q one? A a Q two? A b as")
    math = Dialogue("2", "math", ("one?", "two?"), references=("r1", "r2"))
    assert prompts.render(math, ["a"])[1]["content"].startswith("REF r1 Q one? A a")
    assert prompts.render(math, ["a", "b"])[1]["content"].startswith("REF r1 REF r2 Q one? A a Q")
    with pytest.raises(UserError, match="is for two turns, question 1 has more"):
        prompts.render(plain, ["a", "b", "c"])


def test_a_file_without_one_of_the_prompts_is_named(tmp_path):
    path = write_lines(tmp_path / "p.jsonl", JUDGE_PROMPTS[:3])
    with pytest.raises(UserError, match='no prompt "single-math-v1-multi-turn"'):
        read_judge_prompts(path, MT)


def test_a_place_without_a_value_is_named(tmp_path):
    rows = [{**JUDGE_PROMPTS[0], "prompt_template": "{ref_answer_1}"}, *JUDGE_PROMPTS[1:]]
    prompts = read_judge_prompts(write_lines(tmp_path / "p.jsonl", rows), MT)
    with pytest.raises(UserError, match=r"single-v1: \{ref_answer_1\} has no value"):
        prompts.render(Dialogue("1", "writing", ("one?",)), ["a"])


def test_own_wording_of_the_user(tmp_path):
    slots = "$conversation|$question|$answer|$reference|$focus"
    (tmp_path / "p.txt").write_text(slots)
    prompts = read_judge_prompts(str(tmp_path / "p.txt"), MT101)
    dialogue = Dialogue("MR-1", "MR", ("one?", "two?"), ("g1", "g2"), ("r1", "r2"))
    text = prompts.render(dialogue, ["g1", "$focus"])[0]["content"]
    assert text == f"User: one?\n\nAssistant: g1|two?|$focus|r2|{MT101.focus['MR']}"
    (tmp_path / "p.txt").write_text("$answer")
    with pytest.raises(UserError, match="must use exactly the slots"):
        read_judge_prompts(str(tmp_path / "p.txt"), MT101)
