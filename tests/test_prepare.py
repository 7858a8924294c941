"""prepare_data: hub rows and users' files to records, nothing lost in silence."""

import json
from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError

from text2grad.config import PrepareConfig
from text2grad.prepare import hub_files, prepare_data, split_by_prompt
from text2grad.records import read_records
from text2grad.schema import FieldNames, Record, UserError
from text2grad.tasks import get_task

ROOT = Path(__file__).parent.parent
TASK = get_task("slf5k")
HTTP_ERROR = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


def hub_row(number, **changes):
    """A row with the hub's keys."""
    return {
        "id": f"t3_{number}",
        "subreddit": "advice",
        "title": "A title",
        "post": f"Post number {number}.",
        "tldr_human_reference_summary": "tldr",
        "summary_prompt": "Summarise:",
        "generated_summary_for_comparison_A": f"Summary A of {number}.",
        "generated_summary_for_comparison_B": f"Summary B of {number}.",
        "generated_summary_for_feedback": f"Summary F of {number}.",
        "comparison_preference": "Summary A",
        "feedback": "It lacks the question.",
        "feedback_class": "Coverage",
        "has_additional_feedback": False,
        "ideal_human_summary": f"Ideal summary of {number}.",
        **changes,
    }


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepare(tmp_path, source, **flags):
    prepare_data(PrepareConfig(data_path=str(source), output_dir=str(tmp_path / "out"), **flags))
    return {f.stem: json.loads(f.read_text("utf-8")) for f in (tmp_path / "out").glob("*.json")}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "slf5k"
    path.mkdir()
    write_lines(path / "train_part1.jsonl", [hub_row(1), hub_row(2)])
    write_lines(path / "train_part2.jsonl", [hub_row(3, generated_summary_for_comparison_B=None)])
    write_lines(path / "validation.jsonl", [hub_row(9)])
    return path


def test_feedback_candidate_only(tmp_path, folder):
    out = prepare(tmp_path, folder)
    assert [row["id"] for row in out["train"]] == [
        "t3_1-feedback",
        "t3_2-feedback",
        "t3_3-feedback",
    ]
    row = out["validation"][0]
    assert row["post"] == "Post number 9."
    assert row["generated_summary"] == "Summary F of 9."
    assert row["ideal_human_summary"] == "Ideal summary of 9."
    assert row["feedback"] == "It lacks the question."
    assert row["candidate"] == "generated_summary_for_feedback"


def test_all_candidates_keep_feedback_where_it_belongs_and_count_the_empty(
    tmp_path, folder, capsys
):
    out = prepare(tmp_path, folder, candidates="all")
    assert len(out["train"]) == 8  # 3 posts x 3 candidates - 1 empty
    with_feedback = [row["id"] for row in out["train"] if "feedback" in row]
    assert with_feedback == ["t3_1-feedback", "t3_2-feedback", "t3_3-feedback"]
    assert {row["generated_summary"] for row in out["train"]} >= {"Summary A of 3."}
    train = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("train"))
    # rows, left out, empty, repeated, records
    assert train.split()[1:6] == ["3", "0", "1", "0", "8"]


def test_output_is_read_by_the_next_stage(tmp_path, folder):
    prepare(tmp_path, folder, candidates="all")
    records = read_records(tmp_path / "out/train.json", TASK, ("prompt", "response", "reference"))
    assert records[0].response == "Summary F of 1."
    assert records[0].human_feedback == "It lacks the question."


def test_one_file_is_split_by_prompt(tmp_path):
    rows = [
        {"post": f"post {n % 10}", "generated_summary": f"summary {n}", "id": n} for n in range(40)
    ]
    source = tmp_path / "mine.json"
    source.write_text(json.dumps(rows), encoding="utf-8")
    out = prepare(tmp_path, source, valid_fraction=0.2)
    train, valid = ({row["post"] for row in out[name]} for name in ("train", "validation"))
    assert len(valid) == 2
    assert not train & valid
    assert len(out["train"]) + len(out["validation"]) == 40
    again = prepare(tmp_path, source, valid_fraction=0.2)
    assert again == out


def test_split_by_prompt_holds_out_at_least_one():
    records = [Record(str(n), f"p{n}", "r") for n in range(3)]
    parts = split_by_prompt(records, ("a", "b"), 0.01, 0)
    assert len(parts["b"]) == 1


@pytest.mark.parametrize(
    "shape", [{"7": {"Post": "A post.", "generated_summary": "Short."}}, [{"post": "A post.",
              "summary": "Short.", "id": "7"}]]
)  # fmt: skip
def test_published_shapes(tmp_path, shape):
    source = tmp_path / "own.json"
    source.write_text(json.dumps(shape), encoding="utf-8")
    out = prepare(tmp_path, source, splits=("train",))
    assert out["train"] == [{"id": "7", "post": "A post.", "generated_summary": "Short."}]


def test_own_keys_passages_and_the_rest_of_the_row(tmp_path):
    row = {"question": "Who?", "passages": ["One.", "Two."], "gold": "G", "prediction": "P."}
    source = write_lines(tmp_path / "qa.jsonl", [{**row, "human_errors": [], "missing_info": 1}])
    fields = FieldNames(prompt="question+passages", response="prediction", reference="gold")
    (out,) = prepare(tmp_path, source, splits=("train",), fields=fields)["train"]
    assert out == {
        "id": "qa-1",
        "post": "Who?\n\nOne.\n\nTwo.",
        "generated_summary": "P.",
        "ideal_human_summary": "G",
        "human_errors": [],
        "missing_info": 1,
    }


def test_incomplete_rows_stop_or_are_counted(tmp_path, capsys):
    good = {"post": "A post.", "generated_summary": "Short."}
    source = write_lines(tmp_path / "x.jsonl", [good, {**good, "post": "  "}, {"post": "B"}])
    with pytest.raises(UserError, match=r"x\.jsonl, record 2 .*prompt is missing.*post"):
        prepare(tmp_path, source, splits=("train",))
    out = prepare(tmp_path, source, splits=("train",), skip_incomplete=True)
    assert len(out["train"]) == 1
    assert capsys.readouterr().out.splitlines()[2].split()[1:3] == ["3", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"--data_path .*no such file"),
        ("", r"the file is empty"),
        ('[{"post": 1', r"is not JSON"),
        ('{"post": "a", "id": 1}', r"record 1 .*response is missing"),
        ('{"post": 5, "summary": "s"}', r'record 1 .*"post" must be a string.*int'),
        (
            '{"post": "a", "summary": "s", "generated_summary_for_feedback": 5, "id": 1}',
            r'record 1 .*"generated_summary_for_feedback" must be a string',
        ),
        (
            '{"id": 1, "post": "a", "summary": "s"}\n{"id": 1, "post": "b", "summary": "s"}',
            "same id",
        ),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, text, message):
    source = tmp_path / "bad.jsonl"
    if text is not None:
        source.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        prepare(tmp_path, source, splits=("train",))
    assert "\n" not in str(error.value)


def test_ids_that_repeat_across_files_are_an_error(tmp_path, folder):
    write_lines(folder / "train_part3.jsonl", [hub_row(1)])
    with pytest.raises(UserError, match='the id "t3_1-feedback" occurs twice'):
        prepare(tmp_path, folder)


def test_missing_split_and_shared_posts_are_said(tmp_path, folder, capsys):
    with pytest.raises(UserError, match=r"no .jsonl, .json or .parquet file for split test"):
        prepare(tmp_path, folder, splits=("train", "test"))
    write_lines(folder / "validation.jsonl", [hub_row(1)])
    prepare(tmp_path, folder)
    assert "1 prompts are in both train and validation" in capsys.readouterr().out


def test_unwritable_folder(tmp_path, folder):
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match=r"--output_dir .*cannot be written"):
        prepare_data(PrepareConfig(data_path=str(folder), output_dir=str(tmp_path / "out")))


def test_hub_files_come_from_json_lines_not_the_script(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []
    for name in ("README.md", "slf5k.py", "data/train.jsonl", "data/validation.jsonl", "t.parquet"):
        (tmp_path / "hub/data").mkdir(parents=True, exist_ok=True)
        write_lines(tmp_path / "hub" / name, [hub_row(name)])

    def download(source, **flags):
        asked.append((source, flags))
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    prepare_data(PrepareConfig(output_dir=str(tmp_path / "out")))
    flags = [
        {"repo_type": "dataset", "allow_patterns": ["*.jsonl", f"*{split}*.parquet"]}
        for split in ("train", "validation")
    ]
    assert asked == [("JeremyAlain/SLF5K", one) for one in flags]
    [row] = json.loads((tmp_path / "out/train.json").read_text("utf-8"))
    assert row["post"] == "Post number data/train.jsonl."
    with pytest.raises(UserError, match=r"--source X: no file for split test, it has data/"):
        hub_files("X", "test")


@pytest.mark.parametrize("base", [OSError, HTTP_ERROR])
def test_no_hub_is_one_line_that_names_the_way_out(monkeypatch, base):
    import huggingface_hub

    def refuse(source, **_):
        raise type("Refused", (base,), {})("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"--source X: cannot be read .*no route.*--data_path"):
        hub_files("X", "train")


def test_the_sample_is_in_the_hub_shape(tmp_path):
    sample = ROOT / "RM_Data_Anno/SLF5K/sample"
    out = prepare(tmp_path, sample, candidates="all")
    assert len(out["train"]) >= 240
    assert len({row["post"] for row in out["validation"]}) >= 30
