"""From text or a record's keys to `Feedback`, or to the reason why there is none.

Nothing here raises on what a model or a file says: a reply that is no feedback becomes
`Unparseable` with one of the `reasons`, is counted, and never becomes a reward.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from text2grad.replies import RUNGS, ReadObject, plain_fields, plain_key, read_object
from text2grad.schema import MATCHES, Feedback, Span, Unparseable, utf8_text
from text2grad.tasks.spec import TaskSpec
from text2grad.word_scores import WORD_SCORES_KEY, Unreadable, word_scores, word_spans

__all__ = [
    "RUNGS",
    "parse_reply",
    "read_feedback",
    "reasons",
    "target_json",
    "word_target_json",
]

REASONING_KEYS = ("reasoning", "chain_of_thought", "thinking")
CONTAINERS = ("annotations", "analysis", "spans")


def reasons(task: TaskSpec) -> tuple[str, ...]:
    """Every reason that an `Unparseable` of this module can carry."""
    keys = (task.critique_keys[0], *(label.key for label in task.labels))
    return (
        "empty reply",
        "no JSON object",
        "truncated",
        "not JSON",
        "nested too deep",
        "two objects",
        "key given twice",
        "critique is not a string",
        "critique is empty",
        "spans are not a list",
        "span is not a string",
        "quote repaired in part",
        "word_score_list is not a list",
        "word_score_list holds no pairs of word and score",
        "word score is not a number",
        "word score out of range",
        "word scores need the response",
        "span has an unknown label",
        "span offsets are wrong",
        "annotation failed",
        *(f"missing key {key}" for key in keys),
    )


def parse_reply(text: str, task: TaskSpec, response: str = "") -> Feedback | Unparseable:
    """Read what a model wrote.

    Args:
        text: the reply; JSON, or JSON in need of one of the repairs in `RUNGS`.
        task: gives the keys; all of them must be there.
        response: the judged text, needed only for the published word format.

    Returns:
        Feedback whose spans have no offsets (in the word format: offsets), or why there is none.
    """
    try:
        reply = read_object(text, _known_keys(task))
        return _from_reply(reply, task, response)
    except Unreadable as error:
        return Unparseable(str(error), text)
    except RecursionError:
        return Unparseable("nested too deep", text)


def read_feedback(
    row: Mapping[str, Any], task: TaskSpec, response: str = ""
) -> Feedback | Unparseable | None:
    """Read the annotation of a record, in any published or own shape.

    Known are the flat keys of the task (every spelling), the same keys nested in "annotations",
    "analysis" or "spans", a list "spans" with offsets, "word_score_list", and a model's raw reply
    under a critique key. A list "spans" goes before the lists of quotes. Where only quotes are
    given the critique is "", and of the lists of quotes one is enough.

    Args:
        row: the record as it was read.
        task: gives the keys.
        response: the judged text; "" looks for it under the task's keys.

    Returns:
        None if the record has no annotation.
    """
    fields = plain_fields(row, CONTAINERS)
    try:
        return _from_row(fields, task, response or _response_of(row, task))
    except Unreadable as error:
        return Unparseable(str(error), json.dumps(row, ensure_ascii=False, default=str))


def target_json(feedback: Feedback, task: TaskSpec) -> str:
    """The reply that the reward model is trained to write: critique first, then the quotes."""
    target: dict[str, Any] = {task.critique_keys[0]: feedback.critique}
    for label in task.labels:
        target[label.key] = [span.text for span in feedback.spans if span.label == label.name]
    return json.dumps(target, ensure_ascii=False)


def word_target_json(feedback: Feedback, response: str, task: TaskSpec) -> str:
    """The reply in the published format: critique first, then a score for every word.

    Args:
        feedback: its spans located in the response.
        response: the text that is judged.
        task: keys and scores.
    """
    scores = word_scores(feedback.spans, response, task)
    target = {task.critique_keys[0]: feedback.critique, WORD_SCORES_KEY: scores}
    return json.dumps(target, ensure_ascii=False)


def _known_keys(task: TaskSpec) -> frozenset[str]:
    keys = [*task.critique_keys, WORD_SCORES_KEY]
    for label in task.labels:
        keys += [label.key, *label.aliases]
    return frozenset(plain_key(key) for key in keys)


def _from_reply(reply: ReadObject, task: TaskSpec, response: str) -> Feedback:
    critique = _first(reply.fields, task.critique_keys)
    if critique is None:
        raise Unreadable(f"missing key {task.critique_keys[0]}")
    critique = _critique_text(critique)
    if not critique:
        raise Unreadable("critique is empty")
    spans = _spans_of(reply.fields, task, response, all_labels=True)
    repaired = reply.source if WORD_SCORES_KEY not in reply.fields else ""
    if repaired and not all(_stands_whole(span.text, repaired) for span in spans):
        raise Unreadable("quote repaired in part")
    reasoning = _first(reply.fields, REASONING_KEYS)
    reasoning = reasoning if isinstance(reasoning, str) else reply.prose
    return Feedback(critique, tuple(spans), utf8_text(reasoning).strip(), reply.repair)


def _from_row(
    fields: Mapping[str, Any], task: TaskSpec, response: str
) -> Feedback | Unparseable | None:
    critique = _first(fields, task.critique_keys)
    critique = "" if critique is None else _critique_text(critique)
    quoted = isinstance(fields.get("spans"), list) or WORD_SCORES_KEY in fields
    if not quoted and all(_first(fields, _label_keys(label)) is None for label in task.labels):
        if not critique:
            if isinstance(fields.get("error"), str) and "analysis" in fields:
                raise Unreadable("annotation failed")
            return None
        if "{" in critique:
            return parse_reply(critique, task, response)
        raise Unreadable(f"missing key {task.labels[0].key}")
    spans = _spans_of(fields, task, response, all_labels=False)
    if not critique and not spans:
        return None
    source = fields.get("annotation")
    given = plain_fields(source) if isinstance(source, Mapping) else fields
    reasoning = _first(given, REASONING_KEYS)
    return Feedback(critique, tuple(spans), reasoning if isinstance(reasoning, str) else "")


def _spans_of(
    fields: Mapping[str, Any], task: TaskSpec, response: str, all_labels: bool
) -> list[Span]:
    located = fields.get("spans")
    if isinstance(located, list) and not all_labels:
        return [_located_span(entry, task, response) for entry in located]
    spans: list[Span] = []
    named = [_first(fields, _label_keys(label)) for label in task.labels]
    if WORD_SCORES_KEY in fields and all(value is None for value in named):
        return word_spans(fields[WORD_SCORES_KEY], response, task)
    for label in task.labels:
        present = any(plain_key(key) in fields for key in _label_keys(label))
        if all_labels and not present:
            raise Unreadable(f"missing key {label.key}")
        quotes = _quotes_of(_first(fields, _label_keys(label)))
        spans += [Span(utf8_text(quote), label.name) for quote in quotes]
    return spans


def _quotes_of(value: Any) -> list[str]:
    """The quotes under one key; nothing and blank strings quote nothing, one string is one."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise Unreadable("spans are not a list")
    texts = [item.get("text") if isinstance(item, Mapping) else item for item in value]
    if not all(isinstance(text, str) for text in texts):
        raise Unreadable("span is not a string")
    return [text for text in texts if text.strip()]


def _located_span(entry: Any, task: TaskSpec, response: str) -> Span:
    names = {
        name: label.name for label in task.labels for name in (label.name, *_label_keys(label))
    }
    if not isinstance(entry, Mapping):
        raise Unreadable("span is not a string")
    label = entry.get("label")
    if label not in names:
        raise Unreadable("span has an unknown label")
    start, end = entry.get("start"), entry.get("end")
    text = entry.get("text")
    if (start, end) != (None, None):
        if not (type(start) is int and type(end) is int and 0 <= start < end):
            raise Unreadable("span offsets are wrong")
        text = response[start:end] if text is None else text
    if not isinstance(text, str):
        raise Unreadable("span is not a string")
    match, copies = entry.get("match"), entry.get("copies", 1)
    match = match if match in MATCHES else None
    copies = copies if type(copies) is int and copies > 0 else 1
    return Span(text, names[label], start, end, match, copies)


def _stands_whole(quote: str, source: str) -> bool:
    """Whether a quote stands between quote marks, and nothing else with it, in malformed JSON."""
    for written in {quote, json.dumps(quote, ensure_ascii=False)[1:-1], quote.replace("'", "\\'")}:
        at = source.find(written)
        while at >= 0:
            before, after = source[:at].rstrip(), source[at + len(written) :].lstrip()
            opened = before[-1:] in {'"', "'", "“", "‘"} and before[:-1].rstrip()[-1:] in {*"[,:(/"}
            closed = after[:1] in {'"', "'", "”", "’"} and after[1:].lstrip()[:1] in {*"],})/#"}
            if opened and closed:
                return True
            at = source.find(written, at + 1)
    return False


def _label_keys(label: Any) -> tuple[str, ...]:
    return (label.key, *label.aliases)


def _first(fields: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The value of the first key that has one."""
    values = (fields.get(plain_key(key)) for key in keys)
    return next((value for value in values if value is not None), None)


def _critique_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unreadable("critique is not a string")
    return utf8_text(value).strip()


def _response_of(row: Mapping[str, Any], task: TaskSpec) -> str:
    values = (row.get(key) for key in task.response_keys)
    return next((value for value in values if isinstance(value, str) and value.strip()), "")
