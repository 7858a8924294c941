"""The order of the rows, and rows that only fill up a batch."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from tiny import byte_level_tokenizer, tiny_llama

from text2grad.target_trainer import IGNORED, Example, LengthGroups, TargetTrainer, make_dataset

LENGTHS = [5, 50, 7, 48, 6, 49, 51, 8, 30, 31]


def order(epoch=0, seed=1, full=1, update=4, lengths=LENGTHS):
    return list(LengthGroups(lengths, update, full, seed, lambda: epoch))


def test_every_row_comes_once_an_epoch():
    assert sorted(order()) == list(range(10))


def test_seed_and_epoch_alone_decide_the_order():
    first = order()
    torch.manual_seed(99)
    assert order() == first
    assert order(full=8)[:10] == first, "processes change what is filled up, not the order"
    assert order(epoch=1) != first
    assert order(seed=2) != first


def test_rows_of_an_update_are_about_equally_long():
    """Half of 64 rows have length 10, half 100, at random: hardly an update has both."""
    lengths = [10, 100] * 32
    found = order(lengths=lengths)
    updates = [found[start : start + 4] for start in range(0, 64, 4)]
    assert sum(len({lengths[row] for row in rows}) == 2 for rows in updates) <= 4


def test_the_last_batch_of_all_processes_is_filled_up_with_the_blank_row():
    """10 rows in batches of 4 on 2 processes: 16 places, 6 of them blank."""
    rows = LengthGroups(LENGTHS, 8, 8, 1, lambda: 0)
    assert len(rows) == len(list(rows)) == 16
    assert Counter(rows)[10] == 6
    assert list(rows)[10:] == [10] * 6
    assert len(LengthGroups(LENGTHS[:8], 8, 8, 1, lambda: 0)) == 8


def test_the_blank_row_follows_the_others():
    made = make_dataset([Example([1, 2], [3])], blank=True)
    assert made[0] == {"input_ids": [1, 2, 3], "labels": [IGNORED, IGNORED, 3]}
    assert made[1] == {"input_ids": [0, 0], "labels": [IGNORED, IGNORED]}
    assert len(make_dataset([Example([1, 2], [3])])) == 1


@pytest.mark.parametrize("labels", [[[IGNORED] * 2] * 2, [[IGNORED, 3], [IGNORED] * 2]])
def test_blank_rows_add_nothing_to_the_loss_and_have_gradients(labels):
    model = tiny_llama(byte_level_tokenizer())
    trainer = SimpleNamespace(
        args=SimpleNamespace(average_tokens_across_devices=True),
        accelerator=SimpleNamespace(num_processes=2),
    )
    ids = torch.tensor([[5, 3], [0, 0]])
    batch = {"input_ids": ids, "labels": torch.tensor(labels)}
    loss = TargetTrainer.compute_loss(trainer, model, batch, num_items_in_batch=torch.tensor(4))
    loss.backward()
    assert model.model.embed_tokens.weight.grad is not None
    logp = model(input_ids=ids[:1]).logits[0, 0].log_softmax(-1)[3]
    wanted = -2 * logp / 4 if labels[0][1] == 3 else torch.tensor(0.0)  # 4 tokens on 2 processes
    torch.testing.assert_close(loss, wanted, atol=1e-6, rtol=0)
