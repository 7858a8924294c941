"""Where a clause says of the same thing something else than the reference does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from text2grad.annotators import answer_lists as lists
from text2grad.annotators.answer_evidence import AnswerEvidence
from text2grad.annotators.clauses import Clause
from text2grad.annotators.evidence import WordSet
from text2grad.annotators.lexicon import Word, stem

_SAME_SUBJECT = 0.6  # share of the other words' weight that both clauses must have
_SAME_CLAIM = 0.75  # the same where only a name or a "not" differs
_YEARS = range(1000, 2101)
_CURRENCIES = "$€£¥₹"

_OPPOSITES: dict[str, set[str]] = {}
for _pair in lists.ANTONYMS.split(";"):
    _forms = [{word, stem(word)} for word in _pair.split()]  # a word without content has no stem
    for _one, _other in (_forms, _forms[::-1]):
        for _form in _one:
            _OPPOSITES.setdefault(_form, set()).update(_other)
_DIMENSIONS = {
    stem(unit): number
    for number, line in enumerate(lists.UNITS.strip().split("\n"))
    for unit in line.split()
}


@dataclass(frozen=True)
class Contradiction:
    """One difference in what is said of the same thing.

    Attributes:
        kind: "number", "unit", "name", "reversed" or "denied".
        words: the words of the clause that are wrong.
        instead: what the reference has in their place, "" where only a negation differs.
    """

    kind: str
    words: tuple[Word, ...]
    instead: str


def find_contradiction(clause: Clause, evidence: AnswerEvidence) -> Contradiction | None:
    """The first difference between the clause and what the reference says of the same thing."""
    other = evidence.closest(clause.words)
    if other is None or clause.is_question or other.is_question:
        return None
    sentence = evidence.sentence_around(other)
    for find in (_other_number, _other_unit, _other_name, _opposite):
        found = find(clause, sentence, evidence)
        if found:
            return found
    return _denied(clause, other, evidence)


def _shared(
    clause: Clause, other: Clause, evidence: AnswerEvidence, apart: Sequence[Word]
) -> tuple[float, int]:
    """Weight share, and number, of the telling words besides `apart` that both clauses have."""
    known = WordSet(other.words)
    rest = [word for word in clause.words if word.kind != "function" and word not in apart]
    both = [word for word in rest if known.covers(word)]
    whole = sum(evidence.weight(word) for word in rest)
    share = sum(evidence.weight(word) for word in both) / whole if whole else 0.0
    return share, sum(word.is_informative for word in both)


def _is_about(clause: Clause, other: Clause, evidence: AnswerEvidence, apart: Sequence[Word]):
    share, informative = _shared(clause, other, evidence, apart)
    return share >= _SAME_SUBJECT and informative >= 2


def _other_number(clause: Clause, other: Clause, evidence: AnswerEvidence) -> Contradiction | None:
    wrong = [
        word
        for word in clause.words
        if word.kind == "number" and not evidence.answer.covers(word)
        if not evidence.asked.covers(word)
    ]
    is_sum = "=" in _text(clause) or "=" in _text(other)  # steps may differ, and the result hold
    if not wrong or is_sum or not _is_about(clause, other, evidence, wrong):
        return None
    said = {word.stem for word in clause.words}
    for word in wrong:
        rivals = [
            rival
            for rival in other.words
            if rival.kind == "number" and rival.stem not in said
            if _counted(clause, word) == _counted(other, rival)
        ]
        if len({rival.stem for rival in rivals}) == 1:
            return Contradiction("number", (word,), _with_unit(other, rivals[0]))
    return None


def _text(clause: Clause) -> str:
    return clause.text[clause.words[0].start : clause.words[-1].end]


def _counted(clause: Clause, number: Word) -> str:
    """What a number counts: the next word's stem, "year", a currency, "" for nothing named."""
    before = clause.text[max(0, number.start - 1) : number.start]
    if before and before in _CURRENCIES:
        return before
    if clause.text[number.end : number.end + 1] in ("%", "°"):
        return clause.text[number.end]
    if number.stem.isdecimal() and int(number.stem[:9]) in _YEARS and len(number.stem) == 4:
        return "year"
    after = _after(clause, number)
    return after.stem if after and after.kind in ("content", "light") else ""


def _with_unit(clause: Clause, number: Word) -> str:
    after = _after(clause, number)
    counts = after is not None and after.kind in ("content", "light")
    end = after.end if counts and _counted(clause, number) != "year" else number.end
    end += clause.text[end : end + 1] in ("%", "°")
    start = number.start - (clause.text[max(0, number.start - 1) : number.start] in ("$", "€", "£"))
    return clause.text[start:end]


def _after(clause: Clause, word: Word) -> Word | None:
    place = clause.words.index(word) + 1
    return clause.words[place] if place < len(clause.words) else None


def _other_unit(clause: Clause, other: Clause, evidence: AnswerEvidence) -> Contradiction | None:
    theirs = {word.stem: word for word in other.words if word.kind == "number"}
    for number in clause.words:
        same = theirs.get(number.stem) if number.kind == "number" else None
        unit, theirs_unit = _after(clause, number), _after(other, same) if same else None
        if not unit or not theirs_unit or unit.stem == theirs_unit.stem:
            continue
        kinds = _DIMENSIONS.get(unit.stem, -1), _DIMENSIONS.get(theirs_unit.stem, -2)
        if kinds[0] == kinds[1] and _is_about(clause, other, evidence, (number, unit)):
            instead = other.text[same.start : theirs_unit.end]
            return Contradiction("unit", (number, unit), instead)
    return None


def _other_name(clause: Clause, other: Clause, evidence: AnswerEvidence) -> Contradiction | None:
    """A name beside the word beside which the reference has another name."""
    theirs = {anchor: run for anchor, run in _named(other)}
    for anchor, run in _named(clause):
        rival = theirs.get(anchor)
        if not rival or any(evidence.answer.covers(w) or evidence.asked.covers(w) for w in run):
            continue
        share, informative = _shared(clause, other, evidence, run)
        if share < _SAME_CLAIM or informative < 2 or WordSet(clause.words).count(rival):
            continue
        return Contradiction("name", tuple(run), other.text[rival[0].start : rival[-1].end])
    return None


def _named(clause: Clause) -> list[tuple[tuple[str, str], list[Word]]]:
    """Runs of name words, each under the telling word before it and the one after it."""
    told = [word for word in clause.words if word.kind != "function"]
    runs: list[tuple[tuple[str, str], list[Word]]] = []
    place = 0
    while place < len(told):
        end = place
        while end < len(told) and told[end].kind == "name":
            end += 1
        if end > place:
            if place > 0 and told[place - 1].kind != "number":
                runs.append((("after", told[place - 1].stem), told[place:end]))
            if end < len(told) and told[end].kind != "number":
                runs.append((("before", told[end].stem), told[place:end]))
        place = max(end, place + 1)
    return runs


def _opposite(clause: Clause, other: Clause, evidence: AnswerEvidence) -> Contradiction | None:
    theirs = {word.stem: word for word in other.words}
    ours = {word.stem for word in clause.words}
    if clause.is_negative != other.is_negative:
        return None
    for word in clause.words:
        opposites = _OPPOSITES.get(word.stem, set()) & theirs.keys() - ours
        if opposites and word.stem not in theirs:
            rival = theirs[min(opposites)]
            if _is_about(clause, other, evidence, (word,)):
                return Contradiction("reversed", (word,), rival.text)
    return None


def _denied(clause: Clause, other: Clause, evidence: AnswerEvidence) -> Contradiction | None:
    if clause.is_negative == other.is_negative:
        return None
    share, informative = _shared(clause, other, evidence, ())
    back, _ = _shared(other, clause, evidence, ())
    if share < _SAME_CLAIM or back < _SAME_CLAIM or informative < 3:
        return None
    return Contradiction("denied", (), "")
