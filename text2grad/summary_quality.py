"""Responses against human references, before and after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from text2grad import progress
from text2grad.agreement import bootstrap_interval
from text2grad.schema import Record

LOWER_IS_BETTER = ("perplexity",)


def summary_metrics(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """ROUGE-1/2/L F (0 to 1), sacreBLEU and chrF (0 to 100), and mean length in words.

    An empty prediction counts with 0. Raises ValueError for lists of different lengths.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
    from text2grad.text_metrics import ChrF, Rouge, SacreBleu  # seconds to import

    texts = {"predictions": list(predictions), "references": list(references)}
    rouge = {name: float(np.mean(values)) for name, values in Rouge().compute(**texts).items()}
    return {
        **rouge,
        **SacreBleu().compute(**texts),
        **ChrF().compute(**texts),
        "mean_words": float(np.mean([len(text.split()) for text in predictions])),
    }


def response_scores(records: Sequence[Record]) -> dict[str, list[float]]:
    """Numbers of each response: ROUGE, words, and those under its own key "scores".

    Without references there is no ROUGE.
    """
    scores: dict[str, list[float]] = {}
    if records[0].reference:
        from text2grad.text_metrics import Rouge  # seconds to import

        scores = Rouge().compute(
            predictions=[record.response for record in records],
            references=[record.reference for record in records],
        )
    scores["mean_words"] = [float(len(record.response.split())) for record in records]
    own = [record.fields.get("scores") or {} for record in records]
    for name in own[0]:
        if all(isinstance(row.get(name), (int, float)) for row in own):
            scores[name] = [float(row[name]) for row in own]
    return scores


def token_perplexity(sums: Sequence[float]) -> float | None:
    """Perplexity: exp of the nats per token; None without a token.

    Args:
        sums: nats and tokens, of one response or summed (or averaged alike) over several.

    Example: (3 ln 2, 3) -> 2
    """
    nats, tokens = sums
    return float(np.exp(nats / tokens)) if tokens else None


def summary_report(
    after: Sequence[Record], before: Sequence[Record] | None = None, seed: int = 42
) -> dict[str, Any]:
    """Figures of a set of responses, and what changed against an earlier set.

    Args:
        after: records with response and reference.
        before: the same prompts, in the same order, answered by another model.
        seed: of the bootstrap over prompts.

    Returns:
        "n", "after" {metric: value}, "samples"; with `before` also "before" and "difference"
        {metric: {"value", "interval"}}, the interval 95 % and paired, None for metrics that only a
        whole set has. Perplexity weights every token of the set alike. Of responses with tests
        also "tests", `progress.outcome_counts` of each set.
    """
    scores = response_scores(after)
    report: dict[str, Any] = {"n": len(after), "after": _figures(after, scores)}
    samples = [
        {"id": record.id, "prompt": record.prompt, "reference": record.reference}
        | {"after": record.response, "after_scores": own}
        for record, own in zip(after, _own_scores(after, scores), strict=True)
    ]
    if before is not None:
        earlier = response_scores(before)
        report["before"] = _figures(before, earlier)
        report["difference"] = {}
        for name, value in report["after"].items():
            if name not in report["before"]:
                continue
            interval = None
            if name in scores:
                change = np.subtract(scores[name], earlier[name])
                interval = bootstrap_interval(change, seed)
            elif name == "perplexity":
                interval = _perplexity_interval(after, before, seed)
            value -= report["before"][name]
            report["difference"][name] = {"value": value, "interval": interval}
        for i, own in enumerate(_own_scores(before, earlier)):
            samples[i] |= {"before": before[i].response, "before_scores": own}
    tests = {}
    for when, records in (("after", after), ("before", before or ())):
        found = progress.results(records)
        if found:
            tests[when] = progress.outcome_counts(found)
        for i, one in enumerate(found):
            samples[i][f"{when}_tests"] = one
    return report | ({"tests": tests} if tests else {}) | {"samples": samples}


def _own_scores(
    records: Sequence[Record], scores: Mapping[str, Sequence[float]]
) -> list[dict[str, float | None]]:
    """The numbers of each response, its own perplexity among them."""
    sums = _likelihoods(records)
    return [
        {name: values[i] for name, values in scores.items()}
        | ({"perplexity": token_perplexity(sums[i])} if sums else {})
        for i in range(len(records))
    ]


def _likelihoods(records: Sequence[Record]) -> list[tuple[float, float]]:
    """Nats and tokens of each response; none where they were not measured."""
    found = [record.fields.get("likelihood") for record in records]
    measured = all(isinstance(own, Mapping) for own in found)
    return [(own["nats"], own["tokens"]) for own in found] if measured else []


def _perplexity_interval(
    after: Sequence[Record], before: Sequence[Record], seed: int
) -> tuple[float, float] | None:
    def change(sums: np.ndarray) -> float | None:
        values = token_perplexity(sums[:2]), token_perplexity(sums[2:])
        return None if None in values else values[0] - values[1]

    return bootstrap_interval(
        np.hstack([_likelihoods(after), _likelihoods(before)]), seed, statistic=change
    )


def _figures(records: Sequence[Record], scores: dict[str, list[float]]) -> dict[str, float]:
    figures = {}
    if records[0].reference:
        figures = summary_metrics(
            [record.response for record in records], [record.reference for record in records]
        )
    figures |= {name: float(np.mean(values)) for name, values in scores.items()}
    sums = _likelihoods(records)
    whole = token_perplexity(np.sum(sums, axis=0)) if sums else None
    return figures if whole is None else figures | {"perplexity": whole}
