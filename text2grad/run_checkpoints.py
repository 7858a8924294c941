"""The checkpoints of a policy run: written, pruned but for the best one, and gone on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from accelerate.utils import broadcast_object_list, gather_object

from text2grad.checkpoint import (
    check_flags,
    checkpoint_name,
    checkpoints_after,
    find_checkpoint,
    generators,
    list_checkpoints,
    load_policy,
    load_state,
    prune_checkpoints,
    restore_generators,
    save_checkpoint,
    save_policy,
)
from text2grad.files import write_json
from text2grad.policy import Policy
from text2grad.schema import Stopped, UserError
from text2grad.training_weights import TrainingWeights
from text2grad.whole_folder import clear_unfinished, replace_folder, set_aside

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig

BEST = "best.json"


class RunCheckpoints:
    """Writes and reads the folders below `--output_dir`; only the main process writes.

    Args:
        args: output_dir, save_total_limit, resume_from_checkpoint and the flags a run is bound to.
        weights: what is trained, with its optimiser.
        policy: the same weights by their names.
        tokenizer: saved beside it.
        parts: by name, what else has a `state_dict`: the "scheduler", KL controller, ...
        epoch_of: the pass over the prompts of a step, from 0.

    Attributes:
        saved_step: of the newest checkpoint in the run's folder, 0 for none.
        best: "step", "valid_score" and "checkpoint" (its name) of the best validation so far, as
            `best.json` has it; {} before the first.
    """

    def __init__(
        self,
        args: PolicyConfig,
        weights: TrainingWeights,
        policy: Policy,
        tokenizer: Any,
        parts: Mapping[str, Any],
        epoch_of: Callable[[int], int],
    ) -> None:
        self.args, self.weights, self.accelerator = args, weights, weights.accelerator
        self.policy, self.tokenizer, self.epoch_of = policy, tokenizer, epoch_of
        self.parts = parts if weights.sharded else {**parts, "optimizer": weights.optimizer}
        self.output_dir = Path(args.output_dir)
        self.best: dict[str, Any] = {}
        self.saved_step = 0
        self._drawn = generators()

    def is_best(self, valid_score: float | None) -> bool:
        """Whether a validation is better than all before; the earlier of two equal ones stays."""
        if valid_score is None:
            return False
        return not self.best or valid_score > self.best["valid_score"]

    def save(self, step: int, valid_score: float | None = None) -> None:
        """Write a checkpoint from which training goes on bit by bit.

        Args:
            step: the last one that was done.
            valid_score: of this step's validation, None where there was none.
        """
        name = checkpoint_name(self.epoch_of(step - 1), step)
        if self.is_best(valid_score):
            self.best = {"step": step, "valid_score": valid_score, "checkpoint": name}
        processes = gather_object([{"generators": generators(), **self.weights.shard()}])
        with self.weights.whole():
            if self.accelerator.is_main_process:
                flags = self.args.bound_flags()
                state = {"step": step, "flags": flags, "best": self.best}
                path, write = self.output_dir / name, self._write_weights
                save_checkpoint(path, write, state, self.parts, processes)
                self._mark_best()
                spared = self.best.get("checkpoint", "")
                prune_checkpoints(self.output_dir, self.args.save_total_limit, spared)
        self.accelerator.wait_for_everyone()
        self.saved_step = step

    def save_if_due(self, step: int, valid_score: float | None, must: bool | str) -> None:
        """After each step: `save` if it is one of `--save_freq`, the best so far, or a `must`."""
        self._drawn = generators()
        if must or step % self.args.save_freq == 0 or self.is_best(valid_score):
            self.save(step, valid_score)

    def stop(self, step: int) -> NoReturn:
        """End the run as it was asked to, with all that is done saved.

        Raises:
            Stopped: always; the main process says where.
        """
        if step > self.saved_step:
            restore_generators(self._drawn)  # a step that was left is done again from its start
            self.save(step)
        self.accelerator.end_training()
        where = f"after step {step}; --resume_from_checkpoint auto goes on from there"
        raise Stopped(where if self.accelerator.is_main_process else "")

    def finish(self) -> None:
        """End a run: write the policy alone, as plain libraries read it, and name the best."""
        with self.weights.whole():
            if self.accelerator.is_main_process:
                with replace_folder(self.output_dir / "final") as folder:
                    self._write_weights(folder)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process and self.best:
            print(self.summary())
        self.accelerator.end_training()

    def resume(self) -> tuple[str, int]:
        """Go on from the checkpoint that `--resume_from_checkpoint` asks for.

        Returns:
            Its path and step, ("", 0) for a new run.

        Raises:
            UserError: it is damaged, of other flags, or the folder holds another run.
        """
        path = self._agreed_checkpoint()
        if path is None:
            if self.accelerator.is_main_process:
                self._mark_best()
            return "", 0
        check_flags(path, self.args.bound_flags())
        with self.weights.loading():
            load_policy(path, self.policy.lm, self.policy.value_head)
        accelerator = self.accelerator
        ranks = accelerator.process_index, accelerator.num_processes
        state, own = load_state(path, self.parts, *ranks)
        if own and not self.weights.load_shard(own) and accelerator.is_main_process:
            print(f"{path}: written under another sharding; anew starts the optimiser")
        self._follow_schedule()
        self.best = state.get("best") or {}
        if self.best and not (self.output_dir / self.best["checkpoint"]).exists():
            self.best = {}  # a later one took its place, and is set aside now
        self.accelerator.wait_for_everyone()  # all have looked before anything is renamed
        if self.accelerator.is_main_process:
            for later in checkpoints_after(self.output_dir, state["step"]):
                set_aside(later)
            self._mark_best()
            print(f"going on from {path}")
        if path.parent.resolve() == self.output_dir.resolve():
            self.saved_step = state["step"]
        self._drawn = generators()
        return str(path), state["step"]

    def summary(self) -> str:
        """The best validation in one line, "" if there was none."""
        if not self.best:
            return ""
        path = self.output_dir / self.best["checkpoint"]
        score, step = self.best["valid_score"], self.best["step"]
        return f"best validation score {score:+.4f} at step {step}: {path}"

    def _agreed_checkpoint(self) -> Path | None:
        """What the main process finds, on all: hashing once, and failing all or none."""
        found: list[Any] = [None, ""]
        if self.accelerator.is_main_process:
            try:
                found[0] = self._wanted_checkpoint()
            except UserError as error:
                found[1] = str(error)
        broadcast_object_list(found)
        if found[1]:
            raise UserError(found[1])
        return found[0]

    def _wanted_checkpoint(self) -> Path | None:
        wanted = self.args.resume_from_checkpoint
        clear_unfinished(self.output_dir)
        if not wanted and list_checkpoints(self.output_dir):
            raise UserError(
                f"--output_dir {self.output_dir}: holds the checkpoints of another run; go on "
                "with it by --resume_from_checkpoint auto, or choose another folder"
            )
        return find_checkpoint(self.output_dir, wanted)

    def _follow_schedule(self) -> None:
        """An optimiser that starts anew would take one step at the schedule's first rate."""
        scheduler = self.parts["scheduler"]
        groups = scheduler.optimizer.param_groups
        for group, rate in zip(groups, scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def _mark_best(self) -> None:
        if self.best:
            write_json(self.output_dir / BEST, self.best, "--output_dir")
        else:
            (self.output_dir / BEST).unlink(missing_ok=True)

    def _write_weights(self, folder: Path) -> None:
        save_policy(folder, self.policy.lm, self.policy.value_head, self.tokenizer)
