r"""The reply grammar on code: indentation, quote marks, backslashes, line breaks inside JSON.

CODE holds what JSON must escape: \n, \t, \\, ", and what Python escapes itself.
"""

import json

import pytest
import torch
from grammar_walks import check_split
from tiny import byte_fallback_tokenizer, byte_level_tokenizer, tiny_llama

from text2grad.alignment import locate_spans
from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.borders import quote_borders
from text2grad.decoding import constrained_generate
from text2grad.grammar import ReplyGrammar
from text2grad.parsing import parse_reply, target_json
from text2grad.schema import Feedback, Record, Span
from text2grad.targets import TargetTrimmer
from text2grad.tasks import get_task
from text2grad.token_table import TokenTable

TASK = get_task("kodcode")
CODE = (
    "def f(s, n=1):\n"
    '    """Say \\"hé\\" n times."""\n'
    "    out = []\n"
    "    for i in range(n):\n"
    "        if s[i:] != '\\\\' and n >= 2 ** i:\n"
    '\t\t\tout.append("\\t" + s)  # 🙂\n'
    "    return out\n"
)
LINES = [line for line in CODE.split("\n") if line]
FENCED = f"Here, `out` is:\n\n```python\n{CODE}```\n\nIt returns out.\n"
TOKENIZERS = {"byte level": byte_level_tokenizer, "byte fallback": byte_fallback_tokenizer}


def reply_with(*quotes):
    return target_json(Feedback("x", tuple(Span(quote, "wrong_code") for quote in quotes)), TASK)


def accepts(grammar, reply):
    state = grammar.advance(grammar.initial, reply.encode())
    return state is not None and grammar.closed(state)


@pytest.mark.parametrize("quote", [*LINES, *(line.strip() for line in LINES), *LINES[-2:]])
def test_whole_lines_with_and_without_indentation_can_be_quoted(quote):
    reply = reply_with(quote)
    assert accepts(ReplyGrammar(TASK, CODE), reply)
    [span] = parse_reply(reply, TASK).spans
    assert span.text == quote
    [place] = locate_spans([span], CODE, TASK)
    assert CODE[place.start : place.end] == quote


def test_several_lines_are_one_quote_with_their_line_breaks():
    quote = "\n".join(LINES[3:6])
    assert "\\n        if" in reply_with(quote)
    assert accepts(ReplyGrammar(TASK, CODE), reply_with(quote))


@pytest.mark.parametrize(
    "quote",
    [
        "    for i in range(m):",
        "for i in ran",  # not inside a name
        "* i:",  # not inside an operator
        "n >",
        "   return out",  # not inside the indentation
        "for i in range(n):\n    if",
        "for i in range(n):\\n",
        "out = []\n",  # ends after something that can be seen
    ],
)
def test_what_is_not_the_code_or_cuts_a_token_cannot_be_quoted(quote):
    assert not accepts(ReplyGrammar(TASK, CODE), reply_with(quote))


def test_every_pair_of_borders_is_a_quote():
    grammar = ReplyGrammar(TASK, CODE)
    starts, ends = quote_borders(CODE, "token")
    for start in starts:
        for end in (end for end in ends if start < end <= start + TASK.max_quote_chars):
            assert accepts(grammar, reply_with(CODE[start:end])), CODE[start:end]


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_targets_are_split_as_they_would_be_decoded(make):
    check_split(reply_with(*LINES[2:6]), TokenTable(make()), ReplyGrammar(TASK, CODE))


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_decoded_quotes_are_code_character_by_character(make):
    torch.set_num_threads(1)
    table = TokenTable(make())
    model = tiny_llama(table.tokenizer, 1)
    extra = torch.tensor([0.4 * (b'"' in piece) for piece in table.pieces])
    model.lm_head.register_forward_hook(lambda module, args, out: out + extra)
    prompts = [table.tokenizer(text, add_special_tokens=False).input_ids for text in ("a", "b c")]
    grammars = [ReplyGrammar(TASK, text) for text in (CODE, CODE * 3)]
    quotes = []
    for reply in constrained_generate(model, table, prompts, grammars, 200):
        value = json.loads(reply.text)
        assert list(value) == ["code_feedback", "wrong_code", "improvement_code"]
        quotes += [*value["wrong_code"], *value["improvement_code"]]
    assert quotes
    assert all(quote in CODE * 3 for quote in quotes)


# -- targets, and the answers of the policy


def trimmed(*spans):
    trimmer = TargetTrimmer(TASK)
    made = trimmer.trim(Feedback("ok", tuple(Span(*span) for span in spans)), CODE)
    return [(span.text, span.label) for span in made.spans]


def test_targets_keep_indentation_and_widen_what_cuts_a_token():
    line = "    for i in range(n):"
    assert trimmed((line, "wrong_code")) == [(line, "wrong_code")]
    assert trimmed(("or i in ran", "improvement_code")) == [("for i in range", "improvement_code")]
    both = "\n".join(LINES[3:5])
    assert trimmed((both, "wrong_code"), ("return out", "improvement_code")) == [
        (both, "wrong_code"),
        ("return out", "improvement_code"),
    ]


def test_the_reward_model_judges_and_quotes_the_code_alone(tmp_path):
    tokenizer = byte_level_tokenizer()
    model = tiny_llama(tokenizer, 2, initializer_range=0.2)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    annotator = RewardModelAnnotator(str(tmp_path), TASK, dtype="fp32", max_new_tokens=260)
    shown = []
    encode = annotator.renderer.render
    annotator.renderer.render = lambda *args, **slots: (
        shown.append(slots["response"]) or encode(*args, **slots)
    )
    table = annotator.table
    extra = torch.tensor([0.6 * (b'"' in piece) for piece in table.pieces])
    annotator.model.lm_head.register_forward_hook(lambda module, args, out: out + extra)
    responses = (FENCED, "I do not know it.", CODE)
    said = annotator.annotate([Record(str(n), "Say it.", r) for n, r in enumerate(responses)])
    assert shown == [CODE, "I do not know it.", CODE]
    assert said[1].spans == ()
    for response, feedback in zip(responses, said, strict=True):
        for span in locate_spans(feedback.spans, response, TASK):
            assert span.match == "exact"
            assert span.text in CODE
            assert "Here" not in response[: span.start] or span.start >= FENCED.index("def f")
    assert said[0].spans
