"""From characters to the bytes of sampled tokens, and to their scores."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import byte_fallback_tokenizer, byte_level_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from text2grad.alignment import (
    TokenBytes,
    byte_pieces,
    locate_spans,
    match_statistics,
    response_text,
    score_tokens,
    token_offsets,
)
from text2grad.schema import Span
from text2grad.tasks import get_task

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TASK = get_task("slf5k")
TOKENIZERS = {"byte_level": byte_level_tokenizer(), "byte_fallback": byte_fallback_tokenizer()}
TABLES = {kind: TokenBytes(tokenizer) for kind, tokenizer in TOKENIZERS.items()}
ANY_TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("🙂👩‍👧é日本\r\n\t the dog"))


def word_piece_tokenizer():
    """A tokenizer of neither byte family."""
    words = ["[UNK]", "the", "dog", "##s", "run", "##ning", "é", "."]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_kind_is_told_by_the_vocabulary(kind):
    assert TABLES[kind].kind == kind


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=ANY_TEXT)
@settings(max_examples=60, deadline=None)
def test_tokens_of_any_text_tile_it(kind, text):
    ids = TOKENIZERS[kind].encode(text, add_special_tokens=False)
    pieces = TABLES[kind].pieces(ids)
    assert len(pieces) == len(ids)
    joined = response_text(pieces)
    assert joined in (text, f" {text}")  # SentencePiece writes a space before the first word
    check_tiling(pieces)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(seed=st.integers(0, 10**6), size=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_any_ids_tile_their_text(kind, seed, size):
    rng = random.Random(seed)
    tokenizer = TOKENIZERS[kind]
    ids = [rng.randrange(len(tokenizer)) for _ in range(size)]
    pieces = TABLES[kind].pieces(ids)
    assert response_text(pieces) == b"".join(pieces).decode("utf-8", "replace")
    check_tiling(pieces)
    if kind == "byte_level":  # the SentencePiece decoder itself strips and marks differently
        assert response_text(pieces) == tokenizer.decode(ids, skip_special_tokens=True)


def check_tiling(pieces):
    """Offsets cover the text in order; a character is in two tokens only if its bytes are."""
    text, data = response_text(pieces), b"".join(pieces)
    before, done = 0, 0
    for piece, (start, end) in zip(pieces, token_offsets(pieces), strict=True):
        halves = (data[:done].decode("utf-8", "replace"), data[done:].decode("utf-8", "replace"))
        is_split = sum(map(len, halves)) > len(text)
        assert start == before - is_split
        assert (end > start) == bool(piece)
        before, done = max(before, end), done + len(piece)
    assert before == len(text)


def test_offsets_of_split_and_broken_characters():
    assert token_offsets([b"a", b" \xc3", b"\xa9"]) == [(0, 1), (1, 3), (2, 3)]
    assert token_offsets([b"\xf0\x9f", b"", b"\x99", b"\x82x", b""]) == [
        *[(0, 1), (0, 0), (0, 1), (0, 2), (2, 2)]
    ]
    # \xf0\x9f is one broken character, the stray \x82 another
    assert token_offsets([b"\xf0", b"\x9fA", b"\x82"]) == [(0, 1), (0, 2), (2, 3)]
    assert token_offsets([b"\xf0\x9f\x99", b"A"]) == [(0, 1), (1, 2)]
    assert token_offsets([]) == []


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_special_tokens_have_no_bytes(kind):
    tokenizer, table = TOKENIZERS[kind], TABLES[kind]
    specials = [tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer) + 7, -1]
    assert table.pieces(specials) == [b""] * 4


def test_added_tokens_spell_themselves_and_make_a_new_table():
    tokenizer = byte_level_tokenizer()
    assert byte_pieces(tokenizer, [tokenizer.convert_tokens_to_ids("<tool>")]) == [b"<tool>"]
    tokenizer.add_tokens([AddedToken("éé", special=False, normalized=False)])
    assert byte_pieces(tokenizer, [len(tokenizer) - 1]) == ["éé".encode()]


def test_a_text_of_both_families():
    text = "The dog 🙂"
    ids = TOKENIZERS["byte_level"].encode(text)
    pieces = [b"The", b" dog", b" ", b"\xf0", b"\x9f", b"\x99", b"\x82"]
    assert TABLES["byte_level"].pieces(ids) == pieces
    ids = TOKENIZERS["byte_fallback"].encode(text, add_special_tokens=False)
    assert TABLES["byte_fallback"].pieces(ids) == [b" The", *pieces[1:]]


def test_incremental_decoding_is_the_last_resort():
    tokenizer = word_piece_tokenizer()
    table = TokenBytes(tokenizer)
    ids = tokenizer.encode("the dogs running . é")
    assert table.kind == "incremental"
    assert table.pieces(ids) == [b"the", b" dog", b"s", b" run", b"ning", b" .", " é".encode()]


def test_incremental_decoding_looks_at_a_few_ids_at_a_time(monkeypatch):
    tokenizer = word_piece_tokenizer()
    table = TokenBytes(tokenizer)
    decode, lengths = tokenizer.decode, []
    monkeypatch.setattr(
        tokenizer, "decode", lambda i, **k: lengths.append(len(i)) or decode(i, **k)
    )
    assert response_text(table.pieces([1, 2] * 50)) == " ".join(["the dog"] * 50)
    assert max(lengths) == 2


def test_incremental_decoding_agrees_with_the_table_on_whole_characters():
    table = TokenBytes(TOKENIZERS["byte_level"])
    table.kind = "incremental"
    for text in ("naïve 🙂 日本 dog", "🙂", "", "plain"):
        ids = [*TOKENIZERS["byte_level"].encode(text), TOKENIZERS["byte_level"].eos_token_id]
        assert table.pieces(ids) == TABLES["byte_level"].pieces(ids)
    broken = table.pieces([175, 175, 256])
    assert response_text(broken) == "\ufffd\ufffd"


def test_a_table_that_disagrees_with_the_decoder_is_not_used():
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("e", "E")]
    )
    table = TokenBytes(tokenizer)
    assert table.kind == "incremental"
    assert response_text(table.pieces(tokenizer.encode("the end"))) == "thE End"


def scores(pieces, *marks, task=TASK):
    """Marks are (start, end, label) in characters of the joined pieces."""
    spans = [Span("", label, start, end) for start, end, label in marks]
    return score_tokens(pieces, spans, task)


def test_example_of_the_docstring():
    assert scores([b"ab", b"cdef", b" "], (0, 4, "good"), (0, 1, "poor")) == [-1, 1, 0]


@pytest.mark.parametrize(
    ("pieces", "end", "expected"),
    [
        ([b"ab"], 1, [1]),  # 1 of 2 bytes
        ([b"abc"], 1, [0]),  # 1 of 3
        ([b" ab"], 2, [1]),  # the space does not count: 1 of 2
        ([b" \n", b"a"], 3, [0, 1]),  # white space alone is 0 inside a span too
        (["aé".encode()], 1, [0]),  # é has two bytes: 1 of 3
        (["éa".encode()], 1, [1]),  # 2 of 3
        (["\u00a0a".encode()], 1, [0]),  # a no-break space is white space: 0 of 1
        ([b"a", b""], 1, [1, 0]),  # a special token has nothing to score
    ],
)
def test_half_of_the_visible_bytes_decide(pieces, end, expected):
    assert scores(pieces, (0, end, "good")) == expected


def test_tokens_of_one_character_share_its_score():
    emoji = [b"\xf0", b"\x9f", b"\x99", b"\x82"]
    assert scores([b"a", *emoji, b"b"], (1, 2, "good")) == [0, 1, 1, 1, 1, 0]
    assert scores([b"a", *emoji, b"b"], (0, 1, "good")) == [1, 0, 0, 0, 0, 0]
    # "ab🙂" in two tokens: alone, the first would have 1 of 3 bytes inside; together it is 4 of 6
    assert scores([b"ab\xf0", b"\x9f\x99\x82"], (2, 3, "poor")) == [-1, -1]
    assert scores([b"ab\xf0", b"\x9f\x99\x82"], (0, 2, "poor")) == [0, 0]


def test_the_lower_score_wins_where_labels_overlap():
    pieces = [b"one", b" two", b" three"]
    assert scores(pieces, (0, 13, "good"), (4, 7, "poor")) == [1, -1, 1]
    assert scores(pieces, (4, 7, "poor"), (0, 13, "good")) == [1, -1, 1]


def test_unmarked_tokens_take_the_unmarked_score():
    task = replace(TASK, unmarked_score=1.0)
    assert scores([b"one", b" ", b" two", b""], (4, 8, "poor"), task=task) == [1, 0, -1, 0]
    unmatched = [Span("zebra", "poor", match="unmatched")]
    assert score_tokens([b"one"], unmatched, TASK) == [0]


def test_scores_equal_a_plain_count_of_bytes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from alignment import Answer, plain_tokens

    rng = random.Random(0)
    for round_number in range(120):
        tokenizer = TOKENIZERS[("byte_level", "byte_fallback")[round_number % 2]]
        pieces = byte_pieces(tokenizer, [rng.randrange(len(tokenizer)) for _ in range(12)])
        text = b"".join(pieces).decode("utf-8", "ignore") + "🙂 é"
        data = text.encode()
        cuts = sorted(rng.choices(range(len(data) + 1), k=8))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        start = rng.randrange(len(text))
        end = rng.randint(start, len(text))
        marked = [score == 1 for score in scores(pieces, (start, end, "good"))]
        assert marked == plain_tokens(Answer(text, 0, pieces), start, end)


def test_statistics_of_matches():
    responses = ["so good, so good", "The end."]
    located = [
        locate_spans(
            [Span("so good", "good"), Span("SO  GOOD", "poor"), Span("zebra", "poor")],
            responses[0],
            TASK,
        ),
        (),
    ]
    assert match_statistics(located, responses) == {
        "n_responses": 2,
        "n_spans": 3,
        "exact": 1,
        "normalised": 1,
        "fuzzy": 0,
        "unmatched": 1,
        "ambiguous": 2,
        "without_spans": 1,
        "labels": {"good": 1, "poor": 2},
        "unmatched_rate": pytest.approx(1 / 3),
        "ambiguous_rate": pytest.approx(2 / 3),
        "coverage": pytest.approx(12 / 20),  # both copies, 6 letters each, of 13 + 7
    }
    assert match_statistics([], [])["coverage"] == 0.0


def test_the_benchmark_holds_on_sample_posts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import alignment as benchmark
    from quotes import SCRIPTS, read_sets, sentence_quotes

    texts, _ = read_sets("", "")["sample"]
    texts = texts[:16] + texts[-len(SCRIPTS) :]
    tokenizer = TOKENIZERS["byte_fallback"]
    rows = benchmark.build("sample", *sentence_quotes(texts), tokenizer).measure()
    by_name = {row["quotes_changed_by"]: row for row in rows}
    assert by_name["exact, occurs once"]["f1"] == 1.0
    assert by_name["given offsets that cut tokens"]["f1"] == 1.0
    for name in ("white space", "case", "quote marks, dashes", "Unicode form"):
        assert by_name[name]["f1"] >= 0.999, name
    for name in ("one typo", "two typos", "a dropped word"):
        assert by_name[name]["recall"] >= 0.95, name
        assert by_name[name]["precision"] >= 0.99, name
    assert by_name["quoted from another answer"]["accepted"] <= 0.01
