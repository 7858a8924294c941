"""Put annotated files into one, with ids that differ.

python benchmarks/join_records.py OUT IN [IN ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from text2grad.files import read_rows, write_rows


def join(paths: list[str]) -> list[dict[str, Any]]:
    """All rows; those of a file after the first carry its name in their id.

    Rows of a policy's answers have the prompt under "query": it moves to "post".
    """
    rows = []
    for number, path in enumerate(paths):
        for row in read_rows(path, "IN"):
            row = {"post" if key == "query" else key: value for key, value in row.items()}
            rows.append(row | {"id": f"{row['id']}-{Path(path).stem}"} if number else row)
    return rows


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    write_rows(sys.argv[1], join(sys.argv[2:]))
