"""Files of another format: the first fault, by its key."""

import pytest

from text2grad.schema import UserError
from text2grad.shapes import NUMBER, TEXT, TRUTH, Maybe, check_shape, find_faults

SHAPE = {"n": NUMBER, "name?": TEXT, "ends": Maybe([NUMBER, NUMBER]), "rates": {"*": NUMBER}}
RIGHT = {"n": 3, "ends": [0.5, 1], "rates": {"a": 0.1}, "more": object()}


@pytest.mark.parametrize(
    "changes", [{}, {"ends": None}, {"rates": {}}, {"n": float("nan")}, {"name": ""}]
)
def test_the_shape_is_right(changes):
    assert list(find_faults(RIGHT | changes, SHAPE)) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"n": True}, 'the key "n" holds true, expected a number'),
        ({"n": None}, 'the key "n" holds null, expected a number'),
        ({"name": 3}, 'the key "name" holds 3, expected a text'),
        ({"ends": [1]}, 'the key "ends" holds [1], expected a list of 2'),
        ({"ends": [1, "2"]}, 'the key "ends.1" holds "2", expected a number'),
        ({"rates": {"a": 1, "b": []}}, 'the key "rates.b" holds [], expected a number'),
        ({"rates": "x" * 60}, f'the key "rates" holds "{"x" * 39}..., expected an object'),
    ],
)
def test_the_fault_is_named(changes, fault):
    assert list(find_faults(RIGHT | changes, SHAPE)) == [fault]


def test_what_is_missing_is_named_with_the_file():
    with pytest.raises(UserError, match=r'^--file f.json: the key "a.b" is missing; write it$'):
        check_shape({"a": {}}, {"a": {"b": TRUTH}}, "--file f.json", "write it")
    with pytest.raises(UserError, match=r'the key "a.b" holds 0, expected true or false'):
        check_shape({"a": {"b": 0}}, {"a": {"b": TRUTH}}, "f", "x")
