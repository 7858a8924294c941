"""Draw the paper's figures from what the runs measured.

In: the folders that run.py made, and the figures of testbed.py. Out: convergence over steps and
responses, the values of the tables with their intervals, and the testbed's curves, as SVG, with
`--png true` as PNG too.

    python paper/figures.py
"""

from dataclasses import dataclass

from text2grad.config import PaperFiguresConfig, launch


@dataclass(frozen=True)
class Args(PaperFiguresConfig):
    """Draw the figures from what the runs measured."""


if __name__ == "__main__":
    launch(Args, "text2grad.paper.figures:write_figures")
