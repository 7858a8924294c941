"""The prompts of a policy run, and the order in which they come."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from text2grad.records import read_records
from text2grad.schema import Record, UserError
from text2grad.tasks import get_task

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig


class PromptOrder:
    """Whole batches of shuffled prompts, the same for the same seed and step.

    Args:
        prompts: all of them.
        batch_size: prompts of a step, over all processes.
        seed: of the order.
        flag: the flag that named the file, with its value, for messages.

    Raises:
        UserError: there are fewer prompts than one batch holds.
    """

    def __init__(self, prompts: list[Record], batch_size: int, seed: int, flag: str) -> None:
        self.prompts, self.batch_size, self.seed = prompts, batch_size, seed
        if len(prompts) < batch_size:
            raise UserError(
                f"{flag}: {len(prompts)} different prompts, fewer than --batch_size {batch_size}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the prompts."""
        return len(self.prompts) // self.batch_size

    def epoch_of(self, step: int) -> int:
        """The pass, from 0, to which a step, from 0, belongs."""
        return step // self.steps_per_epoch

    def batch(self, step: int, process: int = 0, processes: int = 1) -> list[Record]:
        """The prompts of a step, from 0, that one of the processes takes."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = list(range(len(self.prompts)))
        random.Random(f"{self.seed}-{epoch}").shuffle(order)
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        return [self.prompts[row] for row in rows[process::processes]]


def read_prompts(path: str, args: PolicyConfig, flag: str) -> list[Record]:
    """The different prompts of a file, in its order: several responses to one prompt are one."""
    # the reference annotator would find nothing good without the human text
    need = ("prompt", "reference") if args.feedback_source == "reference" else ("prompt",)
    task = get_task(args.task)
    records = read_records(path, task, need, args.fields, flag)
    if args.feedback_source == "execution":
        for record in records:
            if not record.test:
                keys = ", ".join(task.test_keys) or "none for this task"
                raise UserError(
                    f"{record.origin}: has no tests, which --feedback_source execution runs: "
                    f"expected one of the keys {keys} (from {flag})"
                )
    return list({record.prompt: record for record in records}.values())
