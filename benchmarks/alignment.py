"""How well quotes find their tokens, and how fast, on real answers or on the sample posts.

    python benchmarks/alignment.py [--qa PATH] [--ultrafeedback PATH] [--tokenizer DIR] [--json]

--qa: records with `prediction` and `human_errors` (`start`, `end`): quotes are what people marked.
--ultrafeedback: records with `chosen` and `rejected`: every sentence is a quote. Without either,
the posts of this repository are quoted sentence by sentence.

Truth is the interval a quote was cut from, turned into tokens by a plain count of bytes that
shares no code with the library. Each row changes the quotes in one way; "find" is the same quote
looked up with `str.find`. A token is right if it is marked in both. Quotes of 30 characters and
more are mistyped; a quote of another answer is one that is not in the answer word for word.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quotes import CHANGES, Answer, Places, Quote, Texts, read_sets

from text2grad.alignment import TokenBytes, locate_spans, response_text, score_tokens
from text2grad.schema import Span
from text2grad.tables import text_table
from text2grad.tasks import get_task

TASK = get_task("slf5k")


@dataclass
class Tally:
    """Tokens marked rightly, wrongly, and missed; quotes tried and accepted."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    quotes: int = 0
    accepted: int = 0

    def add(self, truth: Sequence[bool], found: Sequence[bool], accepted: bool) -> None:
        """Count one quote."""
        self.right += sum(t and f for t, f in zip(truth, found, strict=True))
        self.wrong += sum(f and not t for t, f in zip(truth, found, strict=True))
        self.missed += sum(t and not f for t, f in zip(truth, found, strict=True))
        self.quotes += 1
        self.accepted += accepted

    @property
    def rates(self) -> dict[str, float]:
        """Precision, recall and F1 over tokens."""
        marked, true = self.right + self.wrong, self.right + self.missed
        return {
            "precision": self.right / marked if marked else 1.0,
            "recall": self.right / true if true else 1.0,
            "f1": 2 * self.right / (marked + true) if marked + true else 1.0,
        }


def plain_tokens(answer: Answer, start: int, end: int) -> list[bool]:
    """Whether at least half of each token's visible bytes lie in an interval of characters.

    Counted byte by byte. Tokens that share a character are judged together.
    """
    owner = [i for i, char in enumerate(answer.text) for _ in char.encode()]
    visible = [not answer.text[i].isspace() for i in owner]
    bounds, at = [], 0
    for piece in answer.pieces:
        bounds.append((at, at + len(piece)))
        at += len(piece)
    marked = []
    for first, last in bounds:
        own = any(visible[first:last])
        while 0 < first < len(owner) and owner[first - 1] == owner[first]:
            first = next(a for a, b in bounds if a <= first - 1 < b)
        while 0 < last < len(owner) and owner[last - 1] == owner[last]:
            last = next(b for a, b in bounds if a <= last < b)
        inside = sum(visible[k] and start <= owner[k] < end for k in range(first, last))
        marked.append(own and 2 * inside >= sum(visible[first:last]))
    return marked


class Bench:
    """Answers, the quotes cut from them, and the rows measured so far."""

    def __init__(self, name: str, answers: list[Answer], quotes: list[Quote], seed: int) -> None:
        self.name, self.answers, self.quotes, self.seed = name, answers, quotes, seed
        self.truth = [plain_tokens(answers[q.answer], q.start, q.end) for q in quotes]
        self.rows: list[dict[str, Any]] = []

    def measure(self) -> list[dict[str, Any]]:
        """All rows."""
        once = [i for i, quote in enumerate(self.quotes) if quote.copies == 1]
        several = [i for i, quote in enumerate(self.quotes) if quote.copies > 1]
        self._row("exact, occurs once", [(i, self._text(i)) for i in once])
        self._row("exact, occurs more than once", [(i, self._text(i)) for i in several])
        for name, (change, shortest) in CHANGES.items():
            rng = random.Random(f"{self.seed} {name}")
            long = [i for i in once if len(self._text(i)) >= shortest]
            pairs = [(i, change(self._text(i), rng)) for i in long]
            self._row(name, [(i, text) for i, text in pairs if text != self._text(i)])
        self._cut_tokens()
        self._foreign("quoted from another answer", same=False)
        self._foreign("quoted from the other answer to the same question", same=True)
        return self.rows

    def _text(self, index: int) -> str:
        quote = self.quotes[index]
        return self.answers[quote.answer].text[quote.start : quote.end]

    def _row(self, name: str, cases: list[tuple[int, str]]) -> None:
        ours, plain = Tally(), Tally()
        for index, text in cases:
            quote, answer = self.quotes[index], self.answers[self.quotes[index].answer]
            spans = locate_spans([Span(text, quote.label)], answer.text, TASK)
            scores = score_tokens(answer.pieces, spans, TASK)
            ours.add(self.truth[index], [s != 0 for s in scores], spans[0].start is not None)
            at = answer.text.find(text)
            naive = plain_tokens(answer, at, at + len(text)) if at >= 0 else [False] * len(scores)
            plain.add(self.truth[index], naive, at >= 0)
        if cases:
            speed = self._speed([(self.quotes[i].answer, Span(text, "good")) for i, text in cases])
            self._keep(name, ours, {"find_f1": plain.rates["f1"], **speed})

    def _cut_tokens(self) -> None:
        """Intervals with borders anywhere, inside tokens and emoji too, given as offsets."""
        rng = random.Random(f"{self.seed} cut")
        tally = Tally()
        cases = []
        for number, answer in enumerate(self.answers):
            for _ in range(3):
                start = rng.randrange(len(answer.text))
                end = min(len(answer.text), start + rng.randint(1, 40))
                span = Span(answer.text[start:end], "good", start, end)
                scores = score_tokens(answer.pieces, locate_spans([span], answer.text, TASK), TASK)
                tally.add(plain_tokens(answer, start, end), [s != 0 for s in scores], True)
                cases.append((number, span))
        self._keep("given offsets that cut tokens", tally, self._speed(cases))

    def _foreign(self, name: str, same: bool) -> None:
        rng = random.Random(f"{self.seed} {name}")
        tally = Tally()
        cases = []
        for index, quote in enumerate(self.quotes):
            group, text = self.answers[quote.answer].group, self._text(index)
            others = [
                number
                for number, answer in enumerate(self.answers)
                if number != quote.answer and (answer.group == group) == same
            ]
            number = rng.choice(others) if others else None
            if number is None or text in self.answers[number].text:
                continue
            cases.append((number, Span(text, quote.label)))
            located = locate_spans([cases[-1][1]], self.answers[number].text, TASK)
            tally.add([], [], located[0].start is not None)
        if cases:
            self._keep(name, tally, {"f1": None, **self._speed(cases)})

    def _speed(self, cases: list[tuple[int, Span]]) -> dict[str, int]:
        """Quotes located and tokens scored per second, each answer with all its quotes at once."""
        by_answer: dict[int, list[Span]] = {}
        for number, span in cases:
            by_answer.setdefault(number, []).append(span)
        began = time.perf_counter()
        located = {
            number: locate_spans(spans, self.answers[number].text, TASK)
            for number, spans in by_answer.items()
        }
        between = time.perf_counter()
        scores = [score_tokens(self.answers[n].pieces, spans, TASK) for n, spans in located.items()]
        ended = time.perf_counter()
        return {
            "spans_per_second": round(len(cases) / (between - began)),
            "tokens_per_second": round(sum(map(len, scores)) / (ended - between)),
        }

    def _keep(self, name: str, tally: Tally, more: dict[str, Any]) -> None:
        rates = tally.rates if more.get("f1", 1) is not None else {}
        row = {"quotes_changed_by": name, "data": self.name, "quotes": tally.quotes}
        row |= {"accepted": tally.accepted / tally.quotes, "precision": None, "recall": None}
        self.rows.append(row | {"f1": None, "find_f1": None, **more, **rates})


def load_tokenizer(path: str) -> Any:
    """The tokenizer at `path`; "" takes the embedded model's, or the tests' tiny one without it."""
    from transformers import AutoTokenizer

    if path:
        return AutoTokenizer.from_pretrained(path)
    from text2grad.embedded import PACKAGE, WEIGHTS

    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        return AutoTokenizer.from_pretrained(Path(spec.origin).parent, gguf_file=WEIGHTS)
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from tiny import byte_level_tokenizer

    return byte_level_tokenizer()


def build(name: str, texts: Texts, places: Places, tokenizer: Any) -> Bench:
    """Encode the answers and cut the quotes."""
    table = TokenBytes(tokenizer)
    answers = []
    for text, group in texts:
        pieces = table.pieces(tokenizer.encode(text, add_special_tokens=False))
        answers.append(Answer(response_text(pieces), group, pieces))
        moved = answers[-1].text.find(text)  # SentencePiece puts a space before the first word
        if moved < 0:
            raise SystemExit(f"{name}: the tokenizer rewrites answer {len(answers)}")
    quotes = []
    for number, start, end in places:
        text, moved = texts[number][0], answers[number].text.find(texts[number][0])
        label = "poor" if name == "human" else "good"
        copies = len(re.findall(f"(?={re.escape(text[start:end])})", text))
        quotes.append(Quote(number, start + moved, end + moved, copies, label))
    return Bench(name, answers, quotes, seed=0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--qa", default="", help="QA-Feedback records with human_errors")
    parser.add_argument("--ultrafeedback", default="", help="records with chosen and rejected")
    parser.add_argument("--tokenizer", default="", help="folder or name; the embedded model's")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.tokenizer)
    rows: list[dict[str, Any]] = []
    for name, (texts, places) in read_sets(args.qa, args.ultrafeedback).items():
        rows += build(name, texts, places, tokenizer).measure()
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    header = ["quotes", "data", "n", "accepted", "precision", "recall", "F1", "find F1"]
    header += ["spans/s", "tokens/s"]
    print(text_table(header, [list(row.values()) for row in rows]))


if __name__ == "__main__":
    main()
