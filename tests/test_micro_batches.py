"""Which responses go through the model together."""

import pytest

from text2grad.micro_batches import (
    pack_rows,
    padded_tokens,
    plan_micro_batches,
    split_micro_batches,
)

# prompt and response tokens, in all 7, 9, 7, 12, 4
LENGTHS = [(5, 2), (3, 6), (3, 4), (8, 4), (2, 2)]


def alone(counts):
    return counts


def test_micro_batches_hold_similar_lengths_and_every_row_once():
    assert split_micro_batches([9, 1, 8, 2, 3], 2) == [[1, 3], [4, 2], [0]]


def test_padding_counts():
    # both sides have the width of their longest: 2 * (5 + 4), 3 * (5 + 6)
    assert padded_tokens([0, 2], LENGTHS) == 18
    assert padded_tokens([0, 1, 2], LENGTHS) == 33


@pytest.mark.parametrize(
    ("budget", "packed"),
    [
        (1, [[4], [0], [2], [1], [3]]),  # each is longer than the budget
        (13, [[4], [0], [2], [1], [3]]),  # 4 and 0 take 2 * (5 + 2) = 14
        (14, [[4, 0], [2], [1], [3]]),
        (18, [[4, 0], [2, 1], [3]]),  # 2 and 1 take 2 * (3 + 6) = 18
        (27, [[4, 0, 2], [1], [3]]),  # 3 * (5 + 4) = 27, 1 and 3 take 2 * (8 + 6) = 28
        (28, [[4, 0, 2], [1, 3]]),
        (70, [[4, 0, 2, 1, 3]]),  # 5 * (8 + 6)
    ],
)
def test_rows_are_packed_from_short_to_long(budget, packed):
    assert pack_rows(range(5), LENGTHS, budget) == packed


def test_a_process_that_needs_fewer_passes_splits_its_largest():
    assert pack_rows(range(5), LENGTHS, 28, 3) == [[4, 0, 2], [1], [3]]  # 28 tokens against 27
    assert pack_rows(range(5), LENGTHS, 28, 4) == [[4], [0, 2], [1], [3]]
    assert pack_rows(range(5), LENGTHS, 70, 9) == [[4], [0], [2], [1], [3]]  # no more than rows
    assert pack_rows([0, 3], LENGTHS, 70, 2) == [[0], [3]]


def test_without_a_budget_the_size_decides():
    plan = plan_micro_batches(LENGTHS, 2, 4, 0, None)
    assert plan == [([4, 0], None), ([2, 1], None), ([3], None)]


def test_a_plan_has_the_responses_of_an_update_and_the_most_passes_of_any_process():
    seen = []

    def most(counts):
        seen.append(counts)
        return [max(counts[0], 2), max(counts[1], 1)]

    plan = plan_micro_batches([*LENGTHS, (3, 3)], 1, 3, 27, most)
    assert seen == [[1, 2]]
    assert plan == [([4], 0), ([5, 0], 0), ([2, 1], 1), ([3], 1)]
    assert plan_micro_batches(LENGTHS[:4], 2, 2, 1000, alone) == [([0, 2], 0), ([1, 3], 1)]
