"""What the runs of a table measured, read from the folders that paper/run.py made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from text2grad.paper.annotation_costs import read_annotation
from text2grad.paper.benchmarks import BENCHMARKS, read_figures
from text2grad.paper.measured import Measured, Run
from text2grad.paper.methods import ANNOTATIONS, METHODS, SCALAR
from text2grad.paper.other_judges import PEOPLE, PEOPLE_REPORT
from text2grad.paper.plan import JUDGE, MEASURES, ROOT
from text2grad.paper.runner import read_progress
from text2grad.paper.shared_stages import JUDGES
from text2grad.paper.tables_data import TABLES
from text2grad.paper.training import read_training
from text2grad.paper.variants import NOISE_FOLDER, POLICY_FOLDER, Policy, Variant
from text2grad.report_data import read_object
from text2grad.reward_report import check_reward_report
from text2grad.schema import UserError
from text2grad.shapes import NUMBER, TEXT, Maybe, check_shape
from text2grad.span_noise import Noise
from text2grad.tasks import get_task

FLAG = "--runs_dir"
_SETTINGS = {"table": TEXT, "budget": TEXT, "start": TEXT, "model": TEXT, "machine": TEXT}
_SETTINGS |= {"data_path": TEXT, "annotator": {"*": TEXT}}
_RUN = _SETTINGS | {"method": TEXT, "seed": NUMBER}
_JUDGE = _SETTINGS | {"reward_model": TEXT}
_NOISE = {"noise": TEXT, "rate": NUMBER, "noise_at": TEXT}
_POLICY = {"policy": TEXT, "judge_model": TEXT}
_PEOPLE = {"human_spans": TEXT}
_AGREEMENT = ("macro_f1", "kappa")
_FIGURE = {"value": Maybe(NUMBER), "interval": Maybe([NUMBER, NUMBER])}
_ALIGNMENT = {"responses": NUMBER, "files": {"*": TEXT}}
_ALIGNMENT |= {"systems": {"*": {"overall": dict.fromkeys(_AGREEMENT, _FIGURE)}}}
_EVALUATION = {"n": NUMBER, "after": {"*": Maybe(NUMBER)}}
_ADVICE = "paper/run.py writes it; remove its folder and run that again"
# what runs share that stand in one table
_SHARED = ("table", "budget", "start", "model", "data_path", "annotator")

Facts = Mapping[str, Any]


def read_folders(folder: Path) -> list[Measured]:
    """What was measured in all folders of runs in `folder`.

    Raises:
        UserError: none holds a finished run, the runs of one were made with different settings, or
            a file is damaged.
    """
    kinds = ("runs", NOISE_FOLDER, *(f"{name}*" for name in (*JUDGES, POLICY_FOLDER)))
    places = {path.parent for kind in kinds for path in folder.glob(f"*/{kind}")}
    found = [one for own in sorted(places) for one in read_folder(own)]
    if not found:
        raise UserError(
            f'{FLAG} {folder}: holds no finished run; paper/run.py makes some, and {FLAG} "" takes '
            "the stored metrics alone"
        )
    return found


def read_folder(folder: Path) -> list[Measured]:
    """What was measured in one folder of runs; nothing if none is finished.

    Raises:
        UserError: see `read_folders`.
    """
    judges = _read_judges(folder)
    noisy, noisy_judges = _read_noise(folder / NOISE_FOLDER)
    others = _read_policies(folder)
    answered, trained, facts = [], [], []
    for path in finished(folder / "runs"):
        own = read_facts(path, _RUN)
        facts.append((own["method"], own))
        trained += _read_training(path, own)
        if _is_done(path / MEASURES):
            answered.append(_read_run(path, own))
    facts += [(run.row, own) for run, own in noisy]
    judging = [(run.row, own) for run, own in (*judges, *noisy_judges)]
    if not (facts or judging or others):
        return []
    shared = shared_facts(folder, facts, judging, [(run.row, own) for run, own in others])
    shared |= _read_people(folder)
    task = get_task(TABLES[shared["table"]].task_name(ROOT))
    places = [path for path in finished(folder) if path.name in ANNOTATIONS]
    annotated = [read_annotation(path.name, path, task, FLAG) for path in places]
    return [
        Measured(
            name=folder.name,
            facts=shared,
            runs=answered,
            training=trained,
            reward_models=[run for run, _ in judges],
            annotations=[run for run in annotated if run],
            noise=[run for run, _ in (*noisy, *noisy_judges)],
            policies=[run for run, _ in others],
            failures=list(_failures(folder)),
            minutes=sum(read_progress(path).seconds for path in _all_stages(folder)) / 60,
        )
    ]


def shared_facts(
    folder: Path,
    runs: Sequence[tuple[str, Facts]],
    judges: Sequence[tuple[str, Facts]],
    others: Sequence[tuple[str, Facts]] = (),
) -> dict[str, Any]:
    """The settings of all runs of a folder as they can be told anyone: names in place of paths.

    Args:
        folder: for messages.
        runs: row and settings of each policy.
        judges: likewise, of each reward model; these may start from another model.
        others: likewise, of each further policy; those of one name start from one model.

    Raises:
        UserError: two runs differ in a setting that a table's runs share.
    """
    same, whole = [name for name in _SHARED if name != "model"], [*runs, *judges, *others]
    groups = [(_SHARED, runs), (_SHARED, judges), (same, whole)]
    for policy in dict.fromkeys(facts["policy"] for _, facts in others):
        groups.append((_SHARED, [one for one in others if one[1]["policy"] == policy]))
    for names, group in groups:
        for row, facts in group:
            first, wanted = group[0]
            for name in names:
                if facts[name] != wanted[name]:
                    raise UserError(
                        f"{FLAG} {folder}: {row} was made with {name} {facts[name]}, {first} with "
                        f"{wanted[name]}; run one of them again, or keep them in different folders"
                    )
    for row, facts in others if judges else ():
        if facts["judge_model"] != judges[0][1]["model"]:
            raise UserError(
                f"{FLAG} {folder}: {row} was trained under a reward model of "
                f"{facts['judge_model']}, not of {judges[0][1]['model']}; run "
                "paper/run.py again with --policies"
            )
    _, facts = whole[0]
    machines = sorted({facts["machine"] for _, facts in whole})
    annotator = facts["annotator"]
    return {
        **{name: facts[name] for name in ("table", "budget", "start")},
        "model": Path(facts["model"]).name,
        "judge_model": Path(judges[0][1]["model"]).name if judges else "",
        "data": Path(facts["data_path"]).name,
        # a server's address says nothing to others
        "annotator": {name: annotator[name] for name in annotator if name != "base_url"},
        "machine": " and ".join(machines),
    }


def finished(folder: Path) -> list[Path]:
    """The folders of finished stages; what was set aside is left out."""
    return [path for path in _stages(folder) if _is_done(path)]


def read_facts(path: Path, shape: Mapping[str, Any]) -> Facts:
    """A stage's `run.json`."""
    facts = read_object(path / "run.json", FLAG)
    check_shape(facts, shape, f"{FLAG} {path / 'run.json'}", _ADVICE)
    return facts


def _is_done(folder: Path) -> bool:
    progress = read_progress(folder)
    return bool(progress and progress.done)


def _stages(folder: Path) -> list[Path]:
    found = sorted(path.parent for path in folder.glob("*/stage.json"))
    return [path for path in found if ".aside-" not in path.name]


def _read_run(path: Path, facts: Facts) -> Run:
    evaluation = read_object(path / MEASURES / "evaluation.json", FLAG)
    check_shape(evaluation, _EVALUATION, f"{FLAG} {path / MEASURES / 'evaluation.json'}", _ADVICE)
    figures = dict(evaluation["after"])
    if _is_done(path / JUDGE):
        verdict = read_object(path / JUDGE / "judge.json", FLAG)
        check_shape(verdict, {"win_rate": NUMBER}, f"{FLAG} {path / JUDGE / 'judge.json'}", _ADVICE)
        figures["win_rate"] = verdict["win_rate"]
    own, counts = _read_benchmarks(path)
    return Run(facts["method"], evaluation["n"], figures | own, facts["seed"], counts=counts)


def _read_benchmarks(path: Path) -> tuple[dict[str, float | None], dict[str, int]]:
    """The figures of a run's public benchmarks, and the number of questions behind each."""
    figures: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    for name, benchmark in BENCHMARKS.items():
        if _is_done(path / name):
            output = path / name / benchmark.output
            own, count = read_figures(read_object(output, FLAG), benchmark, f"{FLAG} {output}")
            figures |= own
            counts |= dict.fromkeys(own, count)
    return figures, counts


def _read_training(path: Path, facts: Facts) -> list[Run]:
    method = METHODS.get(facts["method"])
    quotes = method is None or method.reward_model != SCALAR
    found = read_training(path / "train", FLAG, quotes)
    if not found:
        return []
    steps, figures, history = found
    return [Run(facts["method"], steps, figures, facts["seed"], history=history)]


def _read_judges(folder: Path) -> list[tuple[Run, Facts]]:
    """What was measured against the annotation: reward models, and other annotators."""
    return [_read_judge(path) for path in finished(folder) if path.name.startswith(JUDGES)]


def _read_noise(folder: Path) -> tuple[list[tuple[Run, Facts]], list[tuple[Run, Facts]]]:
    """Policies and reward models under errors in critiques, with rows that name the errors."""
    policies, judges = [], []
    for own in sorted(folder.glob("*")):
        answered = [path for path in finished(own) if _is_done(path / MEASURES)]
        runs = [(path, read_facts(path, _RUN | _NOISE)) for path in answered]
        policies += [(_under_noise(_read_run(path, facts), facts), facts) for path, facts in runs]
        for run, facts in _read_judges(own):
            check_shape(facts, _NOISE, f"{FLAG} {own}", _ADVICE)
            judges.append((_under_noise(run, facts), facts))
    return policies, judges


def _read_policies(folder: Path) -> list[tuple[Run, Facts]]:
    """Policies of other models under the same reward models, with rows that name them."""
    found = []
    for own in sorted(folder.glob(f"{POLICY_FOLDER}*")):
        for path in finished(own / "runs"):
            if _is_done(path / MEASURES):
                facts = read_facts(path, _RUN | _POLICY)
                run = _read_run(path, facts)
                policy = Variant(policy=Policy(facts["policy"], facts["model"]))
                found.append((replace(run, row=policy.row(run.row)), facts))
    return found


def _under_noise(run: Run, facts: Facts) -> Run:
    variant = Variant(Noise(facts["noise"], facts["rate"]), facts["noise_at"])
    return replace(run, row=variant.row(run.row))


def _read_judge(path: Path) -> tuple[Run, Facts]:
    facts = read_facts(path, _JUDGE)
    report = read_object(path / "metrics.json", FLAG)
    check_reward_report(report, f"{FLAG} {path / 'metrics.json'}")
    scores = report["systems"]["reward_model"]["tokens"]
    free = (report.get("decoding") or {}).get("unconstrained") or {}
    figures = {
        "free_parse_rate": free.get("parse_rate"),
        "free_unmatched_rate": free.get("unmatched_rate"),
        "unmatched_rate": report["quotes"]["unmatched_rate"],
        "macro_f1": scores["macro_f1"],
        "sign_accuracy": scores["sign_accuracy"],
    }
    for label, own in scores.items():
        if isinstance(own, Mapping):
            figures |= {f"{label}_{kind}": own[kind] for kind in ("precision", "recall")}
    interval = report["macro_f1_interval"].get("reward_model")
    bounds = {"macro_f1": (interval[0], interval[1])} if interval else {}
    run = Run(facts["reward_model"], report["responses"], figures, intervals=bounds)
    return (_with_people(run, path / PEOPLE) if _is_done(path / PEOPLE) else run), facts


def _with_people(run: Run, path: Path) -> Run:
    """A reward model with its agreement with people, each figure as "human_FIGURE"."""
    report = read_object(path / PEOPLE_REPORT, FLAG)
    check_shape(report, _ALIGNMENT, f"{FLAG} {path / PEOPLE_REPORT}", _ADVICE)
    (name,) = report["files"]
    overall = report["systems"][name]["overall"]
    figures, intervals = dict(run.figures), dict(run.intervals)
    for kind in _AGREEMENT:
        figures[f"human_{kind}"] = overall[kind]["value"]
        if overall[kind]["interval"]:
            low, high = overall[kind]["interval"]
            intervals[f"human_{kind}"] = (low, high)
    counts = dict.fromkeys([f"human_{kind}" for kind in _AGREEMENT], report["responses"])
    return replace(run, figures=figures, intervals=intervals, counts=counts)


def _read_people(folder: Path) -> dict[str, str]:
    """The file of what people marked, by which reward models were measured; {} if none was."""
    stages = [path / PEOPLE for path in finished(folder) if _is_done(path / PEOPLE)]
    names = {Path(read_facts(path, _PEOPLE)["human_spans"]).name for path in stages}
    if len(names) > 1:
        raise UserError(
            f"{FLAG} {folder}: its reward models were measured by what people marked in "
            f"{' and '.join(sorted(names))}; run paper/run.py again with one of these"
        )
    return {"human_spans": names.pop()} if names else {}


def _all_stages(folder: Path) -> list[Path]:
    found = sorted(path.parent for path in folder.rglob("stage.json"))
    return [path for path in found if ".aside-" not in str(path.relative_to(folder))]


def _failures(folder: Path) -> Iterator[str]:
    for path in _all_stages(folder):
        error = read_progress(path).error
        for place in (folder.resolve(), ROOT):
            error = error.replace(f"{place}/", "")
        if error:
            yield f"{path.relative_to(folder)}: {error}"
