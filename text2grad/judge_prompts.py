"""What a judge of single answers is shown: MT-Bench's own prompts from a file, or this project's.

Nothing published is part of this project: MT-Bench's prompts are read from the user's file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from text2grad.chat_request import Message
from text2grad.files import read_rows, sha256_text
from text2grad.question_sets import Dialogue, QuestionSet
from text2grad.schema import UserError
from text2grad.tasks import PromptTemplate

OWN = Path(__file__).parent / "templates" / "mt_bench_judge.txt"
_NO_REFERENCE = "(none)"
_PLACE = re.compile(r"\{(question|answer|(?:question|answer|ref_answer)_[12])\}")


class JudgePrompts(Protocol):
    """Words for the judge.

    Attributes:
        source: where they come from.
        sha: hash of them all.
    """

    source: str
    sha: str

    def render(self, dialogue: Dialogue, answers: Sequence[str]) -> list[Message]:
        """What is sent about the last of the answers, which begin with the first turn."""


class OwnPrompts:
    """One wording with $slots for every turn of every dialogue.

    Args:
        path: of the user's own wording, "" for the built-in one.
        questions: names what the judge looks at.

    Raises:
        UserError: the file cannot be read, or its $slots are not those of the built-in one.
    """

    def __init__(self, path: str, questions: QuestionSet) -> None:
        built_in = PromptTemplate.read(OWN)
        self._template = PromptTemplate.read(Path(path)) if path else built_in
        self._questions = questions
        if self._template.slots != built_in.slots:
            wanted = ", ".join(f"${slot}" for slot in sorted(built_in.slots))
            raise UserError(f"--judge_prompts {path}: must use exactly the slots {wanted}")
        self.source = path or "own"
        self.sha = sha256_text(self._template.text)

    def render(self, dialogue: Dialogue, answers: Sequence[str]) -> list[Message]:
        """One user turn; see `JudgePrompts`."""
        turn = len(answers) - 1
        said = zip(dialogue.questions[:turn], answers[:turn], strict=True)
        before = "\n\n".join(
            f"User: {question}\n\nAssistant: {answer}" for question, answer in said
        )
        focus = self._questions.focus.get(dialogue.category, self._questions.any_focus)
        text = self._template.render(
            conversation=before or "(this is the first message)",
            question=dialogue.questions[turn],
            answer=answers[turn],
            reference=dialogue.references[turn] if dialogue.references else _NO_REFERENCE,
            focus=focus,
        )
        return [{"role": "user", "content": text}]


class MtBenchPrompts:
    """MT-Bench's prompts for single answers: of first and second turns, with a reference or not.

    Args:
        path: JSON Lines of {name, system_prompt, prompt_template}.
        flag: the flag that named it, for messages.

    Raises:
        UserError: it lacks one of the four prompts.
    """

    def __init__(self, path: str, flag: str = "--judge_prompts") -> None:
        self.source, self._flag = path, flag
        rows = {str(row.get("name")): row for row in read_rows(path, flag)}
        names = [f"single{math}-v1{turn}" for math in ("", "-math") for turn in ("", "-multi-turn")]
        self._texts: dict[str, tuple[str, str]] = {}
        for name in names:
            parts = [rows.get(name, {}).get(key) for key in ("system_prompt", "prompt_template")]
            if not all(isinstance(part, str) for part in parts):
                raise UserError(
                    f'{flag} {path}: no prompt "{name}" with system_prompt and prompt_template'
                )
            self._texts[name] = (parts[0], parts[1])
        self.sha = sha256_text(*(text for name in names for text in self._texts[name]))

    def render(self, dialogue: Dialogue, answers: Sequence[str]) -> list[Message]:
        """A system turn and a user turn; see `JudgePrompts`."""
        if len(answers) > 2:
            raise UserError(
                f"{self._flag} {self.source}: is for two turns, question {dialogue.id} has more; "
                "use --judge_prompts own"
            )
        math = "-math" if dialogue.references else ""
        name = f"single{math}-v1{'-multi-turn' if len(answers) == 2 else ''}"
        system, template = self._texts[name]
        text = _fill(template, _values(dialogue, answers), f"{self.source}: {name}")
        return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def _values(dialogue: Dialogue, answers: Sequence[str]) -> dict[str, str]:
    values = {"question": dialogue.questions[0], "answer": answers[0]}
    for turn, answer in enumerate(answers):
        values[f"question_{turn + 1}"] = dialogue.questions[turn]
        values[f"answer_{turn + 1}"] = answer
        if dialogue.references:
            values[f"ref_answer_{turn + 1}"] = dialogue.references[turn]
    return values


def _fill(template: str, values: Mapping[str, str], origin: str) -> str:
    """All places at once, so that braces in an answer are text."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UserError(f"{origin}: {{{match[1]}}} has no value there")
        return values[match[1]]

    return _PLACE.sub(value, template)


def read_judge_prompts(path: str, questions: QuestionSet) -> JudgePrompts:
    """The prompts of a file: .jsonl as MT-Bench has them, else a wording with $slots.

    Args:
        path: "own" for the built-in wording.
        questions: the set that is judged.
    """
    if path == "own":
        return OwnPrompts("", questions)
    return MtBenchPrompts(path) if path.endswith(".jsonl") else OwnPrompts(path, questions)
