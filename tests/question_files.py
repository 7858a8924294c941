"""Small files in the formats of MT-Bench and MT-Bench-101, written for the tests, and known judges.

Tests say `from question_files import write_mtbench, last_answer`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

MTBENCH = (
    {"question_id": 1, "category": "writing", "turns": ["Write of a dog.", "Make it shorter."]},
    {"question_id": 2, "category": "math", "turns": ["What is 2 + 2?", "And twice that?"]},
    {"question_id": 3, "category": "stem", "turns": ["Why is the sky blue?", "And at night?"]},
)
REFERENCES = ({"question_id": 2, "choices": [{"index": 0, "turns": ["It is 4.", "It is 8."]}]},)
MTBENCH101 = (
    {
        "task": "CM",
        "id": 1,
        "history": [
            {"user": "My dog is Rex.", "bot": "A fine name."},
            {"user": "What is my dog?", "bot": "He is Rex."},
        ],
    },
    {
        "task": "MR",
        "id": 1,
        "history": [
            {"user": "I have 2 cats.", "bot": "Good, 2 cats."},
            {"user": "I get 3 more. How many?", "bot": "You have 5."},
            {"user": "And twice that?", "bot": "That is 10."},
        ],
    },
)
# in MT-Bench's format and with its places, in words of this project's tests
JUDGE_PROMPTS = tuple(
    {
        "name": f"single{math}-v1{turn}",
        "system_prompt": f"system of {math or 'general'}{turn}",
        "prompt_template": " ".join(
            [
                *(["REF {ref_answer_1}"] if math else []),
                *(["REF {ref_answer_2}"] if math and turn else []),
                "Q {question_1} A {answer_1} Q {question_2} A {answer_2}"
                if turn
                else "Q {question} A {answer}",
                "as [[N]], not {braces}",
            ]
        ),
    }
    for math in ("", "-math")
    for turn in ("", "-multi-turn")
)


def write_lines(path: Path, rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_mtbench(folder: Path, rows: Any = MTBENCH) -> dict[str, str]:
    """The flags of three questions with references."""
    return {
        "data": write_lines(folder / "question.jsonl", rows),
        "references": write_lines(folder / "reference.jsonl", REFERENCES),
    }


def part(prompt: str, tag: str) -> str:
    """What stands between the tags of the project's own judge prompt."""
    found = re.search(rf"^<{tag}>\n(.*?)\n</{tag}>$", prompt, flags=re.M | re.S)
    assert found, prompt
    return found[1]
