"""What is measured beside a table's own judgements: other judges, and agreement with people."""

from __future__ import annotations

from pathlib import Path

from text2grad.human_alignment import check_people
from text2grad.paper.shared_stages import SPLITS, Judge, SharedStages
from text2grad.paper.stages import Command, files_hash, flags
from text2grad.records import read_records
from text2grad.schema import UserError
from text2grad.tasks import get_task

PEOPLE = "people"
PEOPLE_REPORT = "alignment.json"


def add_foreign_reward_model(shared: SharedStages, runs: str) -> None:
    """The reward model of another table, measured on what this table's own is measured on.

    Raises:
        UserError: there is none in the folder `runs`.
    """
    other = Path(runs).resolve()
    model = other / "reward_model-spans" / "train" / "final_merge"
    if not model.is_dir():
        raise UserError(
            f"--reward_from {runs}: no reward_model-spans/train/final_merge in it; name the "
            "folder of a table whose text2grad was run, for example runs/paper/slf5k-small"
        )
    name = f"reward_from-{other.name}"
    data = shared.folder / shared.reward_model("spans")
    judge = Judge(model, "spans")
    commands = shared.judgement(judge, shared.folder / name, data)
    shared.judges[name] = judge
    _add_judge(shared, name, commands, data.name, model)


def add_foreign_annotations(shared: SharedStages, runs: str) -> None:
    """The annotations of another folder of runs, measured as if a reward model had made them.

    Raises:
        UserError: there are none in the folder `runs`.
    """
    other = Path(runs).resolve()
    kind = "own_annotated" if shared.budget.learns_from == "own" else "annotated"
    file = other / "annotation" / f"{SPLITS[1]}_{kind}.json"
    if not file.is_file():
        raise UserError(
            f"--annotations_from {runs}: no annotation/{file.name} in it; name a folder of "
            "this table's runs with another --annotator"
        )
    name = f"annotations_from-{other.name}"
    gold = shared.folder / shared.annotations("annotation")
    files = flags(input_file=file, data_path=gold / file.name)
    files += flags(train_file=gold / f"{SPLITS[0]}_{kind}.json")
    written = flags(output_file=shared.folder / name / "metrics.json")
    script = shared.judging / "Evaluation" / "3_metrics.py"
    command = shared.python(script, *files, *written, *shared.task_flag)
    _add_judge(shared, name, (command,), gold.name, file)


def _add_judge(
    shared: SharedStages, name: str, commands: tuple[Command, ...], need: str, foreign: Path
) -> None:
    """The stage of a judge from elsewhere; it is done again where `foreign` has changed."""
    facts = shared.facts() | {"reward_model": name, "model": shared.judge_model}
    shared.add(name, commands, (need,), inputs=files_hash([foreign]), facts=facts)


def add_people(shared: SharedStages, given: str) -> None:
    """Every reward model that is planned, measured on responses that people marked.

    Args:
        shared: the stages.
        given: the file, as `--human_spans` names it.

    Raises:
        UserError: nobody marked anything in it, it cannot be judged, or nothing judges it.
    """
    task = get_task(shared.task)
    read_records(given, task, ("prompt", "response"), flag="--human_spans")
    check_people(given, task, "--human_spans")
    if not shared.judges:
        raise UserError(
            f"--human_spans {given}: no reward model is trained that it could measure; name one of "
            "the --methods that has one, as text2grad, without errors in the labels"
        )
    file = Path(given).resolve()
    for name, judge in shared.judges.items():
        folder = shared.folder / name / PEOPLE
        # all of them, and none twice: the grammar's cost is measured on the annotated ones
        whole = flags(max_samples=0, unconstrained_samples=0)
        said = folder / "inference.json"
        files = flags(human_file=file, compare_files=said, output_file=folder / PEOPLE_REPORT)
        script = shared.root / "paper" / "human_alignment.py"
        commands = (
            shared.critiques(judge, file, said, *whole),
            shared.python(script, *flags(task=shared.task), *files),
        )
        facts = {"human_spans": str(file)}
        stage = f"{name}/{PEOPLE}"
        shared.add(stage, commands, (name,), inputs=files_hash([file]), facts=facts)
