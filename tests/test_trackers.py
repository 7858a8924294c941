"""TensorBoard and wandb beside metrics.jsonl."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from policy_runs import config, rows_of

from text2grad.devices import start_accelerator, tracked_figures
from text2grad.schema import UserError

# Stands in for the package: it writes down what it is asked to do.
FAKE_WANDB = """
import json, os

def note(*what):
    with open(os.environ["NOTES"], "a") as out:
        out.write(json.dumps(what, default=str) + chr(10))

class Config:
    def update(self, values, **more):
        note("config", values)

class Run:
    def log(self, values, step=None):
        note("log", values, step)
    def finish(self):
        note("finish")

config = Config()

def init(project=None, mode="online", dir=None):
    if mode != "offline":
        raise RuntimeError("No API key configured. Use `wandb login`\\nto log in.")
    note("init", project, mode, dir)
    return Run()
"""
# accelerate looks for trackers when it is imported, so this takes a process of its own
PROGRAM = """
import sys
from policy_runs import config
from text2grad.devices import start_accelerator, start_tracker, tracked_figures
from text2grad.schema import UserError
try:
    args = config("m", "d", sys.argv[1], log_with="wandb", tracker_kwargs=sys.argv[2])
    run = start_accelerator(args)
    start_tracker(run, args, 0)
except UserError as error:
    sys.exit(f"error: {error}")
run.log(tracked_figures({"step": 3, "kl": 0.5}), step=3)
run.end_training()
"""


def test_names_at_the_tracker():
    row = {"step": 7, "kl": 2.0, "seconds_update": 9.0, "tokens_per_second_rollout": 5.0}
    row |= {"valid_score": 0.1, "skipped_updates": 0, "unparseable": {}, "warnings": ["x"]}
    assert tracked_figures(row) == {
        "train/kl": 2.0,
        "seconds/update": 9.0,
        "tokens_per_second/rollout": 5.0,
        "valid/score": 0.1,
        "train/skipped_updates": 0,
    }


def tensorboard_scalars(folder):
    """{(name, step): values} of the event files below a folder, as TensorBoard reads them.

    It reads them in the order of their names, and the start of a session at a step hides all that
    was written before for this step or later ones.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = {}
    for path in sorted(Path(folder).rglob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            # a record: length (8 bytes), its checksum (4), the message, its checksum (4)
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += size + 16
            if event.session_log.status == SessionLog.START:
                found = {place: seen for place, seen in found.items() if place[1] < event.step}
            for one in event.summary.value:
                found.setdefault((one.tag, event.step), []).append(one.simple_value)
    return found


def figures_of(folder):
    """{(name, step): values} of `metrics.jsonl`."""
    return {
        (name, row["step"]): [pytest.approx(value, rel=1e-6)]
        for row in rows_of(folder)
        for name, value in tracked_figures(row).items()
    }


def test_tensorboard_gets_every_figure_of_every_step(make, tmp_path):
    made = make(log_with="tensorboard", project_name="mine")
    made.train()
    assert list((tmp_path / "run" / "mine").glob("events.out.tfevents.*"))
    scalars, expected = tensorboard_scalars(tmp_path / "run"), figures_of(tmp_path / "run")
    assert {("train/kl", 1), ("seconds/update", 2)} <= set(expected)
    assert scalars == expected


def test_a_resumed_run_has_each_step_once(make):
    """One step past its checkpoint the run stops; that step is done again, with other seconds."""
    flags = {"steps": 3, "save_freq": 1, "log_with": "tensorboard"}
    killed = make(**flags)
    save = killed.checkpoints.save

    def save_or_die(step, valid_score=None):
        if step == 2:
            raise RuntimeError("killed")
        save(step, valid_score)

    killed.checkpoints.save = save_or_die
    with pytest.raises(RuntimeError, match="killed"):
        killed.train()
    (written,) = killed.output_dir.rglob("events.out.tfevents.*")
    written.rename(written.with_name("events.out.tfevents.1"))  # names have whole seconds
    assert {step for _, step in tensorboard_scalars(killed.output_dir)} == {1, 2}
    resumed = make(resume_from_checkpoint="auto", **flags)
    resumed.train()
    assert [row["step"] for row in rows_of(resumed.output_dir)] == [1, 2, 3]
    assert tensorboard_scalars(resumed.output_dir) == figures_of(resumed.output_dir)


def test_every_sampled_token_has_its_log_probability(make, tmp_path):
    make(steps=1).train()
    rows = rows_of(tmp_path / "run", "samples.jsonl")
    assert rows
    assert all(len(row["logp"]) == len(row["tokens"]) and max(row["logp"]) <= 0 for row in rows)


def run_with_fake_wandb(tmp_path, tracker_kwargs):
    package, notes = tmp_path / "site" / "wandb", tmp_path / "notes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(FAKE_WANDB)
    facts = tmp_path / "site" / "wandb-0.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 0.0\n")
    root = Path(__file__).parent
    paths = [str(tmp_path / "site"), str(root), str(root.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run"), tracker_kwargs],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NOTES": str(notes)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = notes.read_text().splitlines() if notes.exists() else []
    return done, [json.loads(line) for line in lines]


def test_wandb_offline(tmp_path):
    done, notes = run_with_fake_wandb(tmp_path, '{"mode": "offline"}')
    assert done.returncode == 0, done.stderr
    assert notes[0] == ["init", "text2grad", "offline", str(tmp_path / "run")]
    assert notes[1][0] == "config"
    assert notes[1][1]["learning_rate"] == 1e-2
    assert notes[2:] == [["log", {"train/kl": 0.5}, 3], ["finish"]]


def test_what_wandb_refuses_is_one_line_with_a_way_out(tmp_path):
    done, notes = run_with_fake_wandb(tmp_path, "")
    assert done.returncode == 1
    assert notes == []
    assert done.stderr.strip().splitlines()[-1] == (
        "error: --log_with wandb: No API key configured. Use `wandb login` to log in; "
        """--tracker_kwargs '{"mode": "offline"}' needs neither key nor network"""
    )


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("tensorboard", "tensorboardX")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(
        UserError, match=f"^--log_with {name}: not installed; pip install {package}$"
    ):
        start_accelerator(config("m", "d", tmp_path, log_with=name))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "--tracker_kwargs {: not JSON"), ("[]", "expected a JSON object")]
)
def test_arguments_that_are_no_object(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        start_accelerator(config("m", "d", tmp_path, log_with="tensorboard", tracker_kwargs=text))
