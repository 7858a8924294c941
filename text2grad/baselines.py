"""What the reward model must beat: one label for every word, and a bag-of-words classifier."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np

from text2grad.agreement import NEUTRAL, classes_of, label_units, word_units
from text2grad.alignment import locate_spans
from text2grad.schema import Feedback, Record, Span, UserError
from text2grad.tasks import TaskSpec

BUCKETS = 1 << 14
UPDATES = 80
STEP_SIZE = 0.1
MAX_CRITIQUES = 4000
CRITIQUE_BUCKETS = 1 << 12
RIDGE = 4.0  # words of one phrase are no independent observations


class ConstantBaseline:
    """The same label for every word."""

    def __init__(self, label: str) -> None:
        self.label = label

    def predict(self, record: Record) -> list[str]:
        """The label of each white-space word of the response."""
        return [self.label for _ in word_units(record.response)]


class BagOfWordsBaseline:
    """Multinomial logistic regression on each word, its neighbours, its place and the prompt.

    Classes weigh the same however rare they are, so that it does not answer neutral throughout.
    The same records give the same weights.
    """

    def __init__(self, task: TaskSpec) -> None:
        self.task = task
        self.classes = classes_of(task)
        self.weights = np.zeros((BUCKETS, len(self.classes)))

    def fit(self, records: Sequence[Record]) -> BagOfWordsBaseline:
        """Train on the records that have feedback.

        Raises:
            UserError: none has.
        """
        rows: list[list[int]] = []
        targets: list[int] = []
        for record in records:
            if not isinstance(record.feedback, Feedback):
                continue
            spans = locate_spans(record.feedback.spans, record.response, self.task)
            words = word_units(record.response)
            labels = label_units(spans, record.response, self.task, words)
            rows += word_features(record.prompt, record.response)
            targets += [self.classes.index(label) for label in labels]
        if not rows:
            raise UserError("--train_file: no annotated record to train the bag-of-words baseline")
        self.weights = _fit_softmax(np.array(rows), np.array(targets), len(self.classes))
        return self

    def predict(self, record: Record) -> list[str]:
        """The label of each white-space word of the response."""
        rows = word_features(record.prompt, record.response)
        if not rows:
            return []
        best = self.weights[np.array(rows)].sum(axis=1).argmax(axis=1)
        return [self.classes[number] for number in best]


class CritiqueBaseline:
    """Critiques without reading: the most typical one, or that of the most similar response.

    Args:
        records: annotated ones to take critiques from; at most `MAX_CRITIQUES` are used.
        similar: take the critique of the response most like the one to judge.
    """

    def __init__(self, records: Sequence[Record], similar: bool) -> None:
        said = [r for r in records if isinstance(r.feedback, Feedback) and r.feedback.critique]
        self.critiques = [record.feedback.critique for record in said[:MAX_CRITIQUES]]
        self.similar = similar
        texts = [record.response for record in said[:MAX_CRITIQUES]] if similar else self.critiques
        self.vectors = _word_vectors(texts)

    def predict(self, record: Record) -> str:
        """A critique of the response; empty where there are none to take."""
        if not self.critiques:
            return ""
        wanted = self.vectors.sum(axis=0)  # the most typical one is nearest to all together
        if self.similar:
            wanted = _word_vectors([record.response])[0]
        return self.critiques[int((self.vectors @ wanted).argmax())]


def spans_of_labels(labels: Sequence[str], response: str) -> tuple[Span, ...]:
    """Runs of words with the same label as located spans; neutral words give none.

    Example: "a b c d" with good, good, neutral, poor -> good "a b", poor "d"
    """
    spans = []
    words = zip(word_units(response), labels, strict=True)
    for label, run in groupby(words, key=lambda pair: pair[1]):
        places = [place for place, _ in run]
        if label != NEUTRAL:
            start, end = places[0][0], places[-1][1]
            spans.append(Span(response[start:end], label, start, end, "exact"))
    return tuple(spans)


def word_features(prompt: str, response: str) -> list[list[int]]:
    """Hashed features of each word of the response, equally many for each."""
    words = [response[start:end] for start, end in word_units(response)]
    plain = [_plain(word) for word in words]
    source = [_plain(word) for word in prompt.split()]
    known, pairs = set(source), set(pairwise(source))
    padded = ["<first>", *plain, "<last>"]
    rows, seen = [], set()
    for place, (word, key) in enumerate(zip(words, plain, strict=True)):
        before, after = padded[place], padded[place + 2]
        in_prompt = key in known
        features = (
            "bias",
            f"word={key}",
            f"before={before}",
            f"after={after}",
            f"in_prompt={in_prompt}",
            f"pair_in_prompt={(before, key) in pairs},{(key, after) in pairs}",
            f"neighbours_in_prompt={before in known},{after in known}",
            f"place={10 * place // len(words)}",
            f"capital={word[:1].isupper()},{in_prompt}",
            f"digit={any(char.isdigit() for char in word)},{in_prompt}",
            f"repeated={key in seen}",
            f"ends_sentence={word[-1] in '.!?'}",
        )
        seen.add(key)
        rows.append(
            [zlib.crc32(feature.encode("utf-8", "replace")) % BUCKETS for feature in features]
        )
    return rows


def _word_vectors(texts: Sequence[str]) -> np.ndarray:
    """(N, CRITIQUE_BUCKETS) which words occur, hashed, each row of length 1."""
    vectors = np.zeros((len(texts), CRITIQUE_BUCKETS), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            key = _plain(word).encode("utf-8", "replace")
            vectors[row, zlib.crc32(key) % CRITIQUE_BUCKETS] = 1.0
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _plain(word: str) -> str:
    return word.casefold().strip(".,;:!?\"'()[]*“”‘’") or word


def _fit_softmax(rows: np.ndarray, targets: np.ndarray, n_classes: int) -> np.ndarray:
    """Full-batch Adam on the class-balanced cross-entropy with a Gaussian prior.

    Args:
        rows: (N, F) hashed features.
        targets: (N,) class numbers.
        n_classes: C.

    Returns:
        (BUCKETS, C) weights.
    """
    truth = np.eye(n_classes)[targets]
    share = truth.sum(axis=0)
    balance = (truth / np.maximum(share, 1)).sum(axis=1, keepdims=True)
    balance /= balance.sum()
    used, rows = np.unique(rows, return_inverse=True)  # most buckets are empty
    rows = rows.reshape(len(targets), -1)
    weights = np.zeros((len(used), n_classes))
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for update in range(1, UPDATES + 1):
        logits = weights[rows].sum(axis=1)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = balance * (odds / odds.sum(axis=1, keepdims=True) - truth)
        flat = np.repeat(error, rows.shape[1], axis=0)
        gradient = np.stack(
            [np.bincount(rows.ravel(), flat[:, c], len(used)) for c in range(n_classes)], axis=1
        )
        gradient += RIDGE * weights / len(targets)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = mean / (1 - 0.9**update) / (np.sqrt(square / (1 - 0.999**update)) + 1e-8)
        weights -= STEP_SIZE * step
    whole = np.zeros((BUCKETS, n_classes))
    whole[used] = weights
    return whole
