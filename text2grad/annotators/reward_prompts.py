"""What a reward model is shown and what its reply says, wherever the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from text2grad.chat import Prompt, PromptTooLong, TextRenderer
from text2grad.code_blocks import Code, judged_code
from text2grad.parsing import parse_reply
from text2grad.schema import Feedback, Record, Unparseable, UserError
from text2grad.tasks import TaskSpec

MIN_REPLY = 64  # tokens


@dataclass
class ReplyStats:
    """How replies were written, summed over them.

    Attributes:
        replies, tokens: how much was written.
        seconds: time spent.
        raw: the replies, "" for a record without one.
    """

    replies: int = 0
    tokens: int = 0
    seconds: float = 0.0
    raw: list[str] = field(default_factory=list)

    @classmethod
    def of_all(cls, parts: Sequence[ReplyStats]) -> ReplyStats:
        """Of the replies that several processes wrote at the same time, without their text."""
        counted = [one.name for one in fields(cls) if one.name not in ("seconds", "raw")]
        sums = {name: sum(getattr(part, name) for part in parts) for name in counted}
        return cls(seconds=max(part.seconds for part in parts), **sums)

    def rates(self) -> dict[str, float]:
        """Length of a reply, and speed."""
        return {
            "critique_tokens": self.tokens / max(self.replies, 1),
            "tokens_per_second_critique": self.tokens / max(self.seconds, 1e-9),
        }


class RewardPrompts:
    """Prompts about records, and replies read as feedback on their responses.

    Args:
        task: what of a response is judged, keys and labels.
        renderer: of the reward model's prompt.
    """

    def __init__(self, task: TaskSpec, renderer: TextRenderer) -> None:
        self._task, self.renderer = task, renderer

    def show(
        self, records: Sequence[Record]
    ) -> tuple[dict[int, Prompt], list[Code], dict[int, PromptTooLong]]:
        """The prompts about records.

        Returns:
            The prompts by the place of their record, what of each response is judged, and why the
            other records have no prompt.

        Raises:
            PromptTooLong: of the first record, where none fits: then the bound is at fault.
        """
        judged = [judged_code(record.response, self._task.scope) for record in records]
        prompts: dict[int, Prompt] = {}
        too_long: dict[int, PromptTooLong] = {}
        for place, (record, code) in enumerate(zip(records, judged, strict=True)):
            # a response without code is shown as it is, and has nothing that can be quoted
            slots = {"prompt": record.prompt, "response": code.text or record.response}
            try:
                prompts[place] = self.renderer.render(record.origin, record.turns, **slots)
            except PromptTooLong as error:
                too_long[place] = error
        if too_long and not prompts:
            raise next(iter(too_long.values()))
        return prompts, judged, too_long

    def read(self, reply: str, judged: Code) -> Feedback | Unparseable:
        """The feedback in a reply, with places in the response where the reply gives places."""
        said = parse_reply(reply, self._task, judged.text)
        if isinstance(said, Unparseable):
            return said
        spans = []
        for span in said.spans:
            if span.start is not None and span.end is not None:
                start, end = judged.place(span.start, span.end)
                span = replace(span, start=start, end=end)
            spans.append(span)
        return replace(said, spans=tuple(spans))


def reply_room(max_new_tokens: int, max_tokens: int, prompt_tokens: int, prompt_flag: str) -> int:
    """Tokens that a reply may have.

    Args:
        max_new_tokens: at most.
        max_tokens: of prompt and reply together, 0 for no bound.
        prompt_tokens: of the longest prompt.
        prompt_flag: the flag that set it.

    Raises:
        UserError: the prompts leave too little.
    """
    room = max_tokens - prompt_tokens
    if not max_tokens:
        return max_new_tokens
    if room < MIN_REPLY:
        raise UserError(
            f"--max_length {max_tokens} leaves {room} tokens for a reply after {prompt_flag} "
            f"{prompt_tokens}; at least {MIN_REPLY} are needed"
        )
    return min(max_new_tokens, room)
