"""From a sampled response and its feedback to one score per sampled token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from text2grad.alignment import label_scores, label_tokens, locate_spans, response_text
from text2grad.chat import PromptTooLong
from text2grad.noisy_feedback import NoisyCritic, NoisyFeedback
from text2grad.run_folder import weights_sha256
from text2grad.schema import Feedback, Grade, Record, Span, Unparseable
from text2grad.span_noise import read_noise
from text2grad.target_formats import resolve_format
from text2grad.tasks import TaskSpec

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig


@dataclass(frozen=True)
class Judged:
    """One response with what was said of it.

    Attributes:
        record: the prompt's record, its response the sampled text.
        pieces: bytes of each sampled token.
        feedback: the critique, or why there is none.
        spans: the critique's quotes, located.
        scores: one per sampled token; None where the feedback is unparseable.
        quoted: how many of the tokens a quote marks.
    """

    record: Record
    pieces: list[bytes]
    feedback: Feedback | Unparseable
    spans: tuple[Span, ...] = ()
    scores: list[float] | None = None
    quoted: int = 0

    @property
    def tokens(self) -> list[str]:
        """The sampled tokens as they can be shown."""
        return [piece.decode("utf-8", "replace") for piece in self.pieces]


def sampled_record(record: Record, pieces: Sequence[bytes]) -> Record:
    """The record with the sampled text in place of its response."""
    text = response_text(pieces)
    return replace(record, response=text, human_feedback="", feedback=None)


def ask_critic(critic: Any, sampled: Sequence[Record], alone: bool) -> list[Feedback | Unparseable]:
    """What the critic says of responses.

    Args:
        critic: made by `build_critic`.
        sampled: the responses of this process.
        alone: there is no other process. Where there is one, a share of which nothing fits the
            critic's prompt is no reason to stop: it may be a single response.
    """
    try:
        return critic.annotate(sampled)
    except PromptTooLong as error:
        if alone:
            raise
        return [Unparseable(str(error))] * len(sampled)


def judge(
    record: Record, pieces: list[bytes], feedback: Feedback | Unparseable, task: TaskSpec
) -> Judged:
    """Locate the quotes in the sampled text and score its tokens."""
    if isinstance(feedback, Unparseable):
        return Judged(record, pieces, feedback)
    if isinstance(feedback, Grade):
        at_the_end = [0.0] * (len(pieces) - 1) + [feedback.grade]
        return Judged(record, pieces, feedback, scores=at_the_end)
    spans = locate_spans(feedback.spans, record.response, task)
    labels = label_tokens(pieces, spans, task)
    quoted = sum(label in task.label_scores for label in labels)
    return Judged(record, pieces, feedback, spans, label_scores(labels, task), quoted)


def critique_counts(judged: Sequence[Judged]) -> tuple[Counter[str], Counter[str]]:
    """What `critique_health` is made of, and how often which reason made a critique unparseable.

    The counts of several processes add up.
    """
    parsed = [one for one in judged if one.scores is not None]
    spans = [span for one in parsed for span in one.spans]
    scores = [score for one in parsed for score in one.scores or ()]
    counts = {
        "responses": len(judged),
        "judged": len(parsed),
        "spans": len(spans),
        "unmatched": sum(span.match == "unmatched" for span in spans),
        "scores": len(scores),
        "quoted": sum(one.quoted for one in parsed),
        "positive": sum(score > 0 for score in scores),
        "negative": sum(score < 0 for score in scores),
    }
    said = [one.feedback for one in judged]
    noisy = [one for one in said if isinstance(one, NoisyFeedback)]
    if noisy:
        counts |= {"noisy_critiques": len(noisy), "wrong_quotes": sum(one.errors for one in noisy)}
    return Counter(counts), Counter(one.reason for one in said if isinstance(one, Unparseable))


def critique_health(counts: Mapping[str, int]) -> dict[str, float]:
    """Parse, match and coverage rates out of `critique_counts`; 0 where there is nothing to count.

    "coverage" is the share of the tokens that a quote marks; "positive_share" and "negative_share"
    count scores, those of unmarked tokens among them.
    """

    def share(name: str, total: str, lacking: int = 0) -> float:
        return (counts[name] - lacking) / counts[total] if counts[total] else 0.0

    return {
        "parse_rate": share("judged", "responses"),
        "match_rate": share("spans", "spans", counts["unmatched"]),
        "unmatched_rate": share("unmatched", "spans"),
        "spans_per_response": share("spans", "judged"),
        "coverage": share("quoted", "scores"),
        "positive_share": share("positive", "scores"),
        "negative_share": share("negative", "scores"),
    }


def build_critic(args: PolicyConfig, task: TaskSpec) -> Any:
    """Who judges the samples: `annotate(records)`, and `stats` of it where it writes replies."""
    critic, noise = _exact_critic(args, task), read_noise(args.feedback_noise, "--feedback_noise")
    return NoisyCritic(critic, noise, args.seed, task) if noise else critic


def _exact_critic(args: PolicyConfig, task: TaskSpec) -> Any:
    if args.feedback_source == "reference":
        from text2grad.annotators.reference import ReferenceAnnotator

        return ReferenceAnnotator(task)
    if args.feedback_source == "execution":
        from text2grad.annotators import execution_annotator

        return execution_annotator(task, args)
    if args.feedback_source == "scalar_model":
        from text2grad.annotators.scalar_model import ScalarModelAnnotator

        return ScalarModelAnnotator(
            args.reward_model_name,
            task,
            dtype=args.dtype,
            batch_size=args.reward_batch_size,
            prompt_max_tokens=args.reward_prompt_max_length,
            prompt_file=args.prompt_file,
        )
    if args.reward_base_url:
        return _reward_server(args, task)
    from text2grad.annotators.reward_model import RewardModelAnnotator

    return RewardModelAnnotator(
        args.reward_model_name,
        task,
        dtype=args.dtype,
        constrained=args.constrained_decoding,
        batch_size=args.reward_batch_size,
        prompt_max_tokens=args.reward_prompt_max_length,
        max_new_tokens=args.reward_max_new_tokens,
        prompt_file=args.reward_prompt_file,
        target_format=args.reward_target_format,
        prompt_flag="--reward_prompt_max_length",
        budget_flag="--reward_max_new_tokens",
        format_flag="--reward_target_format",
    )


def _reward_server(args: PolicyConfig, task: TaskSpec) -> Any:
    from text2grad.annotators.reward_server import RewardServer, ServerPlace
    from text2grad.config import ServerConfig

    flags = ServerConfig(max_tokens=args.reward_max_new_tokens, **args.reward_server())
    place = ServerPlace(
        args.reward_model_name,
        flags,
        args.reward_patience_seconds,
        "--reward_model_name",
        "--reward_base_url",
        "--reward_prompt_max_length",
        "--reward_target_format",
        "; --resume_from_checkpoint auto goes on from the last checkpoint",
    )
    return RewardServer(
        task,
        place,
        prompt_max_tokens=args.reward_prompt_max_length,
        prompt_file=args.reward_prompt_file,
        target_format=args.reward_target_format,
        json_schema=args.constrained_decoding,
    )


def critic_facts(args: PolicyConfig) -> dict[str, str]:
    """Who judges, where, in which format, and the hash of its weights, for the run's record."""
    noise = {"feedback_noise": args.feedback_noise} if args.feedback_noise else {}
    return _exact_critic_facts(args) | noise


def _exact_critic_facts(args: PolicyConfig) -> dict[str, str]:
    if args.feedback_source == "scalar_model":
        return {"reward_model": f"{args.reward_model_name}, a learned scalar"}
    if args.feedback_source != "reward_model":
        return {"reward_model": f"the {args.feedback_source} annotator, directly"}
    name, wanted = args.reward_model_name, args.reward_target_format
    found = resolve_format(name, "--reward_model_name", wanted, "--reward_target_format")
    facts = {"reward_model": name, "reward_model_sha256": weights_sha256(name)}
    if args.reward_base_url:
        facts["reward_base_url"] = args.reward_base_url
    return facts | {"reward_target_format": found.name}
