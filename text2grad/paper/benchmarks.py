"""The public benchmarks that runs can be measured on, as data: what each starts, asks and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config import PaperRunConfig

OWN = "own"
"""in place of a file with prompts: the wording of this repository"""
_PROMPTS = "judge_prompts"


@dataclass(frozen=True)
class BenchmarkFigure:
    """One column that a benchmark fills.

    Attributes:
        name: key of the measure.
        title: as tables name it.
        keys: where the value stands in what the benchmark wrote.
        optional: whether it may be missing there.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A script that measures a policy, in the folder `Evaluation` of a table's tree.

    Attributes:
        table: whose tree.
        script: a shell that reads its settings from variables, or a script with flags.
        output: the file with its figures.
        count: where the number of questions, or ratings, stands in it.
        figures: what tables take from it.
        files: {name in `--benchmark_files`: flag or variable of the script}.
        settings: further variables of a shell.
        environment: folder, in the project, of an environment of its own.
        generates: whether the policy writes answers.
        is_judged: whether a chat model judges them.
        on_own_files: flags where questions are given as a file.
        on_some: flags where not all questions are asked.
    """

    table: str
    script: str
    output: str
    count: tuple[str, ...]
    figures: tuple[BenchmarkFigure, ...]
    files: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    generates: bool = True
    is_judged: bool = False
    on_own_files: tuple[str, ...] = ()
    on_some: tuple[str, ...] = ()


def _evalplus(name: str, title: str) -> Benchmark:
    figures = tuple(
        BenchmarkFigure(
            f"{name}{sign}", f"{title}{mark}", ("figures", f"{title}{mark} pass@1", "value")
        )
        for sign, mark in (("", ""), ("_plus", "+"))
    )
    return Benchmark(
        table="kodcode",
        script="evalplus.sh",
        output=f"{name}_plus.json",
        count=("problems",),
        figures=figures,
        files={name: f"{name.upper()}_PATH"},
        settings={"DATASETS": name},
    )


_WHOLE_ONLY = ("--length_controlled", "false")
BENCHMARKS = {
    "humaneval": _evalplus("humaneval", "HumanEval"),
    "mbpp": _evalplus("mbpp", "MBPP"),
    "arc_challenge": Benchmark(
        table="ultrafeedback",
        script="arc_challenge.py",
        output="arc_challenge.json",
        count=("n",),
        figures=(
            BenchmarkFigure("arc_challenge", "ARC-C", ("acc", "value")),
            BenchmarkFigure("arc_challenge_norm", "ARC-C, acc_norm", ("acc_norm", "value")),
        ),
        files={"arc_challenge": "data"},
        environment=".venv-lm-eval",
        generates=False,
        on_own_files=("--num_fewshot", "0"),
    ),
    "mt_bench": Benchmark(
        table="ultrafeedback",
        script="mt_bench.py",
        output="mt_bench.json",
        count=("overall", "n"),
        figures=(BenchmarkFigure("mt_bench", "MT-Bench", ("overall", "mean")),),
        files={
            "mt_bench": "data",
            "mt_bench_references": "references",
            "mt_bench_prompts": _PROMPTS,
        },
        is_judged=True,
    ),
    "alpaca_eval": Benchmark(
        table="ultrafeedback",
        script="alpaca_eval.py",
        output="alpaca_eval.json",
        count=("n",),
        figures=(
            BenchmarkFigure("alpaca_eval", "AlpacaEval 2.0, %", ("win_rate", "value")),
            BenchmarkFigure(
                "alpaca_eval_length_controlled",
                "AlpacaEval 2.0, length-controlled, %",
                ("length_controlled_win_rate", "value"),
                optional=True,
            ),
        ),
        files={"alpaca_eval": "data"},
        environment=".venv-alpaca-eval",
        is_judged=True,
        on_own_files=_WHOLE_ONLY,
        on_some=_WHOLE_ONLY,
    ),
}


def choose_benchmarks(args: PaperRunConfig) -> dict[str, Benchmark]:
    """The benchmarks that `--benchmarks` names, in the order of the tables.

    Raises:
        UserError: one is unknown, of another table, or needs a judge that is not named.
    """
    there = [name for name, one in BENCHMARKS.items() if one.table == args.table]
    for name in args.benchmarks:
        if name not in there:
            has = f"has {', '.join(there)}" if there else "has none"
            raise UserError(f"--benchmarks {name}: table {args.table} {has}")
        if BENCHMARKS[name].is_judged and not args.judge_model:
            raise UserError(f"--benchmarks {name}: needs a judge; name one by --judge_model")
    return {name: BENCHMARKS[name] for name in there if name in args.benchmarks}


def benchmark_files(args: PaperRunConfig, chosen: Mapping[str, Benchmark]) -> dict[str, str]:
    """What `--benchmark_files` gives, {name: whole path}.

    Raises:
        UserError: an entry is no NAME=FILE, names nothing that was chosen, or has no such file.
    """
    known = {name: flag for one in chosen.values() for name, flag in one.files.items()}
    found = {}
    for entry in args.benchmark_files:
        name, equals, path = entry.partition("=")
        if not equals or name not in known:
            names = ", ".join(known) or "none, as --benchmarks names none"
            raise UserError(f"--benchmark_files {entry}: must be NAME=FILE, with one of: {names}")
        if path == OWN and known[name] == _PROMPTS:
            found[name] = path
            continue
        if not Path(path).is_file():
            raise UserError(f"--benchmark_files {entry}: no such file")
        found[name] = str(Path(path).resolve())
    return found


def read_figures(
    written: Mapping[str, Any], benchmark: Benchmark, source: str
) -> tuple[dict[str, float | None], int]:
    """What tables take from a benchmark's output, and the number of questions behind it.

    Raises:
        UserError: a figure is missing or no number.
    """
    figures = {}
    for one in benchmark.figures:
        value = _under(written, one.keys)
        missing = value is None and one.optional
        if not missing and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise _not_there(source, one.keys)
        figures[one.name] = value
    count = _under(written, benchmark.count)
    if type(count) is not int:
        raise _not_there(source, benchmark.count)
    return figures, count


def _under(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _not_there(source: str, keys: tuple[str, ...]) -> UserError:
    return UserError(
        f'{source}: holds no number under "{".".join(keys)}"; remove its folder and run '
        "paper/run.py again"
    )
