"""The command that writes spans and token scores into records."""

import json
import subprocess
import sys

import pytest
from tiny import byte_fallback_tokenizer, byte_level_tokenizer

from text2grad.align import AlignConfig, align_file, align_response
from text2grad.alignment import TokenBytes
from text2grad.schema import Span, UserError
from text2grad.tasks import get_task

TASK = get_task("slf5k")


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level_tokenizer().save_pretrained(folder)
    return str(folder)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_records_with_quotes_alone_get_spans_ids_and_scores(tmp_path, tokenizer_folder, capsys):
    data = write(
        tmp_path / "in.jsonl",
        {
            "id": "a",
            "response": "The dog ran 🙂 home.",
            "good_spans": ["The dog"],
            "poor_spans": ["Ran  🙂", "a zebra"],
        },
        {"id": "b", "response": "No quotes here."},
    )
    align_file(AlignConfig(data, str(tmp_path / "out.jsonl"), tokenizer_folder))
    first, second = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["good_spans"] == ["The dog"]
    assert [(s["match"], s.get("start"), s.get("end")) for s in first["spans"]] == [
        ("exact", 0, 7),
        ("normalised", 8, 13),
        ("unmatched", None, None),
    ]
    assert first["tokens"][:4] == ["The", " dog", " ran", " "]
    assert first["token_scores"] == [1, 1, -1, 0, -1, -1, -1, -1, 0, 0]
    assert len(first["token_ids"]) == 10
    assert second == {"id": "b", "response": "No quotes here.", "unparseable": "no annotation"}
    printed = capsys.readouterr().out
    assert "all       3      1           1      0          1          0" in printed
    assert "records without readable feedback: 1" in printed
    assert "warning: 33.3% of the quotes" in printed


def test_aligned_records_can_be_aligned_again(tmp_path, tokenizer_folder):
    data = write(tmp_path / "in.jsonl", {"id": 1, "response": "so so", "poor_spans": ["so"]})
    out = [str(tmp_path / name) for name in ("one.jsonl", "two.jsonl")]
    align_file(AlignConfig(data, out[0], tokenizer_folder))
    align_file(AlignConfig(out[0], out[1], tokenizer_folder))
    assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()


def test_the_space_sentencepiece_adds_moves_no_offset():
    tokenizer = byte_fallback_tokenizer()
    spans = [Span("dog", "good", 4, 7)]
    aligned = align_response("The dog", spans, tokenizer, TokenBytes(tokenizer), TASK)
    assert aligned.text == "The dog"
    assert aligned.pieces == [b"The", b" dog"]
    assert aligned.scores == [0, 1]


def test_a_response_the_tokenizer_rewrites_is_located_in_its_own_text():
    tokenizer = byte_level_tokenizer()
    spans = [Span("dog", "good", 14, 17)]  # the special token spells nothing
    aligned = align_response("The <|im_end|>dog", spans, tokenizer, TokenBytes(tokenizer), TASK)
    assert aligned.text == "The dog"
    assert aligned.spans[0].start == 4
    spans = [Span("so", "poor", 10, 12)]  # after the special token; in the text another copy
    response = "<|im_end|>" + "so.  " * 6
    aligned = align_response(response, spans, tokenizer, TokenBytes(tokenizer), TASK)
    assert (aligned.spans[0].start, aligned.spans[0].copies) == (25, 6)


def test_mistakes_are_named(tmp_path, tokenizer_folder):
    out = str(tmp_path / "out.jsonl")
    bare = write(tmp_path / "bare.jsonl", {"id": 1, "response": "text", "critique": "so so"})
    with pytest.raises(UserError, match=r"good_spans, poor_spans.*missing key good_spans.*data_pa"):
        align_file(AlignConfig(bare, out, tokenizer_folder))
    silent = write(tmp_path / "silent.jsonl", {"id": 1, "good_spans": ["x"]})
    with pytest.raises(UserError, match=r"record 1.*response is missing"):
        align_file(AlignConfig(silent, out, tokenizer_folder))
    good = write(tmp_path / "good.jsonl", {"id": 1, "response": "text", "good_spans": ["text"]})
    with pytest.raises(UserError, match="--tokenizer"):
        align_file(AlignConfig(good, out, str(tmp_path / "nowhere")))


def test_help_needs_no_heavy_library():
    command = [sys.executable, "-X", "importtime", "-m", "text2grad.align", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--tokenizer" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "text2grad.alignment" in imported
    assert imported.isdisjoint({"torch", "transformers", "peft"})
