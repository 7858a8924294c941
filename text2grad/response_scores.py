"""Scores of a policy's responses beyond overlap with the references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from text2grad.agreement import label_units, word_units
from text2grad.alignment import locate_spans
from text2grad.annotators.reference import support_score
from text2grad.schema import Feedback, Record
from text2grad.tasks import TaskSpec

if TYPE_CHECKING:
    from text2grad.config import PolicyMetricsConfig


def net_score(feedback: Feedback, response: str, task: TaskSpec) -> float:
    """Mean score of the response's words under a critique: +1 good, -1 poor, 0 unmarked."""
    spans = locate_spans(feedback.spans, response, task)
    labels = label_units(spans, response, task, word_units(response))
    return sum(task.label_scores.get(label, 0.0) for label in labels) / max(len(labels), 1)


def with_scores(
    records: Sequence[Record], args: PolicyMetricsConfig, task: TaskSpec
) -> list[Record]:
    """The records with "scores" in their fields.

    `support_score` compares with post and human summary and trains nothing;
    `reward_model_score` is the net score under the reward model's critiques, where one is named.
    An unparseable critique scores 0 and is counted in `reward_model_parsed`.
    """
    rows = [
        {"support_score": support_score(record.prompt, record.reference, record.response)}
        for record in records
    ]
    if args.reward_model_name:
        from text2grad.annotators.reward_model import RewardModelAnnotator  # imports torch
        from text2grad.models import quiet_libraries

        quiet_libraries()
        annotator = RewardModelAnnotator(
            args.reward_model_name,
            task,
            batch_size=args.reward_batch_size,
            prompt_max_tokens=args.reward_prompt_max_length,
            max_new_tokens=args.reward_max_new_tokens,
            prompt_file=args.prompt_file,
            target_format=args.reward_target_format,
            prompt_flag="--reward_prompt_max_length",
            budget_flag="--reward_max_new_tokens",
            format_flag="--reward_target_format",
        )
        for row, record, said in zip(
            rows, records, annotator.annotate(records, progress=True), strict=True
        ):
            parsed = isinstance(said, Feedback)
            row["reward_model_score"] = net_score(said, record.response, task) if parsed else 0.0
            row["reward_model_parsed"] = float(parsed)
    return [
        replace(
            record, fields={**record.fields, "scores": {**record.fields.get("scores", {}), **row}}
        )
        for record, row in zip(records, rows, strict=True)
    ]
