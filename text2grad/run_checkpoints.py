"""The checkpoints of a policy run: written, pruned but for the best one, and gone on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from text2grad.checkpoint import (
    check_flags,
    checkpoint_name,
    find_checkpoint,
    generators,
    list_checkpoints,
    load_policy,
    load_state,
    prune_checkpoints,
    save_checkpoint,
    save_policy,
    set_aside_later,
)
from text2grad.files import write_json
from text2grad.models import replace_folder
from text2grad.policy import Policy
from text2grad.schema import UserError
from text2grad.training_weights import TrainingWeights

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
        parts: by name, what else has a `state_dict`: scheduler, KL controller, ...

    Attributes:
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
    ) -> None:
        self.args, self.weights, self.accelerator = args, weights, weights.accelerator
        self.policy, self.tokenizer = policy, tokenizer
        self.parts = parts if weights.sharded else {**parts, "optimizer": weights.optimizer}
        self.output_dir = Path(args.output_dir)
        self.best: dict[str, Any] = {}

    def is_best(self, valid_score: float | None) -> bool:
        """Whether a validation is better than all before; the earlier of two equal ones stays."""
        if valid_score is None:
            return False
        return not self.best or valid_score > self.best["valid_score"]

    def save(self, epoch: int, step: int, valid_score: float | None = None) -> None:
        """Write a checkpoint from which training goes on bit by bit.

        Args:
            epoch: of the step.
            step: the last one that was done.
            valid_score: of this step's validation, None where there was none.
        """
        name = checkpoint_name(epoch, step)
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

    def save_final(self) -> None:
        """Write the policy alone, as plain libraries read it."""
        with self.weights.whole():
            if self.accelerator.is_main_process:
                with replace_folder(self.output_dir / "final") as folder:
                    self._write_weights(folder)
        self.accelerator.wait_for_everyone()

    def resume(self) -> tuple[str, int]:
        """Go on from the checkpoint that `--resume_from_checkpoint` asks for.

        Returns:
            Its path and step, ("", 0) for a new run.

        Raises:
            UserError: it is damaged, of other flags, or the folder holds another run.
        """
        wanted = self.args.resume_from_checkpoint
        path = find_checkpoint(self.output_dir, wanted)
        if path is None:
            if not wanted and list_checkpoints(self.output_dir):
                raise UserError(
                    f"--output_dir {self.output_dir}: holds the checkpoints of another run; go on "
                    "with it by --resume_from_checkpoint auto, or choose another folder"
                )
            if self.accelerator.is_main_process:
                self._mark_best()
            return "", 0
        check_flags(path, self.args.bound_flags())
        with self.weights.loading():
            load_policy(path, self.policy.lm, self.policy.value_head)
        accelerator = self.accelerator
        ranks = accelerator.process_index, accelerator.num_processes
        state, own = load_state(path, self.parts, *ranks)
        if not self.weights.load_shard(own) and accelerator.is_main_process:
            print(f"{path}: written under another sharding; anew starts the optimizer")
        self.best = state.get("best") or {}
        if self.best and not (self.output_dir / self.best["checkpoint"]).exists():
            self.best = {}  # a later one took its place, and is set aside now
        self.accelerator.wait_for_everyone()  # all have looked before anything is renamed
        if self.accelerator.is_main_process:
            set_aside_later(self.output_dir, state["step"])
            self._mark_best()
            print(f"going on from {path}")
        return str(path), state["step"]

    def summary(self) -> str:
        """The best validation in one line, "" if there was none."""
        if not self.best:
            return ""
        path = self.output_dir / self.best["checkpoint"]
        score, step = self.best["valid_score"], self.best["step"]
        return f"best validation score {score:+.4f} at step {step}: {path}"

    def _mark_best(self) -> None:
        if self.best:
            write_json(self.output_dir / BEST, self.best, "--output_dir")
        else:
            (self.output_dir / BEST).unlink(missing_ok=True)

    def _write_weights(self, folder: Path) -> None:
        save_policy(folder, self.policy.lm, self.policy.value_head, self.tokenizer)
