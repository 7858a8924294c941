"""Stage 1, before annotation: a data set as records of the task, one file per split."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from text2grad import human_eval
from text2grad.config import PrepareConfig
from text2grad.files import Row, check_writable, write_rows
from text2grad.records import read_records, rows_to_records, sample_in_order
from text2grad.schema import FieldNames, Record, UserError
from text2grad.tables import text_table
from text2grad.tasks import TaskSpec, get_task

_SUFFIXES = (".jsonl", ".json", ".parquet")


def prepare_data(args: PrepareConfig) -> None:
    """Write SPLIT.json for every split into `args.output_dir` and print what is in it.

    A row of the raw data set gives one record per chosen candidate response, with the task's own
    keys, "candidate" (where it comes from) and the row's other keys; a person's feedback stays
    with the candidate it is about.

    Raises:
        UserError: no data, a row without prompt or response, ids that repeat, or a split without
            a record.
    """
    task = get_task(args.task)
    folder = check_writable(args.output_dir, "--output_dir")
    written: dict[str, list[Row]] = {}
    table, taken = [], Counter()
    for split, read in _read_splits(args, task).items():
        records = _complete(read, task) if args.skip_incomplete else read
        rows, empty = expand_records(records, task, args.candidates, args.fields)
        _check_ids(rows, split)
        rows = sample_in_order(rows, args.max_samples, random.Random(args.seed))
        if not rows:
            raise UserError(f"--data_path {args.data_path}: split {split} has no record")
        written[split] = rows
        taken.update(row["candidate"] for row in rows if "candidate" in row)
        left_out = len(read) - len(records)
        table.append((split, len(read), left_out, empty, *_count(rows, task)))
    _warn_of_leaks(written, task)
    for split, rows in written.items():
        write_rows(folder / f"{split}.json", rows, "--output_dir")
    header = ("split", "rows", "left out", "empty candidates", "records", "references", "feedback")
    print(text_table(header, table))
    if taken:
        print(f"responses from: {', '.join(f'{key} ({n})' for key, n in taken.items())}")
    print(f"written: {', '.join(str(folder / f'{split}.json') for split in written)}")


def expand_records(
    records: Sequence[Record],
    task: TaskSpec,
    candidates: str = "feedback",
    fields: FieldNames | None = None,
) -> tuple[list[Row], int]:
    """One row per response.

    Args:
        records: as they were read; a raw row of the task's data set has `task.candidate_keys`.
        task: names the keys.
        candidates: "feedback" for the first candidate of a raw row, "all" for every one, or the
            key of one.
        fields: the user's key names; with a response key of their own there are no candidates.

    Returns:
        The rows, and the number of empty candidates that were left out.

    Raises:
        UserError: a record has neither a response nor a candidate key, or there is no such key.
    """
    fields = fields or FieldNames()
    rows: list[Row] = []
    empty = 0
    chosen = _chosen_candidates(candidates, task)
    for record in records:
        is_raw = any(key in record.fields for key, _ in task.candidate_keys)
        if fields.response or not is_raw:
            if not record.response:
                keys = fields.response or ", ".join(task.response_keys)
                raise UserError(f"{record.origin}: the response is missing: expected {keys}")
            rows.append(_native_row(record, record.response, record.id, "", task, fields))
            continue
        for key, ending in chosen:
            text = record.fields.get(key)
            if text is not None and not isinstance(text, str):
                raise UserError(f'{record.origin}: "{key}" must be a string')
            if text and text.strip():
                identity = f"{record.id}-{ending}" if ending else record.id
                rows.append(_native_row(record, text, identity, key, task, fields))
            elif key in record.fields or candidates != "all":
                empty += 1
    return rows, empty


def _chosen_candidates(candidates: str, task: TaskSpec) -> Sequence[tuple[str, str]]:
    if candidates in ("all", "feedback"):
        return task.candidate_keys if candidates == "all" else task.candidate_keys[:1]
    chosen = [(key, ending) for key, ending in task.candidate_keys if key == candidates]
    if not chosen:
        known = ", ".join(["feedback", "all", *(key for key, _ in task.candidate_keys)])
        raise UserError(f"--candidates {candidates}: unknown, known are {known}")
    return chosen


def split_by_prompt(
    records: Sequence[Record], names: Sequence[str], fraction: float, seed: int
) -> dict[str, list[Record]]:
    """Two splits, `fraction` of the prompts in the second; equal prompts are never parted."""
    prompts = sorted({record.prompt for record in records})
    random.Random(seed).shuffle(prompts)
    held_out = set(prompts[: max(1, round(fraction * len(prompts)))])
    first, second = names
    return {
        first: [record for record in records if record.prompt not in held_out],
        second: [record for record in records if record.prompt in held_out],
    }


def hub_files(source: str, split: str) -> list[str]:
    """Local copies of a split's files, JSON Lines before parquet; offline, the cached ones.

    Raises:
        UserError: the data set cannot be reached or has no such file.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        patterns = ["*.jsonl", f"*{split}*.parquet"]
        saved = hub.snapshot_download(source, repo_type="dataset", allow_patterns=patterns)
    # The base of the hub's own errors is that of its HTTP library: no name, no route, time-out.
    except (HfHubHTTPError.__bases__[0], HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"--source {source}: cannot be read from the Hugging Face hub ({reason}); "
            "--data_path takes a file or folder instead"
        ) from error
    kinds = [sorted(Path(saved).rglob(f"*{suffix}")) for suffix in (".jsonl", ".parquet")]
    names = [str(path.relative_to(saved)) for path in next(filter(None, kinds), [])]
    chosen = _files_of_split(names, split)
    if not chosen:
        found = ", ".join(names) or "no .jsonl or .parquet file"
        raise UserError(f"--source {source}: no file for split {split}, it has {found}")
    return [str(Path(saved) / name) for name in chosen]


def folder_files(folder: Path, split: str, flag: str = "--data_path") -> list[str]:
    """The files of a folder that hold one split.

    Raises:
        UserError: there is none.
    """
    names = [file.name for file in sorted(folder.iterdir()) if file.suffix in _SUFFIXES]
    chosen = _files_of_split(names, split)
    if not chosen:
        kinds = ", ".join(_SUFFIXES[:-1])
        raise UserError(f"{flag} {folder}: no {kinds} or {_SUFFIXES[-1]} file for split {split}")
    return [str(folder / name) for name in chosen]


def _read_splits(args: PrepareConfig, task: TaskSpec) -> dict[str, list[Record]]:
    path = Path(args.data_path)
    if not args.data_path:
        return _read_source(args.source or task.source, args, task)
    if not path.exists():
        raise UserError(f"--data_path {path}: no such file or folder (looked in {Path.cwd()})")
    if path.is_file():
        records = _read([path], task, args, "--data_path")
        return _split(records, args, f"--data_path {path}")
    files = {split: folder_files(path, split) for split in args.splits}
    return {split: _read(paths, task, args, "--data_path") for split, paths in files.items()}


def _read_source(source: str, args: PrepareConfig, task: TaskSpec) -> dict[str, list[Record]]:
    if source == human_eval.NAME:
        rows = {split: human_eval.human_eval_rows(split) for split in args.splits}
        need, fields = ("prompt",), args.fields
        return {
            split: rows_to_records(found, source, task, need, fields, "--source")
            for split, found in rows.items()
        }
    joined = dict(task.source_splits).get(source, ())
    files = {split: hub_files(source, split) for split in joined or args.splits}
    read = {split: _read(paths, task, args, "--source") for split, paths in files.items()}
    if not joined:
        return read
    return _split([r for records in read.values() for r in records], args, f"--source {source}")


def _split(records: list[Record], args: PrepareConfig, flag: str) -> dict[str, list[Record]]:
    if len(args.splits) == 1:
        return {args.splits[0]: records}
    if len(args.splits) != 2 or not 0 < args.valid_fraction < 1:
        raise UserError(
            f"{flag}: data without splits makes one or two --splits, and two need a "
            "--valid_fraction between 0 and 1"
        )
    if len({record.prompt for record in records}) < 2:
        raise UserError(f"{flag}: one prompt alone cannot be split in two")
    return split_by_prompt(records, args.splits, args.valid_fraction, args.seed)


def _read(
    paths: Sequence[str | Path], task: TaskSpec, args: PrepareConfig, flag: str
) -> list[Record]:
    need = () if args.skip_incomplete else ("prompt",)
    return [r for path in paths for r in read_records(path, task, need, args.fields, flag)]


def _complete(records: Sequence[Record], task: TaskSpec) -> list[Record]:
    candidates = [key for key, _ in task.candidate_keys]
    return [
        record
        for record in records
        if record.prompt and (record.response or any(record.fields.get(key) for key in candidates))
    ]


def _files_of_split(names: Sequence[str], split: str) -> list[str]:
    """The file called after the split, else those whose name begins with it, else contains it."""
    stems = {name: Path(name).stem.lower() for name in sorted(names)}
    exact = [name for name, stem in stems.items() if stem == split]
    begins = [name for name, stem in stems.items() if stem.startswith(split)]
    return exact or begins or [name for name, stem in stems.items() if split in stem]


def _native_row(
    record: Record,
    response: str,
    identity: str,
    candidate: str,
    task: TaskSpec,
    fields: FieldNames,
) -> Row:
    read = {*task.prompt_keys, *task.response_keys, *task.reference_keys}
    read |= {*task.human_feedback_keys, *task.test_keys, "id"}
    read |= {key for key, _ in task.candidate_keys}
    read |= {key for name in dataclasses.asdict(fields).values() for key in name.split("+")}
    row: Row = {"id": identity, task.prompt_keys[0]: record.prompt}
    row[task.response_keys[0]] = response
    if record.reference:
        row[task.reference_keys[0]] = record.reference
    is_first = not candidate or candidate == task.candidate_keys[0][0]
    if record.human_feedback and is_first:
        row[task.human_feedback_keys[0]] = record.human_feedback
    tests = next((record.fields[key] for key in task.test_keys if record.fields.get(key)), None)
    if tests is not None:
        row[task.test_keys[0]] = tests
    if candidate:
        row["candidate"] = candidate
    return row | {key: value for key, value in record.fields.items() if key not in read}


def _check_ids(rows: Sequence[Row], split: str) -> None:
    twice = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twice:
        raise UserError(f'split {split}: the id "{twice[0]}" occurs twice, in two files or rows')


def _count(rows: Sequence[Row], task: TaskSpec) -> tuple[int, int, int]:
    references = sum(task.reference_keys[0] in row for row in rows)
    return len(rows), references, sum(task.human_feedback_keys[0] in row for row in rows)


def _warn_of_leaks(written: Mapping[str, Sequence[Row]], task: TaskSpec) -> None:
    names = list(written)
    for place, split in enumerate(names):
        prompts = {row[task.prompt_keys[0]] for row in written[split]}
        for other in names[place + 1 :]:
            shared = {row[task.prompt_keys[0]] for row in written[other]} & prompts
            if shared:
                print(f"WARNING: {len(shared)} prompts are in both {split} and {other}")
