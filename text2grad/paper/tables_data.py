"""The tables as data: what each measures, and the figures that the paper itself gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Measure:
    """One column.

    Attributes:
        name: key in what `metrics.py` wrote.
        title: as tables name it.
    """

    name: str
    title: str


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        task: whose scripts make it, also the table's name.
        tree: the task's folder in the three trees.
        title: heading.
        measures: its columns.
        published: the paper's own figures, {(method, measure): value}.
        claims: what the paper says without a value for a cell.
        task_file: the `TaskSpec` of a task that has no trees of its own, from the top of the
            checkout; its scripts are those in `tree`.
    """

    task: str
    tree: str
    title: str
    measures: tuple[Measure, ...]
    published: dict[tuple[str, str], float] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    task_file: str = ""

    def task_name(self, root: Path) -> str:
        """The task as --task takes it; `root` is the top of the checkout."""
        return str(root / self.task_file) if self.task_file else self.task


# of every reward model; the labels' own columns follow
REWARD_MEASURES = (
    Measure("free_parse_rate", "readable without the grammar"),
    Measure("free_unmatched_rate", "quotes not in the response, without it"),
    Measure("unmatched_rate", "quotes not in the response"),
    Measure("macro_f1", "macro-F1"),
    Measure("sign_accuracy", "sign accuracy"),
)
_WORDS = Measure("mean_words", "words")
_WON = Measure("win_rate", "win rate against the start model")
_TEXT = (
    Measure("sacrebleu", "BLEU"),
    Measure("rouge1", "ROUGE-1"),
    Measure("rouge2", "ROUGE-2"),
    Measure("rougeL", "ROUGE-L"),
    Measure("bertscore_f1", "BERTScore F1"),
    Measure("chrf", "chrF"),
    Measure("perplexity", "perplexity (lower is better)"),
    Measure("support_score", "support"),
    _WORDS,
)
TABLES = {
    "slf5k": PaperTable(
        "slf5k",
        "SLF5K",
        "SLF5K: summaries against the human ones",
        (*_TEXT, _WON),
        {
            ("text2grad", "rougeL"): 0.291,
            ("text2grad_no_cot", "rougeL"): 0.275,
            ("dense", "rougeL"): 0.196,
        },
        (
            "Text2Grad over PPO: +25.3 % BLEU, +6.7 ROUGE-L",
            "22 % fewer steps to converge; best at 75 % of the steps, PPO at 97 %",
        ),
    ),
    "kodcode": PaperTable(
        "kodcode",
        "KodCode",
        "KodCode: solutions under their tests",
        (
            Measure("solved", "solved"),
            Measure("checks_passed", "checks passed"),
            _WORDS,
        ),
        claims=("MBPP+: +5.8 over PPO",),
    ),
    "ultrafeedback": PaperTable(
        "ultrafeedback",
        "UltraFeedback",
        "UltraFeedback: answers against the chosen ones",
        _TEXT,
        claims=("AlpacaEval 2.0: +2.3 over PPO",),
    ),
    "writing": PaperTable(
        "writing",
        "SLF5K",
        "Writing: short texts in which many answers are right",
        (
            Measure("support_score", "craft"),
            Measure("asked_words", "asked words used"),
            Measure("perplexity", "perplexity (lower is better)"),
            _WORDS,
            _WON,
        ),
        task_file="paper/writing/task.py",
    ),
}
