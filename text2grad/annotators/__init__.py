"""The annotators. All answer `annotate(records)` with one feedback, or one failure, per record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from text2grad.schema import Feedback, Record, Unparseable, UserError
from text2grad.tasks import TaskSpec

if TYPE_CHECKING:
    from text2grad.config import AnnotateConfig
    from text2grad.config.testing import FaultSearchConfig

Answer = Feedback | Unparseable
OnAnswer = Callable[[int, Answer], None]


def ignore(place: int, answer: Answer) -> None:
    """For callers that wait for the whole list."""


class Annotator(Protocol):
    """What the annotation loop needs.

    Attributes:
        is_costly: answers are worth keeping in a journal; without it they are made anew.
    """

    is_costly: bool

    def provenance(self) -> Mapping[str, Any]:
        """What the annotated record says about its annotator."""

    def key(self, record: Record) -> str:
        """Hash of all that the answer depends on; the same key never has to be asked twice."""

    def annotate(self, records: Sequence[Record], done: OnAnswer = ignore) -> list[Answer]:
        """One answer per record, in order; `done` gets each as it comes, with its place.

        Raises:
            UserError: nothing can be had from this annotator as it is set up.
        """


def make_annotator(args: AnnotateConfig, task: TaskSpec) -> Annotator:
    """The annotator that the flags name."""
    if args.annotator == "reference":
        from text2grad.annotators.reference import ReferenceAnnotator

        return ReferenceAnnotator(task)
    if args.annotator == "human":
        from text2grad.annotators.human import HumanAnnotator

        return HumanAnnotator(task, args.spans_path, args.human_good, args.fields)
    if args.annotator == "execution":
        return execution_annotator(task, args)
    from text2grad.annotators.openai_server import OpenAIAnnotator

    return OpenAIAnnotator(task, args)


def execution_annotator(task: TaskSpec, flags: FaultSearchConfig) -> Annotator:
    """The annotator that runs tests, for stage 1, PPO and evaluation.

    Raises:
        UserError: the task has no tests, or no sandbox works here.
    """
    from text2grad.annotators.execution import ExecutionAnnotator, ExecutionSettings
    from text2grad.sandbox import Limits, find_sandbox

    if not task.test_keys:
        raise UserError(f"execution: the records of task {task.name} have no tests to run")
    # the processes of a job on this machine share its cores
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    workers = flags.workers or max(len(os.sched_getaffinity(0)) // processes, 1)
    limits = Limits(flags.wall_seconds, flags.cpu_seconds)
    settings = ExecutionSettings(limits, flags.localisation_seconds, workers)
    return ExecutionAnnotator(task, find_sandbox(flags.unsafe_local_execution), settings)
