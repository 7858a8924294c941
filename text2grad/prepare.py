"""Stage 1, before annotation: a data set as records of the task, one file per split."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from text2grad import human_eval
from text2grad.candidates import expand_records
from text2grad.config import PrepareConfig
from text2grad.files import Row, check_writable, write_rows
from text2grad.records import read_records, rows_to_records, sample_in_order
from text2grad.schema import Record, UserError
from text2grad.tables import text_table
from text2grad.tasks import TaskSpec, get_task

_SUFFIXES = (".jsonl", ".json", ".parquet")
SplitNames = Sequence[tuple[str, str]]


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
    kinds: dict[str, tuple[int, ...]] = {}
    faults: list[str] = []
    for split, read in _read_splits(args, task, faults).items():
        records = _complete(read, task) if args.skip_incomplete else read
        found = expand_records(records, task, args.candidates, args.fields, args.skip_incomplete)
        faults += found.faults
        check_ids(found.rows, f"split {split}")
        rows = sample_in_order(found.rows, args.max_samples, random.Random(args.seed))
        if not rows:
            raise UserError(f"--data_path {args.data_path}: split {split} has no record")
        written[split] = rows
        left_out = len(read) - len(records) + len(found.faults)
        kinds[split] = (len(read), left_out, found.empty, found.repeated)
    _part_splits(written, task)
    for split, rows in written.items():
        write_rows(folder / f"{split}.json", rows, "--output_dir")
    header = ("split", "rows", "left out", "empty candidates", "repeated")
    table = [(split, *kinds[split], *_count(rows, task)) for split, rows in written.items()]
    print(text_table((*header, "records", "references", "feedback"), table))
    if faults:
        print(f"{len(faults)} rows left out that cannot be used, the first: {faults[0]}")
    taken = Counter(r["candidate"] for rows in written.values() for r in rows if "candidate" in r)
    if taken:
        print(f"responses from: {', '.join(f'{key} ({n})' for key, n in taken.items())}")
    print(f"written: {', '.join(str(folder / f'{split}.json') for split in written)}")


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


def hub_files(source: str, split: str, names: SplitNames = ()) -> list[str]:
    """Local copies of a split's files, JSON Lines before parquet; offline, the cached ones.

    Args:
        source: data set on the hub.
        split: its name here.
        names: what data sets call a split that has another name here.

    Raises:
        UserError: the data set cannot be reached or has no such file.
    """
    if source == human_eval.NAME:
        raise UserError(
            f"--source {source}: prepare_data.py --source {source} writes these problems; "
            "--data_path takes what it wrote"
        )
    import huggingface_hub as hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        patterns = ["*.jsonl", f"*{dict(names).get(split, split)}*.parquet"]
        saved = hub.snapshot_download(source, repo_type="dataset", allow_patterns=patterns)
    # The base of the hub's own errors is that of its HTTP library: no name, no route, time-out.
    except (HfHubHTTPError.__bases__[0], HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"--source {source}: cannot be read from the Hugging Face hub ({reason}); "
            "--data_path takes a file or folder instead"
        ) from error
    kinds = [sorted(Path(saved).rglob(f"*{suffix}")) for suffix in (".jsonl", ".parquet")]
    files = [str(path.relative_to(saved)) for path in next(filter(None, kinds), [])]
    chosen = _files_of_split(files, split, names)
    if not chosen:
        found = ", ".join(files) or "no .jsonl or .parquet file"
        raise UserError(f"--source {source}: no file for split {split}, it has {found}")
    return [str(Path(saved) / name) for name in chosen]


def folder_files(
    folder: Path, split: str, names: SplitNames = (), flag: str = "--data_path"
) -> list[str]:
    """The files of a folder that hold one split; `names` as in `hub_files`.

    Raises:
        UserError: there is none.
    """
    files = [file.name for file in sorted(folder.iterdir()) if file.suffix in _SUFFIXES]
    chosen = _files_of_split(files, split, names)
    if not chosen:
        kinds = ", ".join(_SUFFIXES[:-1])
        raise UserError(f"{flag} {folder}: no {kinds} or {_SUFFIXES[-1]} file for split {split}")
    return [str(folder / name) for name in chosen]


def _read_splits(args: PrepareConfig, task: TaskSpec, faults: list[str]) -> dict[str, list[Record]]:
    path = Path(args.data_path)
    if not args.data_path:
        return _read_source(args.source or task.source, args, task, faults)
    if not path.exists():
        raise UserError(f"--data_path {path}: no such file or folder (looked in {Path.cwd()})")
    if path.is_file():
        records = _read([path], task, args, "--data_path", faults)
        return _split(records, args, f"--data_path {path}")
    files = {split: folder_files(path, split, task.split_names) for split in args.splits}
    return {
        split: _read(paths, task, args, "--data_path", faults) for split, paths in files.items()
    }


def _read_source(
    source: str, args: PrepareConfig, task: TaskSpec, faults: list[str]
) -> dict[str, list[Record]]:
    if source == human_eval.NAME:
        rows = {split: human_eval.human_eval_rows(split) for split in args.splits}
        need, fields = ("prompt",), args.fields
        return {
            split: rows_to_records(found, source, task, need, fields, "--source")
            for split, found in rows.items()
        }
    joined = dict(task.source_splits).get(source, ())
    names = task.split_names if source == task.source else ()
    files = {split: hub_files(source, split, names) for split in joined or args.splits}
    read = {split: _read(paths, task, args, "--source", faults) for split, paths in files.items()}
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
    paths: Sequence[str | Path], task: TaskSpec, args: PrepareConfig, flag: str, faults: list[str]
) -> list[Record]:
    need = () if args.skip_incomplete else ("prompt",)
    collected = faults if args.skip_incomplete else None
    return [
        record
        for path in paths
        for record in read_records(path, task, need, args.fields, flag, collected)
    ]


def _complete(records: Sequence[Record], task: TaskSpec) -> list[Record]:
    candidates = [key for key, _ in task.candidate_keys]
    return [
        record
        for record in records
        if record.prompt and (record.response or any(record.fields.get(key) for key in candidates))
    ]


def _files_of_split(files: Sequence[str], split: str, names: SplitNames) -> list[str]:
    """The file called after the split, else those whose name begins with it, else contains it."""
    stems = {name: Path(name).stem.lower() for name in sorted(files)}
    for called in filter(None, (dict(names).get(split), split)):
        exact = [name for name, stem in stems.items() if stem == called]
        begins = [name for name, stem in stems.items() if stem.startswith(called)]
        found = exact or begins or [name for name, stem in stems.items() if called in stem]
        if found:
            return found
    return []


def check_ids(rows: Sequence[Row], where: str) -> None:
    """Every id is there once, or an error that begins with `where`.

    Raises:
        UserError: the same id comes from two files or rows.
    """
    twice = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if twice:
        raise UserError(f'{where}: the id "{twice[0]}" occurs twice, in two files or rows')


def _count(rows: Sequence[Row], task: TaskSpec) -> tuple[int, int, int]:
    references = sum(task.reference_keys[0] in row for row in rows)
    return len(rows), references, sum(task.human_feedback_keys[0] in row for row in rows)


def _part_splits(written: dict[str, list[Row]], task: TaskSpec) -> None:
    """Leave out of each split what is about a prompt of a later one, and say so.

    Raises:
        UserError: nothing is left of a split.
    """
    names = list(written)
    for place, split in enumerate(names):
        for other in names[place + 1 :]:
            theirs = {_prompt_key(row, task) for row in written[other]}
            kept = [row for row in written[split] if _prompt_key(row, task) not in theirs]
            shared = {_prompt_key(row, task) for row in written[split]} & theirs
            if not kept:
                raise UserError(f"split {split}: all its prompts are in {other} too")
            if shared:
                count = len(written[split]) - len(kept)
                print(
                    f"WARNING: {len(shared)} prompts are in both {split} and {other}; "
                    f"{count} records of {split} left out"
                )
            written[split] = kept


def _prompt_key(row: Row, task: TaskSpec) -> str:
    return json.dumps(row[task.prompt_keys[0]])
