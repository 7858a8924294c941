"""Blocks of queries: all of them, once, in order, and never too small or too many."""

import pytest

from text2grad.query_blocks import mean_keys, query_blocks


@pytest.mark.parametrize("length", [1, 63, 64, 65, 511, 512, 513, 1000, 5000])
def test_every_query_is_in_one_block(length):
    blocks = query_blocks(length)
    assert [place for start, end in blocks for place in range(start, end)] == list(range(length))
    assert len(blocks) <= 8
    assert all(end - start >= 64 for start, end in blocks[:-1])


def test_keys_by_hand():
    assert mean_keys(1) == 1
    assert mean_keys(64) == 64
    assert mean_keys(128) == 96
    assert mean_keys(1024) == 128 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8) * 128 / 1024
