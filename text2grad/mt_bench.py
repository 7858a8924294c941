"""MT-Bench and MT-Bench-101: the policy answers turn by turn, a chat model rates every answer."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2grad.chat_client import ChatClient
from text2grad.config import MtBenchConfig
from text2grad.download import fetch
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
from text2grad.judge_prompts import JudgePrompts, read_judge_prompts
from text2grad.missing import advice
from text2grad.question_sets import SETS, Dialogue, QuestionSet, read_dialogues
from text2grad.ratings import (
    RatedDialogue,
    Rating,
    parse_rating,
    rating_figures,
    rating_table,
)
from text2grad.records import sample_in_order
from text2grad.resumable import ask_missing
from text2grad.schema import Unparseable, UserError


@dataclass
class RatedTurn:
    """One turn of a dialogue.

    Attributes:
        dialogue: which.
        turn: from 0.
        answers: those that the conversation has up to this turn, the policy's answer last.
        rating: of that answer, or why there is none.
    """

    dialogue: Dialogue
    turn: int
    answers: tuple[str, ...]
    rating: Rating | Unparseable


def evaluate_mt_bench(args: MtBenchConfig) -> None:
    """Answer and rate the questions of `args.set`, print and write the figures.

    Beside the output lie NAME.answers.jsonl and NAME.journal.jsonl (every answer and raw reply; a
    second run does only what is missing or has changed), NAME.scores.jsonl (every rated answer) and
    NAME.failed.jsonl (turns without a rating, with the reason); NAME.set.json says whose they are.

    Raises:
        UserError: the files do not fit, the server cannot be used, or no answer has a rating.
    """
    questions = SETS[args.set]
    output = Path(args.output_file or f"result/{questions.name}.json")
    check_writable(output.parent, "--output_file")
    _check_same_set(output, questions)
    paths = _paths(args, questions, output.parent)
    prompts = read_judge_prompts(paths["judge_prompts"], questions)
    dialogues = read_dialogues(questions, paths["data"], paths["references"])
    write_json(_set_file(output), {"set": questions.name}, "--output_file")
    dialogues = sample_in_order(dialogues, args.max_samples, random.Random(args.seed))
    turns = answer_dialogues(dialogues, questions, output, args)
    rate_turns(turns, prompts, output, args)
    _write_turns(output, turns)
    report = _report(turns, len(dialogues), questions, prompts, paths, args)
    write_json(output, report, "--output_file")
    print(rating_table(report, questions.names))
    print(f"all figures: {output}; every answer: {side_file(output, '.scores.jsonl')}")
    if report["failed"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report["failed"].items())
        print(
            f"WARNING: {sum(report['failed'].values())} of {report['rated_turns']} answers have no "
            f"rating and are left out ({reasons}; {side_file(output, '.failed.jsonl')}); "
            "--retry_failed asks the judge again",
            file=sys.stderr,
        )


def answer_dialogues(
    dialogues: Sequence[Dialogue], questions: QuestionSet, output: Path, args: MtBenchConfig
) -> list[RatedTurn]:
    """Every turn that is rated, with the policy's answer or the reason why there is none."""
    from text2grad.chat_answers import Answerer, Asked  # loads torch

    journal = Journal(side_file(output, ".answers.jsonl"), "--output_file")
    found: list[RatedTurn] = []
    said: dict[str, list[str]] = {dialogue.id: [] for dialogue in dialogues}
    try:
        answerer = Answerer(args, journal)
        for turn in range(max(len(dialogue.questions) for dialogue in dialogues)):
            open_now = [d for d in dialogues if d.first_rated <= turn < len(d.questions)]
            able = [d for d in open_now if d.given or len(said[d.id]) == turn]
            asked = [
                Asked(f"{d.id} turn {turn + 1}", _messages(d, turn, said[d.id]), heat)
                for d, heat in ((d, _temperature(d, questions, args)) for d in able)
            ]
            answers = dict(
                zip((d.id for d in able), answerer.answer(asked, f"turn {turn + 1}"), strict=True)
            )
            for dialogue in open_now:
                answer = answers.get(dialogue.id, Unparseable("an earlier turn has no answer"))
                before = dialogue.given[:turn] or tuple(said[dialogue.id])
                whole = isinstance(answer, str)
                found.append(
                    RatedTurn(
                        dialogue,
                        turn,
                        (*before, answer) if whole else (),
                        Unparseable("not rated yet") if whole else answer,
                    )
                )
                if whole:
                    said[dialogue.id].append(answer)
    finally:
        journal.close()
    return found


def rate_turns(
    turns: Sequence[RatedTurn], prompts: JudgePrompts, output: Path, args: MtBenchConfig
) -> None:
    """Give every answer its rating, from the journal or the server."""
    answered = [turn for turn in turns if turn.answers]
    messages = [prompts.render(turn.dialogue, turn.answers) for turn in answered]
    settings = json.dumps(
        [args.set, args.judge_model, args.temperature, args.top_p, args.max_tokens]
    )
    client = ChatClient(args, args.judge_model, "--judge_model")

    def to_row(place: int, rating: Rating | Unparseable) -> Row:
        about = {"id": answered[place].dialogue.id, "turn": answered[place].turn + 1}
        failed = {"reason": rating.reason} if isinstance(rating, Unparseable) else {}
        return {**about, "raw": rating.raw, **failed}

    def from_row(row: Mapping[str, Any]) -> Rating | Unparseable:
        if "reason" in row:
            return Unparseable(row["reason"], row["raw"])
        return parse_rating(row["raw"])

    ratings = ask_missing(
        Journal(side_file(output, ".journal.jsonl"), "--output_file"),
        [sha256_text(json.dumps(one), settings) for one in messages],
        lambda places, done: client.ask([messages[place] for place in places], parse_rating, done),
        to_row,
        from_row,
        args.retry_failed,
        f"rating ({args.judge_model})",
        "answer",
    )
    for turn, rating in zip(answered, ratings, strict=True):
        turn.rating = rating


def _messages(dialogue: Dialogue, turn: int, said: Sequence[str]) -> tuple[dict[str, str], ...]:
    before = dialogue.given or said
    messages = []
    for place, question in enumerate(dialogue.questions[: turn + 1]):
        messages.append({"role": "user", "content": question})
        if place < turn:
            messages.append({"role": "assistant", "content": before[place]})
    return tuple(messages)


def _temperature(dialogue: Dialogue, questions: QuestionSet, args: MtBenchConfig) -> float:
    if args.policy_temperature is not None:
        return args.policy_temperature
    return questions.temperatures.get(dialogue.category, questions.temperature)


def _paths(args: MtBenchConfig, questions: QuestionSet, folder: Path) -> dict[str, str]:
    """The files of questions, references and judge prompts, downloaded where none is named."""
    kept = folder / "downloads"

    def there(url: str, flag: str) -> str:
        return fetch(url, kept / f"{questions.name}_{url.rpartition('/')[2]}", flag)

    data, references = args.data, args.references
    for path, flag in ((data, "--data"), (references, "--references")):
        if path and not Path(path).exists():  # said before anything is downloaded
            raise UserError(f"{flag} {path}: no such file{advice(path)}")
    if not data:
        data = there(questions.url, "--data")
        if questions.references_url and not references:
            references = there(questions.references_url, "--references")
    prompts = args.judge_prompts
    if not prompts:
        url = questions.prompts_url
        prompts = there(url, "--judge_prompts") if url else "own"
    return {"data": data, "references": references, "judge_prompts": prompts}


def _check_same_set(output: Path, questions: QuestionSet) -> None:
    """Figures of one set never replace those of another, and nobody finds both in one journal."""
    for path in (output, _set_file(output)):
        other = _set_of(path) if path.exists() else questions.name
        if other != questions.name:
            raise UserError(
                f"--output_file {output}: holds the figures of {other}, not of --set "
                f"{questions.name}; name another file"
            )


def _set_file(output: Path) -> Path:
    return side_file(output, ".set.json")


def _set_of(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["set"])
    except (OSError, ValueError, TypeError, KeyError):
        return "something else"


def _report(
    turns: Sequence[RatedTurn],
    count: int,
    questions: QuestionSet,
    prompts: JudgePrompts,
    paths: Mapping[str, str],
    args: MtBenchConfig,
) -> dict[str, Any]:
    failed = Counter(t.rating.reason for t in turns if isinstance(t.rating, Unparseable))
    scores: dict[str, dict[int, float | None]] = {}
    for turn in turns:
        known = turn.rating.score if isinstance(turn.rating, Rating) else None
        scores.setdefault(turn.dialogue.id, {})[turn.turn + 1] = known
    categories = {turn.dialogue.id: turn.dialogue.category for turn in turns}
    rated = [RatedDialogue(name, categories[name], by_turn) for name, by_turn in scores.items()]
    if not any(dialogue.counted(questions.worst_turn) for dialogue in rated):
        raise UserError(
            f"--judge_model {args.judge_model}: no rating counts, of {len(turns)} answers; "
            f"the most frequent reason: {failed.most_common(1)[0][0]}"
        )
    return {
        "set": questions.name,
        "title": questions.title,
        "model": args.model_path,
        "files": {name: {"path": path, **_hash(path)} for name, path in paths.items() if path},
        "judge": {
            "model": args.judge_model,
            "base_url": args.base_url,
            "prompts": prompts.source,
            "prompt_sha": prompts.sha[:16],
            "temperature": args.temperature,
            "top_p": args.top_p,
        },
        "policy_temperature": args.policy_temperature,
        "max_new_tokens": args.max_new_tokens,
        "seed": args.seed,
        "dialogues": count,
        "rated_turns": len(turns),
        "failed": dict(failed),
        "counts": "worst turn of a dialogue" if questions.worst_turn else "every rated turn",
        **rating_figures(rated, questions, args.seed),
    }


def _hash(path: str) -> dict[str, str]:
    return {"sha256": sha256_file(path)} if Path(path).is_file() else {}


def _write_turns(output: Path, turns: Sequence[RatedTurn]) -> None:
    """The rated answers, and apart the turns without a rating."""
    rated, failed = [], []
    for turn in turns:
        about = {
            "id": turn.dialogue.id,
            "category": turn.dialogue.category,
            "turn": turn.turn + 1,
            "question": turn.dialogue.questions[turn.turn],
            "answer": turn.answers[-1] if turn.answers else None,
        }
        if isinstance(turn.rating, Rating):
            rated.append({**about, "score": turn.rating.score, "raw": turn.rating.raw})
        else:
            failed.append({**about, "reason": turn.rating.reason, "raw": turn.rating.raw})
    write_rows(side_file(output, ".scores.jsonl"), rated, "--output_file")
    if failed:
        write_rows(side_file(output, ".failed.jsonl"), failed, "--output_file")
    else:
        side_file(output, ".failed.jsonl").unlink(missing_ok=True)
