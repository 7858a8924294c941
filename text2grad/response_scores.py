"""Scores of a policy's responses beyond overlap with the references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from text2grad import progress
from text2grad.agreement import word_units
from text2grad.alignment import locate_spans, score_tokens
from text2grad.annotators.open_text import asked_share
from text2grad.annotators.reference import support_score
from text2grad.conversations import chat_messages, prompt_turns
from text2grad.schema import Feedback, Record
from text2grad.solutions import checks_passed, find_faults, run_responses
from text2grad.tasks import TaskSpec

if TYPE_CHECKING:
    from text2grad.config import PolicyMetricsConfig

Scores = list[dict[str, float]]


def net_score(feedback: Feedback, response: str, task: TaskSpec) -> float:
    """Mean score of the response's words under a critique, those outside the task's scope too."""
    spans = locate_spans(feedback.spans, response, task)
    words, pieces, done = word_units(response), [], 0
    for start, end in words:
        pieces += [response[done:start], response[start:end]]
        done = end
    scores = score_tokens([piece.encode("utf-8", "replace") for piece in pieces], spans, task)
    return sum(scores) / max(len(words), 1)


def with_scores(
    records: Sequence[Record], args: PolicyMetricsConfig, task: TaskSpec
) -> tuple[list[Record], dict[str, Any]]:
    """The records with "scores" (and "likelihood") in their fields, and the models that gave them.

    `support_score` compares with prompt and reference and trains nothing; `asked_words` is the
    share of the words that an open-ended prompt asks for. Where the records have
    tests: `solved`, and `checks_passed`, the share of the assertions that held; `progress.KEY` in
    their fields then says how each run ended and where its fault lies. Where the flags
    name the models: `bertscore_f1`; `reward_model_score`, the net score under the reward model's
    critiques, where an unparseable critique scores 0 and is counted in `reward_model_parsed`; and
    "likelihood", nats and tokens of the response given the prompt. What is left out is printed.
    """
    scores: Scores = [_own_scores(record, task) for record in records]
    tested: list[dict[str, Any]] = []
    if all(record.test for record in records):
        logs = run_responses(records, task, args)
        for own, log in zip(scores, logs, strict=True):
            own |= {"solved": float(log.passed), "checks_passed": checks_passed(log)}
        said = [None] * len(logs)
        if args.localisation_seconds:
            said = find_faults(records, logs, task, args)
        ends = zip(logs, said, strict=True)
        tested = [progress.result_of(*pair, task.label_scores) for pair in ends]
    likelihoods: Scores = []
    models: dict[str, Any] = {}
    left_out = []
    if args.bert_model and records[0].reference:
        models["bertscore"] = _add_bert_scores(scores, records, args)
    else:
        reason = "the file has no references" if args.bert_model else "no --bert_model"
        left_out.append(f"BERTScore ({reason})")
    if args.ppl_model:
        likelihoods = _likelihoods(records, args, task)
        models["perplexity"] = {"model": args.ppl_model}
    else:
        left_out.append("perplexity (no --ppl_model)")
    if args.reward_model_name:
        _add_reward_scores(scores, records, args, task)
        models["reward_model"] = {"model": args.reward_model_name}
    if left_out:
        print(f"left out: {', '.join(left_out)}")
    scored = [
        {**record.fields, "scores": {**record.fields.get("scores", {}), **own}}
        for record, own in zip(records, scores, strict=True)
    ]
    for fields, own in zip(scored, likelihoods, strict=bool(likelihoods)):
        fields["likelihood"] = own
    for fields, result in zip(scored, tested, strict=bool(tested)):
        fields[progress.KEY] = result
    return [
        replace(record, fields=fields) for record, fields in zip(records, scored, strict=True)
    ], models


def _own_scores(record: Record, task: TaskSpec) -> dict[str, float]:
    """What comparing texts says; it says nothing of code."""
    if task.scope == "code":
        return {}
    if task.evidence == "answer" and not record.reference:
        return {}
    texts = record.prompt, record.reference, record.response
    scores = {"support_score": support_score(*texts, task.evidence)}
    used = asked_share(record.prompt, record.response) if task.evidence == "prompt" else None
    return scores if used is None else scores | {"asked_words": used}


def _add_bert_scores(
    scores: Scores, records: Sequence[Record], args: PolicyMetricsConfig
) -> dict[str, Any]:
    from text2grad.model_metrics import BertScore  # imports torch

    metric = BertScore(args.bert_model, args.bert_layers, args.batch_size)
    found = metric.compute(
        predictions=[record.response for record in records],
        references=[record.reference for record in records],
    )
    for own, value in zip(scores, found["bertscore_f1"], strict=True):
        own["bertscore_f1"] = value
    return {"model": args.bert_model, "layers": metric.layers, "baseline": False}


def _likelihoods(records: Sequence[Record], args: PolicyMetricsConfig, task: TaskSpec) -> Scores:
    from text2grad.model_metrics import Perplexity  # imports torch

    template = task.prompt_template("policy", args.policy_prompt_file, "--policy_prompt_file")
    metric = Perplexity.load(args, template)
    found = metric.compute(
        predictions=[record.response for record in records],
        prompts=[chat_messages(prompt_turns(record)) for record in records],
    )
    return [
        {"nats": nats, "tokens": tokens}
        for nats, tokens in zip(found["nats"], found["tokens"], strict=True)
    ]


def _add_reward_scores(
    scores: Scores, records: Sequence[Record], args: PolicyMetricsConfig, task: TaskSpec
) -> None:
    from text2grad.annotators.reward_model import RewardModelAnnotator  # imports torch
    from text2grad.models import quiet_libraries

    quiet_libraries()
    annotator = RewardModelAnnotator(
        args.reward_model_name,
        task,
        batch_size=args.reward_batch_size,
        prompt_max_tokens=args.reward_prompt_max_length,
        max_new_tokens=args.reward_max_new_tokens,
        prompt_file=args.prompt_file,
        target_format=args.reward_target_format,
        prompt_flag="--reward_prompt_max_length",
        budget_flag="--reward_max_new_tokens",
        format_flag="--reward_target_format",
    )
    judged = annotator.annotate(records, progress=True)
    for own, record, said in zip(scores, records, judged, strict=True):
        parsed = isinstance(said, Feedback)
        own["reward_model_score"] = net_score(said, record.response, task) if parsed else 0.0
        own["reward_model_parsed"] = float(parsed)
