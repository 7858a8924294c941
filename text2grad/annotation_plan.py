"""What an annotation run would ask, and about what it would cost, before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from text2grad.annotators import Annotator
from text2grad.files import Journal, sha256_text, side_file
from text2grad.ledger import Usage, estimate_tokens
from text2grad.resumable import is_unfinished, used
from text2grad.schema import Record
from text2grad.tables import text_table

if TYPE_CHECKING:
    from text2grad.config import AnnotateConfig

_PROMPTS_SHOWN = 2


def journal_path(output: Path) -> Path:
    """Where the answers for an output are kept as they come."""
    return side_file(output, ".journal.jsonl")


def sample_keys(annotator: Annotator, records: Sequence[Record]) -> list[str]:
    """The key of each record; a record that comes again right after itself is another sample.

    The first sample's key is the record's own, so that one sample can be made several later.
    """
    keys, last, number = [], None, 0
    for record in records:
        number = number + 1 if record is last else 0
        key = annotator.key(record) if number == 0 else sha256_text(keys[-number], f"{number}")
        keys.append(key)
        last = record
    return keys


def annotation_plan(
    annotator: Annotator, records: Sequence[Record], journal: Path, args: AnnotateConfig
) -> str:
    """The first prompts, and an estimate of tokens and cost of what is not in the journal yet.

    Args:
        annotator: asks a server, or costs nothing.
        records: what is to be annotated.
        journal: of earlier runs; need not be there.
        args: the flags.
    """
    if args.annotator != "openai":
        return f"--annotator {args.annotator} asks no server: {len(records)} records cost nothing"
    kept = Journal.look(journal)
    answered = {key for key, row in kept.rows.items() if not is_unfinished(row)}
    if args.retry_failed:
        answered -= {key for key, row in kept.rows.items() if "reason" in row}
    samples = [record for record in records for _ in range(args.samples_per_record)]
    keys = sample_keys(annotator, samples)
    missing = dict(zip(keys, samples, strict=True))
    missing = {key: record for key, record in missing.items() if key not in answered}
    first: list[str] = []
    read = 0
    for record in missing.values():  # one prompt at a time: all of them may not fit into memory
        prompt = annotator.prompt(record)
        read += estimate_tokens(prompt)
        if len(first) < _PROMPTS_SHOWN and prompt not in first:
            first.append(prompt)
    shown = [f"--- prompt {n} of {len(missing)}\n{prompt}" for n, prompt in enumerate(first, 1)]
    facts = [("records", f"{len(records):,}"), ("samples of each", args.samples_per_record)]
    facts += [("answered already", f"{len(set(keys)) - len(missing):,}")]
    facts += [("to ask", f"{len(missing):,}"), ("input tokens, about", f"{read:,}")]
    table = text_table(
        ("dry run: nothing is sent", ""), facts + _costs(annotator, kept, read, len(missing), args)
    )
    prices = annotator.client.ledger.prices
    note = (
        f"(prices: {prices.path}{', as of ' * bool(prices.as_of)}{prices.as_of}; compare them with "
        "your provider's page. A reply that cannot be read is asked for once more, on top of this.)"
    )
    return "\n\n".join([*shown, f"{table}\n{note}"])


def _costs(
    annotator: Annotator, kept: Journal, read: int, requests: int, args: AnnotateConfig
) -> list[tuple[str, str]]:
    """Output tokens and cost: as earlier replies were, where there are any, and at most."""
    prices = annotator.client.ledger.prices
    replies = [usage.output for usage in used(kept) if usage.model == args.annotator_model]
    sizes = {"at most (--max_tokens)": args.max_tokens}
    if replies:
        sizes = {f"as {len(replies):,} earlier replies": sum(replies) / len(replies)} | sizes
    rows = []
    for name, size in sizes.items():
        written = round(size * requests)
        usage = Usage(args.annotator_model, read, 0, written, batch=args.batch_api)
        cost = prices.cost(usage)
        rows.append((f"output tokens, {name}", f"{written:,}"))
        told = f"no price for {args.annotator_model}" if cost is None else f"{cost:,.2f}"
        rows.append((f"cost, {prices.currency}, {name}", told))
    return rows
