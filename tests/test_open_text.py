"""Open-ended text, judged without a reference, and the task that is judged so."""

import json

import pytest
from policy_runs import rows_of, save_tiny
from test_paper_run import start
from trees import ROOT

from text2grad.alignment import locate_spans
from text2grad.annotators.open_text import asked_share, asked_words, open_text_score
from text2grad.annotators.reference import ReferenceAnnotator, support_score
from text2grad.files import read_rows
from text2grad.records import read_records
from text2grad.schema import Record
from text2grad.tasks import get_task

FILE = ROOT / "paper/writing/task.py"
TASK = get_task(str(FILE))
ASKED = "Write a story of two sentences with the words lamp, rope and Monday."


def said(response, prompt=ASKED):
    (feedback,) = ReferenceAnnotator(TASK).annotate([Record("r", prompt, response)])
    spans = locate_spans(feedback.spans, response, TASK)
    assert all(span.match == "exact" for span in spans)
    quotes = {label: [s.text for s in spans if s.label == label] for label in ("good", "poor")}
    return quotes["good"], quotes["poor"], feedback.critique


def test_words_that_are_asked_for():
    assert list(asked_words(ASKED).values()) == ["lamp", "rope", "Monday"]
    assert list(asked_words("Using the word salt, in one sentence.").values()) == ["salt"]
    assert asked_words("Write a story in fifty words about Monday.") == {}
    assert asked_share(ASKED, "The lamps went out on Monday.") == pytest.approx(2 / 3)
    assert asked_share("Write anything.", "Anything.") is None


def test_good_is_what_brings_in_a_word_for_the_first_time():
    good, poor, critique = said("He hung the lamp on a rope. Nobody came. The lamp went out.")
    assert good == ["He hung the lamp on a rope"]
    assert poor == ["The lamp went out"]  # the third of two sentences
    assert "“Monday”" in critique


@pytest.mark.parametrize(
    ("response", "poor"),
    [
        ("Once upon a time a lamp hung there.", "Once upon a time a lamp hung there"),
        ("Sure, here is your story! The rope broke.", "Sure, here is your story"),
        ("Here is a story about a lamp. The rope broke.", "Here is a story about a lamp"),
        (
            "Old Anna tied the rope to the iron gate. Old Anna tied the rope to the iron gate.",
            "Old Anna tied the rope to the iron gate",
        ),
        ("I'm sorry, but I cannot write that.", "I'm sorry, but I cannot write that"),
    ],
)
def test_poor_is_worn_said_twice_or_no_part_of_the_text(response, poor):
    assert poor in said(response)[1]


def test_in_between_people_may_greet_and_refuse():
    prompt = ASKED.replace("two", "four")
    text = (
        "The lamp was lit. “Hello,” said the rope seller. Thank you for coming, he said. He left."
    )
    assert said(text, prompt)[1] == []


def test_score_counts_words_by_hand():
    # five words with the lamp, two without fault or merit, three too many: (5 - 3) / 10
    assert open_text_score(ASKED, "The lamp went out again. Nobody came. It was late.") == 0.2
    assert support_score(ASKED, "", "Nobody came.", "prompt") == 0
    assert open_text_score(ASKED, "") == 0


def test_a_response_without_words_is_judged_too():
    assert said("")[:2] == ([], [])
    assert said("…", "Write something.")[:2] == ([], [])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_sample_keeps_to_its_own_rules(split):
    records = read_records(FILE.parent / f"sample/{split}.jsonl", TASK, ("prompt", "response"))
    assert len({record.prompt for record in records}) == len(records)
    for record in records:
        assert asked_share(record.prompt, record.response) == 1, record.id
        assert said(record.response, record.prompt)[1] == [], record.id


def test_no_prompt_is_in_both_splits():
    prompts = [
        {row["prompt"] for row in read_rows(FILE.parent / f"sample/{split}.jsonl")}
        for split in ("train", "validation")
    ]
    assert not prompts[0] & prompts[1]


def test_every_prompt_file_of_the_others_is_there():
    there = {path.name for path in FILE.parent.glob("*.txt")}
    assert there == {
        path.name for path in (ROOT / "text2grad/tasks/prompts/ultrafeedback").glob("*.txt")
    }
    for name in there:
        slots = get_task("slf5k").prompt_template(name[:-4]).slots
        assert TASK.prompt_template(name[:-4]).slots == slots


@pytest.mark.slow
def test_the_fourth_task_runs_with_the_scripts_of_another(tmp_path):
    """Both methods with noise at either place, and the tables, on a model of a few kilobytes."""
    data = tmp_path / "data"
    data.mkdir()
    for split, count in (("train", 8), ("validation", 3)):
        lines = (FILE.parent / f"sample/{split}.jsonl").read_text().splitlines()[:count]
        (data / f"{split}.jsonl").write_text("\n".join(lines))
    runs = tmp_path / "runs" / "writing-trial"
    flags = ["--table", "writing", "--budget", "trial", "--seeds", 1, "--data_path", data]
    flags += ["--model", save_tiny(tmp_path / "model"), "--output_dir", runs]
    flags += ["--methods", "text2grad", "scalar_ppo"]
    for more in ([], ["--noise", "flip:0.5"], ["--noise", "flip:0.5", "--noise_at", "rewards"]):
        done = start("run.py", *flags, *more)
        assert done.returncode == 0, done.stdout + done.stderr
    done = start("run.py", *flags[:-3], "--reward_from", runs, "--annotations_from", runs)
    assert done.returncode == 0, done.stdout + done.stderr
    made = start("tables.py", "--runs_dir", runs.parent, "--output_dir", tmp_path, "--results", "")
    assert made.returncode == 0, made.stderr
    config = json.loads((runs / "runs/text2grad-1/train/config.json").read_text())
    assert config["flags"]["task"] == str(FILE)
    rewards = runs / "noise/flip-0.5-rewards/scalar_ppo-1"
    rows = rows_of(rewards / "train")
    assert all("wrong_quotes" in row for row in rows)
    noisy = runs / "noise/flip-0.5-labels"
    counts = json.loads((noisy / "annotation/train_annotated.noise.json").read_text())
    assert counts["records"] == 8
    assert (noisy / "reward_model-spans/metrics.json").exists()
    table = (tmp_path / "writing-trial-noise.md").read_text()
    for name in ("none", "flip 50% of the labels", "flip 50% of the rewards"):
        assert f"| {name}: Text2Grad |" in table
        assert f"| {name}: lead of span over scalar |" in table
    judged = (tmp_path / "writing-trial-reward_models.md").read_text()
    (own,) = (line for line in judged.splitlines() if line.startswith("| critique and quotes |"))
    (foreign,) = (line for line in judged.splitlines() if line.startswith("| from writing-trial |"))
    assert own.split("|")[2:] == foreign.split("|")[2:]  # it is the same one
    (same,) = (line for line in judged.splitlines() if line.startswith("| annotations of writing"))
    assert "1.000" in same
