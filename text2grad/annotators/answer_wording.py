"""Findings about an answer as a paragraph that reads like a person's.

Which variant is taken depends on the response alone, so a record always gets the same critique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from text2grad.annotators.wording import Remark, VariantChooser

_SHOWN_WORDS = 10  # of a quote
_SHOWN_CHARS = 80
_MOST_FAULTS = 3

_PRAISE = {
    "content": (
        "“{0}” is right and answers what was asked.",
        "It is right about a key point: “{0}”.",
        "The statement “{0}” is accurate and useful here.",
        "“{0}” is the kind of information the question asks for.",
    ),
    "two": (
        "“{0}” and “{1}” are both correct and to the point.",
        "The answer gets the essentials right, above all “{0}” and “{1}”.",
        "It rightly says “{0}”, and “{1}” is sound too.",
        "What it says in “{0}” and in “{1}” is accurate and helps the reader.",
        "The strong parts are “{0}” and “{1}”, which answer what was asked.",
    ),
    "figure": (
        "The figures in “{0}” are correct.",
        "“{0}” is exact, figures included.",
        "It has the facts right in “{0}”.",
    ),
    "answer": (
        "The answer “{0}” is correct.",
        "“{0}” is the right answer.",
        "It arrives at the right answer, “{0}”.",
    ),
    "refusal": (
        "It is right to decline here: “{0}”.",
        "Declining with “{0}” is appropriate, since the request cannot be met as it stands.",
        "“{0}” is an honest and fitting reply to this request.",
    ),
    "code": (
        "The code is on the right track, for example “{0}”.",
        "“{0}” is a correct step of the solution.",
    ),
}
_FAULTS = {
    "number": (
        "“{quote}” has a wrong figure: it should be {detail}.",
        "The figure in “{quote}” is wrong, for the correct one is {detail}.",
        "“{quote}” is mistaken; {detail} would be right.",
    ),
    "unit": (
        "“{quote}” uses the wrong unit: it should read {detail}.",
        "The unit in “{quote}” is wrong; correct is {detail}.",
    ),
    "name": (
        "“{quote}” names the wrong one: it should be {detail}.",
        "The name in “{quote}” is not right; it should say {detail}.",
    ),
    "reversed": (
        "“{quote}” has it the wrong way round: {detail} would be correct.",
        "“{quote}” says the opposite of what is true, which is {detail}.",
    ),
    "denied": (
        "“{quote}” gets it backwards, as a good answer says the contrary.",
        "“{quote}” contradicts what is the case.",
    ),
    "answer": (
        "“{quote}” is the wrong answer; correct is {detail}.",
        "The answer should be {detail}, not “{quote}”.",
        "“{quote}” is incorrect, since the right answer is {detail}.",
    ),
    "refusal": (
        "“{quote}” refuses or evades a request that can be answered.",
        "There is no reason to decline with “{quote}”: the question can be answered.",
        "“{quote}” turns the reader away although a direct answer is possible.",
    ),
    "repeated": (
        "“{quote}” repeats what was already said in “{detail}”.",
        "“{quote}” is redundant after “{detail}”.",
        "After “{detail}”, “{quote}” adds nothing new.",
    ),
    "said twice": (
        "“{quote}” is said twice.",
        "It says “{quote}” a second time, which adds nothing.",
        "“{quote}” comes again in the same words, a mere repetition.",
    ),
    "filler": (
        "“{quote}” is an empty phrase that delays the answer.",
        "“{quote}” is filler and could be cut.",
        "“{quote}” adds words but no content.",
    ),
    "unsupported": (
        "“{quote}” strays from what was asked.",
        "“{quote}” is beside the point.",
        "“{quote}” does not help to answer the question.",
        "“{quote}” leads away from the question and could be left out.",
        "The reader does not need “{quote}” to have the question answered.",
    ),
    "unfounded": (
        "“{quote}” is doubtful: {detail} has no place in a correct answer.",
        "“{quote}” brings in {detail}, which nothing bears out.",
        "There is no ground for {detail} in “{quote}”.",
        "“{quote}” is not borne out, as far as {detail} is concerned.",
    ),
    "language": (
        "It is written in {found}, but the answer should be in {wanted}.",
        "The answer should be in {wanted}; “{quote}” and the rest are in {found}.",
    ),
    "too many items": (
        "It lists {found} entries where {wanted} were asked for; “{quote}” is one too many.",
        "Only {wanted} were asked for, but there are {found}, so “{quote}” should go.",
    ),
    "too few items": (
        "It lists only {found} entries where {wanted} were asked for.",
        "The request was for {wanted}, but the list ends after {found}.",
    ),
    "too long": (
        "It runs to {found} although {wanted} were allowed.",
        "With {found} it ignores the limit of {wanted}.",
    ),
    "too short": (
        "With {found} it stays below the {wanted} that were asked for.",
        "It should have at least {wanted} and has {found}.",
    ),
    "code": (
        "There is no code in it, although the task asks for some.",
        "It describes a solution but never shows the code.",
    ),
    "table": (
        "The table that was asked for is missing.",
        "It should present this as a table.",
    ),
    "json": (
        "It is not in the JSON format that was asked for.",
        "The reply should be JSON, and this is plain text.",
    ),
    "list": (
        "It should be a list, as was asked, and is running text.",
        "The requested list is missing: everything is in running text.",
    ),
    "unstructured": (
        "A list of the single points would make it easier to follow than one block of text.",
        "The points run into each other; setting them out as a list would be clearer.",
    ),
    "brief": (
        "It stays far too brief and goes into none of the details.",
        "It says much less than the question deserves.",
        "That is too little: the reader gets hardly any explanation.",
    ),
    "wordy": (
        "It takes {found} where {wanted} would do.",
        "A reply of {wanted} was enough; the rest of its {found} only bury the answer.",
    ),
}
_MISSING = {
    "one": (
        "It does not mention “{0}”.",
        "What is missing is “{0}”.",
        "It should also say “{0}”.",
        "A complete answer would add “{0}”.",
        "The reader is not told “{0}”.",
    ),
    "two": (
        "It leaves out “{0}” as well as “{1}”.",
        "Missing are “{0}” and “{1}”.",
        "A complete answer would also cover “{0}” and “{1}”.",
        "It says nothing of “{0}”, nor of “{1}”.",
    ),
    "answer": (
        "It never gives the answer itself, “{0}”.",
        "The answer, “{0}”, is nowhere stated.",
        "What the question wants, “{0}”, is missing.",
    ),
    "refusal": (
        "A good reply would say that this cannot be answered as asked: “{0}”.",
        "It should point out the limits of the request first, as in “{0}”.",
    ),
}
_NOTHING_GOOD = (
    "The answer says hardly anything that the question needs.",
    "Little in this answer responds to the question.",
    "It does not come to what was asked.",
)
_DIFFERENT = (
    "The answer takes up the request in its own way, without a clear mistake.",
    "It responds to the request, and nothing in it is plainly wrong.",
    "This is a possible reply to the request, though not a strong one.",
)
_CLEAN = (
    "There is no mistake, repetition or padding in it.",
    "It keeps to the question and contains no error.",
    "It is to the point, and nothing in it needs to be corrected.",
    "None of it is false or empty.",
)


@dataclass(frozen=True)
class AnswerFault(Remark):
    """What is wrong with the answer, with a quote where there is one.

    Attributes:
        wanted, found: what the form should be and is, "" where the fault is none of form.
    """

    wanted: str = ""
    found: str = ""


@dataclass(frozen=True)
class AnswerRemarks:
    """Everything a critique of an answer says.

    Attributes:
        praise: (kind, phrase) of what is right.
        faults: what is wrong, the gravest first.
        missing: phrases the answer should have had, at most two.
        missing_kind: "content", "answer" or "refusal".
        is_related: whether it shares anything with prompt or reference.
    """

    praise: Sequence[tuple[str, str]] = ()
    faults: Sequence[AnswerFault] = ()
    missing: Sequence[str] = ()
    missing_kind: str = "content"
    is_related: bool = True


def write_answer_critique(remarks: AnswerRemarks, response: str, most_chars: int) -> str:
    """One paragraph of up to five sentences: what is right, what is wrong and why, what is missing.

    Sentences that would exceed `most_chars` are left out, the least important first.
    """
    choose = VariantChooser(response)
    praise = _praise(remarks, choose)
    blame = [_blame(fault, choose) for fault in remarks.faults[:_MOST_FAULTS]]
    missing = [_name_missing(remarks, choose)] if remarks.missing else []
    clean = [choose(_CLEAN)] if remarks.praise and not (blame or missing) else []
    sentences = [*praise, *blame, *missing, *clean]
    kept: set[str] = set()
    for sentence in (*praise, *blame[:1], *missing, *clean, *blame[1:]):
        whole = sum(len(other) + 1 for other in kept) + len(sentence)
        if whole <= most_chars or not kept:
            kept.add(sentence)
    text = " ".join(f"{s[0].upper()}{s[1:]}" for s in sentences if s in kept)
    return text[:most_chars]


def shorten(phrase: str) -> str:
    """A phrase as it is shown in running text: on one line, without its end if it is long."""
    words = phrase.split()
    whole = " ".join(words)
    shown = " ".join(words[:_SHOWN_WORDS])[:_SHOWN_CHARS]
    return whole if shown == whole else f"{shown.rstrip('.,;: ')}…"


def _praise(remarks: AnswerRemarks, choose: VariantChooser) -> list[str]:
    if not remarks.praise:
        if remarks.faults and remarks.is_related:
            return []
        return [choose(_DIFFERENT if remarks.is_related else _NOTHING_GOOD)]
    plain = [shorten(phrase) for kind, phrase in remarks.praise if kind in ("content", "figure")]
    sentences = [
        choose(_PRAISE[kind]).format(shorten(phrase))
        for kind, phrase in remarks.praise
        if kind not in ("content", "figure")
    ][:1]
    if len(plain) >= 2 and not sentences:
        return [choose(_PRAISE["two"]).format(*plain)]
    if plain:
        kind = next(kind for kind, _ in remarks.praise if kind in ("content", "figure"))
        sentences.append(choose(_PRAISE[kind]).format(plain[0]))
    return sentences


def _name_missing(remarks: AnswerRemarks, choose: VariantChooser) -> str:
    phrases = [shorten(phrase) for phrase in remarks.missing]
    kind = remarks.missing_kind
    if kind == "content":
        kind = "one" if len(phrases) == 1 else "two"
    return choose(_MISSING[kind]).format(*phrases)


def _blame(fault: AnswerFault, choose: VariantChooser) -> str:
    detail = fault.detail if fault.fault == "unfounded" else shorten(fault.detail)
    if fault.fault in ("number", "unit", "name", "reversed", "answer"):
        detail = f"“{detail}”"
    is_copy = fault.fault == "repeated" and detail == shorten(fault.quote)
    wordings = _FAULTS["said twice" if is_copy else fault.fault]
    variants = [v for v in wordings if fault.quote or "{quote}" not in v]
    return choose(variants).format(
        quote=shorten(fault.quote), detail=detail, wanted=fault.wanted, found=fault.found
    )
