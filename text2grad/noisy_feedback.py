"""Critiques with errors in them: a copy of an annotated file, and a critic that errs in PPO."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.code_blocks import in_scope
from text2grad.files import check_writable, side_file, write_json, write_rows
from text2grad.locate import locate_spans
from text2grad.records import annotated_row, read_records
from text2grad.schema import Feedback, Record, Unparseable, UserError
from text2grad.span_noise import Noise, disturb_spans, read_noise
from text2grad.tasks import TaskSpec, get_task

if TYPE_CHECKING:
    from text2grad.config import NoiseConfig


@dataclass(frozen=True)
class NoisyFeedback(Feedback):
    """Feedback after errors were put into it.

    Attributes:
        placed: its quotes that are in the response, so that they could be wrong.
        errors: of these, how many are wrong now.
    """

    placed: int = 0
    errors: int = 0


class NoisyCritic:
    """A critic whose critiques have errors, the same ones for the same response.

    Args:
        critic: who judges.
        noise: the errors.
        seed: of the errors.
        task: gives the labels.
    """

    def __init__(self, critic: Any, noise: Noise, seed: int, task: TaskSpec) -> None:
        self.critic, self.noise, self.seed, self.task = critic, noise, seed, task

    def annotate(self, records: Sequence[Record]) -> list[Feedback | Unparseable]:
        """One answer per record, in order; what could not be read stays so."""
        said = self.critic.annotate(records)
        return [
            one
            if isinstance(one, Unparseable)
            else disturb_feedback(one, record, self.noise, self.seed, self.task)
            for record, one in zip(records, said, strict=True)
        ]

    @property
    def stats(self) -> Any:
        """How the critic wrote, None if it does not write."""
        return getattr(self.critic, "stats", None)


def disturb_feedback(
    feedback: Feedback, record: Record, noise: Noise, seed: int, task: TaskSpec
) -> NoisyFeedback:
    """The feedback with errors in its quotes; the words of the critique stay.

    Quotes that are nowhere in the response stay as they are and count for nothing.
    """
    response = record.response
    located = locate_spans(feedback.spans, response, task)
    placed = [span for span in located if span.start is not None]
    others = [span for span in located if span.start is None]
    draw = noise.draw(seed, record.id, response)
    blocks = in_scope(response, task.scope)
    after = disturb_spans(placed, response, noise, draw, opposite_labels(task), blocks)
    return NoisyFeedback(
        feedback.critique,
        locate_spans([*after, *others], response, task),
        feedback.reasoning,
        feedback.repair,
        placed=len(placed),
        errors=sum((Counter(placed) - Counter(after)).values()),
    )


def opposite_labels(task: TaskSpec) -> dict[str, str]:
    """What a label is taken for by who sees it the wrong way round.

    The best label becomes the worst, every other one the best.
    """
    best, worst = task.best_label, task.worst_label
    return {label.name: worst if label.name == best else best for label in task.labels}


def write_noisy_copy(args: NoiseConfig) -> None:
    """Write a copy of an annotated file in which annotations are wrong.

    An irrelevant critique has the words of another record's too. Beside the copy lies
    NAME.noise.json with counts of what was changed.

    Raises:
        UserError: the file has no annotations, or one cannot be read.
    """
    task, noise = get_task(args.task), read_noise(args.noise, "--noise")
    need = ("prompt", "response", "feedback")
    records = read_records(args.data_path, task, need, args.fields)
    output = Path(args.output_path)
    check_writable(output.parent, "--output_path")
    rows, counts = [], Counter(records=len(records))
    for record in records:
        if isinstance(record.feedback, Unparseable):
            reason = record.feedback.reason
            raise UserError(f"{record.origin}: its annotation: {reason} (from --data_path)")
        wrong = disturb_feedback(record.feedback, record, noise, args.seed, task)
        if noise.kind == "irrelevant" and wrong.errors:
            wrong = replace(wrong, critique=_critique_of_another(record, records, args.seed))
        counts += Counter(quotes=wrong.placed, wrong=wrong.errors, touched=wrong.errors > 0)
        rows.append(annotated_row(record, wrong, wrong.spans, task, _provenance(record, args)))
    write_rows(output, rows)
    facts = {"noise": noise.name, "seed": args.seed, "data_path": args.data_path}
    names = ("records", "touched", "quotes", "wrong")
    write_json(side_file(output, ".noise.json"), facts | {name: counts[name] for name in names})
    print(
        f"{noise.name}: {counts['wrong']} of {counts['quotes']} quotes wrong, in "
        f"{counts['touched']} of {counts['records']} records: {output}"
    )


def _critique_of_another(record: Record, records: Sequence[Record], seed: int) -> str:
    """The critique of a response to another prompt, its own where there is none."""
    first = random.Random(f"{seed}-critique-{record.id}-{record.response}").randrange(len(records))
    order = chain(range(first, len(records)), range(first))
    others = (records[place] for place in order if records[place].prompt != record.prompt)
    return next(others, record).feedback.critique


def _provenance(record: Record, args: NoiseConfig) -> dict[str, Any]:
    given = record.fields.get("annotation")
    known = dict(given) if isinstance(given, Mapping) else {}
    return known | {"noise": args.noise, "noise_seed": args.seed}
