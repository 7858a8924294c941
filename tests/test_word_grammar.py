"""The grammar of word scores, and decoding inside it: every word, in order, and no dead end."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from grammar_walks import check_split, walk_budgets, walk_states
from reply_cases import RESPONSES, TASK, TOKENIZERS
from tiny import tiny_llama

from text2grad.critique_grammar import ALL_BYTES, Critique, Done
from text2grad.decoding import constrained_generate
from text2grad.parsing import parse_reply, word_target_json
from text2grad.schema import Feedback, Span, UserError
from text2grad.token_table import TokenTable
from text2grad.word_grammar import Score, WordGrammar
from text2grad.word_scores import words_of

# Scores of which one begins another, to have more than one choice in a number.
DECIMAL = replace(TASK, unmarked_score=0.1, labels=(replace(TASK.labels[0], score=0.0),))


@pytest.fixture(scope="module", params=TOKENIZERS)
def table(request):
    torch.set_num_threads(1)
    return TokenTable(TOKENIZERS[request.param]())


def reply(scored, critique="x") -> bytes:
    value = {"textual_feedback": critique, "word_score_list": scored}
    return json.dumps(value, ensure_ascii=False).encode()


def accepts(data: bytes, response, task=TASK, writable=ALL_BYTES) -> bool:
    grammar = WordGrammar(task, response, writable)
    state = grammar.advance(grammar.initial, data)
    return state is not None and grammar.closed(state)


def before_score(grammar, scores=b"") -> object:
    """The state before a word's score; `scores` is written from the first one on."""
    state = grammar.advance(grammar.initial, b'{"textual_feedback": "x"')
    return grammar.advance(state, grammar.forced(state) + scores)


# ---------------------------------------------------------------- the language


@pytest.mark.parametrize(("task", "numbers"), [(TASK, (0, 1, -1)), (DECIMAL, (0.1, 0))])
@pytest.mark.parametrize("response", ["", "...", "a", "I'm, b"])
def test_accepts_exactly_the_lists_of_all_words(task, numbers, response):
    task = replace(task, max_critique_chars=1)
    alphabet = b'{}[]"a: ,01-.\\'
    grammar = WordGrammar(task, response)
    found, walks = set(), [(grammar.initial, b"")]
    while walks:
        state, written = walks.pop()
        if grammar.closed(state):
            found.add(written)
        literal = grammar.forced(state)
        for data in [literal] if literal else [bytes([byte]) for byte in alphabet]:
            after = grammar.advance(state, data)
            if after is not None:
                walks.append((after, written + data))
    words = {"": [], "...": [], "a": ["a"], "I'm, b": ["I'm", "b"]}[response]
    critiques = [*'{}[]a:,01-."\\', "/"][:-1]
    wanted = {
        reply([list(pair) for pair in zip(words, scores, strict=True)], critique)
        for scores in itertools.product(numbers, repeat=len(words))
        for critique in critiques
    }
    assert found == wanted


@pytest.mark.parametrize(
    "scored",
    [
        [["The", 0]],  # a word is missing
        [["dog", 1], ["The", 0]],  # another order
        [["The", 0], ["dog", 1], ["ran", 1]],  # a word too many
        [["the", 0], ["dog", 1]],  # another word
        [["The", 2], ["dog", 1]],  # no score of the task
        [["The", 1.0], ["dog", 1]],
        [["The", "1"], ["dog", 1]],
    ],
)
def test_no_other_list_is_accepted(scored):
    assert accepts(reply([["The", -1], ["dog", 0]]), "The dog.")
    assert not accepts(reply(scored), "The dog.")


def test_words_and_brackets_are_forced_and_scores_are_not():
    grammar = WordGrammar(TASK, 'the "cat" sat')
    for written, forced in [
        (b'{"textual_feedback": "x"', b', "word_score_list": [["the", '),
        (b'{"textual_feedback": "x", "word_score_list": [["the", ', b""),
        (b'{"textual_feedback": "x", "word_score_list": [["the", 0', b'], ["cat", '),
        (b'{"textual_feedback": "x", "word_score_list": [["the", -', b'1], ["cat", '),
        (b'{"textual_feedback": "x", "word_score_list": [["the", -1], ["c', b'at", '),
        (reply([["the", 1], ["cat", 1], ["sat", 0]])[:-3], b"]]}"),
    ]:
        assert grammar.forced(grammar.advance(grammar.initial, written)) == forced
    assert sorted(grammar.next_bytes(before_score(grammar))) == sorted(b"01-")
    grammar = WordGrammar(DECIMAL, "a")
    inside = before_score(grammar, b"0")
    assert inside == Score(0, b"0")
    assert sorted(grammar.next_bytes(inside)) == sorted(b".]")
    assert grammar.forced(grammar.advance(inside, b".")) == b"1]]}"


def test_words_that_cannot_be_written_byte_by_byte_are_escaped():
    scored = [["naïve", 1], ["dog", 0]]
    no_accent = ALL_BYTES - {0xAF}
    assert accepts(reply(scored), "naïve dog")
    grammar = WordGrammar(TASK, "naïve dog").restricted(no_accent)
    assert grammar.restricted(no_accent) is grammar
    escaped = json.dumps({"textual_feedback": "x", "word_score_list": scored}).encode()
    assert rb"na\u00efve" in escaped
    assert grammar.closed(grammar.advance(grammar.initial, escaped))
    assert grammar.advance(grammar.initial, reply(scored)) is None


@pytest.mark.parametrize("task", [TASK, DECIMAL], ids=["whole", "decimal"])
@pytest.mark.parametrize("response", ["", "a b", "don’t é\n去 \ud800 x_1"])
def test_no_state_is_a_dead_end_and_the_shortest_exit_is_exact(task, response):
    task = replace(task, critique_keys=("k",), max_critique_chars=2)
    grammar = WordGrammar(task, response)
    in_critique = b'." \\n\xc3\xa9'  # test_grammar.py enumerates the critique itself
    every = range(256)
    _, ends = walk_states(grammar, lambda s: in_critique if isinstance(s, Critique) else every)
    assert ends == [Done()]


def test_the_way_out_costs_what_its_literals_cost():
    grammar = WordGrammar(TASK, "a b")

    def cost(literal):
        return 100 if b'"b"' in literal else 10

    # ".", the quote mark, the list up to the score, 0, the next word, 0, the end
    assert grammar.shortest_exit(grammar.initial, cost) == 10 + 2 + 10 + 1 + 100 + 1 + 10
    last = before_score(grammar, b'0], ["b", ')
    assert grammar.shortest_exit(last, cost) == 1 + 10
    assert grammar.shortest_exit(last) == len(b"0]]}")


def test_a_long_response_needs_no_deep_recursion():
    response = "word " * 3000
    grammar = WordGrammar(TASK, response)
    assert accepts(grammar.exit_path(grammar.initial), response)


# ---------------------------------------------------------------- decoding


def prompts_of(table, texts):
    return [table.tokenizer(f"{text} Judge:", add_special_tokens=False).input_ids for text in texts]


def test_every_reply_has_exactly_the_words_and_keeps_every_budget(table):
    model = tiny_llama(table.tokenizer)
    noise = torch.Generator().manual_seed(0)
    model.lm_head.register_forward_hook(
        lambda module, args, out: torch.randn(out.shape, generator=noise)
    )
    grammars = [WordGrammar(TASK, response) for response in RESPONSES]
    prompts = prompts_of(table, RESPONSES)
    smallest = max(one.shortest_exit(one.initial, table.cost) for one in grammars)
    scores = set()
    for budget in (*range(smallest, smallest + 5), smallest + 40):
        replies = constrained_generate(model, table, prompts, grammars, budget)
        for written, response in zip(replies, RESPONSES, strict=True):
            value = json.loads(written.text)
            said = parse_reply(written.text, TASK, response)
            assert isinstance(said, Feedback)
            assert [word for word, _ in value["word_score_list"]] == words_of(response)
            scores |= {score for _, score in value["word_score_list"]}
            assert len(written.ids) == written.n_forced + written.n_free <= budget
    assert scores == {-1, 0, 1}
    with pytest.raises(UserError, match=f"--max_new_tokens {smallest - 1}: the shortest reply"):
        constrained_generate(model, table, prompts, grammars, smallest - 1)


def test_no_state_and_budget_is_a_dead_end(table):
    """All states and budgets that tokens of a small alphabet can reach, not a sample."""
    grammar = WordGrammar(replace(TASK, max_critique_chars=3), "a é, n")
    letters = set('{}[],:. abn01-\\"é'.encode())
    assert len(walk_budgets(grammar, table, letters, 6)) > 100


def test_forced_words_are_not_decoded_one_by_one(table):
    model = tiny_llama(table.tokenizer)
    response = "The dog ran to the park and saw a cat."
    grammar = WordGrammar(replace(TASK, max_critique_chars=8), response)
    (written,) = constrained_generate(model, table, prompts_of(table, [response]), [grammar], 200)
    assert written.n_forwards == written.n_free
    # At most eight characters of critique and its end, ten scores that may begin with a minus.
    assert written.n_free <= 8 * 4 + 1 + 10
    assert written.n_forced > 40


def test_targets_are_split_as_decoding_splits_them(table):
    for response in RESPONSES:
        spans = (Span(response[:6], "good", 0, 6), Span(response[9:], "poor", 9, len(response)))
        target = word_target_json(Feedback('He said "no".', spans), response, TASK)
        grammar = WordGrammar(TASK, response)
        check_split(target, table, grammar)
