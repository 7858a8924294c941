"""Judges open-ended text, in which many answers are right: by what was asked, and no reference.

Good is a clause that brings in a word that the prompt asks for. Poor are sentences beyond the
number that it allows, what is said twice, worn phrases, talk about the text and a needless refusal.
It sees craft where it can be counted, and nothing of plot, voice or wit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from text2grad.annotators import answer_lists as lists
from text2grad.annotators.answer_form import sentence_limit
from text2grad.annotators.answer_quotes import Quotes
from text2grad.annotators.answer_signals import Echoes, sentence_kinds
from text2grad.annotators.answer_text import AnswerText, read_answer
from text2grad.annotators.answer_wording import shorten
from text2grad.annotators.clauses import Clause
from text2grad.annotators.lexicon import stem
from text2grad.annotators.wording import VariantChooser
from text2grad.schema import Feedback, Record
from text2grad.tasks import TaskSpec

_ASKED = re.compile(lists.ASKED_WORDS, re.I)
_WORN = [re.compile(line) for line in lists.WORN.strip().split("\n")]
_ABOUT = [re.compile(line) for line in lists.ABOUT_THE_TEXT.strip().split("\n")]
# the surest are quoted first
_SURENESS = {
    "refusal": 5.0,
    "filler": 4.0,
    "about": 4.0,
    "surplus": 3.0,
    "repeated": 2.0,
    "worn": 1.0,
}
_PRAISE = (
    "“{quote}” brings in {words} as part of what happens.",
    "{words} has its place in “{quote}”.",
    "It uses {words} well: “{quote}”.",
)
_BLAME = {
    "refusal": ("“{quote}” refuses what can be written.", "Nothing speaks against writing it."),
    "filler": ("“{quote}” is no part of the text.", "“{quote}” could be cut."),
    "about": ("“{quote}” talks about the text.", "“{quote}” is no part of the text itself."),
    "surplus": ("“{quote}” is one sentence too many.", "At “{quote}” it should be over."),
    "repeated": ("“{quote}” says again what was said.", "“{quote}” adds nothing new."),
    "worn": ("“{quote}” is a worn phrase.", "“{quote}” has been read too often."),
}
_MISSING = (
    "It never uses {words}.",
    "{words} is missing.",
    "What it lacks is {words}.",
)
_CLEAN = ("Nothing in it is worn or said twice.", "It keeps to what was asked.")
_EMPTY = ("Little of what was asked for is in it.", "It makes nothing of the request.")


@dataclass(frozen=True)
class Finding:
    """What is thought of one clause.

    Attributes:
        clause: the clause.
        words: words that were asked for and are here for the first time, in their stems.
        fault: why it is poor, "" if it is not; a faulty clause is never good.
    """

    clause: Clause
    words: tuple[str, ...] = ()
    fault: str = ""


def judge_open_text(record: Record, task: TaskSpec) -> Feedback:
    """Critique and quotes of the record's response."""
    answer, asked = read_answer(record.response), asked_words(record.prompt)
    findings = find_all(record.prompt, answer)
    quotes = Quotes(answer, task)
    faulty = sorted(_first_of_each_sentence(findings), key=lambda f: -_SURENESS[f.fault])
    poor = faulty[: task.max_quotes]
    good = sorted((f for f in findings if f.words), key=lambda f: -len(f.words))[: task.max_quotes]
    spans = [
        quotes.span(quotes.of_clause(finding.clause), label)
        for label, chosen in ((task.best_label, good), (task.worst_label, poor))
        for finding in sorted(chosen, key=lambda f: f.clause.words[0].start)
    ]
    choose = VariantChooser(record.response)

    def shown(finding: Finding) -> str:
        return shorten(quotes.shown(quotes.of_clause(finding.clause)))

    said = [choose(_PRAISE).format(quote=shown(f), words=_named(f.words, asked)) for f in good[:1]]
    if asked and not good:
        said.append(choose(_EMPTY))
    said += [choose(_BLAME[f.fault]).format(quote=shown(f)) for f in poor]
    used = {word.stem for word in answer.words}
    missing = [word for word in asked if word not in used]
    if missing:
        said.append(choose(_MISSING).format(words=_named(missing, asked)))
    elif not poor:
        said.append(choose(_CLEAN))
    critique = " ".join(sentence[0].upper() + sentence[1:] for sentence in said)
    return Feedback(critique[: task.max_critique_chars], tuple(spans))


def open_text_score(prompt: str, response: str) -> float:
    """Share of a response's words in good clauses, less the share in faulty ones."""
    findings = find_all(prompt, read_answer(response))
    words = sum(len(finding.clause.words) for finding in findings)
    net = sum(len(f.clause.words) * (bool(f.words) - bool(f.fault)) for f in findings)
    return net / max(1, words)


def asked_share(prompt: str, response: str) -> float | None:
    """Share of the words that a prompt asks for that are in the response; None if it names none."""
    asked = asked_words(prompt)
    said = {word.stem for word in read_answer(response).words}
    return sum(word in said for word in asked) / len(asked) if asked else None


def asked_words(prompt: str) -> dict[str, str]:
    """Words that the response is to use, by their stems.

    Example: "a story with the words lamp, rope and Monday" -> stems of lamp, rope and Monday
    """
    found = _ASKED.search(prompt)
    words = re.split(r",? and |, ", found[1]) if found else []
    return {stem(word.lower()): word for word in words}


def find_all(prompt: str, answer: AnswerText) -> list[Finding]:
    """A finding about every clause, in order."""
    asked = prompt.lower()
    limit, kinds = sentence_limit(asked), sentence_kinds(answer)
    last = max((clause.sentence for clause in answer.clauses), default=0)
    # in between, people of a story may greet, thank and refuse
    kinds = {number: kind for number, kind in kinds.items() if number in (0, last)}
    echoes = Echoes(read_answer(prompt), read_answer(""))
    wanted, findings = set(asked_words(prompt)), []
    for clause in answer.clauses:
        repeats = echoes.hear(clause) is not None
        fault = kinds.get(clause.sentence, "")
        fault = fault if fault in _SURENESS else _fault_of(clause, limit)
        finding = Finding(clause, fault=fault or ("repeated" if repeats else ""))
        if not finding.fault:
            stems = dict.fromkeys(word.stem for word in clause.words)
            used = tuple(word for word in stems if word in wanted)
            wanted -= set(used)
            finding = replace(finding, words=used)
        findings.append(finding)
    return findings


def _fault_of(clause: Clause, limit: int | None) -> str:
    start, end = clause.words[0].start, clause.words[-1].end
    text = " ".join(clause.text[start:end].lower().replace("’", "'").split())
    if any(pattern.search(text) for pattern in _ABOUT):
        return "about"
    if limit is not None and clause.sentence >= limit:
        return "surplus"
    return "worn" if any(pattern.search(text) for pattern in _WORN) else ""


def _first_of_each_sentence(findings: Sequence[Finding]) -> list[Finding]:
    """The faulty ones; of a sentence with the same fault throughout, its first clause."""
    kept: dict[tuple[int, str], Finding] = {}
    for finding in findings:
        if finding.fault:
            kept.setdefault((finding.clause.sentence, finding.fault), finding)
    return list(kept.values())


def _named(stems: Sequence[str], asked: dict[str, str]) -> str:
    return " and ".join(f"“{asked[word]}”" for word in stems)
