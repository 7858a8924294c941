"""The README says what is there: paths, commands, flags, records, and every number."""

import json
import re
import shlex

import pytest
import torch
from tiny import byte_level_tokenizer
from trees import PAPER, ROOT, SCRIPTS, SHELLS, check_flags, dry_run, flag_names, load_args

from text2grad import ppo_math
from text2grad.align import AlignConfig
from text2grad.alignment import (
    byte_pieces,
    locate_spans,
    response_text,
    score_tokens,
    token_offsets,
)
from text2grad.parsing import parse_reply, read_feedback, target_json, word_target_json
from text2grad.report import ReportConfig
from text2grad.schema import Feedback, Span
from text2grad.tasks import get_task

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S)
TASK = get_task("slf5k")
MODULES = {"text2grad.report": ReportConfig, "text2grad.align": AlignConfig}


def fences(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXT, flags=re.M | re.S)


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, flags=re.M | re.S)[1]


def rows(text):
    """Cells of the body rows of all tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set(row[0]) <= set("-")]


# -- paths


def test_named_paths_exist():
    names = re.findall(r"`([\w.{}-]+(?:/[\w.{}-]+)+/?)`", PROSE) + re.findall(
        r"\]\((\w[^):]*)\)", TEXT
    )
    for name in names:
        made = re.search(r"/(data|ckpt|result)/|inference_results|_metrics\.json|^my/", name)
        assert made or (ROOT / name).exists(), name


def test_handover_table_lists_the_defaults():
    """Each path is the default output of the script on its left, and of no other place."""
    for script_cell, paths in rows(section("What one stage hands to the next"))[1:]:
        named = [p.strip("` ") for p in paths.split(",")]
        name, folders = script_cell.strip("`"), named[0].split("/")[:2]
        script = next(
            s for s in SCRIPTS if s.name == name and list(s.relative_to(ROOT).parts[:2]) == folders
        )
        args = load_args(script)()
        keys = ("output_dir", "output_path", "output_file", "save_dir", "data_dir", "lora_model")
        places = [getattr(args, key) for key in keys if getattr(args, key, "")]
        roots = [str((script.parent / place).resolve().relative_to(ROOT)) for place in places]
        for path in named:
            split_of_train = path.replace("validation", "train")
            assert any(p in (path, split_of_train) or path.startswith(p) for p in roots), path


def test_file_tree_is_the_repository():
    tree = re.search(r"^```text\n(env\.sh.*?)^```", TEXT, flags=re.M | re.S)[1]
    folder, listed = "", set()
    for line in tree.splitlines():
        name, _, rest = line.strip().partition(" ")
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
            listed.add(ROOT / name)
            continue
        listed.add(ROOT / folder / name)
        if name == "Evaluation/":
            listed |= {ROOT / folder / name / file for file in rest.split()}
    missing = [str(path) for path in listed if not path.exists()]
    assert not missing
    assert {*SCRIPTS, *SHELLS, *PAPER} <= listed, "every script and shell is in the tree"


# -- commands: test_literal.py runs them, here also those that it leaves out


def check_command(words, folder):
    """The program exists and every flag is one of its flags."""
    while words and "=" in words[0] and not words[0].startswith("-"):
        words = words[1:]
    program, *rest = words
    if program in ("git", "cd"):
        return
    if program == "python" and rest[0] == "-m":
        unknown = {word[2:] for word in rest if word.startswith("--")} - flag_names(
            MODULES[rest[1]]
        )
        assert not unknown, words
        return
    assert program in ("bash", "python"), words
    target = ROOT / folder / rest[0]
    assert target.exists(), words
    if target.suffix == ".py":
        check_flags(target, rest[1:])
    elif target.parent == ROOT / "presets":
        check_flags(dry_run(target, rest[1])[-1][0], rest[2:])
    elif target.parent == ROOT or target.parent.name == "tests":
        shell = target.read_text(encoding="utf-8")
        for flag in (word for word in rest if word.startswith("--")):
            assert flag in shell, words
    else:
        check_flags(dry_run(target)[-1][0], rest[1:])


def test_fenced_commands_name_files_and_flags_that_exist():
    for fence in fences("bash"):
        folder = "."
        for line in fence.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                words = shlex.split(command.replace("<this repository>", "URL"))
                if words and words[0] == "cd":
                    folder = words[1] if "/" in words[1] else "."
                elif words:
                    check_command(words, folder)


def test_commands_of_the_table_name_files_and_flags_that_exist():
    table = rows(section("Commands").split("\n### ")[0])[1:]
    assert len(table) == 48
    for _, folder, command in table:
        check_command(shlex.split(command.strip("`")), folder.strip("`"))
    named = {(f.strip("`"), c.strip("`").split()[1]) for _, f, c in table}
    heavy = {path for path in SHELLS} | {p for p in SCRIPTS if "Evaluation" in p.parts}
    by_shell = {p for p in heavy for s in p.parent.glob("*.sh") if f" {p.name} " in s.read_text()}
    unnamed = {p for p in heavy if (str(p.parent.relative_to(ROOT)), p.name) not in named}
    assert unnamed <= by_shell


def test_flags_in_prose_are_flags():
    known = {"all", "fast", "help", "check", "reward_baseline", "batched_gen", "reward_mode"}
    known |= {"strategy", "answer_max_length"}
    known |= {"preset", "estimate", "nodes", "gpus", "signal"}  # of a benchmark, of sbatch
    for args_type in (*map(load_args, [*SCRIPTS, *PAPER]), *MODULES.values()):
        known |= flag_names(args_type)
    for text in re.findall(r"`([^`\n]*--[^`\n]*)`", PROSE):
        unknown = set(re.findall(r"--([\w.]+)", text)) - known
        assert not unknown, text


# -- records


@pytest.mark.parametrize("fence", fences("json"))
def test_records_are_what_the_readers_read(fence):
    row = json.loads(fence)
    if "wrong_code" in row:
        feedback = parse_reply(fence, get_task("kodcode"))
        assert [span.text for span in feedback.spans] == row["wrong_code"]
        assert target_json(feedback, get_task("kodcode")) == fence.strip()
        return
    if "query" in row or "good_spans" not in row:
        return
    feedback = read_feedback(row, TASK) if "id" in row else parse_reply(fence, TASK)
    assert isinstance(feedback, Feedback)
    assert [span.text for span in feedback.spans] == row["good_spans"] + row["poor_spans"]
    if "spans" in row:
        located = locate_spans(feedback.spans, row["generated_summary"], TASK)
        assert [span.to_json() for span in located] == row["spans"]
    else:
        assert target_json(feedback, TASK) == fence.strip()


def test_a_record_of_every_border_is_shown():
    assert len(fences("json")) == 7


def test_the_two_formats_of_a_reply_say_the_same():
    annotated, quotes, words = (fences("json")[place] for place in (1, 2, 3))
    response = json.loads(annotated)["generated_summary"]
    spans = locate_spans(parse_reply(quotes, TASK).spans, response, TASK)
    said = Feedback(json.loads(quotes)["textual_feedback"], spans)
    assert word_target_json(said, response, TASK) == words.strip()
    read = parse_reply(words, TASK, response)
    assert [span.text for span in read.spans] == [span.text for span in spans]


# -- the worked example


def number(cell):
    return float(cell.replace("−", "-"))


def test_worked_example():
    text = section("From a quote to an advantage")
    response = re.search(r"response: `(.*)`", text)[1]
    good, poor = re.search(r"good: `(.*)` · poor: `(.*)`", text).groups()
    table = rows(text)[1:]

    tokenizer = byte_level_tokenizer()
    ids = [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]
    pieces = byte_pieces(tokenizer, ids)
    assert response_text(pieces) == response
    shown = [cell[1:-1] if cell.startswith("`") else "" for cell, *_ in table]
    assert [piece.decode() for piece in pieces] == shown

    quotes = [Span(good, "good"), Span(poor, "poor")]
    spans = locate_spans(quotes, response, TASK)
    assert [(s.start, s.end, s.match) for s in spans] == [(8, 23, "exact"), (38, 47, "normalised")]
    assert "characters 8 to 23" in text
    assert "38 to 47 (`normalised`)" in text
    places = [f"{start}–{end}" for start, end in token_offsets(pieces)]
    assert places == [row[1] for row in table]
    scores = score_tokens(pieces, spans, TASK)
    assert scores == [number(row[2]) for row in table]

    assert "β = 0.2 and KL = 0.05" in text
    assert "γ = 1, λ = 0.95" in " ".join(text.split())
    assert "total of +3" in text
    assert sum(scores) == 3
    row_of = torch.tensor([scores])
    mask = torch.ones_like(row_of, dtype=torch.bool)
    for kind, column in (("span", 3), ("scalar", 5)):
        paid = ppo_math.assign_credit(row_of, mask, kind)
        rewards = ppo_math.token_rewards(paid, torch.full_like(row_of, 0.05), 0.2, mask)
        advantages, _ = ppo_math.gae(rewards, torch.zeros_like(rewards), mask, 1.0, 0.95)
        for got, place in ((rewards, column), (advantages, column + 1)):
            assert [f"{x:+.2f}" for x in got[0].tolist()] == [
                f"{number(row[place]):+.2f}" for row in table
            ]


def test_worked_example_by_hand():
    """The suffix sum of 0.95^k times the reward, as a person would add it up."""
    rewards = [-0.01, -0.01, 0.99, 0.99, 0.99, 0.99, 0.99, *[-0.01] * 4, -1.01, -1.01, -0.01, -0.01]
    table = rows(section("From a quote to an advantage"))[1:]
    for place, row in enumerate(table):
        advantage = sum(0.95**k * reward for k, reward in enumerate(rewards[place:]))
        assert number(row[4]) == pytest.approx(advantage, abs=0.005)


# -- manners


def test_readme_has_the_parts_people_look_for():
    titles = re.findall(r"^## (.*)$", TEXT, flags=re.M)
    assert titles == [
        "What is in it",
        "Quickstart",
        "Installation",
        "Commands",
        "Several GPUs",
        "What one stage hands to the next",
        "From a quote to an advantage",
        "Your own data",
        "Metrics",
        "Benchmarks",
        "Files",
        "What has been tested, and what has not",
        "Departures",
        "Data sets",
        "Citation",
        "References",
        "Acknowledgements",
        "Contributing",
        "Licence",
    ]
    assert "arxiv.org/abs/2505.22338" in TEXT
    assert "shields.io" not in TEXT
