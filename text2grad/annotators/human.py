"""Annotator that imports spans which people marked, from the records or from their own file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from text2grad.annotators import Answer, OnAnswer, ignore
from text2grad.annotators.evidence import WordSet
from text2grad.annotators.lexicon import read_words, split_sentences
from text2grad.files import read_rows, sha256_text
from text2grad.parsing import read_feedback
from text2grad.schema import Feedback, FieldNames, Record, Span, Unparseable, UserError
from text2grad.tasks import TaskSpec

ERRORS_KEY = "human_errors"
_QUOTED_WORDS = 7  # of a marked phrase, in the critique
_QUOTED_PHRASES = 2  # of one kind of error, in the critique
_KINDS = {
    "irrelevant": "beside the point",
    "redundant": "redundant",
    "repetitive": "redundant",
    "unverifiable": "not supported by the source",
    "wrong-grounding": "at odds with the source",
    "incorrect": "wrong",
    "incoherent": "hard to follow",
    "vague": "vague",
}


class HumanAnnotator:
    """Spans from people, with a critique composed of what they said about them.

    A row has either the task's own keys, or `human_errors`: a list of objects with `start` and
    `end` (characters of the response, half-open), `type` or `error_type`, and, where it is not an
    error, `label`. Rows of `spans_path` are joined to records by id.

    Args:
        task: gives keys and labels.
        spans_path: file of rows with spans, "" if the records have them.
        good: "sentences" calls up to `task.max_quotes` sentences free of errors good, those that
            share most words with the reference: a reward model needs both labels and people
            rarely mark what is right. "none" adds nothing.
        fields: the user's key names; only `id` matters here.

    Raises:
        UserError: `spans_path` cannot be read, or has an id twice.
    """

    is_costly = False

    def __init__(
        self,
        task: TaskSpec,
        spans_path: str = "",
        good: Literal["sentences", "none"] = "sentences",
        fields: FieldNames | None = None,
    ) -> None:
        self._task = task
        self._good = max(task.labels, key=lambda label: label.score).name
        self._poor = min(task.labels, key=lambda label: label.score).name
        self._adds_good = good == "sentences"
        self._path = spans_path
        self._rows = _rows_by_id(spans_path, fields or FieldNames()) if spans_path else {}

    def provenance(self) -> dict[str, str]:
        """What the annotated record says about its annotator."""
        return {"annotator": "human"} | ({"spans_path": self._path} if self._path else {})

    def key(self, record: Record) -> str:
        """Hash of the record's texts; spans are read anew each time."""
        return sha256_text("human", record.prompt, record.response)

    def annotate(self, records: Sequence[Record], done: OnAnswer = ignore) -> list[Answer]:
        """One feedback per record; `Unparseable` where nobody marked anything.

        Raises:
            UserError: a span does not lie in its response, or no record has spans at all.
        """
        answers = [self._read(record) for record in records]
        if answers and all(isinstance(answer, Unparseable) for answer in answers):
            where = f"--spans_path {self._path}: has none of the ids of --data_path"
            raise UserError(where if self._path else f"{records[0].origin}: has no human spans")
        for place, answer in enumerate(answers):
            done(place, answer)
        return answers

    def _read(self, record: Record) -> Answer:
        row = self._rows.get(record.id) if self._path else record.fields
        if row is None:
            return Unparseable("no human spans for this id")
        if ERRORS_KEY in row:
            return self._from_errors(row[ERRORS_KEY], record)
        feedback = read_feedback(row, self._task, record.response)
        if feedback is None:
            return Unparseable("no human spans in this record")
        if isinstance(feedback, Unparseable):
            raise UserError(f"{record.origin}: its human spans: {feedback.reason}")
        for span in feedback.spans:
            self._check(span.start, span.end, record)
        if feedback.critique:
            return feedback
        marked = [(span, span.label) for span in feedback.spans]
        return Feedback(self.compose_critique(marked, record), feedback.spans)

    def _from_errors(self, errors: Any, record: Record) -> Feedback:
        if not isinstance(errors, list) or not all(isinstance(e, Mapping) for e in errors):
            raise UserError(f"{record.origin}: {ERRORS_KEY} must be a list of objects")
        names = {label.name for label in self._task.labels}
        marked: list[tuple[Span, str]] = []
        for error in errors:
            start, end = error.get("start"), error.get("end")
            label = error.get("label", self._poor)
            if label not in names:
                raise UserError(f'{record.origin}: a human span has the unknown label "{label}"')
            self._check(start, end, record, needed=True)
            kind = str(error.get("type") or error.get("error_type") or "a mistake")
            marked.append((Span(record.response[start:end], label, start, end), kind))
        if self._adds_good and not any(span.label == self._good for span, _ in marked):
            taken = [span for span, _ in marked]
            marked += [(span, "good") for span in self._free_sentences(taken, record)]
        return Feedback(self.compose_critique(marked, record), tuple(span for span, _ in marked))

    def _check(self, start: Any, end: Any, record: Record, needed: bool = False) -> None:
        if start is None and end is None and not needed:
            return
        whole = type(start) is int and type(end) is int
        if not whole or not 0 <= start < end <= len(record.response):
            raise UserError(
                f"{record.origin}: a human span has start {start} and end {end}, but the response "
                f"has {len(record.response)} characters"
            )

    def _free_sentences(self, taken: Sequence[Span], record: Record) -> list[Span]:
        wanted = WordSet(read_words(record.reference))
        free = [
            Span(record.response[start:end], self._good, start, end)
            for start, end in split_sentences(record.response)
            if not any(span.start < end and start < span.end for span in taken)
            and len(record.response[start:end]) <= self._task.max_quote_chars
        ]

        def shared(span: Span) -> int:
            return wanted.count([w for w in read_words(span.text) if w.kind != "function"])

        ranked = sorted(free, key=shared, reverse=True)
        return sorted(ranked[: self._task.max_quotes], key=lambda span: span.start or 0)

    def compose_critique(self, marked: Sequence[tuple[Span, str]], record: Record) -> str:
        """What the person wrote, then the good phrases, then each kind of error."""
        good = [_shorten(span.text) for span, _ in marked if span.label == self._good]
        groups: dict[str, list[str]] = defaultdict(list)
        for span, kind in marked:
            if span.label != self._good:
                plain = kind.lower().replace("_", "-")
                groups[_KINDS.get(plain, plain)].append(_shorten(span.text))
        sentences = [record.human_feedback.strip()] if record.human_feedback else []
        if good:
            sentences.append(f"{_list(good)} {'is' if len(good) == 1 else 'are'} right.")
        for kind, phrases in groups.items():
            what = "wrong" if kind in ("a mistake", self._poor) else kind
            sentences.append(f"{_list(phrases)} {'is' if len(phrases) == 1 else 'are'} {what}.")
        return " ".join(sentences) or "No fault was marked in it."


def _rows_by_id(path: str, fields: FieldNames) -> dict[str, Mapping[str, Any]]:
    rows: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(read_rows(path, "--spans_path"), 1):
        identity = str(row.get(fields.id or "id", f"{Path(path).stem}-{number}"))
        if identity in rows:
            raise UserError(f'--spans_path {path}: record {number} has the id "{identity}" again')
        rows[identity] = row
    return rows


def _shorten(phrase: str) -> str:
    words = phrase.split()
    cut = words[:_QUOTED_WORDS]
    return f"“{' '.join(cut).rstrip('.,;:')}{'…' if len(words) > len(cut) else ''}”"


def _list(phrases: Sequence[str]) -> str:
    shown, more = list(phrases[:_QUOTED_PHRASES]), len(phrases) - _QUOTED_PHRASES
    if more > 0:
        return f"{', '.join(shown)} and {more} more phrase{'s' if more > 1 else ''}"
    return " and ".join(shown)
