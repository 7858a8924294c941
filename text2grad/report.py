"""One static HTML page about a run, or about a file of judged responses.

    python -m text2grad.report --run_dir ckpt/text2grad_slf5k --output_path report.html
    python -m text2grad.report --run_dir ckpt/text2grad_slf5k --compare_dir ckpt/other
    python -m text2grad.report data/train_annotated.json

The page needs no network and no server. Everything that a model or a data file wrote goes into it
as escaped text, and the page's own policy lets no other script run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from text2grad.charts import SMOOTH_FROM
from text2grad.files import write_text
from text2grad.progress import progress_view
from text2grad.report_compare import MAX_RUNS, common_prompts, render_comparison, run_names
from text2grad.report_data import (
    ReportData,
    read_judged,
    read_latest_samples,
    read_object,
    read_run,
)
from text2grad.report_page import page_payload, render_page
from text2grad.report_pairs import before_after
from text2grad.report_view import (
    change_rows,
    draw_charts,
    flat_rows,
    health_view,
    key_figures,
    quality_chart,
    quality_facts,
    quality_rows,
    reward_model_identity,
)
from text2grad.reward_report import check_reward_report
from text2grad.schema import UserError
from text2grad.tasks import get_task
from text2grad.trends import find_warnings

MAX_PAIRS = 500


@dataclass(frozen=True)
class ReportConfig:
    """Write one HTML page about a run (--run_dir), several, or a file of judged responses."""

    data_path: str = ""
    """annotated responses, or what 2_infer.py wrote"""
    run_dir: str = ""
    """policy run: config.json, metrics.jsonl, samples.jsonl, evaluation.json"""
    compare_dir: tuple[str, ...] = ()
    """further runs to lay beside --run_dir, five at most"""
    output_path: str = ""
    """page to write, "" for report.html (comparison.html) in the run folder or FILE.html beside
    the file"""
    evaluation: str = ""
    """before and after, as metrics.py --compare_file writes it; "" for RUN_DIR/evaluation.json"""
    reward_model_metrics: str = ""
    """what 3_metrics.py wrote"""
    qc: str = ""
    """figures of the annotation, a JSON object"""
    task: str = "slf5k"
    """which task's keys, for --data_path"""
    title: str = ""
    """heading, "" for the name of the run or file"""
    max_samples: int = 500
    """responses to show, spread evenly over the run; 0 for all"""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("data_path",)

    def __post_init__(self) -> None:
        if bool(self.run_dir) == bool(self.data_path):
            raise UserError("give either --run_dir or a file of judged responses (--data_path)")
        if self.compare_dir and not self.run_dir:
            raise UserError("--compare_dir lays runs beside --run_dir, which is missing")
        if self.compare_dir and (self.evaluation or self.reward_model_metrics or self.qc):
            raise UserError(
                "--evaluation, --reward_model_metrics and --qc belong to a page about one run; "
                "leave them out with --compare_dir"
            )
        if len(self.compare_dir) >= MAX_RUNS:
            raise UserError(f"--compare_dir: at most {MAX_RUNS - 1} runs beside --run_dir")


def build_report(args: ReportConfig) -> None:
    """Read what `args` names and write the page."""
    if args.compare_dir:
        _build_comparison(args)
        return
    if args.run_dir:
        data = read_run(args.run_dir, "--run_dir", args.max_samples)
        output = args.output_path or Path(args.run_dir) / "report.html"
    else:
        data = read_judged(args.data_path, get_task(args.task), args.max_samples)
        output = args.output_path or Path(args.data_path).with_suffix(".html")
    more = {
        "evaluation": _named_object(args.evaluation, "--evaluation"),
        "reward_model": _named_object(args.reward_model_metrics, "--reward_model_metrics"),
        "quality": _named_object(args.qc, "--qc"),
        "title": args.title,
    }
    if more["reward_model"]:
        source = f"--reward_model_metrics {args.reward_model_metrics}"
        check_reward_report(more["reward_model"], source)
    data = replace(data, **{name: value for name, value in more.items() if value})
    write_report(data, output)
    print(f"report: {output}")


def _build_comparison(args: ReportConfig) -> None:
    folders = [args.run_dir, *args.compare_dir]
    flags = ["--run_dir", *["--compare_dir"] * len(args.compare_dir)]
    runs = [read_run(*pair, max_samples=1) for pair in zip(folders, flags, strict=True)]
    latest = [read_latest_samples(*pair) for pair in zip(folders, flags, strict=True)]
    names = run_names(folders)
    groups = common_prompts(latest, args.max_samples)
    title = args.title or " against ".join(names)
    output = args.output_path or Path(args.run_dir) / "comparison.html"
    write_text(output, render_comparison(names, runs, groups, title, MAX_PAIRS), "--output_path")
    print(f"report: {output}")


def write_report(data: ReportData, path: str | Path) -> None:
    """Write the page; parts of `data` that are empty are left out of it."""
    write_text(path, render_report(data), "--output_path")


def render_report(data: ReportData) -> str:
    """The page as HTML."""
    pairs = before_after(data.evaluation, MAX_PAIRS)
    charts = draw_charts(data.steps, data.best)
    configuration = flat_rows(data.config)
    annotation = flat_rows(data.quality)
    tests = progress_view(data.evaluation.get("tests") or {})
    parts = {
        "glance": "At a glance",
        "tests": "Tests" if tests else "",
        "curves": "Curves" if charts else "",
        "reward-model": "Reward model" if data.reward_model else "",
        "before-after": "Before and after" if pairs else "",
        "alignment": "Alignment" if data.health else "",
        "samples": _entries_title(data) if data.entries else "",
        "annotation": "Annotation" if annotation else "",
        "configuration": "Configuration" if configuration else "",
    }
    return render_page(
        "report.html.j2",
        page_payload(charts, [[entry] for entry in data.entries], pairs),
        title=data.title,
        facts=_facts(data),
        sections=[(anchor, name) for anchor, name in parts.items() if name],
        figures=key_figures(data),
        warnings=find_warnings(data),
        changes=change_rows(data.evaluation),
        tests=tests,
        n_validation=data.evaluation.get("n"),
        charts=charts,
        smoothed=len(data.steps) >= SMOOTH_FROM,
        n_pairs=len(pairs.get("rows", ())),
        n_groups=len(data.entries),
        entries_total=data.entries_total,
        entries_title=_entries_title(data),
        health=health_view(data.health) if data.health else None,
        health_scope="the responses shown" if data.steps else "all responses",
        annotation=annotation,
        configuration=configuration,
        **_quality(data),
    )


def _quality(data: ReportData) -> dict[str, Any]:
    if not data.reward_model:
        return {"quality_chart": ""}
    header, rows = quality_rows(data.reward_model)
    path, sha256 = reward_model_identity(data.config)
    return {
        "quality_chart": quality_chart(data.reward_model),
        "quality_header": header,
        "quality_rows": rows,
        "quality_facts": quality_facts(data.reward_model),
        "quality_unit": data.reward_model["unit"],
        "reward_model_path": path,
        "reward_model_hash": sha256,
    }


def _facts(data: ReportData) -> list[tuple[str, str]]:
    config, flags = data.config, data.config.get("flags") or {}
    path, sha256 = reward_model_identity(config)
    reward_model = f"{path} ({sha256[:12]})" if path and sha256 else path
    facts = [
        ("Task", flags.get("task")),
        ("Policy", flags.get("base_model_name")),
        ("Rewards from", reward_model),
        ("Credit", flags.get("credit_assignment")),
        ("Seed", flags.get("seed")),
        ("Started", str(config.get("started") or "").replace("T", " ").replace("+00:00", " UTC")),
        ("Commit", config.get("commit")),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]


def _entries_title(data: ReportData) -> str:
    return "Sampled responses" if data.steps else "Judged responses"


def _named_object(path: str, flag: str) -> dict[str, Any]:
    if not path:
        return {}
    if not Path(path).exists():
        raise UserError(f"{flag} {path}: no such file")
    return read_object(path, flag)


if __name__ == "__main__":
    from text2grad.config import launch

    launch(ReportConfig, "text2grad.report:build_report")
