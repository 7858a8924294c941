"""The pairwise judge: a chat model compares two sets of responses, each pair in both orders."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text2grad.chat_client import ChatClient, object_schema, response_format
from text2grad.config import JudgeConfig
from text2grad.files import (
    Journal,
    Row,
    check_writable,
    sha256_file,
    sha256_text,
    side_file,
    write_json,
    write_rows,
)
from text2grad.records import sample_in_order
from text2grad.responses import join_responses, read_responses
from text2grad.resumable import ask_missing
from text2grad.schema import Record, Unparseable, UserError
from text2grad.tables import interval_text, text_table
from text2grad.tasks import PromptTemplate, TaskSpec, get_task
from text2grad.verdicts import (
    BEST_GRADE,
    OVERALL,
    POSITIONS,
    JudgedPair,
    Verdict,
    judge_figures,
    parse_verdict,
)

Pair = tuple[Record, Record]
Answer = Verdict | Unparseable
SIDES = ("a", "b")


def judge_responses(args: JudgeConfig) -> None:
    """Compare `args.input_file` (A) with `args.compare_file` (B), print and write the figures.

    Beside the output lie NAME.journal.jsonl (every raw reply; a second run asks only for what is
    missing or has changed), NAME.verdicts.jsonl (every pair with both verdicts) and
    NAME.failed.jsonl (replies that could not be read; their pairs are left out).

    Raises:
        UserError: the files do not answer the same prompts, the server cannot be used, or no pair
            has a readable verdict in both orders.
    """
    task = get_task(args.task)
    if not task.judge_criteria:
        raise UserError(f"--task {task.name}: it names no criteria for a judge")
    first = read_responses(args.input_file, task, "--input_file")
    second = read_responses(args.compare_file, task, "--compare_file")
    pairs = join_responses(first, second, f"--compare_file {args.compare_file}")
    pairs = sample_in_order(pairs, args.max_samples, random.Random(args.seed))
    output = Path(args.output_file)
    check_writable(output.parent, "--output_file")
    template = task.prompt_template("judge", args.prompt_file)
    answers = collect_verdicts(pairs, template, task, output, args)
    _write_replies(output, pairs, answers)
    whole = [JudgedPair(*both) for both in answers if _is_readable(both)]
    failures = Counter(a.reason for both in answers for a in both if isinstance(a, Unparseable))
    if not whole:
        raise UserError(
            f"--judge_model {args.judge_model}: no pair of {len(pairs)} has a readable verdict in "
            f"both orders, the most frequent reason: {failures.most_common(1)[0][0]} (see "
            f"{side_file(output, '.failed.jsonl')})"
        )
    report = {
        "a": args.input_file,
        "b": args.compare_file,
        "sha256": {"a": sha256_file(args.input_file), "b": sha256_file(args.compare_file)},
        "judge": _provenance(args, template),
        "pairs": len(pairs),
        "left_out": len(pairs) - len(whole),
        "replies": 2 * len(pairs),
        "unreadable": dict(failures),
        **judge_figures(whole, args.seed),
    }
    write_json(output, report, "--output_file")
    print(judge_table(report))
    print(f"all figures: {output}; every verdict: {side_file(output, '.verdicts.jsonl')}")
    for warning in judge_warnings(report):
        print(f"WARNING: {warning}", file=sys.stderr)


def collect_verdicts(
    pairs: Sequence[Pair],
    template: PromptTemplate,
    task: TaskSpec,
    output: Path,
    args: JudgeConfig,
) -> list[tuple[Answer, Answer]]:
    """The verdicts of every pair with A first and with B first, from the journal or the server."""
    prompts = [
        template.render(prompt=a.prompt, first=one.response, second=other.response)
        for a, b in pairs
        for one, other in ((a, b), (b, a))
    ]
    settings = json.dumps([args.judge_model, args.temperature, args.top_p, args.max_tokens])
    client = ChatClient(args, args.judge_model, "--judge_model", verdict_schema(task))

    def parse(reply: str) -> Answer:
        return parse_verdict(reply, task.judge_criteria)

    def to_row(place: int, answer: Answer) -> Row:
        about = {"id": pairs[place // 2][0].id, "first": SIDES[place % 2]}
        failed = {"reason": answer.reason} if isinstance(answer, Unparseable) else {}
        return {**about, "raw": answer.raw, **failed}

    def from_row(row: Mapping[str, Any]) -> Answer:
        return Unparseable(row["reason"], row["raw"]) if "reason" in row else parse(row["raw"])

    answers = ask_missing(
        Journal(side_file(output, ".journal.jsonl"), "--output_file"),
        [sha256_text(prompt, settings) for prompt in prompts],
        lambda places, done: client.ask([prompts[place] for place in places], parse, done),
        to_row,
        from_row,
        args.retry_failed,
        f"judging ({args.judge_model})",
        "verdict",
    )
    return list(zip(answers[::2], answers[1::2], strict=True))


def verdict_schema(task: TaskSpec) -> dict[str, Any]:
    """The `response_format` that makes a server answer with a verdict, reasoning first."""
    grades = object_schema({key: {"type": "number"} for key in (*task.judge_criteria, OVERALL)})
    better = {"type": "string", "enum": [*POSITIONS, "tie"]}
    return response_format(
        "verdict",
        {"reasoning": {"type": "string"}, **dict.fromkeys(POSITIONS, grades), "better": better},
    )


def judge_table(report: Mapping[str, Any]) -> str:
    """The printed form of the figures."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in report["unreadable"].items())
    share, spread = report["position"]["first_share"], report["position"]["interval"]
    first = "none decided" if share is None else f"{share:.1%}, 95 % {interval_text(spread)}"
    lines = [
        f"A: {report['a']}",
        f"B: {report['b']}",
        f"{report['n']} pairs judged in both orders by {report['judge']['model']}; "
        f"{report['left_out']} left out" + (f" (replies: {reasons})" if reasons else ""),
        f"A wins {report['wins']}, B wins {report['losses']}, ties {report['ties']}: win rate of A "
        f"{report['win_rate']:.1%}, 95 % {interval_text(report['interval'])}",
        f"both orders agree: {report['agreement']:.1%}; first position preferred: {first}",
    ]
    rows = []
    for name, found in report["criteria"].items():
        interval = interval_text(found["interval"], signed=True)
        rows.append([name, found["a"], found["b"], f"{found['difference']:+.3f}", interval])
    table = text_table([f"grades, 0 to {BEST_GRADE}", "A", "B", "A - B", "95 % interval"], rows)
    return "\n".join(lines) + "\n\n" + table


def judge_warnings(report: Mapping[str, Any]) -> list[str]:
    """What makes the figures doubtful."""
    found, position = [], report["position"]
    if position["biased"]:
        found.append(
            f"the judge prefers the first position in {position['first_share']:.1%} of its "
            f"verdicts, 95 % {interval_text(position['interval'])}, whichever response stands "
            "there: its verdicts are partly about the position; take a stronger --judge_model"
        )
    if report["left_out"]:
        found.append(
            f"{report['left_out']} of {report['pairs']} pairs have no readable verdict in both "
            "orders and are left out; --retry_failed asks again"
        )
    return found


def _is_readable(both: tuple[Answer, Answer]) -> bool:
    return all(isinstance(answer, Verdict) for answer in both)


def _provenance(args: JudgeConfig, template: PromptTemplate) -> dict[str, Any]:
    return {
        "model": args.judge_model,
        "base_url": args.base_url,
        "prompt_sha": sha256_text(template.text)[:16],
        "temperature": args.temperature,
        "top_p": args.top_p,
        "max_samples": args.max_samples,
        "seed": args.seed,
    }


def _write_replies(
    output: Path, pairs: Sequence[Pair], answers: Sequence[tuple[Answer, Answer]]
) -> None:
    """The pairs with their verdicts, and apart the replies that could not be read."""
    judged, failed = [], []
    for (a, b), both in zip(pairs, answers, strict=True):
        if _is_readable(both):
            judged.append(_judged_row(a, b, JudgedPair(*both)))
        failed += [
            {"id": a.id, "first": side, "reason": answer.reason, "raw": answer.raw}
            for side, answer in zip(SIDES, both, strict=True)
            if isinstance(answer, Unparseable)
        ]
    write_rows(side_file(output, ".verdicts.jsonl"), judged, "--output_file")
    if failed:
        write_rows(side_file(output, ".failed.jsonl"), failed, "--output_file")
    else:
        side_file(output, ".failed.jsonl").unlink(missing_ok=True)


def _judged_row(a: Record, b: Record, pair: JudgedPair) -> Row:
    orders = [
        {
            "first": side,
            "better": {"first": side, "second": other, "tie": "tie"}[verdict.better],
            "grades": {side: verdict.first, other: verdict.second},
            "reasoning": verdict.reasoning,
            "raw": verdict.raw,
        }
        for side, other, verdict in (("a", "b", pair.a_first), ("b", "a", pair.b_first))
    ]
    outcome = {1.0: "a", 0.0: "b", 0.5: "tie"}[pair.outcome]
    texts = {"prompt": a.prompt, "a": a.response, "b": b.response}
    return {"id": a.id, **texts, "outcome": outcome, "orders": orders}
