"""The sample of UltraFeedback, written for the quick run: the hub's rows, and nothing twice."""

import json
from pathlib import Path

import pytest
from rapidfuzz import fuzz, process

SAMPLE = Path(__file__).resolve().parent.parent / "RM_Data_Anno/UltraFeedback/sample"
ROWS = {
    split: [
        json.loads(line)
        for line in (SAMPLE / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for split in ("train", "validation")
}
EVERY_ROW = [row for rows in ROWS.values() for row in rows]
KEYS = {"prompt", "prompt_id", "chosen", "rejected", "score_chosen", "score_rejected"}
SIDES = ("chosen", "rejected")
NEAR_DUPLICATE = 85  # ratio of rapidfuzz, 100 for equal texts
# In words: what a model of 135M parameters has room for in 900 tokens.
MAX_PROMPT, MAX_TURNS = 120, 200
ANSWER_WORDS = {"chosen": (30, 110), "rejected": (25, 110)}


def words(text):
    return len(text.split())


def answer(row, side):
    return row[side][-1]["content"]


def user_turns(row):
    """What the user says, as one text."""
    return "\n".join(turn["content"] for turn in row["chosen"] if turn["role"] == "user")


def test_sizes():
    assert {split: len(rows) for split, rows in ROWS.items()} == {"train": 120, "validation": 32}
    for rows in ROWS.values():
        several = sum(len(row["chosen"]) > 2 for row in rows)
        assert 0.1 <= several / len(rows) <= 0.2, "about 15 % have several user turns"


def test_rows_are_in_the_hub_shape():
    for row in EVERY_ROW:
        name = row["prompt_id"]
        assert set(row) == KEYS, name
        for side in SIDES:
            roles = [turn["role"] for turn in row[side]]
            assert len(roles) in (2, 4, 6), name
            assert roles == ["user", "assistant"] * (len(roles) // 2), name
            contents = [turn["content"] for turn in row[side]]
            assert all(contents), name
            assert contents == [content.strip() for content in contents], name
            assert contents[0] == row["prompt"], name
        assert row["chosen"][:-1] == row["rejected"][:-1], f"{name}: only the last turn differs"
        scores = [row["score_chosen"], row["score_rejected"]]
        assert all(isinstance(score, float) for score in scores), name
        assert 10 >= scores[0] > scores[1] >= 0, name


def test_rows_are_short():
    for row in EVERY_ROW:
        name = row["prompt_id"]
        assert words(row["prompt"]) < MAX_PROMPT, name
        assert sum(words(turn["content"]) for turn in row["chosen"][:-1]) < MAX_TURNS, name
        for side, (least, most) in ANSWER_WORDS.items():
            assert least <= words(answer(row, side)) <= most, name


def test_ids_and_answers_are_unique():
    ids = [row["prompt_id"] for row in EVERY_ROW]
    assert len(set(ids)) == len(ids)
    answers = [answer(row, side) for row in EVERY_ROW for side in SIDES]
    assert len(set(answers)) == len(answers)


@pytest.mark.parametrize("text_of", [user_turns, lambda row: row["prompt"]], ids=["turns", "first"])
def test_no_prompt_comes_twice_or_nearly(text_of):
    texts = [text_of(row).lower() for row in EVERY_ROW]
    likeness = process.cdist(texts, texts, scorer=fuzz.ratio)
    near = [
        (EVERY_ROW[a]["prompt_id"], EVERY_ROW[b]["prompt_id"])
        for a in range(len(texts))
        for b in range(a)
        if likeness[a, b] >= NEAR_DUPLICATE
    ]
    assert near == []


def test_length_does_not_give_the_better_answer_away():
    longer = sum(words(answer(row, "rejected")) > words(answer(row, "chosen")) for row in EVERY_ROW)
    assert 1 / 3 <= longer / len(EVERY_ROW) <= 2 / 3
