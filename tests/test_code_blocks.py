"""The code of a response, and quotes and scores that keep to it."""

import ast
import io
import sysconfig
import textwrap
import tokenize
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import byte_fallback_tokenizer, byte_level_tokenizer

from text2grad.alignment import (
    TokenBytes,
    label_tokens,
    locate_spans,
    response_text,
    score_tokens,
    token_offsets,
)
from text2grad.code_blocks import code_blocks, extract_code, judged_code, mask_outside
from text2grad.schema import Span
from text2grad.tasks import get_task

TASK = get_task("kodcode")
FENCED = "Use `sum`:\n\n```python\ndef f(x):\n    return sum(x)\n```\n\nThat is `sum`.\n"


def texts(response):
    return [response[slice(*block)] for block in code_blocks(response)]


@pytest.mark.parametrize(
    ("response", "blocks"),
    [
        (FENCED, ["def f(x):\n    return sum(x)\n"]),
        ("```py\nx = 1\n```\n```Python3\ny = 2\n```", ["x = 1\n", "y = 2\n"]),
        ("```text\nno\n```\n```python title=a.py\nx\n```", ["x\n"]),  # Python before the others
        ("```text\nout\n```\nand\n~~~\nmore\n~~~", ["out\n", "more\n"]),
        ("Here:\n```python\nx = 1\ny =", ["x = 1\ny ="]),  # cut off before the fence closes
        ("```python\r\nx = 1\r\n```\r\n", ["x = 1\r\n"]),
        ("\ufeff```python\nx = 1\n```\n```\n\ufeff```", ["x = 1\n"]),
        ("```\n\ufeffx = 1\n```", ["x = 1\n"]),
        ("\ufeffx = 1\n", ["x = 1\n"]),
        ("````\n```\nx\n```\n````", ["```\nx\n```\n"]),
        ("~~~py\n```\n~~~", ["```\n"]),
        ('```python\ndef f():\n    """\n    ```\n    """\n    return 1\n```\n', None),
        ("1. So:\n   ```python\n   x = 1\n   ```\n", ["   x = 1\n"]),
        ("``` `a` ```", []),
        ("```python\n```", []),
        ("", []),
    ],
)
def test_fenced_blocks(response, blocks):
    if blocks is None:  # a fence inside the code is indented further than the block's own
        blocks = [response.split("\n", 1)[1].removesuffix("```\n")]
    assert texts(response) == blocks


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return x\n",
        '"""What it is.\n\nFor whom it is.\n"""\nimport os\nx = os.sep\n',
        "    return a + b\n",
        "from math import pi\n\n\nclass A(B):\n    x: int = 3\n\n    def f(self): pass",
        "def broken(x:\n    return x +\n",
        "# a comment\nprint(1)\n",
    ],
)
def test_bare_code_is_all_code(code):
    assert code_blocks(code) == [(0, len(code))]


@pytest.mark.parametrize(
    "text",
    [
        "The answer is yes.",
        "return the value of x",
        "If you want it:\nask for it.",
        "I cannot do that. Import this into your project and call it.",
        "Here is code:\n\ndef f(x):\n    return x\n",
        "x",
    ],
)
def test_prose_holds_no_code(text):
    assert code_blocks(text) == []


def test_code_is_put_together_without_the_indentation_of_its_fences():
    response = "a\n  ```py\n  def f():\n      return '  x'\n  ```\nb\n```py\ny = 1"
    code = extract_code(response)
    assert code.text == "def f():\n    return '  x'\ny = 1"
    for start, end in ((0, 3), (code.text.index("y"), len(code.text))):
        assert response[slice(*code.place(start, end))] == code.text[start:end]
    assert judged_code("no code", "code").text == ""
    assert judged_code(" all of it", "response").text == " all of it"


def test_long_hostile_lines_are_quick():
    for text in ("```" + " " * 200_000 + "x", " " * 200_000 + "!", "for in " * 30_000, "a" * 10**6):
        assert code_blocks(text) is not None


def test_masked_text_keeps_every_place():
    masked = mask_outside(FENCED, "code")
    assert len(masked) == len(FENCED)
    assert masked.strip("\n") == "def f(x):\n    return sum(x)"
    assert mask_outside(FENCED, "response") == FENCED


# -- quotes


def located(quote, response, label="wrong_code"):
    [span] = locate_spans([Span(quote, label)], response, TASK)
    return span


def test_a_quote_is_looked_for_in_code_alone():
    span = located("sum", FENCED)
    assert (span.start, span.copies) == (FENCED.index("sum(x)"), 1)
    assert located("That is", FENCED).match == "unmatched"
    given = Span("sum", "wrong_code", 5, 8)  # an annotator's offsets into the prose
    assert locate_spans([given], FENCED, TASK)[0].start == FENCED.index("sum(x)")


@pytest.mark.parametrize(
    ("quote", "line"),
    [
        ("        return n", 3),  # its indentation tells it from line 5
        ("    return n", 5),
        ("return n\n    n", 3),
        ("n = 1", 4),  # not in xn = 10
        ("if n == 1:\n        return n", 2),
    ],
)
def test_context_tells_copies_apart(quote, line):
    code = "def f(n):\n    xn = 10\n    if n == 1:\n        return n\n    n = 1\n    return n\n"
    span = located(quote, code)
    assert (span.match, span.copies) == ("exact", 1)
    assert code[: span.start].count("\n") == line


def test_copies_without_context_are_counted():
    code = "def f(n):\n    n += 1\n    print(n)\n    n += 1\n    return n\n"
    span = located("n += 1", code)
    assert (span.copies, code[: span.start].count("\n")) == (2, 1)
    assert located("    print(n)\n    n += 1", code).copies == 1


# -- scores


def scored(response, quotes):
    """(text, score) of one-character tokens, white space left out."""
    pieces = [char.encode() for char in response]
    spans = locate_spans([Span(text, label) for text, label in quotes], response, TASK)
    pairs = zip(response, score_tokens(pieces, spans, TASK), strict=True)
    return [(char, score) for char, score in pairs if not char.isspace()]


def test_scores_of_a_fenced_answer_by_hand():
    response = "So a:\n```py\na = b\nc = d\ne\n```\nc = d"
    quotes = [("a = b", "wrong_code"), ("c = d", "improvement_code")]
    code = [(char, -1.0) for char in "a=b"] + [(char, 0.0) for char in "c=d"] + [("e", 1.0)]
    before, after = "Soa:```py", "```c=d"
    assert scored(response, quotes) == [
        *((char, 0.0) for char in before),
        *code,
        *((char, 0.0) for char in after),
    ]
    assert {score for _, score in scored("No code here.", [])} == {0.0}


def test_the_papers_variant_leaves_other_code_at_0():
    task = replace(TASK, unmarked_score=0.0)
    span = Span("x", "wrong_code", 0, 1, "exact")
    assert score_tokens([b"x", b" = ", b"1"], [span], task) == [-1.0, 0.0, 0.0]
    assert score_tokens([b"x", b" = ", b"1"], [span], TASK) == [-1.0, 1.0, 1.0]


# -- quotes of real code, on several tokenizers

MODULES = ("bisect", "textwrap", "heapq", "statistics")
TOKENIZERS = {
    "byte level": byte_level_tokenizer,
    "byte fallback": byte_fallback_tokenizer,
    "larger": lambda: byte_level_tokenizer(700),
}


def functions():
    """Real code: a function of some 30 lines from each of a few modules."""
    for name in MODULES:
        path = Path(sysconfig.get_path("stdlib")) / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        sources = [textwrap.dedent(ast.get_source_segment(text, n, padded=True)) for n in found]
        yield f"{min(sources, key=lambda source: abs(len(source) - 1000))}\n"


def partial_lines(line):
    """From every third token of a line to its end, and the reverse."""
    try:
        found = list(tokenize.generate_tokens(io.StringIO(line.strip()).readline))
    except (tokenize.TokenError, IndentationError):
        return []
    places = [token.start[1] for token in found if token.string.strip()][1::3]
    parts = [line.strip()[place:] for place in places] + [line.strip()[:place] for place in places]
    return [part.rstrip() for part in parts if len(part.rstrip()) > 4]


def quotes_of(code):
    """(start, end) of whole lines, partial lines, and two lines together."""
    at, places = 0, []
    lines = code.splitlines(keepends=True)
    for number, line in enumerate(lines):
        body = line.rstrip()
        if len(body.strip()) > 2:
            places += [(at, at + len(body)), (at + len(body) - len(body.lstrip()), at + len(body))]
            for part in partial_lines(line):
                start = at + line.index(part)
                places.append((start, start + len(part)))
            if number + 1 < len(lines) and lines[number + 1].strip():
                places.append((at, at + len(line) + len(lines[number + 1].rstrip())))
        at += len(line)
    return places


def expected_labels(text, place, offsets):
    """The rule in its own words: half of what is no white space, character by character."""
    for start, end in offsets:
        visible = [i for i in range(start, end) if not text[i].isspace()]
        inside = [i for i in visible if place[0] <= i < place[1]]
        yield "" if not visible else "wrong_code" if 2 * len(inside) >= len(visible) else "neutral"


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_quotes_of_real_code_reach_their_tokens(make):
    tokenizer = make()
    table = TokenBytes(tokenizer)
    quoted = ambiguous = 0
    for number, code in enumerate(functions()):
        response = f"Look:\n\n```python\n{code}```\n" if number % 2 else code
        pieces = table.pieces(tokenizer.encode(response, add_special_tokens=False))
        text = response_text(pieces)
        shift = text.index(code)
        offsets = token_offsets(pieces)
        scope = [shift <= start and end <= shift + len(code) for start, end in offsets]
        for start, end in quotes_of(code)[::3]:
            quote, place = code[start:end], (shift + start, shift + end)
            span = located(quote, text)
            assert span.match == "exact"
            if span.copies > 1:
                ambiguous += 1
                assert text[span.start : span.end] == quote
                continue
            quoted += 1
            assert text.count("\n", 0, span.start) == text.count("\n", 0, place[0]), quote
            assert (span.start, span.end) == place
            got = label_tokens(pieces, [span], TASK)
            wanted = list(expected_labels(text, place, offsets))
            assert [a for a, inside in zip(got, scope, strict=True) if inside] == [
                b for b, inside in zip(wanted, scope, strict=True) if inside
            ]
    assert quoted > 80
    assert 0 < ambiguous < quoted / 2
