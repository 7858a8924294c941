"""What all prompts begin with is computed once, and nobody can tell from the replies."""

import pytest
import torch
from annotated import POSTS, save_base
from families import FAMILIES, family_model, family_tokenizer
from tiny import byte_level_tokenizer, tiny_llama

from text2grad import decoding
from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.decoding import constrained_generate
from text2grad.grammar import ReplyGrammar
from text2grad.prefix_cache import PrefixCache, common_length
from text2grad.schema import Record
from text2grad.tasks import get_task
from text2grad.token_table import TokenTable

TASK = get_task("slf5k")
OPENING = "Judge the summary of the post. Is it wrong? "


def encode(tokenizer, texts):
    return [tokenizer(text, add_special_tokens=False).input_ids for text in texts]


class Calls:
    """Counts the tokens that a model is fed, padding included, per call."""

    def __init__(self, model):
        self.shapes = []
        model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module, args, kwargs):
        self.shapes.append(tuple(kwargs["input_ids"].shape))


@pytest.fixture
def logits_of(monkeypatch):
    """The logits behind every chosen token, by row and place."""
    seen = {}
    write_token = decoding._write_token

    def spy(row, table, logits, best, first_bytes):
        seen[row.number, len(row.ids)] = logits.clone()
        write_token(row, table, logits, best, first_bytes)

    monkeypatch.setattr(decoding, "_write_token", spy)
    return seen


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [1, 2, 0])
def test_replies_and_logits_are_the_same(name, size, logits_of):
    """Rows of different lengths, so that padding lies between the prefix and the rest."""
    tokenizer = family_tokenizer(name)
    table, model = TokenTable(tokenizer), family_model(name, tokenizer)
    prompts = encode(tokenizer, [OPENING + post for post in POSTS])
    grammars = [ReplyGrammar(TASK, post) for post in POSTS]
    plain = constrained_generate(model, table, prompts, grammars, 90, size)
    wanted = dict(logits_of)
    logits_of.clear()
    calls = Calls(model)
    prefix = PrefixCache(model, prompts[0][: common_length(prompts)])
    assert len(prefix.ids) > 8
    for _ in range(2):  # once with the prefix still to compute, once with it there
        found = constrained_generate(model, table, prompts, grammars, 90, size, prefix=prefix)
        assert [one.ids for one in found] == [one.ids for one in plain]
        assert logits_of.keys() == wanted.keys()
        for key, logits in logits_of.items():
            torch.testing.assert_close(logits, wanted[key], atol=1e-4, rtol=0)
    length, _ = prefix.start(prompts)
    assert (length == 0) == (name == "gemma"), "its sliding windows are not shared"
    assert length < min(map(len, prompts))
    fed = max(columns for _, columns in calls.shapes[1:])
    assert fed >= max(map(len, prompts)) - length


def test_it_is_computed_once_whatever_part_of_it_a_batch_has():
    model = tiny_llama(byte_level_tokenizer())
    calls, prefix = Calls(model), PrefixCache(model, [5, 6, 7, 8])
    assert prefix.start([[9, 6, 7, 8], [5, 6]]) == (0, None)
    assert calls.shapes == []
    for prompts, wanted in (
        ([[5, 6, 7, 8, 9, 10], [5, 6, 7, 8, 9, 11, 12]], 4),
        ([[5, 6, 7, 20], [5, 6, 7, 8, 21], [5, 6, 7, 8, 9]], 3),
        ([[5, 6, 7, 8], [5, 6, 7, 8]], 3),  # a row keeps a token to feed
        ([[5, 6]], 1),
        ([[5, 6, 7, 8, 9]], 4),
    ):
        length, cache = prefix.start(prompts)
        assert (length, cache.get_seq_length()) == (wanted, wanted)
        assert cache.layers[0].keys.shape[0] == len(prompts)
    assert prefix.start([[5]]) == (0, None)
    assert calls.shapes == [(1, 4)]


def test_a_batch_cannot_change_the_prefix_of_the_next():
    model = tiny_llama(byte_level_tokenizer())
    prefix = PrefixCache(model, [5, 6, 7])
    prompts = [[5, 6, 7, 8], [5, 6, 7, 9]]
    _, first = prefix.start(prompts)
    kept = first.layers[0].keys.clone()
    with torch.inference_mode():
        model(input_ids=torch.tensor([[8], [9]]), past_key_values=first, use_cache=True)
        first.layers[0].keys.zero_()
    _, second = prefix.start(prompts)
    assert torch.equal(second.layers[0].keys, kept)


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2, 3], [1, 2, 4], [1, 5]], 1),
        ([[1, 2], [1, 2]], 2),
        ([[1, 2], [2, 2]], 0),
        ([[], [1]], 0),
    ],
)
def test_common_length(rows, length):
    assert common_length(rows) == length


def test_the_reward_model_feeds_its_instructions_once(tmp_path):
    records = [Record(str(n), post, f"So: {post}") for n, post in enumerate(POSTS)]
    judge = RewardModelAnnotator(
        save_base(tmp_path / "base"), TASK, dtype="fp32", batch_size=2, max_new_tokens=80
    )
    prefix, judge.prefix = judge.prefix, None
    plain, raw = judge.annotate(records), judge.stats.raw
    judge.prefix = prefix
    calls = Calls(judge.model)
    assert judge.annotate(records) == plain
    assert judge.stats.raw == raw
    instructions = judge.task.prompt_template("reward_model").text.split("$prompt")[0]
    shown = judge.tokenizer.decode(judge.prefix.ids)
    assert instructions.strip() in shown
    assert POSTS[0][:12] not in shown
    widest = max(columns for rows, columns in calls.shapes[1:])
    assert calls.shapes[0][0] == 1
    assert widest < calls.shapes[0][1], "posts and summaries here are shorter than instructions"
