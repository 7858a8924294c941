"""ROUGE, sacreBLEU and chrF as `evaluate` metrics that need no hub.

Importing this module imports `evaluate`, which takes seconds: import it where it is used.
"""

from __future__ import annotations

import datasets
import evaluate
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")
TEXT_PAIRS = datasets.Features(
    {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
)


class TextMetric(evaluate.Metric):
    """A metric of predicted texts, by default against one reference each."""

    texts = TEXT_PAIRS

    def __init__(self, **kwargs):
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        about = type(self).__doc__ or ""
        return evaluate.MetricInfo(description=about, citation="", features=type(self).texts)


class Rouge(TextMetric):
    """ROUGE-1, ROUGE-2 and ROUGE-L F-measure with Porter stemming, 0 to 1, one list for each."""

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, list[float]]:
        scorer = RougeScorer(ROUGE_TYPES, use_stemmer=True)
        scores = [
            scorer.score(reference, prediction)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {kind: [score[kind].fmeasure for score in scores] for kind in ROUGE_TYPES}


class SacreBleu(TextMetric):
    """Corpus BLEU of sacreBLEU with its default settings, 0 to 100."""

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"sacrebleu": sacrebleu.corpus_bleu(predictions, [references]).score}


class ChrF(TextMetric):
    """Corpus chrF of sacreBLEU with its default settings, 0 to 100."""

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"chrf": sacrebleu.corpus_chrf(predictions, [references]).score}
