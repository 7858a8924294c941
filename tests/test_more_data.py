"""A second file of annotated records beside the first."""

import json

import pytest

from text2grad.config import RewardTrainConfig
from text2grad.reward_model import read_split
from text2grad.schema import UserError
from text2grad.tasks import get_task


def annotated(path, *rows):
    said = {"textual_feedback": "Fine.", "good_spans": [], "poor_spans": []}
    path.write_text(json.dumps([{**row, **said} for row in rows]))
    return str(path)


def test_the_second_files_records_join_under_ids_of_their_own(tmp_path):
    first = annotated(tmp_path / "first.json", {"id": "1", "post": "A post.", "response": "A."})
    own = annotated(tmp_path / "own.json", {"id": "1", "query": "A post.", "response": "B."})
    valid = annotated(tmp_path / "valid.json", {"id": "2", "post": "Other.", "response": "C."})
    args = RewardTrainConfig(data_path=first, more_data_path=(own,), valid_data_path=valid)
    train, held_out = read_split(args, get_task("slf5k"))
    assert [(r.id, r.fields["id"], r.response) for r in train] == [
        ("1", "1", "A."),
        ("1-own", "1-own", "B."),
    ]
    assert [r.id for r in held_out] == ["2"]


def test_no_prompt_of_it_is_in_both_sets(tmp_path):
    first = annotated(tmp_path / "first.json", {"id": "1", "post": "A post.", "response": "A."})
    valid = annotated(tmp_path / "valid.json", {"id": "2", "post": "Other.", "response": "C."})
    own = annotated(tmp_path / "own.json", {"id": "2", "query": "Other.", "response": "B."})
    args = RewardTrainConfig(data_path=first, more_data_path=(own,), valid_data_path=valid)
    with pytest.raises(UserError, match="its prompt is in --data_path"):
        read_split(args, get_task("slf5k"))
