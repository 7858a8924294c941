"""Token tables: exact bytes, exact encoding, and targets split as decoding would write them."""

import json

import pytest
from grammar_walks import check_split
from hypothesis import given, settings
from hypothesis import strategies as st
from reply_cases import TARGETS, TASK, TOKENIZERS, feedback
from tiny import byte_level_tokenizer
from tokenizers import Tokenizer, normalizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from text2grad.grammar import ReplyGrammar
from text2grad.parsing import target_json
from text2grad.schema import UserError
from text2grad.token_table import TokenTable, encode_target


@pytest.fixture(scope="module", params=TOKENIZERS)
def table(request):
    return TokenTable(TOKENIZERS[request.param]())


def test_targets_are_split_as_decoding_splits_them(table):
    for response, wanted in TARGETS:
        target = target_json(wanted, TASK)
        grammar = ReplyGrammar(TASK, response)
        check_split(target, table, grammar)


def test_a_target_merges_across_the_border_of_its_strings():
    table = TokenTable(byte_level_tokenizer())
    target = target_json(feedback("It is short.", ["a cat"]), TASK)
    grammar = ReplyGrammar(TASK, "a cat")
    pieces = [table.pieces[i] for i in encode_target(target, table, grammar)]
    assert b'.",' in pieces  # closes the critique and begins the literal
    assert b'"],' in pieces  # closes the quote and its list


WHOLE = '{"textual_feedback": "x", "good_spans": ["a"], "poor_spans": []}'


@pytest.mark.parametrize(
    "target", ["[1]", "", WHOLE[:-1], WHOLE + " ", WHOLE.replace('"a"', '"c"'), WHOLE + "}"]
)
def test_only_replies_of_the_grammar_are_encoded(table, target):
    grammar = ReplyGrammar(TASK, "a b")
    assert encode_target(WHOLE, table, grammar)
    with pytest.raises(ValueError, match="not a reply of this grammar"):
        encode_target(target, table, grammar)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_encoding_is_exact(table, text):
    data = f"{text}<|im_end|>{text}</s> ﬁ".encode()
    assert b"".join(table.pieces[i] for i in table.encode(data)) == data
    assert all(table.pieces[i] for i in table.encode(data))


def test_encoding_begins_inside_a_text(table):
    # SentencePiece would put a space before the first word; here the quote mark stands there.
    pieces = [table.pieces[i] for i in table.encode(b"The dog")]
    assert pieces == [b"The", b" dog"]
    assert table.encode(b"\xa9\xff") == [table.encode(b"\xa9")[0], table.encode(b"\xff")[0]]


def test_where_the_tokenizer_changes_a_word_only_that_word_is_spelled():
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    table = TokenTable(tokenizer)
    pieces = [table.pieces[i] for i in table.encode("The dog e\u0301 saw".encode())]
    assert pieces[:2] == [b"The", b" dog"]
    assert b"".join(pieces) == "The dog e\u0301 saw".encode()


def test_a_tokenizer_that_cannot_write_json_is_refused():
    whole = json.loads(byte_level_tokenizer().backend_tokenizer.to_str())
    model = whole["model"]
    model["merges"] = [pair for pair in model["merges"] if "]" not in "".join(pair)]
    model["vocab"] = {piece: i for piece, i in model["vocab"].items() if "]" not in piece}
    lacking = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(whole)), name_or_path="my-tokenizer"
    )
    with pytest.raises(UserError, match=r"tokenizer my-tokenizer: no token for \] alone"):
        TokenTable(lacking)


def test_a_tokenizer_without_bytes_is_refused():
    words = Tokenizer(WordLevel({"[UNK]": 0, "The": 1, "dog": 2}, unk_token="[UNK]"))
    plain = PreTrainedTokenizerFast(tokenizer_object=words, name_or_path="words")
    with pytest.raises(UserError, match=r"tokenizer words: neither byte-level nor"):
        TokenTable(plain)
