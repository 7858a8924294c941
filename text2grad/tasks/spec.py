"""What varies by task, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal

from text2grad.code_blocks import Scope
from text2grad.schema import UserError

PROMPT_FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Label:
    """One kind of quote.

    Attributes:
        name: the label spans carry, for example "good".
        key: the JSON key under which phrases of this kind are listed.
        score: what each token of such a phrase earns.
        copy: which copy a phrase that occurs several times takes; the later copy is the
            redundant one, so poor quotes take the last.
        aliases: other spellings of the key, read but never written.
    """

    name: str
    key: str
    score: float
    copy: Literal["first", "last"]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSpec:
    """One task. The first of each tuple of keys is the one that is written.

    Attributes:
        name: in lower case; part of file names.
        prompt_keys, response_keys, reference_keys, human_feedback_keys, critique_keys: accepted
            spellings of the record's keys.
        labels: the kinds of quote, in the order of the reward model's JSON.
        id_keys: accepted spellings of the key of the record's id.
        test_keys: where a record holds the tests of its response, () for a task without tests;
            what is written about a record keeps them.
        source: its data set on the Hugging Face hub.
        source_splits: data sets without validation split, with the splits that are joined and then
            divided by prompt.
        split_names: what data sets call a split that has another name here.
        candidate_keys: where a raw row of that data set holds several responses, their keys, each
            with the ending of its record's id; human feedback is about the first.
        scope: what of a response is judged: all of it, or its code (`text2grad.code_blocks`).
        unmarked_score: what a token in that scope earns outside every span; text outside the scope
            earns 0.
        quote_border: where a quote may start and end ("word": word borders, any character in
            scripts without spaces; "token": identifier and operator borders, for code).
        max_quotes: quotes per label in the reward model's reply.
        max_quote_chars: characters of one quote.
        max_critique_chars: characters of the critique.
        evidence: what the annotator `reference` judges by ("source": the prompt is all that a
            response may say, the reference what matters of it, as for summaries; "answer": the
            reference is a right answer and the prompt its context; "prompt": many answers are
            right, and what the prompt asks of words and length is all there is to go by).
        judge_criteria: what the pairwise judge grades, as the task's prompt `judge` names it.
        prompt_folder: folder of its prompt files, "" for `prompts/NAME` of this package.
    """

    name: str
    prompt_keys: tuple[str, ...]
    response_keys: tuple[str, ...]
    reference_keys: tuple[str, ...]
    human_feedback_keys: tuple[str, ...]
    critique_keys: tuple[str, ...]
    labels: tuple[Label, ...]
    id_keys: tuple[str, ...] = ("id",)
    test_keys: tuple[str, ...] = ()
    source: str = ""
    source_splits: tuple[tuple[str, tuple[str, ...]], ...] = ()
    split_names: tuple[tuple[str, str], ...] = ()
    candidate_keys: tuple[tuple[str, str], ...] = ()
    scope: Scope = "response"
    unmarked_score: float = 0.0
    quote_border: Literal["word", "token"] = "word"
    max_quotes: int = 2
    max_quote_chars: int = 160
    max_critique_chars: int = 600
    evidence: Literal["source", "answer", "prompt"] = "source"
    judge_criteria: tuple[str, ...] = ()
    prompt_folder: str = ""

    @property
    def label_scores(self) -> dict[str, float]:
        """Score of each label."""
        return {label.name: label.score for label in self.labels}

    @property
    def best_label(self) -> str:
        """The label with the highest score."""
        return max(self.labels, key=lambda label: label.score).name

    @property
    def worst_label(self) -> str:
        """The label with the lowest score."""
        return min(self.labels, key=lambda label: label.score).name

    def prompt_template(
        self, kind: str, path: str = "", flag: str = "--prompt_file"
    ) -> PromptTemplate:
        """The wording `kind` ("policy", "judge", ...) or the user's own file, named by `flag`.

        Raises:
            UserError: the file cannot be read, or its $slots are not those of the built-in one.
        """
        folder = Path(self.prompt_folder or PROMPT_FOLDER / self.name)
        built_in = PromptTemplate.read(folder / f"{kind}.txt")
        if not path:
            return built_in
        own = PromptTemplate.read(Path(path))
        if own.slots != built_in.slots:
            wanted = ", ".join(f"${slot}" for slot in sorted(built_in.slots))
            raise UserError(f"{flag} {path}: must use exactly the slots {wanted}")
        return own


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt text with $slots; everything else in it is literal."""

    text: str
    slots: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> PromptTemplate:
        """Read a prompt file."""
        try:
            text = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UserError(f"prompt file {path}: {error.strerror}") from error
        found = list(Template.pattern.finditer(text))
        if any(match["invalid"] is not None for match in found):
            raise UserError(f"prompt file {path}: a lone $ must be written $$")
        slots = (match["named"] or match["braced"] for match in found)
        return cls(text, frozenset(slot for slot in slots if slot))

    def render(self, **slots: str) -> str:
        """Fill the slots; the values are inserted as they are, never interpreted."""
        return Template(self.text).substitute(slots)
