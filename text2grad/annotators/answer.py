"""Judges an answer by a reference answer to the same prompt, as `ReferenceAnnotator` does it.

What the reference bears out is good; what it contradicts, what is said twice, a needless refusal,
empty phrases and what neither text has anything to do with are poor. What the reference covers
besides, and a form that was asked for and is not kept, are named in the critique. An answer judged
by itself has no fault. Like the judgement by a source it knows words, not meaning: a right answer
in other words earns little praise, a wrong one in the reference's own words mostly escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from text2grad.annotators.answer_evidence import AnswerEvidence
from text2grad.annotators.answer_form import (
    MATTERS_OF_TASTE,
    FormFault,
    check_form,
    is_one_language,
)
from text2grad.annotators.answer_key import find_key
from text2grad.annotators.answer_quotes import Place, Quotes, join_faults, overlaps, phrase_of
from text2grad.annotators.answer_signals import Verdict, judge_clauses, sentence_kinds
from text2grad.annotators.answer_text import AnswerText, read_answer
from text2grad.annotators.answer_wording import AnswerFault, AnswerRemarks, write_answer_critique
from text2grad.annotators.clauses import Clause
from text2grad.annotators.evidence import WordSet
from text2grad.annotators.lexicon import trim
from text2grad.schema import Feedback, Record, Unparseable
from text2grad.tasks import TaskSpec

_BORNE_OUT = 0.7  # share of a good clause that the reference must have
_TOGETHER = 0.55  # share that it must have in one place
_MISSING_SHARE = 0.7  # of a reference clause's weight that the response must lack
_MISSING_WORDS = 3  # telling words of such a clause
_SEVERAL = 2  # phrases that are named as missing
_RELATED = 0.15  # share of a response that must be in either text
_LITTLE = 60  # words besides a refusal
_CODE_CHARS = 8  # of a line of code that is worth praise
# A wrong answer or language comes before all doubts about content, what could be done better after.
_WRONG_ANSWER, _WRONG_LANGUAGE, _WRONG_FORM, _POOR_FORM = 9.0, 8.0, 1.0, 0.0


def judge_answer(record: Record, task: TaskSpec) -> Feedback | Unparseable:
    """Critique and quotes of the record's response; `Unparseable` without a reference."""
    if not record.reference.strip():
        return Unparseable("no reference answer to judge by")
    case = _Case(record, task)
    faults = _find_faults(case)
    poor = [fault.place for fault in faults if fault.place]
    praise = _find_praise(case, poor)
    missing, kind = _find_missing(case)
    remarks = AnswerRemarks(
        [(praised.kind, case.quotes.shown(praised.place)) for praised in praise],
        [fault.remark for fault in faults],
        missing,
        kind,
        case.is_related,
    )
    spans = [case.quotes.span(praised.place, task.best_label) for praised in praise]
    spans += [case.quotes.span(place, task.worst_label) for place in sorted(poor)]
    critique = write_answer_critique(remarks, record.response, task.max_critique_chars)
    return Feedback(critique, tuple(spans))


def answer_score(prompt: str, reference: str, response: str) -> float:
    """Share of a response's words in clauses borne out, less the share in faulty ones."""
    evidence = AnswerEvidence(prompt, read_answer(reference))
    verdicts = judge_clauses(read_answer(response), evidence)
    words = sum(len(verdict.clause.words) for verdict in verdicts)
    net = sum(len(v.clause.words) * ((_merit(v) > 0) - (v.doubt > 0)) for v in verdicts)
    return net / max(1, words)


@dataclass(frozen=True)
class _Praise:
    kind: str
    place: Place


@dataclass(frozen=True)
class _Fault:
    doubt: float
    remark: AnswerFault
    place: Place | None


class _Case:
    """One response with all that it is compared with."""

    def __init__(self, record: Record, task: TaskSpec) -> None:
        self.task = task
        self.response = read_answer(record.response)
        self.reference = read_answer(record.reference)
        self.evidence = AnswerEvidence(record.prompt, self.reference)
        self.quotes = Quotes(self.response, task)
        self.form = check_form(record.prompt, self.reference, self.response)
        self.key = find_key(record.prompt, self.reference, self.response)
        self.is_comparable = is_one_language(self.reference, self.response)
        self.verdicts = judge_clauses(self.response, self.evidence, self.is_comparable)

    @cached_property
    def is_related(self) -> bool:
        """Whether the response shares anything with prompt or reference."""
        whole = self.evidence.support(self.response.words)
        return not self.is_comparable or whole.novel < 1 - _RELATED


def _find_faults(case: _Case) -> list[_Fault]:
    """What is wrong, the gravest first; at most as many with a quote as the task allows."""
    found = [_of_form(fault, case) for fault in case.form]
    if case.key and case.key.wrong:
        place = case.quotes.fit(*case.key.wrong)
        remark = AnswerFault("answer", case.quotes.shown(place), case.key.text)
        found.append(_Fault(_WRONG_ANSWER, remark, place))
    taken = [fault.place for fault in found if fault.place]
    for verdict in join_faults(case.verdicts, case.task.max_quote_chars):
        place = case.quotes.of_clause(verdict.clause)
        if not overlaps(place, taken):
            remark = AnswerFault(verdict.fault, case.quotes.shown(place), verdict.detail)
            found.append(_Fault(verdict.doubt, remark, place))
    ranked = sorted(found, key=lambda fault: -fault.doubt)
    chosen, quoted = [], 0
    for fault in ranked:
        quoted += fault.place is not None
        if fault.place is None or quoted <= case.task.max_quotes:
            chosen.append(fault)
    return chosen


def _of_form(fault: FormFault, case: _Case) -> _Fault:
    place = case.quotes.fit(*fault.place) if fault.place else None
    quote = case.quotes.shown(place) if place else ""
    graded = {"language": _WRONG_LANGUAGE} | dict.fromkeys(MATTERS_OF_TASTE, _POOR_FORM)
    doubt = graded.get(fault.kind, _WRONG_FORM)
    return _Fault(doubt, AnswerFault(fault.kind, quote, "", fault.wanted, fault.found), place)


def _find_praise(case: _Case, faults: Sequence[Place]) -> list[_Praise]:
    """What is right, in the order of the text; at most as much as the task allows."""
    most = case.task.max_quotes
    chosen: list[_Praise] = []
    if case.key and case.key.right:
        chosen.append(_Praise("answer", case.quotes.fit(*case.key.right)))
    may_refuse = _refuses(case.reference)
    apt = [v for v in case.verdicts if may_refuse and v.refuses and not v.fault]
    chosen += [_Praise("refusal", case.quotes.of_clause(v.clause)) for v in apt[:1]]
    chosen = [praised for praised in chosen if not overlaps(praised.place, faults)][:most]
    chosen += _best_clauses(case, faults, chosen)
    if len(chosen) < most:
        chosen += _shared_code(case)
    everything = case.quotes.of_everything()
    is_reference = case.response.text.strip() == case.reference.text.strip()
    if not chosen and not faults and is_reference and everything:
        chosen = [_Praise("answer", everything)]
    return sorted(chosen, key=lambda praised: praised.place)


def _best_clauses(case: _Case, faults: Sequence[Place], taken: Sequence[_Praise]) -> list[_Praise]:
    """The clauses that carry most of the reference, no two of them the same part of it."""
    chosen: list[_Praise] = []
    said: set[str] = set()
    used = [*faults, *(praised.place for praised in taken)]
    ranked = sorted((v for v in case.verdicts if _merit(v) > 0), key=_merit, reverse=True)
    for verdict in ranked:
        if len(taken) + len(chosen) >= case.task.max_quotes:
            break
        place = case.quotes.of_clause(verdict.clause)
        stems = {word.stem for word in verdict.clause.informative}
        if overlaps(place, used) or len(stems & said) * 2 > len(stems):
            continue
        said |= stems
        used.append(place)
        figure = any(word.kind == "number" for word in verdict.clause.words)
        chosen.append(_Praise("figure" if figure else "content", place))
    return chosen


def _shared_code(case: _Case) -> list[_Praise]:
    """The longest line of code that the reference has too."""
    text, theirs = case.response.text, case.reference.text
    known = {" ".join(theirs[a:b].split()) for a, b in case.reference.code}
    lines = [
        trim(text, a, b) for a, b in case.response.code if " ".join(text[a:b].split()) in known
    ]
    longest = max(lines, key=lambda line: line[1] - line[0], default=(0, 0))
    is_telling = longest[1] - longest[0] >= _CODE_CHARS
    return [_Praise("code", case.quotes.fit(*longest))] if is_telling else []


def _find_missing(case: _Case) -> tuple[list[str], str]:
    """Phrases of the reference that the response has no part of, and of what kind they are."""
    kinds = sentence_kinds(case.reference)
    if _declines(case.reference) and not _refuses(case.response):
        refusal = next(c for c in case.reference.clauses if kinds.get(c.sentence) == "refusal")
        return [phrase_of(refusal)], "refusal"
    if case.key and case.key.absent:
        return [case.key.text], "answer"
    if not case.is_comparable or (case.key and case.key.wrong):
        return [], "content"
    said = WordSet(case.response.words)
    lost: list[tuple[float, Clause]] = []
    for clause in case.reference.clauses:
        weights = [(case.evidence.weight(word), said.covers(word)) for word in clause.informative]
        gone = [weight for weight, is_said in weights if not is_said]
        most = sum(gone) >= _MISSING_SHARE * sum(weight for weight, _ in weights)
        if len(gone) >= _MISSING_WORDS and most and clause.sentence not in kinds:
            lost.append((sum(gone), clause))
    best = sorted(lost, key=lambda pair: -pair[0])[:_SEVERAL]
    best.sort(key=lambda pair: pair[1].words[0].start)
    return [phrase_of(clause) for _, clause in best], "content"


def _refuses(answer: AnswerText) -> bool:
    return "refusal" in sentence_kinds(answer).values()


def _declines(answer: AnswerText) -> bool:
    """Whether it does little else than refuse."""
    kinds = sentence_kinds(answer)
    rest = sum(len(c.words) for c in answer.clauses if c.sentence not in kinds)
    return "refusal" in kinds.values() and rest <= _LITTLE


def _merit(verdict: Verdict) -> float:
    """Weight that a clause carries of the reference; 0 if it is no good quote."""
    support = verdict.support
    is_sound = verdict.is_exact and (verdict.is_verbatim or (verdict.is_news and support.words > 1))
    if verdict.fault or not (verdict.is_content and is_sound and support.words):
        return 0.0
    if support.answer < _BORNE_OUT or support.together < _TOGETHER:
        return 0.0
    news = 0.3 + 0.7 * support.fresh  # what the prompt has said already is worth little
    length = 1.0 if len(verdict.clause.words) >= 3 else 0.5
    return support.weight * support.together * news * length
