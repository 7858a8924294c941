"""Which bytes may follow in a reply with word scores: every word of the response, in order.

The reply is what `parsing.word_target_json` writes. The words are literals, so nothing but the
critique and the scores is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import NamedTuple

from text2grad.critique_grammar import ALL_BYTES, CritiqueGrammar, Done, Fixed, State, Step
from text2grad.tasks import TaskSpec
from text2grad.word_scores import WORD_SCORES_KEY, words_of, written_scores


class Score(NamedTuple):
    """Before a word's score, or inside it where several begin alike."""

    word: int
    written: bytes


class WordGrammar(CritiqueGrammar):
    """A critique, then a score for each word of the response.

    A word with a byte that is not writable is spelled with JSON escapes.
    """

    def __init__(
        self, task: TaskSpec, response: str, writable: Collection[int] = ALL_BYTES
    ) -> None:
        super().__init__(task, response, writable)
        words = [self._spell(word) for word in words_of(response)]
        # With the bracket behind it no score is the beginning of another.
        self._scores = [f"{score}]".encode() for score in written_scores(task)]
        self._after_score = [b", [" + word + b", " for word in words[1:]] + [b"]}"]
        self._words = len(words)
        self._advance_in[Score] = self._advance_score
        opening = f', "{WORD_SCORES_KEY}": ['.encode()
        listed = Fixed(opening + b"]}", Done())
        if words:
            listed = Fixed(opening + b"[" + words[0] + b", ", Score(0, b""))
        self._begin(listed, max(map(len, self._scores)))

    def next_bytes(self, state: State) -> bytes:
        """Bytes that can come next; every other byte is an error here."""
        if isinstance(state, Score):
            begun = len(state.written)
            return bytes({score[begun] for score in self._possible(state.written)})
        return super().next_bytes(state)

    def _way_out(self, state: State) -> tuple[bytes, State]:
        if isinstance(state, Score):
            shortest = min(self._possible(state.written), key=len)
            byte = shortest[len(state.written) : len(state.written) + 1]
            return byte, self._advance_score(state, byte)[0]
        return super()._way_out(state)

    def _advance_score(self, state: Score, data: bytes) -> Step | None:
        written = state.written + data[:1]
        possible = self._possible(written)
        if not possible:
            return None
        if len(possible) > 1:
            return Score(state.word, written), data[1:]
        number = state.word + 1
        after = Score(number, b"") if number < self._words else Done()
        rest = possible[0][len(written) :] + self._after_score[state.word]
        return Fixed(rest, after), data[1:]

    def _possible(self, written: bytes) -> list[bytes]:
        return [score for score in self._scores if score.startswith(written)]

    def _spell(self, word: str) -> bytes:
        plain = json.dumps(word, ensure_ascii=False).encode()
        return plain if self.writable.issuperset(plain) else json.dumps(word).encode()
