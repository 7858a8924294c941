"""Answers that cost something: kept in a journal, so that nothing is asked for twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

from text2grad.files import Journal, Row
from text2grad.ledger import Usage
from text2grad.schema import Unparseable

Answer = TypeVar("Answer")


class Inbox:
    """Where answers go as they come. This one lets them go by, and knows nothing from before."""

    def __call__(self, number: int, answer: Any, usage: Usage | None = None) -> None:
        """The final answer to question `number`, and what the reply took."""

    def unreadable(self, number: int, reply: Unparseable, usage: Usage) -> None:
        """A first reply that could not be read; the question is asked once more."""

    def earlier(self, number: int) -> Unparseable | None:
        """The first reply to a question that was asked once, and that could not be read."""
        return None

    def key(self, number: int) -> str:
        """What names the question in every run."""
        return str(number)

    def usages(self) -> Iterable[Usage]:
        """What all replies of earlier runs took."""
        return ()


class _Listener(Inbox):
    """A plain function in place of an inbox."""

    def __init__(self, done: Callable[[int, Any], None]) -> None:
        self._done = done

    def __call__(self, number: int, answer: Any, usage: Usage | None = None) -> None:
        self._done(number, answer)


def as_inbox(done: Inbox | Callable[[int, Any], None]) -> Inbox:
    """An inbox as it is; a function as one that calls it with each final answer."""
    return done if isinstance(done, Inbox) else _Listener(done)


class _JournalInbox(Inbox):
    """Keeps what comes in a journal before anything else happens, and remembers what is there."""

    def __init__(
        self,
        journal: Journal,
        keys: Sequence[str],
        to_row: Callable[[int, Answer], Row],
        done: Callable[[int, Answer], None],
    ) -> None:
        self._journal, self._keys, self._to_row, self._done = journal, keys, to_row, done

    def __call__(self, number: int, answer: Any, usage: Usage | None = None) -> None:
        self._keep(number, self._to_row(number, answer), usage)
        self._done(number, answer)

    def unreadable(self, number: int, reply: Unparseable, usage: Usage) -> None:
        self._keep(number, {"asked_again": True, "reason": reply.reason, "raw": reply.raw}, usage)

    def earlier(self, number: int) -> Unparseable | None:
        row = self._journal.rows.get(self._keys[number], {})
        return Unparseable(row["reason"], row["raw"]) if is_unfinished(row) else None

    def key(self, number: int) -> str:
        return self._keys[number]

    def usages(self) -> Iterable[Usage]:
        return used(self._journal)

    def _keep(self, number: int, row: Row, usage: Usage | None) -> None:
        paid = {"usage": usage.to_json()} if usage else {}
        self._journal.append({"key": self._keys[number], **row, **paid})


def is_unfinished(row: Row) -> bool:
    """Whether a journal's row is a first reply that could not be read, and no final answer."""
    return "asked_again" in row


def used(journal: Journal) -> Iterable[Usage]:
    """What every reply of a journal took, also those that later ones have replaced."""
    for row in (*journal.replaced, *journal.rows.values()):
        if "usage" in row:
            yield Usage.from_json(row["usage"])


def ask_missing(
    journal: Journal,
    keys: Sequence[str],
    ask: Callable[[Sequence[int], Inbox], object],
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
        ask: gets the places in `keys` that are missing, and where to put what comes, under the
            number in that list.
        to_row: the journal's row for a place and its answer, without the key.
        from_row: the answer in such a row.
        retry_failed: ask again for what was `Unparseable`.
        title: of the progress bar.
        unit: what it counts.
    """
    rows = {key: journal.rows[key] for key in keys if key in journal.rows}
    known = {key: from_row(row) for key, row in rows.items() if not is_unfinished(row)}
    if retry_failed:
        known = {k: answer for k, answer in known.items() if not isinstance(answer, Unparseable)}
    pending = {key: place for place, key in reversed(list(enumerate(keys))) if key not in known}
    places = sorted(pending.values())
    total = len(set(keys))
    progress = tqdm(total=total, initial=total - len(places), desc=title, unit=unit)

    def done(number: int, answer: Answer) -> None:
        known[keys[places[number]]] = answer
        progress.update()

    missing = [keys[place] for place in places]
    inbox = _JournalInbox(journal, missing, lambda n, answer: to_row(places[n], answer), done)
    try:
        with progress:
            ask(places, inbox)
    finally:
        journal.close()
    return [known[key] for key in keys]
