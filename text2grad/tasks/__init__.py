"""The tasks. A new one is a `TaskSpec`, its prompt files, and a line in `TASKS`."""

from text2grad.schema import UserError
from text2grad.tasks.slf5k import SLF5K
from text2grad.tasks.spec import Label, PromptTemplate, TaskSpec

TASKS = {task.name: task for task in (SLF5K,)}

__all__ = ["TASKS", "Label", "PromptTemplate", "TaskSpec", "get_task"]


def get_task(name: str) -> TaskSpec:
    """The task called `name`."""
    if name not in TASKS:
        raise UserError(f"--task {name}: unknown, known are {', '.join(TASKS)}")
    return TASKS[name]
