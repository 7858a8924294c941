"""Run the methods of one of the paper's tables over seeds, each with the project's own scripts.

In: nothing with the budget `small`, whose model and data come with the project. Out: in
`runs/paper/TABLE-BUDGET` a folder for every stage that methods share and for every run, with
`run.json`, `log.txt`, `answers.json`, `evaluation.json` and what was trained.

    python paper/run.py --table slf5k --methods text2grad scalar_ppo sft --seeds 3 --budget small
"""

from dataclasses import dataclass

from text2grad.config import PaperRunConfig, launch


@dataclass(frozen=True)
class Args(PaperRunConfig):
    """Run the methods of one table, over seeds, on equal terms; what is done is not run again."""


if __name__ == "__main__":
    launch(Args, "text2grad.paper.runner:run_paper")
