"""The resumable states of supervised training: written whole, checked when read, also on request.

transformers writes them in place, one file after the other, and takes the newest for whole.
"""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback
from trl import SFTTrainer

from text2grad.devices import launched_processes
from text2grad.schema import Stopped, UserError
from text2grad.stopping import StopRequest
from text2grad.whole_folder import (
    clear_unfinished,
    damage,
    naming_write_failures,
    newest_whole,
    put_in_place,
    read_manifest,
    set_aside,
    write_manifest,
)

FLAG = "--resume_from_checkpoint"
NAME = re.compile(r"checkpoint-(\d+)")


class ResumableTrainer(SFTTrainer):
    """TRL's trainer whose states `checkpoint-STEP` are there whole or not at all."""

    _anew = False

    def _get_output_dir(self, trial: Any) -> str:
        # what writes a state puts it there; its name it gets from `_save_checkpoint`
        return str(Path(super()._get_output_dir(trial)) / ".states.partial")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step, accelerator = self.state.global_step, self.accelerator
        parent = Path(self.args.output_dir)
        path = parent / f"checkpoint-{step}"
        made_in = Path(self._get_output_dir(trial))
        try:
            with naming_write_failures(path, "--output_dir"):
                super()._save_checkpoint(model, trial)
                accelerator.wait_for_everyone()  # each process writes files of its own
                if self.is_world_process_zero():
                    records = update_records(self.args)
                    write_manifest(made_in / path.name, step, launched_processes(), records=records)
                    put_in_place(made_in / path.name, path)
        finally:
            if self.is_world_process_zero():
                shutil.rmtree(made_in, ignore_errors=True)
        keep = self.args.save_total_limit
        if keep and self.is_world_process_zero():
            for older in states_of(parent)[:-keep]:
                shutil.rmtree(older)
        accelerator.wait_for_everyone()

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: Any, state: str | None
    ) -> Any:
        if not self._anew:
            return super()._prepare_for_training(max_steps, train_dataloader, state)
        made = super()._prepare_for_training(max_steps, train_dataloader, None)
        self.lr_scheduler.last_epoch = self.state.global_step - 1
        with warnings.catch_warnings():  # that no update came before
            warnings.simplefilter("ignore", UserWarning)
            self.lr_scheduler.step()
        return made

    def _run_epoch(self, **named: Any) -> None:
        # the library makes an update before it looks whether the last one has been made
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(**named)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # those of one process would be no others
        if checkpoint and read_manifest(Path(checkpoint))["processes"] == launched_processes():
            super()._load_rng_state(checkpoint)

    def run(self, state: str | None, anew: bool = False) -> None:
        """Train to the end, from a state if one is given.

        Args:
            state: has step, optimiser and random generators.
            anew: its optimiser is of no use, and the model has its adapter already.

        Raises:
            Stopped: asked to before the end; all that was done is saved.
        """
        self._anew = anew
        parent = Path(self.args.output_dir)
        if self.is_world_process_zero():
            clear_unfinished(parent)
            begin = read_manifest(Path(state))["step"] if state else 0
            for later in states_of(parent):
                if step_of(later) > begin:
                    set_aside(later)
        with StopRequest() as stopping:
            when = StopWhenAsked(stopping, self.accelerator)
            self.add_callback(when)
            self.train(resume_from_checkpoint=state)
        if when.stopped and self.state.global_step < self.state.max_steps:
            self.accelerator.end_training()
            where = f"after update {self.state.global_step}; {FLAG} auto goes on from there"
            raise Stopped(where if self.is_world_process_zero() else "")


class StopWhenAsked(TrainerCallback):
    """Saves and stops after the update in which any process was asked to."""

    def __init__(self, stopping: StopRequest, accelerator: Any) -> None:
        self.stopping, self.accelerator, self.stopped = stopping, accelerator, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer on all processes after each update."""
        if self.stopping.anywhere(self.accelerator):
            self.stopped = control.should_save = control.should_training_stop = True


def update_records(args: Any) -> int:
    """Records of an update, over all processes: flags or settings say them under the same names."""
    own = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return own * launched_processes()


def states_of(parent: str | Path) -> list[Path]:
    """The states below the trainer's folder, oldest first."""
    found = [path for path in Path(parent).glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in a state's name."""
    return int(NAME.fullmatch(path.name)[1])


def state_to_resume(output_dir: Path, wanted: str) -> tuple[str | None, list[str]]:
    """The state that `--resume_from_checkpoint` asks for, None to begin.

    Args:
        output_dir: the run's folder.
        wanted: a state; "auto" for the newest whole one in the folder; "" for none.

    Returns:
        Its path, and what there is to say: which damaged ones are skipped, why, what starts anew.

    Raises:
        UserError: it is damaged, there are some and none is whole, or another run's are in the
            way.
    """
    states = states_of(output_dir / "trainer")
    if not wanted and states:
        raise UserError(
            f"--output_dir {output_dir}: holds the checkpoints of another run; go on with it by "
            f"{FLAG} auto, or choose another folder"
        )
    if wanted not in ("", "auto"):
        path, notes = Path(wanted), []
        if fault := damage(path):
            raise UserError(f"{FLAG} {wanted}: {fault}")
    else:
        path, faults = newest_whole(states)
        notes = [f"skipping checkpoint {one}: {fault}" for one, fault in faults.items()]
        if faults and not path:
            raise UserError(
                f"{FLAG} auto: no checkpoint in {output_dir / 'trainer'} is whole "
                f"({'; '.join(notes)}); choose another --output_dir, or remove them to start anew"
            )
    if path is None:
        return None, notes
    before, now = read_manifest(path)["processes"], launched_processes()
    if before != now:
        notes.append(
            f"{path}: written by {before} processes, and this run has {now}: random generators "
            "start anew"
        )
    return str(path), notes
