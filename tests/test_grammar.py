"""The reply grammar: what it accepts, where quotes may be, and that no state is a dead end."""

import itertools
import json
from dataclasses import replace

import pytest
from grammar_walks import walk_states
from hypothesis import given
from hypothesis import strategies as st

from text2grad.borders import quote_borders
from text2grad.critique_grammar import ALL_BYTES, Critique
from text2grad.grammar import Choice, ReplyGrammar
from text2grad.tasks import get_task

TASK = get_task("slf5k")
CODE = replace(TASK, quote_border="token")


def reply(critique="x", good=(), poor=()) -> bytes:
    value = {"textual_feedback": critique, "good_spans": [*good], "poor_spans": [*poor]}
    return json.dumps(value, ensure_ascii=False).encode()


def accepts(data: bytes, response="", task=TASK, writable=ALL_BYTES) -> bool:
    grammar = ReplyGrammar(task, response, writable)
    state = grammar.advance(grammar.initial, data)
    return state is not None and grammar.closed(state)


def steps(grammar, state, alphabet):
    """A literal in one step, else single bytes."""
    literal = grammar.forced(state)
    for data in [literal] if literal else [bytes([byte]) for byte in alphabet]:
        after = grammar.advance(state, data)
        if after is not None:
            yield data, after


# ---------------------------------------------------------------- the language, enumerated


def test_accepts_exactly_the_language_of_a_tiny_task():
    alphabet = b'an" \\],'
    task = replace(TASK, max_critique_chars=2, max_quotes=2, max_quote_chars=3)
    grammar = ReplyGrammar(task, "a n")
    found, walks = set(), [(grammar.initial, b"")]
    while walks:
        state, written = walks.pop()
        if grammar.closed(state):
            found.add(written)
        walks += [(after, written + data) for data, after in steps(grammar, state, alphabet)]

    def read(raw: tuple[int, ...]) -> str:
        try:
            return json.loads(b'"' + bytes(raw) + b'"')
        except json.JSONDecodeError:
            return ""

    # Two characters of a JSON string are at most four bytes: \n, \", \\ are escapes here.
    raws = [raw for n in range(5) for raw in itertools.product(alphabet, repeat=n)]
    critiques = [bytes(raw).decode() for raw in raws if read(raw).strip() and len(read(raw)) <= 2]
    # The lists of quotes of "a n" by hand, with the places where their quotes start. A quote that
    # starts inside an earlier one of the list, or with another of any list, is left out.
    lists = {"": "", '"a"': "0", '"n"': "2", '"a n"': "0"}
    lists |= {'"a", "n"': "02", '"n", "a"': "02", '"n", "a n"': "02"}
    wanted = {
        f'{{"textual_feedback": "{c}", "good_spans": [{good}], "poor_spans": [{poor}]}}'.encode()
        for c in critiques
        for good in lists
        for poor in lists
        if not set(lists[good]) & set(lists[poor])
    }
    assert found == wanted


# No letters that are hexadecimal digits: they would only multiply the states of \u escapes.
CASES = {
    "text": (TASK, 'It\'s "m" p\\q\n.'),
    "emoji": (TASK, "é👩🏽‍🚀🇩🇪o\u0301 x"),
    "unspaced": (TASK, "去公园吧ไทย ok"),
    "code": (CODE, "  x_y==z\n\ti(x):\n"),
    "control and surrogate": (TASK, "m\x01n \ud800 o\x7f"),
    "several copies": (TASK, "m o m"),
    "two characters": (TASK, "é👩🏽 x"),
    "blank": (TASK, " \n\t"),
    "empty": (TASK, ""),
    "word too long": (TASK, "mnopqrst ij"),
    "wide letters": (TASK, "𝓪𝓫𝓬𝓭𝓮 x"),
    "one word, one character too long": (TASK, "mnopqr"),
}


@pytest.mark.parametrize("case", CASES)
def test_no_state_is_a_dead_end_and_the_shortest_exit_is_exact(case):
    task, response = CASES[case]
    short_keys = tuple(replace(label, key=label.key[0]) for label in TASK.labels)
    task = replace(task, critique_keys=("k",), labels=short_keys)
    # which places are still free multiplies the states: a second quote only in the short texts
    quotes = 2 if len(response) < 8 else 1
    task = replace(task, max_critique_chars=2, max_quotes=quotes, max_quote_chars=5)
    grammar = ReplyGrammar(task, response)
    # Bytes of the response, of JSON, of escapes and surrogate pairs, and of whole and cut UTF-8.
    escaped = json.dumps(response, ensure_ascii=False).encode("utf-8", "replace")
    alphabet = {*escaped, *grammar.exit_path(grammar.initial)}
    alphabet |= {*b'" \\,ud8e0n\n\xc2\xe2\xed\xf0\xf4\x80\x8f\x9f\xbf'}
    seen, _ = walk_states(grammar, lambda state: alphabet)
    assert len(seen) > 100


# ---------------------------------------------------------------- the critique


@given(st.text(max_size=30), st.booleans())
def test_any_text_is_a_critique_unless_blank(text, ascii_only):
    data = json.dumps(text, ensure_ascii=ascii_only)
    whole = f'{{"textual_feedback": {data}, "good_spans": [], "poor_spans": []}}'.encode()
    assert accepts(whole) == bool(text.strip())


BYTES = b'\\u"/nd8e0 \n\xc2\xa0\xc3\xa9\xe2\x80\x8b\xed\x9f\xf0\xf4\x90'


@given(st.lists(st.sampled_from(BYTES), max_size=8).map(bytes))
def test_bytes_are_a_critique_only_if_python_reads_them_as_text(raw):
    whole = reply().replace(b': "x"', b': "' + raw + b'"')
    try:
        text = json.loads(whole)["textual_feedback"]
        legal = text.encode() != b"" and not text.isspace()
    except ValueError:  # not UTF-8, not JSON, or half a surrogate pair
        legal = False
    assert accepts(whole) == legal


@pytest.mark.parametrize(
    ("raw", "legal"),
    [
        (rb"\ud83d\ude00", True),
        (rb"\uD83D\uDE00", True),
        (rb"a\ud83d", False),  # half a surrogate pair is no text
        (rb"a\ude00", False),
        (rb"a\ud83d\u0041", False),
        (rb"\u0020\u3000\n", False),  # blank, however it is written
        ("\u3000\u00a0".encode(), False),
        (rb"\/", True),
        (rb"a\x41", False),
        (b"a\tb", False),  # a raw control character
        (b"\xc0\xaf", False),  # overlong
        (b"a\xed\xa0\x80", False),  # a surrogate in UTF-8
        (b"\xf4\x90\x80\x80", False),  # beyond Unicode
        ("\U0010ffff".encode(), True),
    ],
)
def test_legal_critiques(raw, legal):
    assert accepts(reply().replace(b': "x"', b': "' + raw + b'"')) == legal


def test_the_critique_is_bounded_in_characters():
    task = replace(TASK, max_critique_chars=4)
    assert accepts(reply('a"👩\n'), task=task)
    assert not accepts(reply('a"👩\nb'), task=task)
    # The last character is kept for one that is no space.
    grammar = ReplyGrammar(task, "")
    blank = grammar.advance(grammar.initial, b'{"textual_feedback": "   ')
    assert grammar.advance(blank, b" ") is None
    assert grammar.advance(blank, b"a") == Critique(b"", 4, True)


# ---------------------------------------------------------------- quotes


@pytest.mark.parametrize(
    ("response", "quotes", "no_quotes"),
    [
        ("The dog ran.", ["The", "dog ran", "ran.", "."], ["T", "og", " dog", "The ", "dog  ran"]),
        ('a\tb\n"c" d\\e', ["a\tb", 'b\n"c"', '"c" d\\e', "\\"], ["a\\tb", "b\n", "\n"]),
        ("naïve cafe\u0301s", ["naïve", "cafe\u0301s"], ["na", "caf", "cafe", "\u0301s"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"], ["हि", "हिन", "ष"]),
        ("我们去公园。", ["我", "去公", "园。", "。"], ["我去"]),
        ("ไปเที่ยว", ["ไป", "เที่ยว", "เที่"], ["เท"]),
        ("ok👩🏽‍🚀🇩🇪🇫🇷 x", ["ok", "👩🏽‍🚀", "🇩🇪", "🇫🇷 x"], ["👩", "👩🏽", "🚀", "🇪🇫", "🇩"]),
        ("a\r\nb 1️⃣", ["a\r\nb", "1️⃣"], ["1", "\n"]),
        ("b\x01c", ["b", "\x01", "c"], ["b\\u0001c"]),
    ],
)
def test_a_quote_is_a_substring_between_borders(response, quotes, no_quotes):
    for quote in quotes:
        assert quote in response
        assert accepts(reply(good=[quote]), response), quote
        assert accepts(reply(poor=[quote]), response), quote
    for quote in ["", " ", *no_quotes]:
        assert not accepts(reply(good=[quote]), response), quote


def test_in_code_a_quote_cuts_no_identifier_and_no_operator():
    code = "def f(x):\n    return x_1 >= -1\n"
    for quote in ["def f(x):", "    return x_1", "return", "x_1 >=", "-1", ">= -1", "f(", "):"]:
        assert accepts(reply(good=[quote]), code, CODE), quote
    for quote in ["x_", "1 >=", "> = -1", "= -1", "x_1 >", "  return", "    ", "):\n"]:
        assert not accepts(reply(good=[quote]), code, CODE), quote
    assert not accepts(reply(good=["    return x_1"]), code, TASK)


def test_borders_of_the_docstring():
    assert quote_borders("a cat", "word") == ([0, 2], [1, 5])
    # Both spaces before the line's first word, its word, the operator and what follows it.
    assert quote_borders("  a==b", "token") == ([0, 2, 3, 5], [3, 5, 6])


@given(st.text(st.sampled_from('ab_ ."\\\né\u0301去👩\u200d🇩🏽\x01=1'), max_size=12), st.data())
def test_whatever_is_between_borders_can_be_quoted_in_any_split(response, data):
    starts, ends = quote_borders(response, "word")
    pairs = [(start, end) for start in starts for end in ends if start < end]
    quotes = [response[start:end] for start, end in pairs]
    assert all(quote == quote.strip() != "" for quote in quotes)
    written = reply(good=[data.draw(st.sampled_from(quotes))] if quotes else [])
    grammar = ReplyGrammar(TASK, response)
    state, rest = grammar.initial, written
    while rest:
        size = data.draw(st.integers(1, 9))
        state, rest = grammar.advance(state, rest[:size]), rest[size:]
        assert state is not None
        assert hash(state) is not None
    assert grammar.closed(state)
    assert grammar.advance(state, b" ") is None


def test_the_bound_of_a_quote_counts_characters_and_keeps_an_exit():
    task = replace(TASK, max_quote_chars=6)
    assert accepts(reply(good=["ab"]), 'ab "👩 cd', task)
    assert accepts(reply(good=['ab "👩']), 'ab "👩 cd', task)
    assert not accepts(reply(good=['ab "👩 cd']), 'ab "👩 cd', task)
    # "ab" can be followed by the space only where the next word still fits.
    grammar = ReplyGrammar(task, "ab cdefg ab xy")
    inside = grammar.advance(grammar.initial, reply(good=["ab"])[:-21])
    assert grammar.advance(inside, b" xy") is not None
    assert grammar.advance(inside, b" c") is None


def test_at_most_max_quotes_each():
    assert accepts(reply(good=["a", "b"], poor=["c"]), "a b c")
    assert not accepts(reply(good=["a", "b", "c"]), "a b c")


def test_no_place_is_quoted_twice():
    text = "the cat saw the dog"
    assert not accepts(reply(good=["cat", "cat"]), text)
    assert not accepts(reply(good=["cat"], poor=["cat"]), text)
    assert not accepts(reply(good=["the cat saw", "saw"]), text)
    assert accepts(reply(good=["the cat saw"], poor=["saw"]), text), "a slip inside good words"
    # a good quote takes the first copy, a poor one the last: both are free for each other once
    assert accepts(reply(good=["the"], poor=["the"]), text)
    assert accepts(reply(good=["the", "the"]), text)
    assert not accepts(reply(good=["the", "the"], poor=["the"]), text)


@pytest.mark.parametrize("response", ["", " \n", "\ud800"])
def test_without_anything_to_quote_only_empty_lists(response):
    grammar = ReplyGrammar(TASK, response)
    state = grammar.advance(grammar.initial, b'{"textual_feedback": "x", "good_spans": [')
    assert state == Choice(0, 0, 0, 0)
    assert grammar.next_bytes(state) == b"]"
    assert accepts(reply(), response)


def test_what_only_an_unwritable_byte_could_finish_is_never_begun():
    no_emoji = ALL_BYTES - {0xF0}
    response = "ab👩 cd👩ef"
    assert accepts(reply(good=["ab"]), response, writable=no_emoji)
    # "ab" may end before the emoji, and a token that holds all of it may go past it.
    assert accepts(reply(good=["ab👩 cd"]), response, writable=no_emoji)
    assert not accepts(reply(good=["👩 cd"]), response, writable=no_emoji)
    no_tails = ALL_BYTES - {0xBF}
    grammar = ReplyGrammar(TASK, response).restricted(no_tails)
    state = grammar.advance(grammar.initial, b'{"textual_feedback": "')
    assert grammar.advance(state, "é".encode()) is not None
    assert grammar.advance(state, "é".encode()[:1]) is None
    assert grammar.restricted(no_tails) is grammar


def test_literals_are_forced_and_choices_are_not():
    grammar = ReplyGrammar(TASK, "a b")
    assert grammar.forced(grammar.initial) == b'{"textual_feedback": "'
    for written, forced in [
        (b'{"textual_feedback": "x', b""),
        (b'{"textual_feedback": "x"', b', "good_spans": ['),
        (b'{"textual_feedback": "x", ', b'"good_spans": ['),
        (b'{"textual_feedback": "x", "good_spans": [', b""),
        (b'{"textual_feedback": "x", "good_spans": ["a"', b""),
        (b'{"textual_feedback": "x", "good_spans": ["a",', b' "'),
        (reply()[:-1], b"}"),
    ]:
        assert grammar.forced(grammar.advance(grammar.initial, written)) == forced
