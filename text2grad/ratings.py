"""Ratings of single answers from 1 to 10: reading a judge's reply, and what all say together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from text2grad.agreement import bootstrap_interval
from text2grad.question_sets import QuestionSet
from text2grad.schema import Unparseable
from text2grad.tables import interval_text, text_table

LOWEST, HIGHEST = 1, 10
_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")


@dataclass(frozen=True)
class Rating:
    """One reply of the judge.

    Attributes:
        score: from 1 to 10.
        raw: the reply.
    """

    score: float
    raw: str = ""


@dataclass(frozen=True)
class RatedDialogue:
    """The ratings of one dialogue.

    Attributes:
        id: of the dialogue.
        category: its category or task.
        scores: of every rated turn, by its number from 1; None where there is no rating.
    """

    id: str
    category: str
    scores: Mapping[int, float | None]

    def counted(self, worst_turn: bool) -> list[float]:
        """The numbers that enter the figures.

        Args:
            worst_turn: the lowest one alone, and none where one is missing: it might be lower.
        """
        known = [score for score in self.scores.values() if score is not None]
        if not worst_turn:
            return known
        return [min(known)] if known and len(known) == len(self.scores) else []


def parse_rating(text: str) -> Rating | Unparseable:
    """Read a reply strictly: a number in double square brackets, from 1 to 10.

    Returns:
        The rating, also where the same number is given several times; or why there is none: no
        such number, different ones, or one outside 1 to 10.

    Example: "It is wrong. [[3]]" -> 3.0; "[[3]] or [[4]]" -> several ratings
    """
    found = {float(number) for number in _RATING.findall(text)}
    if not found:
        return Unparseable("no rating in double square brackets", text)
    if len(found) > 1:
        return Unparseable("several ratings", text)
    score = found.pop()
    if not LOWEST <= score <= HIGHEST:
        return Unparseable("rating outside 1 to 10", text)
    return Rating(score, text)


def rating_figures(
    dialogues: Sequence[RatedDialogue], questions: QuestionSet, seed: int
) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals over dialogues.

    Args:
        dialogues: with at least one number that counts.
        questions: how its dialogues count.
        seed: of the bootstrap.

    Returns:
        "overall", "categories" {name: ...} and "turns" {number: ...}, each {"mean", "interval",
        "n"}; n counts ratings, or whole dialogues where a dialogue counts as its worst turn. The
        figures of turns are always over ratings.
    """
    names = sorted({dialogue.category for dialogue in dialogues})
    numbers = {id(d): d.counted(questions.worst_turn) for d in dialogues}
    categories = {
        name: _mean([numbers[id(d)] for d in dialogues if d.category == name], seed)
        for name in names
    }
    turns = sorted({turn for dialogue in dialogues for turn in dialogue.scores})
    by_turn = {
        str(turn): _mean(
            [
                [d.scores[turn]] if d.scores.get(turn) is not None else []
                for d in dialogues
                if turn in d.scores
            ],
            seed,
        )
        for turn in turns
    }
    if questions.mean_of_categories:
        overall = _mean_of_groups([(d.category, numbers[id(d)]) for d in dialogues], seed)
    else:
        overall = _mean(list(numbers.values()), seed)
    return {"overall": overall, "categories": categories, "turns": by_turn}


def _mean(clusters: Sequence[Sequence[float]], seed: int) -> dict[str, Any]:
    """The mean of all numbers; those of one cluster are drawn together."""
    return _mean_of_groups([("", numbers) for numbers in clusters], seed)


def _mean_of_groups(clusters: Sequence[tuple[str, Sequence[float]]], seed: int) -> dict[str, Any]:
    """The mean of the groups' means; a group that a draw misses is left out of that draw."""
    whole = [(name, numbers) for name, numbers in clusters if numbers]
    places = {name: place for place, name in enumerate(sorted({name for name, _ in whole}))}
    table = np.zeros((len(whole), len(places), 2))
    for row, (name, numbers) in enumerate(whole):
        table[row, places[name]] = sum(numbers), len(numbers)
    count = int(table[:, :, 1].sum())
    if not count:
        return {"mean": None, "interval": None, "n": 0}

    def statistic(mean: np.ndarray) -> float:
        there = mean[:, 1] > 0
        return float((mean[there, 0] / mean[there, 1]).mean())

    return {
        "mean": statistic(table.mean(axis=0)),
        "interval": bootstrap_interval(table, seed, statistic),
        "n": count,
    }


def rating_table(report: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The printed form of the figures."""
    rows = [("overall", report["overall"])]
    rows += [
        (f"{name} ({names[name]})" if name in names else name, found)
        for name, found in report["categories"].items()
    ]
    rows += [(f"turn {turn}", found) for turn, found in report["turns"].items()]
    return text_table(
        [f"{report['title']}, ratings from 1 to 10", "mean", "95 % interval", "n"],
        [[name, r["mean"], interval_text(r["interval"]), r["n"]] for name, r in rows],
    )
