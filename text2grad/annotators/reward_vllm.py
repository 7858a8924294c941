"""The reward model under vLLM: its prompts by our own renderer, its replies from their ids."""

from __future__ import annotations

import time
from collections.abc import Sequence

from text2grad.alignment import TokenBytes, response_text
from text2grad.annotators.reward_prompts import ReplyStats, RewardPrompts, reply_room
from text2grad.chat import PromptRenderer
from text2grad.config import RewardInferConfig
from text2grad.pretrained import ends_of, is_adapter, load_tokenizer
from text2grad.rollout import Sampling
from text2grad.schema import Feedback, Record, Unparseable, UserError
from text2grad.target_formats import resolve_format
from text2grad.tasks import TaskSpec
from text2grad.vllm_engine import VllmEngine, gpu_share


class VllmRewardModel:
    """Critiques responses with a merged reward model under vLLM, without the grammar.

    Args:
        task: gives the prompt's wording, keys and labels.
        args: flags of `2_infer.py`.

    Attributes:
        stats: how the last replies were written.

    Raises:
        UserError: no vLLM, no GPU, or an unusable model.
    """

    constrained = False

    def __init__(self, task: TaskSpec, args: RewardInferConfig) -> None:
        name, flag = args.model_path, "--model_path"
        if is_adapter(name):
            raise UserError(
                f"{flag} {name}: an adapter, and --backend vllm takes a merged model; run "
                "1_merge_lora.py first, or use --backend hf"
            )
        room = reply_room(
            args.max_new_tokens, args.max_length, args.prompt_max_length, "--prompt_max_length"
        )
        target = resolve_format(name, flag, args.target_format, "--target_format")
        tokenizer = load_tokenizer(name, flag, args.chat_template)
        template = task.prompt_template(target.prompt, args.prompt_file)
        renderer = PromptRenderer(tokenizer, template, args.prompt_max_length)
        self._prompts = RewardPrompts(task, renderer)
        self._token_bytes = TokenBytes(tokenizer)
        ends = tuple(ends_of(name, tokenizer, flag))
        self._sampling = Sampling(room, args.temperature, ends, tokenizer.pad_token_id)
        self._engine = VllmEngine(
            name,
            "--backend vllm",
            max_tokens=args.prompt_max_length + room,
            dtype=args.dtype,
            gpu_share=gpu_share(args.gpu_memory),
            tensor_parallel_size=args.tensor_parallel_size,
            seed=args.seed,
        )
        self.stats = ReplyStats()

    def annotate(
        self, records: Sequence[Record], progress: bool = False
    ) -> list[Feedback | Unparseable]:
        """One feedback per record, in order."""
        started = time.perf_counter()
        prompts, judged, too_long = self._prompts.show(records)
        ids = [prompt.ids for prompt in prompts.values()]
        replies = self._engine.generate(ids, self._sampling, progress=progress)
        raw = [""] * len(records)
        said = {place: Unparseable(str(error)) for place, error in too_long.items()}
        for place, reply in zip(prompts, replies, strict=True):
            raw[place] = response_text(self._token_bytes.pieces(reply))
            said[place] = self._prompts.read(raw[place], judged[place])
        tokens = sum(map(len, replies))
        self.stats = ReplyStats(len(replies), tokens, time.perf_counter() - started, raw)
        return [said[place] for place in range(len(records))]

    def rates(self) -> dict[str, float]:
        """Length and speed of the last replies."""
        return self.stats.rates()
