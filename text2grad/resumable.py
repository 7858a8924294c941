"""Answers that cost something: kept in a journal, so that nothing is asked for twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tqdm import tqdm

from text2grad.files import Journal, Row
from text2grad.schema import Unparseable

Answer = TypeVar("Answer")


def ask_missing(
    journal: Journal,
    keys: Sequence[str],
    ask: Callable[[Sequence[int], Callable[[int, Answer], None]], object],
    to_row: Callable[[int, Answer], Row],
    from_row: Callable[[Row], Answer],
    retry_failed: bool,
    title: str,
    unit: str,
) -> list[Answer]:
    """One answer per key: from the journal where it has one, else asked for.

    Args:
        journal: opened; it is closed at the end.
        keys: hash of all that an answer depends on; equal keys are asked for once.
        ask: gets the places in `keys` that are missing, and a function to be called with the
            number (in that list) and the answer of each as it comes.
        to_row: the journal's row for a place and its answer, without the key.
        from_row: the answer in such a row.
        retry_failed: ask again for what was `Unparseable`.
        title: of the progress bar.
        unit: what it counts.
    """
    known = {key: from_row(journal.rows[key]) for key in keys if key in journal.rows}
    if retry_failed:
        known = {k: answer for k, answer in known.items() if not isinstance(answer, Unparseable)}
    pending = {key: place for place, key in reversed(list(enumerate(keys))) if key not in known}
    places = sorted(pending.values())
    total = len(set(keys))
    progress = tqdm(total=total, initial=total - len(places), desc=title, unit=unit)

    def keep(number: int, answer: Answer) -> None:
        place = places[number]
        known[keys[place]] = answer
        journal.append({"key": keys[place], **to_row(place, answer)})
        progress.update()

    try:
        with progress:
            ask(places, keep)
    finally:
        journal.close()
    return [known[key] for key in keys]
