"""How the report writes names and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "sacrebleu": "sacreBLEU",
    "chrf": "chrF",
    "bertscore_f1": "BERTScore F1",
    "perplexity": "Perplexity (lower is better)",
    "mean_words": "Length in words",
}


def pretty(name: str) -> str:
    """A key as people write it."""
    if name in NAMES:
        return NAMES[name]
    words = name.replace("_", " ").replace("all ", "everything ")
    return words[:1].upper() + words[1:]


def number(value: float | None, digits: int | None = None) -> str:
    """A number with `digits` decimals, by default as `decimals` says; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:,.{decimals(value) if digits is None else digits}f}"
    return text.replace("-", "\u2212")


def signed(value: float, digits: int | None = None) -> str:
    """A number with its sign."""
    return ("+" if value >= 0 else "−") + number(abs(value), digits)


def decimals(*values: float) -> int:
    """Decimals for numbers that stand side by side: three below 10, one above."""
    return 3 if all(abs(value) < 10 for value in values) else 1


def mended(repairs: Mapping[str, int]) -> dict[str, int]:
    """Counts of the repairs that a reply needed, without the clean replies."""
    return {name: count for name, count in repairs.items() if name != "none"}
