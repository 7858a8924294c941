import json
from pathlib import Path

import pytest

from text2grad.files import (
    Journal,
    atomic_write,
    read_rows,
    side_file,
    write_json,
    write_rows,
    write_text,
)
from text2grad.run_folder import MetricsFile
from text2grad.schema import UserError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        (
            '{"x": {"a": 1}, "y": {"id": "own", "a": 2}}',
            [{"id": "x", "a": 1}, {"id": "own", "a": 2}],
        ),
        ('{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": "one\u2028line"}\n{"a": 2}', [{"a": "one\u2028line"}, {"a": 2}]),
        ('{"a": 1}', [{"a": 1}]),
        ('\ufeff[{"a": 1}]', [{"a": 1}]),
    ],
)
def test_accepted_shapes(tmp_path, text, rows):
    assert read_rows(write(tmp_path / "x.json", text)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  \n", "--d PATH: the file is empty"),
        ("[]", "--d PATH: the list of records is empty"),
        ("3", "--d PATH: expected a list of records, found a number"),
        ('[{"a": 1}, "b"]', "--d PATH: record 2 is a string, expected an object"),
        ('[{"a": 1},\n {"a" 2}]', "--d PATH: line 2 is not JSON: Expecting ':' delimiter"),
        ('{"a": 1}\n{"a": 2\n', "--d PATH: line 2 is not JSON: Expecting ',' delimiter"),
    ],
)
def test_bad_files_are_named_with_the_place(tmp_path, text, message):
    path = write(tmp_path / "x.json", text)
    with pytest.raises(UserError) as caught:
        read_rows(path, "--d")
    assert str(caught.value) == message.replace("PATH", str(path))


def test_missing_and_undecodable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"--d .*none.json: no such file \(looked in /"):
        read_rows(tmp_path / "none.json", "--d")
    with pytest.raises(UserError, match=r"--d .*: Is a directory"):
        read_rows(tmp_path, "--d")
    (tmp_path / "x").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(UserError, match=r"not UTF-8 text \(byte 8\)"):
        read_rows(tmp_path / "x", "--d")


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_what_is_written_is_read_back(tmp_path, name):
    rows = [{"a": "é\u2028\n", "b": [1, None]}, {"a": "🙂"}]
    write_rows(tmp_path / "new" / name, rows)
    assert read_rows(tmp_path / "new" / name) == rows


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_half_an_emoji_is_read_as_a_character(tmp_path, name):
    path = write(tmp_path / name, '{"a": ["so \\ud83d", 1], "\\uDE00": "\\ud83d\\ude00 \\\\ud83d"}')
    assert read_rows(path) == [{"a": ["so \ufffd", 1], "\ufffd": "\U0001f600 \\ud83d"}]


@pytest.mark.parametrize(
    ("output", "beside"),
    [
        ("out/a.json", "out/a.qc.json"),
        ("a.jsonl", "a.qc.json"),
        ("out.d/gpt-4.1", "out.d/gpt-4.1.qc.json"),
    ],
)
def test_a_file_beside_an_output_is_of_that_output_alone(output, beside):
    assert side_file(output, ".qc.json") == Path(beside)


def fill_the_disk(path):
    with atomic_write(path, "--o") as out:
        out.write(b"half")
        raise OSError(28, "No space left on device")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write(tmp_path / "x.json", "old")

    def half_then_fail():
        yield {"a": 1}
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_rows(path, half_then_fail())
    with pytest.raises(UserError, match=r"--o .*x.json: cannot be written: No space left"):
        fill_the_disk(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    write(tmp_path / "file", "")
    with pytest.raises(UserError, match=r"--o .*file/x.json: cannot be written: "):
        write_json(tmp_path / "file" / "x.json", {}, "--o")


def test_lone_surrogates_become_escapes(tmp_path):
    write_text(tmp_path / "x", "a\ud800")
    assert (tmp_path / "x").read_bytes() == b"a\\ud800"


def test_journal_goes_on_after_a_torn_last_line(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append({"key": "a", "text": "é\ud800"})
    journal.append({"key": "b"})
    journal.close()
    with open(path, "ab") as out:
        out.write(b'{"key": "c", "te')
    journal = Journal(path)
    assert list(journal.rows) == ["a", "b"]
    assert journal.rows["a"]["text"] == "é\ufffd"
    journal.append({"key": "d"})
    journal.close()
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "b", "d"]


@pytest.mark.parametrize("bad", [b'{"key": "b", "te\n', b"[1]\n", b'{"x": 1}\n', b"\xff\n"])
def test_another_damaged_line_of_a_journal_is_named_and_nothing_is_lost(tmp_path, bad):
    path = tmp_path / "j.jsonl"
    content = b'{"key": "a"}\n' + bad + b'{"key": "c"}\n'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"--o .*j.jsonl: line 2 of this journal is damaged"):
        Journal(path, "--o")
    assert path.read_bytes() == content


def test_metrics_are_rewound_to_the_step_that_is_resumed(tmp_path):
    path = tmp_path / "m.jsonl"
    metrics = MetricsFile(path)
    for step in (1, 2, 3):
        metrics.append({"step": step, "text": "a\u2028b\x85c"})
    with open(path, "a") as out:
        out.write('{"step": 4, "te')
    MetricsFile(path, step=2).append({"step": 3, "text": "again"})
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    assert [(row["step"], row["text"][:5]) for row in rows] == [
        (1, "a\u2028b\x85c"),
        (2, "a\u2028b\x85c"),
        (3, "again"),
    ]
    MetricsFile(path)  # a new run begins anew
    assert path.read_text() == ""
