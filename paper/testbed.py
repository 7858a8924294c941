"""Span credit against scalar and dense credit, and under noise, where phrases have a known worth.

A tiny policy writes phrases that are known to be good or poor, and learns from synthetic critiques
by the trainer as it is. Writes a table with intervals over seeds, the figures behind it as JSON,
and the curve of every run. What is done is not run again:

    python paper/testbed.py --output_dir runs/testbed
"""

from dataclasses import dataclass

from text2grad.config import TestbedConfig, launch


@dataclass(frozen=True)
class Args(TestbedConfig):
    """All defaults."""


if __name__ == "__main__":
    launch(Args, "text2grad.testbed.study:run_testbed")
