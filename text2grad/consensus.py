"""Several annotations of one response: what most of them mark, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any

from text2grad.agreement import HIT_IOU, label_units, match_spans, span_iou, word_units
from text2grad.schema import Feedback, Span, Unparseable
from text2grad.tasks import TaskSpec

Answer = Feedback | Unparseable


@dataclass(frozen=True)
class Agreement:
    """Counts over the samples of one response, or added up over many.

    Attributes:
        readable, samples: replies that could be read, of how many.
        kept, marked: spans in the consensus, and in all samples together.
        words: words with at least two readable samples.
        alike: summed over those words, the share of pairs of samples that label it alike.
        hits, spans: over pairs of samples, spans that both mark (twice), and spans of both.
        labels: how often any sample gave each label to a word.
    """

    readable: int = 0
    samples: int = 0
    kept: int = 0
    marked: int = 0
    words: int = 0
    alike: float = 0.0
    hits: int = 0
    spans: int = 0
    labels: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Agreement) -> Agreement:
        names = [one.name for one in fields(Agreement)]
        return Agreement(*(getattr(self, name) + getattr(other, name) for name in names))

    def figures(self) -> dict[str, Any]:
        """The figures for the quality file.

        Returns:
            "readable_samples", "samples", "spans_kept", "spans_marked"; "word_agreement": how often
            two samples give a word the same label (1 minus that is the label noise); "kappa":
            Fleiss' kappa of the same, 0 for chance; "span_agreement": F1 between two samples'
            spans, at an overlap of 0.5. None where nothing defines them.
        """
        given = sum(self.labels.values())
        alike = self.alike / self.words if self.words else None
        chance = sum((n / given) ** 2 for n in self.labels.values()) if given else 1.0
        defined = alike is not None and chance < 1.0
        return {
            "readable_samples": self.readable,
            "samples": self.samples,
            "spans_kept": self.kept,
            "spans_marked": self.marked,
            "word_agreement": alike,
            "kappa": (alike - chance) / (1.0 - chance) if defined else None,
            "span_agreement": self.hits / self.spans if self.spans else None,
        }


def find_consensus(
    samples: Sequence[Answer], response: str, task: TaskSpec
) -> tuple[Answer, Agreement]:
    """The spans that more than half of the readable samples mark, and how far they agree.

    Two samples mark the same where spans of one label share at least half of their union; of such
    a group the span stays that overlaps the others most. Spans that are not in the response count
    as the same if their texts are equal. The critique is that of the sample whose words are
    labelled most like the consensus.

    Args:
        samples: spans located. Half of them or more unreadable is no annotation.
        response: what was annotated.
        task: gives the labels.

    Example: of three samples two quote "ran to the park" and "to the park", one "a cat": the
    first quote stays.
    """
    readable = [sample for sample in samples if isinstance(sample, Feedback)]
    if 2 * len(readable) <= len(samples):
        failed = [sample for sample in samples if isinstance(sample, Unparseable)]
        reason, _ = Counter(sample.reason for sample in failed).most_common(1)[0]
        raw = next(sample.raw for sample in failed if sample.reason == reason)
        counted = Agreement(len(readable), len(samples))
        told = f"{len(failed)} of {len(samples)} samples: {reason}"
        return Unparseable(told, raw), counted
    spans = _majority([feedback.spans for feedback in readable])
    units = word_units(response)
    wanted = label_units(spans, response, task, units)
    labelled = [label_units(feedback.spans, response, task, units) for feedback in readable]
    like = [sum(a == b for a, b in zip(labels, wanted, strict=True)) for labels in labelled]
    chosen = readable[like.index(max(like))]
    agreement = replace(_agreement(readable, labelled, task), samples=len(samples), kept=len(spans))
    return replace(chosen, spans=spans), agreement


def _majority(samples: Sequence[Sequence[Span]]) -> tuple[Span, ...]:
    """The spans that more than half of the samples mark, each once, in the order of the text."""
    ranked = []
    for number, spans in enumerate(samples):
        for place, span in enumerate(spans):
            best = [max((_alike(span, other) for other in one), default=0.0) for one in samples]
            votes = sum(overlap >= HIT_IOU for overlap in best)
            if 2 * votes > len(samples):
                ranked.append((-votes, -sum(best), number, place, span))
    kept: list[Span] = []
    for *_, span in sorted(ranked, key=lambda entry: entry[:4]):
        if all(_alike(span, other) < HIT_IOU for other in kept):
            kept.append(span)
    return tuple(sorted(kept, key=_order))


def _order(span: Span) -> tuple[bool, int, int]:
    return span.start is None, span.start or 0, span.end or 0


def _alike(a: Span, b: Span) -> float:
    if a.label != b.label:
        return 0.0
    if a.start is None and b.start is None:
        return float(a.text == b.text)
    return span_iou(a, b)


def _unplaced(feedback: Feedback) -> Counter[tuple[str, str]]:
    """Label and text of the spans that are not in the response."""
    return Counter((span.label, span.text) for span in feedback.spans if span.start is None)


def _agreement(
    readable: Sequence[Feedback], labelled: Sequence[Sequence[str]], task: TaskSpec
) -> Agreement:
    pairs = len(readable) * (len(readable) - 1) // 2
    counts = Agreement(readable=len(readable), marked=sum(len(f.spans) for f in readable))
    if not pairs:
        return counts
    alike, labels = 0.0, Counter()
    for given in zip(*labelled, strict=True):
        votes = Counter(given)
        alike += sum(n * (n - 1) // 2 for n in votes.values()) / pairs
        labels += votes
    hits = spans = 0
    for one, other in combinations(readable, 2):
        spans += len(one.spans) + len(other.spans)
        found = (match_spans(one.spans, other.spans, label.name).hits for label in task.labels)
        hits += 2 * (sum(found) + (_unplaced(one) & _unplaced(other)).total())
    return replace(
        counts, words=len(labelled[0]), alike=alike, hits=hits, spans=spans, labels=labels
    )
