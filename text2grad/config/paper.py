"""Flags of the paper's runs and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from text2grad.config.checks import at_least, server_address
from text2grad.schema import UserError
from text2grad.span_noise import read_noise


@dataclass(frozen=True)
class PaperRunConfig:
    """Run the methods of one table, over seeds, on equal terms; what is done is not run again."""

    table: Literal["slf5k", "kodcode", "ultrafeedback", "writing"] = "slf5k"
    """which table"""
    methods: tuple[str, ...] = ()
    """which of its rows, all if none is named"""
    seeds: int = 3
    """runs of each method that trains, with seeds 1, 2, ..."""
    budget: Literal["small", "trial", "paper"] = "small"
    """small: the embedded model on two cores; trial: a taste; paper: the published settings"""
    start: Literal["base", "sft"] = "base"
    """what policies start from: the model as it is, or after SFT with the same seed"""
    model: str = ""
    """model in place of the budget's, for policies and reward models: a folder or a hub id"""
    policies: tuple[str, ...] = ()
    """further policy models, of any family, trained beside it by the same methods and under the
    same reward models: folders or hub ids"""
    data_path: str = ""
    """own records in place of the budget's data: a file, or a folder of files named after splits"""
    annotator: Literal["", "openai", "reference", "execution"] = ""
    """who annotates, "" for the budget's"""
    base_url: str = ""
    """server of --annotator openai, any compatible one; of --judge_model too if it has no own"""
    annotator_model: str = "gpt-4o"
    """--annotator openai: model name at the server"""
    bert_model: str = ""
    """encoder for BERTScore, "" for the budget's, which has one only with paper"""
    judge_model: str = ""
    """chat model that compares each run's answers with the start model's and judges the benchmarks
    that need one, "" for none"""
    judge_base_url: str = ""
    """server of --judge_model, "" for that of --base_url"""
    benchmarks: tuple[str, ...] = ()
    """public benchmarks: humaneval, mbpp (kodcode); arc_challenge, mt_bench, alpaca_eval
    (ultrafeedback)"""
    benchmark_files: tuple[str, ...] = ()
    """NAME=FILE in place of a download, with the benchmark as name, mt_bench_references or
    mt_bench_prompts"""
    benchmark_samples: int = 0
    """questions of each benchmark, 0 for all"""
    noise: tuple[str, ...] = ()
    """run text2grad and scalar_ppo, or --methods, with errors in critiques: each as flip:0.2 (flip,
    drop, shift, replace: share of the quotes; irrelevant: share of the critiques)"""
    noise_at: Literal["labels", "rewards"] = "labels"
    """errors in what the reward model learns from, or in what it says during PPO"""
    reward_from: str = ""
    """folder of another table's runs: measure its reward model on this table's responses"""
    annotations_from: str = ""
    """folder of this table's runs with another annotator: measure how far both agree"""
    human_spans: str = ""
    """measure every reward model on these records too, in which people marked spans: a file of this
    table's keys, as human_alignment.py reads it"""
    output_dir: str = ""
    """folder of the runs, "" for runs/paper/TABLE-BUDGET, with --annotator's name behind it where
    that is not the budget's"""
    dry_run: bool = False
    """print every command, ready to be pasted, and run nothing"""

    def __post_init__(self) -> None:
        at_least(self, 1, "seeds")
        at_least(self, 0, "benchmark_samples")
        server_address(self, "base_url")
        server_address(self, "judge_base_url")
        for text in self.noise:
            if not read_noise(text, "--noise"):
                raise UserError("--noise: names none, for example flip:0.2")
        if "" in self.policies:
            raise UserError("--policies: names none, for example Qwen/Qwen2.5-0.5B-Instruct")
        if self.policies and self.noise:
            raise UserError("--policies with --noise: errors are for --model alone; leave one out")


@dataclass(frozen=True)
class PaperMetricsConfig:
    """Where measurements are taken from and kept."""

    runs_dir: str = "runs/paper"
    """folder of the folders that run.py made; "" takes the stored metrics alone"""
    metrics_dir: str = "benchmarks/results/paper"
    """what the runs measured, as small JSON files from which everything is made"""
    testbed: str = "benchmarks/results/testbed.json"
    """the figures of testbed.py"""
    figures_dir: str = "benchmarks/results/figures"
    """figures as SVG"""


@dataclass(frozen=True)
class PaperTablesConfig(PaperMetricsConfig):
    """Write the tables from what the runs measured."""

    output_dir: str = "runs/paper/tables"
    """each table as .md, .csv and .tex"""
    results: str = "RESULTS.md"
    """all tables with what was run on what, and what failed; "" writes none"""


@dataclass(frozen=True)
class PaperFiguresConfig(PaperMetricsConfig):
    """Draw the figures from what the runs measured."""

    png: bool = False
    """each figure as PNG too, twice the size, for slides; needs: pip install resvg-py==0.5.0"""
