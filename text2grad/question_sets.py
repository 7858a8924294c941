"""MT-Bench and MT-Bench-101: where their questions are, how they are read, answered and counted.

Facts of MT-Bench (temperatures by category, categories with a reference): Zheng et al.,
arXiv:2306.05685, and FastChat's `llm_judge`. Facts of MT-Bench-101 (the conversation so far is the
data set's own, first turns that are not rated, reference of two tasks, a dialogue counts as its
worst turn): Bai et al., arXiv:2402.14762.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from text2grad.files import Row, read_rows
from text2grad.schema import UserError

_FASTCHAT = "https://raw.githubusercontent.com/lm-sys/FastChat/main/fastchat/llm_judge/data/"


@dataclass(frozen=True)
class Dialogue:
    """What the policy is asked, turn by turn.

    Attributes:
        id: of the question in its set.
        category: its category or task.
        questions: what the user says, at least once.
        given: the answers that stand in the conversation in place of the policy's own, one for
            every question; () where the conversation goes on with what the policy answered.
        references: the right answers, one for every question, () where there are none.
        first_rated: the first turn, from 0, that is answered and rated.
    """

    id: str
    category: str
    questions: tuple[str, ...]
    given: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    first_rated: int = 0


@dataclass(frozen=True)
class QuestionSet:
    """One benchmark.

    Attributes:
        name: as `--set` names it.
        title: as people name it.
        url: where its questions are.
        references_url, prompts_url: reference answers and judge prompts, "" for none.
        read: makes dialogues of rows and of the rows of the references.
        temperatures: of the policy, by category; others have `temperature`.
        focus: what the judge looks at, by category; others have `any_focus`.
        worst_turn: a dialogue counts as its lowest rating, else every rating counts.
        mean_of_categories: the overall figure is the mean of the categories', else of all ratings.
        names: of the categories, where the data has abbreviations.
    """

    name: str
    title: str
    url: str
    read: Callable[[Sequence[Row], Sequence[Row], str, str], list[Dialogue]]
    references_url: str = ""
    prompts_url: str = ""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 0.0
    focus: Mapping[str, str] = field(default_factory=dict)
    any_focus: str = "that it is helpful, correct, to the point, and as detailed as asked for."
    worst_turn: bool = False
    mean_of_categories: bool = False
    names: Mapping[str, str] = field(default_factory=dict)


REFERENCE_CATEGORIES = ("math", "reasoning", "coding")
_UNRATED_FIRST = ("FR", "CR", "AR", "SA", "SC", "CM")
_REFERENCE_TASKS = ("MR", "GR")


def read_dialogues(
    questions: QuestionSet, path: str, references: str, flag: str = "--data"
) -> list[Dialogue]:
    """The dialogues of a file.

    Args:
        questions: says how the file is read.
        path: in the published format.
        references: file of reference answers, "" for none.
        flag: the flag that named the file, for messages.

    Raises:
        UserError: a row lacks what the set's rows have, two have the same id, or a question of a
            category that is rated against a reference has none.
    """
    rows = read_rows(path, flag)
    answers = read_rows(references, "--references") if references else []
    found = questions.read(rows, answers, path, flag)
    seen: dict[str, int] = {}
    for number, dialogue in enumerate(found, 1):
        if dialogue.id in seen:
            raise UserError(
                f"{flag} {path}: records {seen[dialogue.id]} and {number} have the same id "
                f'"{dialogue.id}"'
            )
        seen[dialogue.id] = number
    return found


def _read_mtbench(
    rows: Sequence[Row], references: Sequence[Row], path: str, flag: str
) -> list[Dialogue]:
    right = {}
    for row in references:
        choices = row.get("choices")
        turns = choices[0].get("turns") if isinstance(choices, list) and choices else None
        right[str(row.get("question_id"))] = turns
    found = []
    for number, row in enumerate(rows, 1):
        origin = f"{flag} {path}: record {number}"
        name = str(_value(row, "question_id", (int, str), origin))
        category = _value(row, "category", str, origin)
        turns = _texts(_value(row, "turns", list, origin), "turns", origin)
        known: tuple[str, ...] = ()
        if category in REFERENCE_CATEGORIES:
            given = right.get(name) or row.get("reference")
            if not isinstance(given, list) or len(given) < len(turns):
                raise UserError(
                    f"{origin} (question {name}, {category}): rated against a reference answer for "
                    f"each of its {len(turns)} turns, which it lacks; give --references"
                )
            known = _texts(given[: len(turns)], "reference", origin)
        found.append(Dialogue(name, category, turns, references=known))
    return found


def _read_mtbench101(
    rows: Sequence[Row], references: Sequence[Row], path: str, flag: str
) -> list[Dialogue]:
    if references:
        raise UserError("--references: the questions of --set mtbench101 hold their own")
    found = []
    for number, row in enumerate(rows, 1):
        origin = f"{flag} {path}: record {number}"
        task = _value(row, "task", str, origin)
        name = f"{task}-{_value(row, 'id', (int, str), origin)}"
        history = _value(row, "history", list, origin)
        if not all(isinstance(turn, Mapping) for turn in history):
            raise UserError(f'{origin}: "history" must hold objects with user and bot')
        users = _texts([turn.get("user") for turn in history], "user", origin)
        bots = _texts([turn.get("bot") for turn in history], "bot", origin)
        first = int(task in _UNRATED_FIRST)
        if first >= len(users):
            raise UserError(
                f"{origin} ({name}): one turn, but the first turn of task {task} is not rated"
            )
        right = bots if task in _REFERENCE_TASKS else ()
        found.append(Dialogue(name, task, users, bots, right, first))
    return found


def _value(row: Row, key: str, kind: type | tuple[type, ...], origin: str) -> Any:
    value = row.get(key)
    if not isinstance(value, kind) or isinstance(value, bool) or value in ("", []):
        raise UserError(f'{origin}: the key "{key}" is missing, empty or of another kind')
    return value


def _texts(values: Sequence[Any], key: str, origin: str) -> tuple[str, ...]:
    for number, value in enumerate(values, 1):
        if not isinstance(value, str) or not value.strip():
            raise UserError(f'{origin}: "{key}" {number} is no text')
    return tuple(values)


SETS = {
    "mtbench": QuestionSet(
        "mtbench",
        "MT-Bench",
        _FASTCHAT + "mt_bench/question.jsonl",
        _read_mtbench,
        _FASTCHAT + "mt_bench/reference_answer/gpt-4.jsonl",
        _FASTCHAT + "judge_prompts.jsonl",
        temperatures={
            "writing": 0.7,
            "roleplay": 0.7,
            "extraction": 0.0,
            "math": 0.0,
            "coding": 0.0,
            "reasoning": 0.0,
            "stem": 0.1,
            "humanities": 0.1,
        },
        temperature=0.7,
        focus=dict.fromkeys(
            REFERENCE_CATEGORIES, "that the result is right, and that the way to it is."
        ),
    ),
    "mtbench101": QuestionSet(
        "mtbench101",
        "MT-Bench-101",
        "https://raw.githubusercontent.com/mtbench101/mt-bench-101/main/data/subjective/"
        "mtbench101.jsonl",
        _read_mtbench101,
        focus={
            "CM": "that it remembers and uses what was said earlier.",
            "AR": "that pronouns and other references are taken for what they refer to.",
            "SI": "that input given apart from its instruction is handled as instructed.",
            "TS": "that a change of topic is noticed, and the old topic left behind.",
            "CC": "that questions which look alike are not mixed up.",
            "CR": "that the content is put in other words as asked, with the same meaning.",
            "FR": "that the content is put in another form as asked, and nothing is lost.",
            "SC": "that a justified objection leads to a correction, and an admitted mistake.",
            "SA": "that an unjustified objection does not make it give up what was right.",
            "MR": "that the result of the calculation is right, and that the way to it is.",
            "GR": "that the conclusion is right, and that the reasoning is sound.",
            "IC": "that it asks for what is unclear and missing before it guesses.",
            "PI": "that it keeps the conversation going with fitting questions or remarks.",
        },
        worst_turn=True,
        mean_of_categories=True,
        names={
            "CM": "context memory",
            "AR": "anaphora resolution",
            "SI": "separate input",
            "TS": "topic shift",
            "CC": "content confusion",
            "CR": "content rephrasing",
            "FR": "format rephrasing",
            "SC": "self-correction",
            "SA": "self-affirmation",
            "MR": "mathematical reasoning",
            "GR": "general reasoning",
            "IC": "instruction clarification",
            "PI": "proactive interaction",
        },
    ),
}
