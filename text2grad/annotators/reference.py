"""Annotator without a model: compares a response with its source and with the human reference.

It finds what neither text supports, what the response has said already, what says nothing, what
the reference has and the response lacks, and what the response gets right. It knows words, not
meaning: a wrong claim made of the source's own words mostly escapes it. Where a task's references
are right answers (`TaskSpec.evidence`), `annotators.answer` judges instead; where
many answers are right, `annotators.open_text`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from text2grad.annotators import Answer, OnAnswer, ignore
from text2grad.annotators import word_lists as lists
from text2grad.annotators.answer import answer_score, judge_answer
from text2grad.annotators.clauses import Clause, cut_phrase, split_clauses
from text2grad.annotators.evidence import Evidence, WordSet
from text2grad.annotators.lexicon import read_words
from text2grad.annotators.open_text import judge_open_text, open_text_score
from text2grad.annotators.signals import Signals, measure
from text2grad.annotators.wording import Remark, Remarks, write_critique
from text2grad.files import sha256_text
from text2grad.schema import Feedback, Record, Span
from text2grad.tasks import TaskSpec

_SAFE = -0.8  # doubt below which a clause may be called good
_JOINED_WORDS = 14  # two doubtful neighbours up to this length are one quote
_MISSING_SHARE = 0.7  # of a reference clause's informative words
_ASKING = frozenset(lists.ASKING.split())


@dataclass(frozen=True)
class Judgement:
    """What to think of one clause of a response.

    Attributes:
        clause: the clause.
        signals: what was found about it.
        merit: how much of the reference it carries, in words; 0 for none.
    """

    clause: Clause
    signals: Signals
    merit: float

    @property
    def is_poor(self) -> bool:
        """Whether it is worth a poor quote."""
        return self.signals.doubt > 0

    @property
    def is_good(self) -> bool:
        """Whether it carries content of the reference and is in no doubt."""
        return self.signals.doubt < _SAFE and self.merit > 0


class ReferenceAnnotator:
    """Critiques from word overlap; no model, no network, the same answer every time.

    Good quotes are the clauses that carry most of the reference and are in no doubt, poor quotes
    the most doubtful ones.
    """

    is_costly = False

    def __init__(self, task: TaskSpec) -> None:
        self._task = task
        self._judge = _JUDGES[task.evidence]

    def provenance(self) -> dict[str, str]:
        """What the annotated record says about its annotator."""
        return {"annotator": "reference"}

    def key(self, record: Record) -> str:
        """Hash of the three texts."""
        return sha256_text("reference", record.prompt, record.response, record.reference)

    def annotate(self, records: Sequence[Record], done: OnAnswer = ignore) -> list[Answer]:
        """One feedback per record, in order."""
        answers: list[Answer] = []
        for place, record in enumerate(records):
            answers.append(self._judge(record, self._task))
            done(place, answers[-1])
        return answers


def judge_by_source(record: Record, task: TaskSpec) -> Feedback:
    """Critique and quotes of the record's response, a text about its prompt."""
    text = record.response
    evidence = Evidence(record.prompt, record.reference)
    judgements = judge_clauses(text, evidence)
    poor = _take(_join(judgements), task.max_quotes, lambda j: j.is_poor and j.signals.doubt)
    good = _take(judgements, task.max_quotes, lambda j: j.is_good and j.merit)
    places = {
        task.best_label: [cut_phrase(j.clause) for j in good],
        task.worst_label: [cut_phrase(j.clause, j.signals.culprits) for j in poor],
    }
    spans = [
        Span(text[start:end], label, start, end)
        for label, intervals in places.items()
        for start, end in intervals
    ]
    faults = [
        Remark(j.signals.fault, text[start:end], _explain(j, judgements, evidence))
        for j, (start, end) in zip(poor, places[task.worst_label], strict=True)
    ]
    praise = [text[start:end] for start, end in places[task.best_label]]
    remarks = Remarks(praise, faults, *_missing(record))
    return Feedback(write_critique(remarks, text), tuple(spans))


_JUDGES: dict[str, Callable[[Record, TaskSpec], Answer]] = {
    "source": judge_by_source,
    "answer": judge_answer,
    "prompt": judge_open_text,
}


def judge_clauses(response: str, evidence: Evidence) -> list[Judgement]:
    """Every clause of the response with its signals and its merit."""
    clauses = split_clauses(response)
    judgements = []
    for place, clause in enumerate(clauses):
        carried = evidence.reference.count([w for w in clause.words if w.kind != "function"])
        telling = evidence.reference.count(clause.informative)
        merit = telling + 0.4 * carried if telling and carried >= 2 else 0.0
        judgements.append(Judgement(clause, measure(clauses, place, evidence), merit))
    return judgements


def support_score(
    source: str,
    reference: str,
    response: str,
    evidence: Literal["source", "answer", "prompt"] = "source",
) -> float:
    """Share of a response's words in good clauses, less the share in doubtful ones, in [-1, 1].

    All clauses count, not only those that would be quoted. For evaluation tables; no model is
    ever trained on it.
    """
    if evidence == "answer":
        return answer_score(source, reference, response)
    if evidence == "prompt":
        return open_text_score(source, response)
    judgements = judge_clauses(response, Evidence(source, reference))
    words = sum(len(j.clause.words) for j in judgements)
    net = sum(len(j.clause.words) * (j.is_good - j.is_poor) for j in judgements)
    return net / max(1, words)


def _join(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Doubtful neighbours of one sentence become one, with the stronger doubt."""
    joined: list[Judgement] = []
    for judgement in judgements:
        last = joined[-1] if joined else None
        words = (*last.clause.words, *judgement.clause.words) if last else ()
        if (
            last
            and last.is_poor
            and judgement.is_poor
            and last.clause.sentence == judgement.clause.sentence
            and len(words) <= _JOINED_WORDS
        ):
            signals = max(last.signals, judgement.signals, key=lambda signals: signals.doubt)
            joined[-1] = Judgement(replace(last.clause, words=words), signals, 0.0)
        else:
            joined.append(judgement)
    return joined


def _take(
    judgements: Sequence[Judgement], most: int, worth: Callable[[Judgement], float]
) -> list[Judgement]:
    """The `most` worthiest, in the order of the text; those of no worth never."""
    ranked = sorted((j for j in judgements if worth(j)), key=worth, reverse=True)[:most]
    return [judgement for judgement in judgements if judgement in ranked]


def _explain(judgement: Judgement, judgements: Sequence[Judgement], evidence: Evidence) -> str:
    """The detail that the critique gives for a fault, "" for none."""
    clause, signals = judgement.clause, judgement.signals
    if signals.wrong_numbers:
        figures = evidence.figures_near(clause.informative)
        return figures[0] if len(figures) == 1 else ""
    if signals.fault == "unsupported":
        return " or ".join(f"“{word.text}”" for word in signals.unknown[:2])
    if signals.fault == "repeated":
        earlier = [j.clause for j in judgements if j.clause.words[0].start < clause.words[0].start]
        said = max(earlier, key=lambda c: WordSet(c.words).count(clause.informative))
        start, end = cut_phrase(said)
        return clause.text[start:end]
    return ""


def _missing(record: Record) -> tuple[str, bool]:
    """A phrase of the reference the response has no part of, and whether its question is lost."""
    said = WordSet(read_words(record.response))
    lost: list[tuple[int, Clause]] = []
    clauses = split_clauses(record.reference)
    for clause in clauses:
        informative = clause.informative
        count = len(informative) - said.count(informative)
        if count >= 2 and count >= _MISSING_SHARE * len(informative):
            lost.append((count, clause))
    asks = any(word.text.lower() in _ASKING for word in read_words(record.response))
    lacks = any(c.is_question for c in clauses) and not asks and "?" not in record.response
    if not lost:
        return "", lacks
    start, end = cut_phrase(max(lost, key=lambda pair: pair[0])[1])
    return record.reference[start:end], lacks
