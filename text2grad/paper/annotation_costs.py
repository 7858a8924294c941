"""What annotation took and marked: tokens and money from its journals, quotes from its records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from text2grad.agreement import label_units, word_units
from text2grad.alignment import NEUTRAL
from text2grad.files import Journal
from text2grad.ledger import Prices, Usage
from text2grad.paper.measured import Run
from text2grad.records import read_records
from text2grad.report_entries import record_quotes
from text2grad.student import student_interval
from text2grad.tasks import TaskSpec


def read_annotation(name: str, folder: Path, task: TaskSpec, flag: str) -> Run | None:
    """The annotated files of a folder, and the journals beside them.

    Args:
        name: what was asked of the annotator, a key of `ANNOTATIONS`.
        folder: with `*_annotated.json`, and `*.journal.jsonl` where the annotator is paid.
        task: of the records.
        flag: for messages.

    Returns:
        Its n is the responses annotated. Figures: "word_coverage", the share of the words that a
        quote marks; and where a journal counted tokens, "input_tokens" and "output_tokens" for a
        response, all requests for it together, "cost_per_1000" and "cost" in the currency of the
        price table (left out where the model has no price), and "estimated", the share of replies
        whose tokens the server did not count. None where nothing is annotated.

    Raises:
        UserError: a file is damaged.
    """
    shares: list[float] = []
    for path in sorted(folder.glob("*_annotated.json")):
        for record in read_records(path, task, ("response",), flag=flag):
            judged = record_quotes(record, task)
            words = word_units(record.response)
            if words and not judged.unreadable:
                labels = label_units(judged.spans, record.response, task, words)
                shares.append(sum(label != NEUTRAL for label in labels) / len(words))
    if not shares:
        return None
    samples = {"word_coverage": shares} | _paid(_usages(folder, flag), Prices.read())
    figures: dict[str, float | None] = {name: mean(values) for name, values in samples.items()}
    if "cost_per_1000" in samples:
        figures["cost"] = sum(samples["cost_per_1000"]) / 1000
    intervals = {name: student_interval(values) for name, values in samples.items()}
    known = {name: interval for name, interval in intervals.items() if interval}
    return Run(name, len(shares), figures, intervals=known)


def _usages(folder: Path, flag: str) -> list[list[Usage]]:
    """What was paid for each response: the replies that count, and those that were asked again."""
    found = []
    for path in sorted(folder.glob("*.journal.jsonl")):
        journal, by_key = Journal.look(path, flag), defaultdict(list)
        for row in (*journal.replaced, *journal.rows.values()):
            if "usage" in row:
                by_key[row["key"]].append(Usage.from_json(row["usage"]))
        found += by_key.values()
    return found


def _paid(usages: Sequence[Sequence[Usage]], prices: Prices) -> dict[str, list[float]]:
    """Tokens and money of each response."""
    if not usages:
        return {}
    found = {
        "input_tokens": [float(sum(use.input for use in one)) for one in usages],
        "output_tokens": [float(sum(use.output for use in one)) for one in usages],
        "estimated": [mean(float(use.estimated) for use in one) for one in usages],
    }
    costs = [[prices.cost(use) for use in one] for one in usages]
    if all(cost is not None for one in costs for cost in one):
        found["cost_per_1000"] = [1000 * sum(one) for one in costs]
    return found
