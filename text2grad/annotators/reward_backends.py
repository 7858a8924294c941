"""The reward model that `2_infer.py` runs: by transformers, by vLLM, or behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from text2grad.annotators.reward_prompts import ReplyStats, reply_room
from text2grad.config import RewardInferConfig, ServerConfig
from text2grad.schema import Feedback, Record, Unparseable
from text2grad.tasks import TaskSpec


class RewardJudge(Protocol):
    """What is asked of a reward model, wherever it runs.

    Attributes:
        constrained: replies are decoded inside the grammar; then it has `unconstrained_rates`.
        stats: how the last replies were written.
    """

    constrained: bool
    stats: ReplyStats

    def annotate(
        self, records: Sequence[Record], progress: bool = False
    ) -> list[Feedback | Unparseable]:
        """One feedback per record, in order."""

    def rates(self) -> dict[str, float]:
        """How the last replies were written, as figures."""


def build_reward_judge(args: RewardInferConfig, task: TaskSpec) -> Any:
    """The `RewardJudge` that `--backend` names.

    Raises:
        UserError: the model, the server or vLLM cannot be used.
    """
    if args.backend == "vllm":
        from text2grad.annotators.reward_vllm import VllmRewardModel

        return VllmRewardModel(task, args)
    if args.backend == "server":
        return _server(args, task)
    from text2grad.annotators.reward_model import RewardModelAnnotator

    return RewardModelAnnotator(
        args.model_path,
        task,
        dtype=args.dtype,
        constrained=args.constrained_decoding,
        batch_size=args.batch_size,
        prompt_max_tokens=args.prompt_max_length,
        max_new_tokens=args.max_new_tokens,
        max_tokens=args.max_length,
        temperature=args.temperature,
        prompt_file=args.prompt_file,
        chat_template=args.chat_template,
        target_format=args.target_format,
        flag="--model_path",
        memory=args.gpu_memory,
    )


def _server(args: RewardInferConfig, task: TaskSpec) -> Any:
    from text2grad.annotators.reward_server import RewardServer, ServerPlace

    prompt_tokens, flag = args.prompt_max_length, "--prompt_max_length"
    flags = ServerConfig(
        base_url=args.base_url,
        temperature=args.temperature,
        max_tokens=reply_room(args.max_new_tokens, args.max_length, prompt_tokens, flag),
        concurrency=args.concurrency,
        timeout_seconds=args.timeout_seconds,
        max_retries=args.max_retries,
    )
    return RewardServer(
        task,
        ServerPlace(args.model_path, flags, args.patience_seconds),
        prompt_max_tokens=prompt_tokens,
        prompt_file=args.prompt_file,
        target_format=args.target_format,
        json_schema=args.constrained_decoding,
    )
