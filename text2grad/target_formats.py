"""What a reward model writes beside its critique: quotes, or a score for every word.

A trained model's folder says which (`reward_model.json`), so that whoever runs it need not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from text2grad.critique_grammar import CritiqueGrammar
from text2grad.files import read_text
from text2grad.grammar import ReplyGrammar
from text2grad.parsing import target_json, word_target_json
from text2grad.schema import Feedback, UserError
from text2grad.targets import TargetTrimmer
from text2grad.word_grammar import WordGrammar

FACTS_FILE = "reward_model.json"


@dataclass(frozen=True)
class TargetFormat:
    """One format of the reward model's reply.

    Attributes:
        name: as the flags and `reward_model.json` spell it.
        prompt: name of the task's prompt text that asks for it.
        grammar: what a reply about a response may be.
        target: the reply to train on; counts in the trimmer what had to be fitted.
    """

    name: str
    prompt: str
    grammar: type[CritiqueGrammar]
    target: Callable[[TargetTrimmer, Feedback, str], str]


def _quotes_target(trimmer: TargetTrimmer, feedback: Feedback, response: str) -> str:
    return target_json(trimmer.trim(feedback, response), trimmer.task)


def _words_target(trimmer: TargetTrimmer, feedback: Feedback, response: str) -> str:
    return word_target_json(trimmer.place(feedback, response), response, trimmer.task)


FORMATS = {
    one.name: one
    for one in (
        TargetFormat("spans", "reward_model", ReplyGrammar, _quotes_target),
        TargetFormat("word_scores", "reward_model_word_scores", WordGrammar, _words_target),
    )
}


def model_facts(target_format: str) -> dict[str, str]:
    """What `reward_model.json` says of a model that was trained on targets of this format."""
    return {"target_format": target_format}


def write_facts(folder: str | Path, facts: Mapping[str, str] | None) -> None:
    """Write `reward_model.json` into a model's folder; nothing where there are no facts."""
    if facts:
        text = json.dumps(dict(facts), indent=2) + "\n"
        (Path(folder) / FACTS_FILE).write_text(text, encoding="utf-8")


def read_facts(folder: str | Path, flag: str) -> dict[str, str]:
    """What a model's folder says of it, nothing where it says nothing.

    Args:
        folder: a folder, or a hub id, of which nothing is known.
        flag: the flag that named it, for messages.

    Raises:
        UserError: its `reward_model.json` is damaged, or names an unknown format.
    """
    path = Path(folder) / FACTS_FILE
    if not path.exists():
        return {}
    try:
        facts = json.loads(read_text(path, flag))
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} {path}: not JSON: {error.msg}") from error
    found = facts.get("target_format") if isinstance(facts, dict) else None
    if found not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(f'{flag} {path}: "target_format" is {found!r}, known are {known}')
    return {"target_format": found}


def resolve_format(model: str, flag: str, wanted: str, format_flag: str) -> TargetFormat:
    """The format of a reward model's replies: what its folder says, else the flag, else spans.

    Args:
        model: folder or hub id.
        flag: the flag that named it.
        wanted: the format that a flag asks for, "" for none.
        format_flag: that flag.

    Raises:
        UserError: folder and flag contradict each other.
    """
    found = read_facts(model, flag).get("target_format", "")
    if found and wanted and found != wanted:
        raise UserError(
            f"{format_flag} {wanted}: {flag} {model} was trained with --target_format {found}, as "
            f"its {FACTS_FILE} says; drop the flag, or name another model"
        )
    return FORMATS[found or wanted or "spans"]
