"""The trained reward model as an annotator: it writes the critique and the quotes itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from text2grad.alignment import TokenBytes, locate_spans, response_text
from text2grad.annotators.reward_prompts import ReplyStats, RewardPrompts, reply_room
from text2grad.chat import PromptRenderer, encode_chat
from text2grad.critique_grammar import CritiqueGrammar
from text2grad.decoding import Reply, constrained_generate
from text2grad.models import check_context, eos_ids, load_for_inference
from text2grad.prefix_cache import PrefixCache, common_length
from text2grad.pretrained import load_tokenizer
from text2grad.rollout import Sampling, sample_responses
from text2grad.schema import Feedback, Record, Unparseable
from text2grad.target_formats import resolve_format
from text2grad.tasks import TaskSpec
from text2grad.token_table import TokenTable

NO_ROOM = "response too long for a reply"


@dataclass
class DecodingStats(ReplyStats):
    """What the constraint did, summed over replies.

    Attributes:
        free: tokens that were chosen, not forced.
        rejected: chosen tokens that were not the model's first choice.
        removed_mass: probability of the choices ranked above the chosen token, summed over `free`.
    """

    free: int = 0
    rejected: int = 0
    removed_mass: float = 0.0

    def rates(self) -> dict[str, float]:
        """Shares of the freely chosen tokens, and speed."""
        free = max(self.free, 1)
        return {
            "rejected_share": self.rejected / free,
            "removed_mass": self.removed_mass / free,
            **super().rates(),
        }


class RewardModelAnnotator:
    """Critiques responses with a local generative reward model.

    Args:
        model_path: merged model or adapter.
        task: gives the prompt's wording, keys and limits.
        dtype: precision of the weights.
        constrained: valid JSON and verbatim quotes by construction; else greedy and parsed.
        batch_size: responses judged together.
        prompt_max_tokens: a longer post is shortened inside the post.
        max_new_tokens: tokens of a reply.
        max_tokens: tokens of prompt and reply together, 0 for no bound; replies get what the
            prompts leave.
        temperature: of unconstrained replies, 0 for greedy.
        prompt_file: own wording of the prompt.
        chat_template: file with a chat template, "" for the model's own.
        flag: the flag that named the model, for messages.
        target_format: what the model was trained to write, "" for what its folder says.
        prompt_flag, budget_flag, format_flag: the flags that set `prompt_max_tokens`,
            `max_new_tokens` and `target_format`, likewise.
        memory: to use per GPU, "" for one device without a bound.

    Attributes:
        prefix: what all prompts begin with, computed once; None computes it in every batch.
    """

    def __init__(
        self,
        model_path: str,
        task: TaskSpec,
        *,
        dtype: str = "auto",
        constrained: bool = True,
        batch_size: int = 16,
        prompt_max_tokens: int = 900,
        max_new_tokens: int = 500,
        max_tokens: int = 0,
        temperature: float = 0.0,
        prompt_file: str = "",
        chat_template: str = "",
        flag: str = "--reward_model_name",
        target_format: str = "",
        prompt_flag: str = "--prompt_max_length",
        budget_flag: str = "--max_new_tokens",
        format_flag: str = "--target_format",
        memory: str = "",
    ) -> None:
        self.task, self.constrained, self.batch_size = task, constrained, batch_size
        self.max_new_tokens = reply_room(max_new_tokens, max_tokens, prompt_max_tokens, prompt_flag)
        self.temperature, self.budget_flag = temperature, budget_flag
        self.format = resolve_format(model_path, flag, target_format, format_flag)
        self.tokenizer = load_tokenizer(model_path, flag, chat_template)
        template = task.prompt_template(self.format.prompt, prompt_file)
        self.renderer = PromptRenderer(
            self.tokenizer, template, prompt_max_tokens, flag=prompt_flag
        )
        self._prompts = RewardPrompts(task, self.renderer)
        self.model = load_for_inference(model_path, dtype, flag, memory)
        bounds = f"{prompt_flag} {prompt_max_tokens} {budget_flag} {self.max_new_tokens}"
        check_context(self.model, flag, prompt_max_tokens + self.max_new_tokens, bounds)
        self.eos_ids = eos_ids(self.model, self.tokenizer)
        filled = [template.render(prompt=text, response=text) for text in ("A", "1")]
        shown = [encode_chat(self.tokenizer, text) for text in filled]
        shared = shown[0][: common_length(shown)]
        self.prefix: PrefixCache | None = PrefixCache(self.model, shared)
        self.table = TokenTable(self.tokenizer) if constrained else None
        self.token_bytes = TokenBytes(self.tokenizer)
        self.stats = DecodingStats()

    def annotate(
        self, records: Sequence[Record], progress: bool = False
    ) -> list[Feedback | Unparseable]:
        """One feedback per record, in order; `stats` then tells how they were written."""
        self.stats = DecodingStats(raw=[""] * len(records))
        prompts, judged, too_long = self._prompts.show(records)
        out: list[Feedback | Unparseable] = [Unparseable("not judged")] * len(records)
        for i, error in too_long.items():
            out[i] = Unparseable(str(error))
        order = sorted(prompts, key=lambda i: (len(prompts[i].ids), i))
        started = time.perf_counter()
        with tqdm(total=len(records), desc="judging", unit="reply", disable=not progress) as bar:
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                replies = self._reply(
                    [prompts[i].ids for i in rows], [judged[i].text for i in rows]
                )
                for i, text in zip(rows, replies, strict=True):
                    if text is None:
                        out[i] = Unparseable(NO_ROOM)
                        continue
                    self.stats.raw[i] = text
                    out[i] = self._prompts.read(text, judged[i])
                bar.update(len(rows))
        self.stats.seconds = time.perf_counter() - started
        return out

    def unconstrained_rates(self, records: Sequence[Record]) -> dict[str, Any]:
        """Parse and match rates of the same model without the grammar, which hides them."""
        self.constrained, constrained = False, self.constrained
        said = self.annotate(records)
        self.constrained = constrained
        parsed = [
            (r, one) for r, one in zip(records, said, strict=True) if isinstance(one, Feedback)
        ]
        spans = [s for r, one in parsed for s in locate_spans(one.spans, r.response, self.task)]
        return {
            "replies": len(said),
            "parse_rate": len(parsed) / max(len(said), 1),
            "reasons": Counter(one.reason for one in said if isinstance(one, Unparseable)),
            "quotes": len(spans),
            "unmatched_rate": sum(s.match == "unmatched" for s in spans) / max(len(spans), 1),
        }

    def grammar_of(self, response: str) -> CritiqueGrammar:
        """What a reply about a response may be, of characters that the model can write."""
        return self.format.grammar(self.task, response, self.table.writable)

    def rates(self) -> dict[str, float]:
        """How the last replies were decoded."""
        return self.stats.rates()

    def _reply(self, prompts: list[list[int]], judged: list[str]) -> list[str | None]:
        """One reply per prompt, None where not even the shortest about that text has room."""
        if not self.constrained:
            return self._unconstrained(prompts)
        limit = self.max_new_tokens
        grammars = [self.grammar_of(text) for text in judged]
        # A limit that is too small for any response is the flag's fault, and an error below.
        too_small = self._shortest(self.grammar_of("")) > limit
        rows = [
            row
            for row, grammar in enumerate(grammars)
            if too_small or self._shortest(grammar) <= limit
        ]
        replies = constrained_generate(
            self.model,
            self.table,
            [prompts[row] for row in rows],
            [grammars[row] for row in rows],
            limit,
            flag=self.budget_flag,
            prefix=self.prefix,
        )
        texts: list[str | None] = [None] * len(judged)
        for row, reply in zip(rows, replies, strict=True):
            self._count(reply)
            texts[row] = reply.text
        return texts

    def _shortest(self, grammar: CritiqueGrammar) -> int:
        return grammar.shortest_exit(grammar.initial, self.table.cost)

    def _count(self, reply: Reply) -> None:
        self.stats.replies += 1
        self.stats.tokens += len(reply.ids)
        self.stats.free += reply.n_free
        self.stats.rejected += reply.n_rejected
        self.stats.removed_mass += reply.removed_mass * reply.n_free

    def _unconstrained(self, prompts: list[list[int]]) -> list[str]:
        pad = self.tokenizer.pad_token_id
        ends = tuple(self.eos_ids)
        sampling = Sampling(self.max_new_tokens, self.temperature, ends, pad)
        new = sample_responses(self.model, prompts, sampling)
        self.stats.replies += len(new)
        self.stats.tokens += sum(map(len, new))
        return [response_text(self.token_bytes.pieces(ids)) for ids in new]
