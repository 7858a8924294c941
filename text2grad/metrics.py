"""The two measuring commands: `3_metrics.py` of the reward model, `metrics.py` of the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.agreement import Units, token_units, word_units
from text2grad.files import check_writable, sha256_file, write_json
from text2grad.parsing import read_feedback
from text2grad.records import predicted_feedback, read_records
from text2grad.report_data import read_object
from text2grad.response_scores import with_scores
from text2grad.responses import join_responses, read_responses
from text2grad.reward_quality import decoding_path, reward_model_report
from text2grad.schema import Feedback, Record, Unparseable, UserError
from text2grad.summary_quality import LOWER_IS_BETTER, summary_report
from text2grad.tables import interval_text, text_table
from text2grad.tasks import TaskSpec, get_task
from text2grad.wording import mended

if TYPE_CHECKING:
    from text2grad.config import PolicyMetricsConfig, RewardMetricsConfig


def evaluate_reward_model(args: RewardMetricsConfig) -> None:
    """Measure the output of `2_infer.py`, print the table and write the figures.

    Args:
        args: input_file, output_file, train_file ("" for none), data_path ("" for the gold in
            input_file), task, seed; tokenizer, where given, compares its tokens, not words;
            apart, where given, measures some responses by themselves too.
    """
    task = get_task(args.task)
    rows = read_records(args.input_file, task, ("response",), flag="--input_file")
    predicted = [replace(row, feedback=predicted_feedback(row, task)) for row in rows]
    if args.data_path:
        ids = {row.id for row in rows}
        gold = read_records(args.data_path, task, ("response", "feedback"), flag="--data_path")
        gold = [record for record in gold if record.id in ids]
    else:
        gold = [replace(row, feedback=_gold(row, task)) for row in rows]
    if not any(isinstance(record.feedback, Feedback) for record in gold):
        where = f"--data_path {args.data_path}: no record with the ids of --input_file"
        if not args.data_path:
            where = f'--input_file {args.input_file}: no record has feedback under "gold"'
        raise UserError(f"{where}; name annotated records with the same ids by --data_path")
    train = read_records(args.train_file, task, flag="--train_file") if args.train_file else []
    units, unit = word_units, "words"
    if args.tokenizer:
        units, unit = read_units(args.tokenizer), "tokens"
    report = reward_model_report(gold, predicted, train, task, units, unit, args.seed, args.apart)
    report["decoding"] = _read_decoding(args.input_file)
    write_json(args.output_file, report, "--output_file")
    print(reward_model_table(report))
    print(f"all figures: {args.output_file}")


def evaluate_summaries(args: PolicyMetricsConfig) -> None:
    """Measure the output of `infer_val.py`, print the table and write the figures.

    Args:
        args: input_file, compare_file ("" for none), output_file, task, seed; encoder, language
            model and reward model, where given, add their scores.
    """
    task = get_task(args.task)
    responses = read_responses(args.input_file, task, "--input_file")
    records = list(responses.values())
    count = len(records)
    if args.compare_file:
        others = read_responses(args.compare_file, task, "--compare_file")
        flag = f"--compare_file {args.compare_file}"
        records += [earlier for _, earlier in join_responses(responses, others, flag)]
    check_writable(Path(args.output_file).parent, "--output_file")
    scored, models = with_scores(records, args, task)
    report = summary_report(scored[:count], scored[count:] or None, args.seed) | {"models": models}
    write_json(args.output_file, report, "--output_file")
    print(summary_table(report))
    print(f"all figures: {args.output_file}")


def reward_model_table(report: Mapping[str, Any]) -> str:
    """The printed form of `reward_model_report`."""
    systems, units = report["systems"], report["unit"]
    titles = {"apart": f'{units}, ids with "{report.get("apart")}"', "others": f"{units}, others"}
    parts = [_overall_table(part, titles[name]) for name, part in report.get("parts", {}).items()]
    return "\n\n".join(
        [
            _reply_lines(report),
            _overall_table(report, units),
            *parts,
            _label_table(systems, "tokens", units, ("precision", "recall", "f1")),
            _label_table(systems, "spans", "spans", ("precision", "recall", "f1", "mean_iou")),
            _label_table(systems, "spans_exact", "exact", ("precision", "recall", "f1")),
            _critique_table(report["critique"]),
        ]
    )


def summary_table(report: Mapping[str, Any]) -> str:
    """The printed form of `summary_report`."""
    title = f"{report['n']} responses"
    notes = dict.fromkeys(LOWER_IS_BETTER, " (lower is better)")
    if "before" not in report:
        rows = [[name + notes.get(name, ""), value] for name, value in report["after"].items()]
        return text_table([title, "value"], rows)
    rows = []
    for name, change in report["difference"].items():
        interval = interval_text(change["interval"], signed=True)
        figures = (report["before"][name], report["after"][name], f"{change['value']:+.3f}")
        rows.append([name + notes.get(name, ""), *figures, interval])
    return text_table([title, "before", "after", "change", "95 % interval"], rows)


def _read_decoding(path: str) -> dict[str, Any]:
    """What `2_infer.py` wrote beside this file about its replies, {} if nothing."""
    beside = decoding_path(path)
    facts = read_object(beside, "--input_file")
    if facts and facts.get("output_sha256") != sha256_file(path):
        print(f"{beside} is of another file than {Path(path).name}: left out; run 2_infer.py again")
        return {}
    return facts


def read_units(tokenizer: str) -> Units:
    """The tokens of a tokenizer, a folder or a hub name, as units."""
    from transformers import AutoTokenizer  # seconds to import

    return token_units(AutoTokenizer.from_pretrained(tokenizer))


def _gold(row: Record, task: TaskSpec) -> Feedback | Unparseable | None:
    gold = row.fields.get("gold")
    return read_feedback(gold, task) if isinstance(gold, Mapping) else None


def _overall_table(report: Mapping[str, Any], title: str) -> str:
    """Each system's macro-F1, by how much the reward model leads, and sign accuracy."""
    rows = []
    for name, found in report["systems"].items():
        lead = report["lead"].get(name, {"macro_f1": None, "interval": None})
        interval = interval_text(report["macro_f1_interval"][name])
        by = "" if lead["macro_f1"] is None else f"{lead['macro_f1']:+.3f}"
        scores = found["tokens"]
        row = (scores["macro_f1"], interval, by, interval_text(lead["interval"], signed=True))
        rows.append([name, *row, scores["sign_accuracy"]])
    header = [title, "macro-F1", "95 %", "reward model leads by", "95 %", "sign accuracy"]
    return text_table(header, rows)


def _label_table(systems: Mapping[str, Any], level: str, title: str, columns: Sequence[str]) -> str:
    first = next(iter(systems.values()))[level]
    labels = [key for key, value in first.items() if isinstance(value, Mapping)]
    short = {"precision": "P", "recall": "R", "f1": "F1", "mean_iou": "IoU"}
    header = [title, *(f"{label} {short[column]}" for label in labels for column in columns)]
    rows = [
        [name, *(found[level][label][column] for label in labels for column in columns)]
        for name, found in systems.items()
    ]
    return text_table(header, rows)


def _reply_lines(report: Mapping[str, Any]) -> str:
    parse, quotes, gold = report["parse"], report["quotes"], report["gold_quotes"]
    lines = [
        f"{report['responses']} responses of {report['posts']} posts"
        + (f", {report['without_gold']} without gold left out" if report["without_gold"] else ""),
        f"replies: {parse['rate']:.1%} readable{_counts(parse['unparseable'], 'unreadable')}"
        f"{_counts(mended(parse['repairs']), 'mended')}",
        *_unconstrained_lines(report.get("decoding") or {}),
        f"quotes: {quotes['quotes']}, {_percent(quotes['unmatched_rate'])} not in the response "
        f"(gold: {gold['quotes']}, {_percent(gold['unmatched_rate'])})",
    ]
    return "\n".join(lines)


def _critique_table(critiques: Mapping[str, Mapping[str, float | None]]) -> str:
    kinds = list(next(iter(critiques.values())))
    rows = [[name, *scores.values()] for name, scores in critiques.items()]
    return text_table(["critiques", *kinds], rows)


def _unconstrained_lines(decoding: Mapping[str, Any]) -> list[str]:
    free = decoding.get("unconstrained")
    if not free:
        return []
    return [
        f"without the grammar, {free['replies']} of them: {free['parse_rate']:.1%} readable, "
        f"{free['unmatched_rate']:.1%} of {free['quotes']} quotes not in the response"
    ]


def _counts(counts: Mapping[str, int], title: str) -> str:
    if not counts:
        return ""
    return f"; {title}: " + ", ".join(f"{count} {name}" for name, count in counts.items())


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"
