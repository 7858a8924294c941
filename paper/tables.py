"""Write the paper's tables from what the runs measured.

In: the folders that run.py made. Out: small JSON files of what they measured, each table as
Markdown, CSV and LaTeX, and `RESULTS.md`.

    python paper/tables.py
"""

from dataclasses import dataclass

from text2grad.config import PaperTablesConfig, launch


@dataclass(frozen=True)
class Args(PaperTablesConfig):
    """Write the tables from what the runs measured."""


if __name__ == "__main__":
    launch(Args, "text2grad.paper.page:write_tables")
