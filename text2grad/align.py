"""Show what each token of a response earns: every record gets its spans and token scores.

    python -m text2grad.align --task slf5k --data_path IN --output_path OUT --tokenizer DIR_OR_NAME

Input: records with a response and its quotes (lists of phrases are enough). Output: the same
records with `spans` (offsets, and how each was found), `tokens`, `token_ids` and `token_scores`.

A recorded response has no sampled ids, so it is encoded here, and only here: in training the ids
that were sampled are scored themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from text2grad.alignment import (
    TokenBytes,
    label_tokens,
    locate_spans,
    match_statistics,
    response_text,
    score_tokens,
)
from text2grad.config import launch
from text2grad.files import check_writable, write_rows
from text2grad.records import read_records
from text2grad.schema import MATCHES, Feedback, FieldNames, Record, Span, Unparseable, UserError
from text2grad.tables import text_table
from text2grad.tasks import TaskSpec, get_task

KINDS = (*MATCHES, "ambiguous")


@dataclass(frozen=True)
class AlignConfig:
    """Give every record its spans, token_ids and token_scores."""

    data_path: str
    """records with a response and its quotes"""
    output_path: str
    """the same records with spans, tokens, token_ids and token_scores"""
    tokenizer: str
    """folder or hub name of the tokenizer (a model's folder will do)"""
    task: str = "slf5k"
    """which task's keys and scores"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""


@dataclass(frozen=True)
class Aligned:
    """One record's response as tokens, with the score of each.

    Attributes:
        text: the tokens' text; the response, unless the tokenizer rewrites what it encodes.
        spans: the quotes, located in `text`.
        pieces, ids, scores: one entry per token.
    """

    text: str
    spans: tuple[Span, ...]
    pieces: list[bytes]
    ids: list[int]
    scores: list[float]


def align_response(
    response: str, spans: Sequence[Span], tokenizer: Any, table: TokenBytes, task: TaskSpec
) -> Aligned:
    """Encode a response, locate its quotes and score its tokens."""
    ids = [int(i) for i in tokenizer.encode(response, add_special_tokens=False)]
    pieces = table.pieces(ids)
    text = response_text(pieces)
    if text == f" {response}":  # SentencePiece puts a space before the first word
        pieces[0], text = pieces[0][1:], response
    elif text != response:  # offsets into the response mean nothing in a rewritten text
        spans = [replace(span, start=None, end=None) for span in spans]
    located = locate_spans(spans, text, task)
    return Aligned(text, located, pieces, ids, score_tokens(pieces, located, task))


def align_file(args: AlignConfig) -> None:
    """Align a file of records and print how the quotes were found.

    Raises:
        UserError: the file cannot be read or written, or no record of it has quotes.
    """
    from tqdm import tqdm

    from text2grad.pretrained import load_tokenizer  # seconds to import

    task = get_task(args.task)
    records = read_records(args.data_path, task, ("response",), args.fields)
    if not any(isinstance(record.feedback, Feedback) for record in records):
        keys = ", ".join(label.key for label in task.labels)
        raise UserError(
            f"{args.data_path}: no record has quotes; expected the keys {keys}, or spans "
            f"(record 1: {_reason(records[0])}) (from --data_path)"
        )
    check_writable(Path(args.output_path).parent, "--output_path")
    tokenizer = load_tokenizer(args.tokenizer, "--tokenizer")
    table = TokenBytes(tokenizer)
    rows, aligned = [], []
    for record in tqdm(records, desc="aligning", unit="record"):
        if isinstance(record.feedback, Feedback):
            spans = record.feedback.spans
            aligned.append(align_response(record.response, spans, tokenizer, table, task))
            rows.append(_row(record, aligned[-1]))
        else:
            rows.append({"id": record.id, **record.fields, "unparseable": _reason(record)})
    write_rows(args.output_path, rows)
    print(summary(aligned, len(records) - len(aligned), task))
    print(f"written: {args.output_path}")


def summary(aligned: Sequence[Aligned], without: int, task: TaskSpec) -> str:
    """How the quotes were found, by label.

    Args:
        aligned: the records that have feedback.
        without: how many have none that can be read.
        task: gives the labels.
    """
    header = ["quotes", "all", *KINDS]
    rows = []
    for label in (*(label.name for label in task.labels), "all"):
        chosen = [[s for s in one.spans if label in ("all", s.label)] for one in aligned]
        counts = match_statistics(chosen, [one.text for one in aligned])
        rows.append([label, counts["n_spans"], *(counts[kind] for kind in KINDS)])
    labels = [label for one in aligned for label in label_tokens(one.pieces, one.spans, task)]
    marked = sum(label in task.label_scores for label in labels) / max(1, len(labels))
    lines = [
        text_table(header, rows),
        f"{len(aligned)} responses, {len(labels)} tokens, {marked:.1%} with a quote's score; "
        f"records without readable feedback: {without}",
    ]
    if counts["unmatched_rate"] > 0.05:
        lines.append(
            f"warning: {counts['unmatched_rate']:.1%} of the quotes are not in their responses; "
            "look at the spans with match unmatched in the output"
        )
    return "\n".join(lines)


def _row(record: Record, aligned: Aligned) -> dict[str, Any]:
    return {
        "id": record.id,
        **record.fields,
        "spans": [span.to_json() for span in aligned.spans],
        "tokens": [piece.decode("utf-8", "replace") for piece in aligned.pieces],
        "token_ids": aligned.ids,
        "token_scores": aligned.scores,
    }


def _reason(record: Record) -> str:
    feedback = record.feedback
    return feedback.reason if isinstance(feedback, Unparseable) else "no annotation"


if __name__ == "__main__":
    launch(AlignConfig, "text2grad.align:align_file")
