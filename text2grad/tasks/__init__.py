"""The tasks: those that are here, and a user's own, which is a file named by `--task`.

There is no registry to enter a task in: a `TaskSpec` with its prompt files lies in a folder of the
user's, needs no change of this package, and can be kept beside the runs made with it.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

from text2grad.schema import UserError
from text2grad.tasks.kodcode import KODCODE
from text2grad.tasks.slf5k import SLF5K
from text2grad.tasks.spec import Label, PromptTemplate, TaskSpec
from text2grad.tasks.ultrafeedback import ULTRAFEEDBACK

TASKS = {task.name: task for task in (SLF5K, KODCODE, ULTRAFEEDBACK)}

__all__ = ["TASKS", "Label", "PromptTemplate", "TaskSpec", "get_task"]


def get_task(name: str) -> TaskSpec:
    """The task called `name`, or the `TASK` of a Python file, whose prompts lie beside it.

    Raises:
        UserError: there is no such task or file, or the file defines no `TASK`.
    """
    if name.endswith(".py"):
        return _read_task(Path(name))
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise UserError(f"--task {name}: unknown, known are {known} and files (my/task.py)")
    return TASKS[name]


def _read_task(path: Path) -> TaskSpec:
    if not path.exists():
        raise UserError(f"--task {path}: no such file (looked in {Path.cwd()})")
    place = importlib.util.spec_from_file_location(f"task_{path.stem}", path)
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    task = getattr(module, "TASK", None)
    if not isinstance(task, TaskSpec):
        raise UserError(f"--task {path}: defines no TASK = TaskSpec(...)")
    return replace(task, prompt_folder=task.prompt_folder or str(path.resolve().parent))
