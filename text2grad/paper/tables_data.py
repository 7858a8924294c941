"""The tables as data: what each measures, and the figures that the paper itself gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from text2grad.paper.benchmarks import BENCHMARKS


@dataclass(frozen=True)
class Measure:
    """One column.

    Attributes:
        name: key in what was measured.
        title: as tables name it.
        digits: decimals that are shown.
    """

    name: str
    title: str
    digits: int = 3


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        task: what it is about, also the table's name.
        tree: folder of its scripts in the three trees.
        title: heading, with what stands before its colon in those of its further tables.
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

    @property
    def short_title(self) -> str:
        """How the headings of its further tables begin."""
        return self.title.partition(":")[0]

    def task_name(self, root: Path) -> str:
        """The task as --task takes it; `root` is the top of the checkout."""
        return str(root / self.task_file) if self.task_file else self.task


def _benchmarks(table: str) -> tuple[Measure, ...]:
    """A column for each figure of the public benchmarks of a table."""
    own = (one for one in BENCHMARKS.values() if one.table == table)
    return tuple(Measure(figure.name, figure.title) for one in own for figure in one.figures)


# of every reward model; the labels' own columns follow
REWARD_MEASURES = (
    Measure("free_parse_rate", "readable without the grammar"),
    Measure("free_unmatched_rate", "quotes not in the response, without it"),
    Measure("unmatched_rate", "quotes not in the response"),
    Measure("macro_f1", "macro-F1"),
    Measure("sign_accuracy", "sign accuracy"),
)
# of every reward model, on responses that people marked
PEOPLE_MEASURES = (
    Measure("human_macro_f1", "macro-F1 against people's spans"),
    Measure("human_kappa", "kappa with people"),
)
CONVERGENCE_MEASURES = (
    Measure("first_score", "score at the start"),
    Measure("last_score", "score at the end"),
    Measure("steps_to_95", "steps to 95 % of the rise", 1),
    Measure("samples_to_95", "responses to it", 0),
    Measure("share_to_95", "share of all steps to it"),
    Measure("best_share", "best at this share of the steps"),
    Measure("steps_saved", "steps saved"),
)
TIME_MEASURES = (
    Measure("seconds_step", "seconds per step", 2),
    Measure("seconds_rollout", "sampling", 2),
    Measure("seconds_critique", "critiques", 2),
    Measure("seconds_score", "log-probabilities", 2),
    Measure("seconds_update", "update", 2),
    Measure("critique_share", "share of the critiques"),
    Measure("critique_added", "critiques over the rest"),
)
SIGNAL_MEASURES = (
    Measure("coverage", "share of the tokens that a quote marks"),
    Measure("positive_share", "scored above 0"),
    Measure("negative_share", "scored below 0"),
    Measure("unmatched_rate", "quotes not in the response"),
    Measure("reward_variance", "variance of the reward"),
    Measure("advantage_variance", "variance of the advantage"),
)
ANNOTATION_MEASURES = (
    Measure("input_tokens", "tokens read per response", 1),
    Measure("output_tokens", "tokens written per response", 1),
    Measure("cost_per_1000", "cost of 1,000 responses (USD)", 2),
    Measure("cost", "cost of all (USD)", 2),
    Measure("estimated", "replies with estimated tokens"),
    Measure("word_coverage", "share of the words that a quote marks"),
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
            **{("text2grad", "steps_saved"): 0.22, ("text2grad", "best_share"): 0.75},
            **{("scalar_ppo", "best_share"): 0.97},
            **{("text2grad", "coverage"): 0.30, ("dense", "coverage"): 0.70},
            **{("annotation", "word_coverage"): 0.30},
            **{("annotation_dense", "word_coverage"): 0.70},
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
            *_benchmarks("kodcode"),
        ),
        claims=("MBPP+: +5.8 over PPO",),
    ),
    "ultrafeedback": PaperTable(
        "ultrafeedback",
        "UltraFeedback",
        "UltraFeedback: answers against the chosen ones",
        (*_TEXT, *_benchmarks("ultrafeedback")),
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
