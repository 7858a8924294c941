"""How well predicted spans agree with gold ones: by unit (word or token), and span by span.

A reply that could not be read is never left out: `compare` files each unit of its response under
the prediction `NONE`, which equals no class, and `match_spans` gets no predicted span.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from itertools import accumulate

import numpy as np

from text2grad.alignment import NEUTRAL
from text2grad.schema import Span, UserError
from text2grad.tasks import TaskSpec

HIT_IOU = 0.5
BOOTSTRAP_DRAWS = 2000

Unit = tuple[int, int]
"""A half-open interval of characters of the response."""

Units = Callable[[str], list[Unit]]


def word_units(response: str) -> list[Unit]:
    """The white-space separated words of a response."""
    return [word.span() for word in re.finditer(r"\S+", response)]


def token_units(tokenizer) -> Units:
    """A function that gives the tokens of a response, those of white space alone left out."""
    from text2grad.alignment import TokenBytes, response_text, token_offsets

    table = TokenBytes(tokenizer)

    def units(response: str) -> list[Unit]:
        pieces = table.pieces(tokenizer(response, add_special_tokens=False)["input_ids"])
        first = response_text(pieces).find(response)  # SentencePiece may prefix a space
        if first < 0:
            raise UserError("--tokenizer: its tokens do not spell the responses")
        moved = [(start - first, end - first) for start, end in token_offsets(pieces)]
        return [(a, b) for a, b in moved if a >= 0 and response[a:b].strip()]

    return units


def label_units(
    spans: Sequence[Span], response: str, task: TaskSpec, units: Sequence[Unit]
) -> list[str]:
    """The label of each unit: of the span that covers at least half of it, else neutral.

    Half is counted in UTF-8 bytes that are not white space, as for token scores; of several labels
    the one with the lowest score wins. Spans without offsets label nothing.

    Example: "ab cd" with "ab c" good and "cd" poor -> ["good", "poor"]
    """
    sizes = [0 if char.isspace() else len(char.encode("utf-8", "replace")) for char in response]
    whole = [0, *accumulate(sizes)]
    inside = {}
    for label in sorted(task.labels, key=lambda label: label.score):
        covered = [0] * len(sizes)
        for span in spans:
            if span.label == label.name and span.start is not None:
                covered[span.start : span.end] = sizes[span.start : span.end]
        inside[label.name] = [0, *accumulate(covered)]

    def label_of(start: int, end: int) -> str:
        size = whole[end] - whole[start]
        for name, covered in inside.items():
            if size and 2 * (covered[end] - covered[start]) >= size:
                return name
        return NEUTRAL

    return [label_of(start, end) for start, end in units]


def classes_of(task: TaskSpec) -> tuple[str, ...]:
    """The task's labels and neutral: the rows of a table of counts."""
    return (*(label.name for label in task.labels), NEUTRAL)


def compare(
    gold: Sequence[str], predicted: Sequence[str] | None, classes: Sequence[str]
) -> np.ndarray:
    """Count pairs of labels.

    Args:
        gold: label of each unit.
        predicted: likewise; None where the reply could not be read.
        classes: from `classes_of`.

    Returns:
        (C, C + 1) counts, gold class by predicted class; the last column is "none", the prediction
        of an unreadable reply. Counts of several responses are added.
    """
    counts = np.zeros((len(classes), len(classes) + 1))
    index = {name: row for row, name in enumerate(classes)}
    for number, name in enumerate(gold):
        column = len(classes) if predicted is None else index[predicted[number]]
        counts[index[name], column] += 1
    return counts


def label_table(
    gold: Sequence[Span],
    predicted: Sequence[Span] | None,
    response: str,
    task: TaskSpec,
    units: Sequence[Unit],
) -> np.ndarray:
    """The counts of `compare` for one response; `predicted` is None for an unreadable reply."""
    labels = None if predicted is None else label_units(predicted, response, task, units)
    return compare(label_units(gold, response, task, units), labels, classes_of(task))


def one_against_rest(counts: np.ndarray, row: int) -> np.ndarray:
    """The counts of one class beside all others together, (2, 3) with "none" last."""
    others = [place for place in range(len(counts)) if place != row]
    table = np.zeros((2, 3))
    for place, rows in enumerate(([row], others)):
        own = counts[rows].sum(axis=0)
        table[place] = own[row], own[others].sum(), own[-1]
    return table


def cohen_kappa(counts: np.ndarray) -> float | None:
    """Agreement beyond chance: 1 where all agree, 0 for chance; None where all labels are one.

    Args:
        counts: from `compare` or `one_against_rest`; "none" agrees with nothing, by chance neither.

    Source: J. Cohen, "A coefficient of agreement for nominal scales" (1960).

    Example: [[20, 5, 0], [10, 15, 0]]: 0.7 agree, 0.5 by chance -> 0.4
    """
    total = counts.sum()
    if not total:
        return None
    alike = counts.diagonal().sum() / total
    chance = (counts.sum(axis=1) * counts[:, :-1].sum(axis=0)).sum() / total**2
    return float((alike - chance) / (1 - chance)) if chance < 1 else None


def class_scores(counts: np.ndarray, row: int) -> dict[str, float | None]:
    """Precision, recall and F1 of one class; None where nothing defines it.

    F1 is 2 TP / (2 TP + FP + FN): 0 for a class that is in gold and never predicted, None for one
    that is in neither.
    """
    hits, gold, predicted = counts[row, row], counts[row].sum(), counts[:, row].sum()
    return precision_recall(hits, gold, predicted)


def precision_recall(hits: float, gold: float, predicted: float) -> dict[str, float | None]:
    """Precision, recall and F1 from counts, with the counts."""
    return {
        "precision": float(hits / predicted) if predicted else None,
        "recall": float(hits / gold) if gold else None,
        "f1": float(2 * hits / (gold + predicted)) if gold + predicted else None,
        "gold": int(gold),
        "predicted": int(predicted),
    }


def macro_f1(counts: np.ndarray) -> float | None:
    """Mean F1 of the classes that occur in gold or prediction."""
    hits = counts.diagonal()
    both = counts.sum(axis=1) + counts[:, :-1].sum(axis=0)
    present = both > 0
    return float((2 * hits[present] / both[present]).mean()) if present.any() else None


def sign_accuracy(counts: np.ndarray, task: TaskSpec) -> float | None:
    """Share of the units labelled in gold whose predicted score has the sign of the gold score."""
    labelled = [label.score for label in task.labels]
    signs = np.sign([*labelled, task.unmarked_score])
    rows = counts[: len(labelled)]
    same = signs[: len(labelled), None] == signs[None, :]
    return float(rows[:, :-1][same].sum() / rows.sum()) if rows.sum() else None


@dataclass(frozen=True)
class SpanCounts:
    """Spans of one label, of one response or added up.

    Attributes:
        gold, predicted: how many there are; predicted ones without offsets count.
        hits: pairs that share at least half of their union.
        exact: pairs with the same start and end.
        overlap: summed intersection over union of all pairs that overlap at all.
    """

    gold: int = 0
    predicted: int = 0
    hits: int = 0
    exact: int = 0
    overlap: float = 0.0

    def __add__(self, other: SpanCounts) -> SpanCounts:
        return SpanCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def mean_iou(self) -> float | None:
        """Mean intersection over union of the gold spans, 0 for one that nothing overlaps."""
        return self.overlap / self.gold if self.gold else None


def match_spans(gold: Sequence[Span], predicted: Sequence[Span], label: str) -> SpanCounts:
    """Pair gold with predicted spans of one label, one to one, the best overlap first.

    Gold spans without offsets are not in the response and are left out; predicted ones are wrong.
    """
    targets = [span for span in gold if span.label == label and span.start is not None]
    guesses = [span for span in predicted if span.label == label]
    overlaps = sorted(
        (
            (-span_iou(target, guess), i, j)
            for i, target in enumerate(targets)
            for j, guess in enumerate(guesses)
        ),
    )
    paired: list[float] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for negative, i, j in overlaps:
        if negative < 0 and i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            paired.append(-negative)
    hits = sum(iou >= HIT_IOU for iou in paired)
    exact = sum(iou == 1.0 for iou in paired)
    return SpanCounts(len(targets), len(guesses), hits, exact, sum(paired))


def bootstrap_interval(
    values_per_cluster: Sequence,
    seed: int,
    statistic: Callable[[np.ndarray], float | None] = float,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile interval of a statistic, from resampling whole clusters (posts).

    For a paired comparison give the difference of each post, or the counts of both side by side.

    Args:
        values_per_cluster: (N, ...) numbers, one entry for each post.
        seed: of the draws.
        statistic: of the mean entry of a resample; it must not depend on the scale of counts.
        level: share of the resamples inside the interval.

    Returns:
        Low and high end; None for fewer than two posts, or where the statistic is undefined.
    """
    values = np.asarray(values_per_cluster, dtype=float)
    if len(values) < 2:
        return None
    draws = np.random.default_rng(seed).multinomial(
        len(values), np.full(len(values), 1 / len(values)), size=BOOTSTRAP_DRAWS
    )
    means = draws @ values.reshape(len(values), -1) / len(values)
    results = [statistic(mean.reshape(values.shape[1:])) for mean in means]
    defined = [result for result in results if result is not None]
    if not defined:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def span_iou(a: Span, b: Span) -> float:
    """Characters of both spans over those of either, 0 where one has no place."""
    if a.start is None or b.start is None:
        return 0.0
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared / (max(a.end, b.end) - min(a.start, b.start)) if shared > 0 else 0.0
