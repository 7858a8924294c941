"""Constrained decoding on tiny random models: always valid, no dead end, greedy where it can be."""

import json
from dataclasses import replace

import pytest
import torch
from grammar_walks import walk_budgets
from reply_cases import RESPONSES, TARGETS, TASK, TOKENIZERS
from tiny import tiny_llama

from text2grad import decoding
from text2grad.decoding import constrained_generate
from text2grad.grammar import ReplyGrammar
from text2grad.parsing import parse_reply, target_json
from text2grad.schema import Feedback, UserError
from text2grad.token_table import TokenTable, encode_target

CODE = replace(TASK, quote_border="token")


@pytest.fixture(scope="module", params=TOKENIZERS)
def table(request):
    torch.set_num_threads(1)
    return TokenTable(TOKENIZERS[request.param]())


def prompts_of(table, texts):
    return [table.tokenizer(f"{text} Judge:", add_special_tokens=False).input_ids for text in texts]


def bias(model, pieces, bonus):
    """Raise the logits of the tokens for which `bonus(piece)` is not 0."""
    extra = torch.tensor([float(bonus(piece)) for piece in pieces])
    model.lm_head.register_forward_hook(lambda module, args, out: out + extra)
    return model


def check(reply, response, task, budget):
    value = json.loads(reply.text)
    feedback = parse_reply(reply.text, task)
    assert isinstance(feedback, Feedback)
    assert feedback.repair == "none"
    assert feedback.critique.strip()
    assert list(value) == ["textual_feedback", "good_spans", "poor_spans"]
    assert all(span.text in response and span.text.strip() for span in feedback.spans)
    assert len(reply.ids) == reply.n_forced + reply.n_free <= budget
    return len(feedback.spans)


# ---------------------------------------------------------------- replies of random models


@pytest.mark.parametrize("task", [TASK, CODE], ids=["text", "code"])
def test_every_reply_parses_and_every_quote_is_a_substring(table, task):
    quotes = 0
    for seed in range(3):
        model = tiny_llama(table.tokenizer, seed)
        # Random models close no string by themselves: make quote marks and commas likelier.
        bias(model, table.pieces, lambda piece: 0.3 * (b'"' in piece) + 0.3 * (piece == b","))
        grammars = [ReplyGrammar(task, response) for response in RESPONSES]
        prompts = prompts_of(table, RESPONSES)
        replies = constrained_generate(model, table, prompts, grammars, 150)
        for reply, response in zip(replies, RESPONSES, strict=True):
            quotes += check(reply, response, task, 150)
            assert reply.text.encode() == b"".join(table.pieces[i] for i in reply.ids)
    assert quotes > 30


def test_every_budget_from_the_smallest_is_kept(table):
    model = tiny_llama(table.tokenizer)
    response = RESPONSES[2]
    grammar = ReplyGrammar(TASK, response)
    smallest = grammar.shortest_exit(grammar.initial, table.cost)
    prompt = prompts_of(table, [response])
    for budget in range(smallest, smallest + 16):
        (reply,) = constrained_generate(model, table, prompt, [grammar], budget)
        check(reply, response, TASK, budget)
    message = f"--critique_tokens {smallest - 1}: the shortest reply takes {smallest} tokens"
    with pytest.raises(UserError, match=message):
        constrained_generate(
            model, table, prompt, [grammar], smallest - 1, flag="--critique_tokens"
        )


def test_no_state_and_budget_is_a_dead_end(table):
    """All states and budgets that tokens of a small alphabet can reach, not a sample."""
    task = replace(TASK, max_critique_chars=3, max_quotes=2, max_quote_chars=6)
    grammar = ReplyGrammar(task, 'a "é"')
    letters = set('{}[],:. abn\\"é'.encode())
    assert len(walk_budgets(grammar, table, letters, 12)) > 300


def test_a_quote_is_opened_only_if_it_can_be_finished(table):
    grammar = ReplyGrammar(TASK, "zqj" * 15)
    state = grammar.advance(grammar.initial, b'{"textual_feedback": "x", "good_spans": [')
    (quote_mark,) = table.encode(b'"')
    # 45 letters, the quote mark, "]", the key of the next list, "]" and "}".
    needed = 45 + 1 + 1 + table.cost(b', "poor_spans": [') + 1 + 1
    assert table.admit(grammar, state, quote_mark, needed) is not None
    assert table.admit(grammar, state, quote_mark, needed - 1) is None


@pytest.mark.parametrize("logit", [0.0, float("-inf"), float("nan")])
def test_logits_that_say_nothing_still_give_a_reply(table, logit):
    model = tiny_llama(table.tokenizer, vocab_size=len(table.pieces) + 30)  # padded vocabulary
    model.lm_head.register_forward_hook(lambda module, args, out: torch.full_like(out, logit))
    grammars = [ReplyGrammar(TASK, response) for response in RESPONSES]
    replies = constrained_generate(model, table, prompts_of(table, RESPONSES), grammars, 90)
    for reply, response in zip(replies, RESPONSES, strict=True):
        check(reply, response, TASK, 90)


# ---------------------------------------------------------------- greedy


def learn(model, prompts, targets):
    """Overfit a tiny model until it recites each target after its prompt."""
    texts = [torch.tensor(p + t) for p, t in zip(prompts, targets, strict=True)]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    places = torch.arange(ids.shape[1])
    lengths = torch.tensor(
        [[len(p), len(p) + len(t)] for p, t in zip(prompts, targets, strict=True)]
    )
    is_target = (places >= lengths[:, :1]) & (places < lengths[:, 1:])
    labels = ids.masked_fill(~is_target, -100)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    return model.eval()


def greedy(model, prompt, count):
    out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=count)
    return out[0, len(prompt) :].tolist()


def test_a_valid_greedy_reply_is_kept_as_it_is(table):
    responses = [response for response, _ in TARGETS]
    prompts = prompts_of(table, responses)
    targets = [
        encode_target(target_json(wanted, TASK), table, ReplyGrammar(TASK, response))
        for response, wanted in TARGETS
    ]
    model = learn(tiny_llama(table.tokenizer, hidden_size=64), prompts, targets)
    grammars = [ReplyGrammar(TASK, response) for response in responses]
    replies = constrained_generate(model, table, prompts, grammars, 200)
    for reply, prompt, target in zip(replies, prompts, targets, strict=True):
        assert greedy(model, prompt, len(target)) == target  # the model recites, unconstrained
        assert list(reply.ids) == target
        assert reply.n_rejected == 0
        assert reply.removed_mass == 0.0
        assert reply.n_free < reply.n_forced + reply.n_free == len(target)


def test_greedy_is_followed_up_to_the_first_invalid_token(table):
    followed = 0
    for seed in range(4):
        model = tiny_llama(table.tokenizer, seed)
        # Else the first token is often half a character already, which the second cannot finish.
        bias(model, table.pieces, lambda piece: 0.3 * piece.strip().isalpha())
        response = RESPONSES[seed]
        grammar = ReplyGrammar(TASK, response)
        literal = grammar.forced(grammar.initial)
        head = list(table.encode_forced(literal))
        (prompt,) = prompts_of(table, [response])
        (reply,) = constrained_generate(model, table, [prompt], [grammar], 80)
        state, same = grammar.advance(grammar.initial, literal), 0
        for token in greedy(model, prompt + head, 40):
            state = table.admit(grammar, state, token, 80 - len(head) - same - 1)
            if state is None or grammar.forced(state):
                break
            same += 1
            assert reply.ids[len(head) + same - 1] == token
        followed += same
    assert followed > 20


def test_a_rejected_first_choice_gives_way_to_the_best_admitted(table):
    prompts = prompts_of(table, RESPONSES)
    grammars = [ReplyGrammar(TASK, response) for response in RESPONSES]
    plain = constrained_generate(tiny_llama(table.tokenizer), table, prompts, grammars, 90)
    # The end token, which no grammar admits, now always comes first, with nearly all the mass.
    model = tiny_llama(table.tokenizer)
    end = table.tokenizer.eos_token_id
    model.lm_head.register_forward_hook(
        lambda module, args, out: out.index_fill(-1, torch.tensor([end]), 100.0)
    )
    pushed = constrained_generate(model, table, prompts, grammars, 90)
    for before, after in zip(plain, pushed, strict=True):
        assert after.ids == before.ids
        assert after.n_rejected == after.n_free
        assert after.removed_mass == pytest.approx(1.0)
        assert before.n_rejected < before.n_free
        assert before.removed_mass < 0.9


def test_removed_mass_is_what_ranks_above_the_chosen_token(table):
    # Probabilities by hand: </s>-like end token 0.5, line break 0.3 (both illegal), "a" 0.2; at
    # the limit of one character the quote mark takes over, so one of two choices was rejected.
    model = tiny_llama(table.tokenizer)
    mass = {table.tokenizer.eos_token_id: 0.5, table.encode(b"\n")[0]: 0.3}
    mass[table.encode(b"a")[0]] = 0.2
    logits = torch.full((len(table.pieces),), -50.0)
    for token, share in mass.items():
        logits[token] = torch.log(torch.tensor(share))
    model.lm_head.register_forward_hook(lambda module, args, out: logits.expand_as(out))
    task = replace(TASK, max_critique_chars=1)
    (reply,) = constrained_generate(model, table, [[5]], [ReplyGrammar(task, "")], 60)
    assert reply.text == '{"textual_feedback": "a", "good_spans": [], "poor_spans": []}'
    # Choices: "a" (0.8 above it), then the closing quote and twice "]" (all of it above them).
    assert (reply.n_free, reply.n_rejected) == (4, 4)
    assert reply.removed_mass == pytest.approx((0.8 + 1 + 1 + 1) / 4, abs=1e-6)


def test_the_chosen_token_is_the_best_of_all_admitted(table, monkeypatch):
    model = tiny_llama(table.tokenizer)
    bias(model, table.pieces, lambda piece: 0.3 * (b'"' in piece) + 0.3 * piece.strip().isalpha())
    steps = 0

    def spy(row, table, logits, best, first_bytes):
        nonlocal steps
        # The whole vocabulary, one token at a time.
        ids = range(len(table.pieces))
        admitted = [i for i in ids if table.admit(row.grammar, row.state, i, row.left - 1)]
        wanted = max(admitted, key=lambda i: logits[i].item())
        number = len(row.ids)
        write_token(row, table, logits, best, first_bytes)
        assert row.ids[number] == wanted
        assert (wanted == best) == (row.n_rejected == rejected.get(row.number, 0))
        rejected[row.number] = row.n_rejected
        steps += 1

    rejected: dict[int, int] = {}
    write_token = decoding._write_token
    monkeypatch.setattr(decoding, "_write_token", spy)
    grammars = [ReplyGrammar(CODE, response) for response in RESPONSES]
    constrained_generate(model, table, prompts_of(table, RESPONSES), grammars, 60)
    assert sum(rejected.values()) > 30
    assert steps - sum(rejected.values()) > 20


# ---------------------------------------------------------------- batches


def test_ragged_batches_equal_single_rows(table, monkeypatch):
    model = tiny_llama(table.tokenizer)
    bias(model, table.pieces, lambda piece: 0.4 * (b'"' in piece))
    responses = [text * (1 + number % 2) for number, text in enumerate(RESPONSES * 2)]
    grammars = [ReplyGrammar(TASK, response) for response in responses]
    prompts = prompts_of(table, responses)
    seen: dict[tuple, torch.Tensor] = {}
    write_token = decoding._write_token

    def spy(row, table, logits, best, first_bytes):
        seen[row.number, len(row.ids)] = logits
        write_token(row, table, logits, best, first_bytes)

    monkeypatch.setattr(decoding, "_write_token", spy)
    together = constrained_generate(model, table, prompts, grammars, 100)
    batched = dict(seen)
    lengths = {len(reply.ids) for reply in together}
    assert len(lengths) > 3  # rows end at different times, so some leave the batch early
    for size in (1, 5):
        seen.clear()
        alone = constrained_generate(model, table, prompts, grammars, 100, batch_size=size)
        assert [reply.ids for reply in alone] == [reply.ids for reply in together]
        assert seen.keys() == batched.keys()
        for key, logits in seen.items():
            torch.testing.assert_close(logits, batched[key], atol=2e-5, rtol=0)


def test_a_single_row_takes_one_forward_per_choice(table):
    model = tiny_llama(table.tokenizer)
    widths = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    prompt = prompts_of(table, RESPONSES[:1])
    grammar = ReplyGrammar(TASK, RESPONSES[0])
    (reply,) = constrained_generate(model, table, prompt, [grammar], 60)
    assert len(widths) == reply.n_forwards == reply.n_free
    # What was written last needs no pass: the model saw all of the rest exactly once.
    last = table.cost(b"}") + 1
    assert sum(widths) == len(prompt[0]) + len(reply.ids) - last


def test_dropout_is_off_and_the_mode_restored(table):
    model = tiny_llama(table.tokenizer, attention_dropout=0.5)
    prompt = prompts_of(table, RESPONSES[:1])
    grammars = [ReplyGrammar(TASK, RESPONSES[0])]
    wanted = constrained_generate(model, table, prompt, grammars, 60)
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    assert constrained_generate(model, table, prompt, grammars, 60) == wanted
    assert [module.training for module in model.modules()] == modes
    assert constrained_generate(model, table, [], [], 60) == []
