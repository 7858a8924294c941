"""What is to be thought of each clause of an answer: a fault with its weight, or a merit."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from text2grad.annotators import answer_lists as lists
from text2grad.annotators import word_lists
from text2grad.annotators.answer_evidence import AnswerEvidence, Support
from text2grad.annotators.answer_text import AnswerText, read_answer
from text2grad.annotators.clauses import Clause
from text2grad.annotators.contradiction import find_contradiction
from text2grad.annotators.lexicon import Word

# How sure each fault is, so that the surest are quoted first; "unsupported" comes from WEIGHTS.
SURENESS = {
    "refusal": 5.0,
    "number": 4.0,
    "unit": 4.0,
    "name": 4.0,
    "reversed": 3.5,
    "denied": 3.5,
    "repeated": 3.0,
    "filler": 2.0,
}
# Log-odds that people mark a clause as an error, fitted by logistic regression on half of 250
# answers with marked errors and rounded. BASE is 0.4 lower than fitted, so that above 0 a clause is
# worth a poor quote.
BASE = -1.6
WEIGHTS = {
    "novel": 1.6,  # share of its weight that neither reference nor prompt has
    "apart": 0.8,  # share that never stands together in the reference
    "sentence_novel": 3.0,  # novel, over its whole sentence
    "answer_novel": -1.9,  # novel, over the whole response: then it goes a way of its own
    "opening": -0.55,  # the first clause
}
# The longer the reference, the more right answers differ from it: words up to which nothing is
# conceded, and what is conceded at each doubling.
_CLOSED_WORDS = 80
_CONCESSION = 0.8
_UNRELATED = 0.85  # novel share of a response that has nothing to do with either text

_CLEAR_WORDS = 2  # telling words a clause must have before it is called unsupported
_NEWS_SHARE = 0.25  # of the share of the reference that goes beyond the prompt
_REPEATED_SHARE = 0.8  # of a clause's pairs of words, heard before
_REFUSALS = [re.compile(line) for line in lists.REFUSALS.strip().split("\n")]
_FILLERS = [re.compile(line) for line in lists.FILLERS.strip().split("\n")]
_SPELLED = frozenset(f"{word_lists.UNITS} {word_lists.TENS} hundred thousand dozen".split())
_GRADE = re.compile(lists.GRADES, re.I)


@dataclass(frozen=True)
class Verdict:
    """What is thought of one clause.

    Attributes:
        clause: the clause.
        support: what bears it out.
        fault: why it is poor, a key of the wording; "" for no fault.
        doubt: how sure the fault is; faults above 0 are worth a quote.
        detail: what the critique adds: the right figure, the earlier sentence, unknown words.
        is_verbatim: whether the reference has the same words in the same order.
        is_news: whether it says what the prompt has not said already.
        is_exact: whether its names and numbers are all in one of the texts.
        refuses: whether it declines to answer.
        is_content: whether it says something about the matter.
    """

    clause: Clause
    support: Support
    fault: str = ""
    doubt: float = 0.0
    detail: str = ""
    is_verbatim: bool = False
    is_news: bool = True
    is_exact: bool = True
    refuses: bool = False
    is_content: bool = True


def judge_clauses(
    response: AnswerText, evidence: AnswerEvidence, comparable: bool = True
) -> list[Verdict]:
    """A verdict on every clause of the response.

    Args:
        response: the answer that is judged.
        evidence: the reference answer and the prompt.
        comparable: whether both are in one language; else nothing is called unsupported.
    """
    said = Counter(_wording(clause) for clause in evidence.clauses)
    kinds = sentence_kinds(response)
    theirs = set(sentence_kinds(evidence.reference).values())
    echoes = Echoes(read_answer(evidence.prompt), evidence.reference)
    doubts = _doubts(response, evidence) if comparable else {}
    verdicts = []
    for number, clause in enumerate(response.clauses):
        kind = kinds.get(clause.sentence, "")
        verbatim = said[_wording(clause)] > 0
        said[_wording(clause)] -= 1
        earlier = echoes.hear(clause)
        support = evidence.support(clause.words)
        fault, doubt, detail = "", 0.0, ""
        if kind in ("refusal", "filler"):
            fault = "" if verbatim or kind in theirs else kind
            doubt = SURENESS[kind] if fault else 0.0
        elif not verbatim and kind != "grade":
            found = doubts.get(number)
            fault, doubt, detail = _find_fault(clause, support, earlier, evidence, found)
        verdicts.append(
            Verdict(
                clause,
                support,
                fault,
                doubt,
                detail,
                is_verbatim=verbatim,
                is_news=support.fresh >= _NEWS_SHARE * evidence.fresh,
                is_exact=not unfounded(clause, evidence),
                refuses=kind == "refusal",
                is_content=not kind,
            )
        )
    return verdicts


def unfounded(clause: Clause, evidence: AnswerEvidence) -> list[Word]:
    """Names and numbers of the clause that neither text has; a heading's capitals are no names."""
    told = [word for word in clause.words if word.kind != "function"]
    is_heading = sum(word.text[0].isupper() for word in told) > 0.6 * len(told)
    return [
        word
        for word in told
        if word.kind == "number" or (word.kind == "name" and not is_heading and len(word.text) > 1)
        if not evidence.answer.covers(word) and not evidence.asked.covers(word)
    ]


def _doubts(response: AnswerText, evidence: AnswerEvidence) -> dict[int, float]:
    """Log-odds that people would mark each clause as an error, by its number."""
    sentences: dict[int, list[Word]] = {}
    for clause in response.clauses:
        sentences.setdefault(clause.sentence, []).extend(clause.words)
    novel = {number: evidence.support(words).novel for number, words in sentences.items()}
    whole = evidence.support(response.words).novel
    openness = len(evidence.reference.words) / _CLOSED_WORDS
    conceded = _CONCESSION * math.log2(openness) if openness > 1 else 0.0
    if whole > _UNRELATED:  # no way of its own, but another subject
        whole = conceded = 0.0
    doubts = {}
    for number, clause in enumerate(response.clauses):
        support = evidence.support(clause.words)
        values = {
            "novel": support.novel,
            "apart": 1 - support.together - support.asked,
            "sentence_novel": novel[clause.sentence],
            "answer_novel": whole,
            "opening": number == 0,
        }
        weighted = sum(WEIGHTS[name] * value for name, value in values.items())
        doubts[number] = BASE - conceded + weighted
    return doubts


def _find_fault(
    clause: Clause,
    support: Support,
    earlier: Clause | None,
    evidence: AnswerEvidence,
    doubt: float | None,
) -> tuple[str, float, str]:
    """Fault, how sure it is, and detail; `doubt` None where the languages differ."""
    if earlier is not None:
        return "repeated", SURENESS["repeated"], earlier.text[_start(earlier) : _end(earlier)]
    if doubt is None:
        return "", 0.0, ""
    found = find_contradiction(clause, evidence)
    if found:
        return found.kind, SURENESS[found.kind], found.instead
    if doubt <= 0 or support.words < _CLEAR_WORDS or clause.is_question:
        return "", min(doubt, 0.0), ""
    strange = [word.text for word in unfounded(clause, evidence)]
    unknown = list(dict.fromkeys(text for text in strange if text.lower() not in _SPELLED))
    kind = "unfounded" if unknown else "unsupported"
    return kind, doubt, " or ".join(f"“{word}”" for word in unknown[:2])


def _wording(clause: Clause) -> tuple[str, ...]:
    return tuple(word.text.lower() for word in clause.words)


def _start(clause: Clause) -> int:
    return clause.words[0].start


def _end(clause: Clause) -> int:
    return clause.words[-1].end


def sentence_kinds(answer: AnswerText) -> dict[int, str]:
    """Sentences that are no content, by number: "refusal", "filler" or "grade"."""
    spans: dict[int, tuple[int, int]] = {}
    for clause in answer.clauses:
        start, _ = spans.get(clause.sentence, (_start(clause), 0))
        spans[clause.sentence] = (start, _end(clause))
    kinds = {}
    for number, (start, end) in spans.items():
        after = answer.plain[end : end + 1]
        sentence = " ".join(answer.plain[start:end].lower().replace("’", "'").split()) + after
        if any(pattern.search(sentence) for pattern in _FILLERS):
            kinds[number] = "filler"
        elif any(pattern.search(sentence) for pattern in _REFUSALS):
            kinds[number] = "refusal"
        elif _GRADE.match(sentence):
            kinds[number] = "grade"
    return kinds


class Echoes:
    """What has been said so far, so that a repetition is heard.

    Two neighbouring telling words are heard again once they have occurred as often as the
    reference has them: what it repeats itself, such as a refrain, may be repeated. So may the words
    of the prompt, which name the subject.
    """

    def __init__(self, prompt: AnswerText, reference: AnswerText) -> None:
        self._allowed = Counter(pair for clause in reference.clauses for pair in _pairs(clause))
        self._subject = {pair for clause in prompt.clauses for pair in _pairs(clause)}
        self._heard: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], Clause] = {}

    def hear(self, clause: Clause) -> Clause | None:
        """The earlier clause that this one repeats, None if it says something new."""
        pairs = _pairs(clause)
        again = [
            pair
            for pair in pairs
            if pair not in self._subject and self._heard[pair] >= max(1, self._allowed[pair])
        ]
        repeats = len(again) >= 3 and len(again) >= _REPEATED_SHARE * len(pairs)
        earlier = [self._first[pair] for pair in again]
        for pair in pairs:
            self._heard[pair] += 1
            self._first.setdefault(pair, clause)
        return max(earlier, key=earlier.count) if repeats else None


def _pairs(clause: Clause) -> list[tuple[str, str]]:
    told: Sequence[str] = [word.stem for word in clause.words if word.kind != "function"]
    return list(pairwise(told))
