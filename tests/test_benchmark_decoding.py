"""The benchmark of constrained decoding, from its command line, on a model of a few kilobytes."""

import json
import sys

import pytest
from annotated import POSTS, row, save_base, write
from trees import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import decoding


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the benchmark with flags and gives what it printed."""

    def start(*flags):
        monkeypatch.setattr(sys, "argv", ["decoding.py", *map(str, flags)])
        capsys.readouterr()
        decoding.main()
        return capsys.readouterr().out

    return start


def test_figures_and_table_of_a_small_model(command, tmp_path):
    data = write(tmp_path / "data.json", [row(i, post) for i, post in enumerate(POSTS)])
    base, output = save_base(tmp_path / "tiny"), tmp_path / "decoding.md"
    flags = ["--models", base, "--data_path", data, "--batch_size", 2, "--max_new_tokens", 70]
    (found,) = json.loads(command(*flags, "--json", "--output_path", output))
    assert (found["replies"], found["full_batches"], found["batch_size"]) == (5, 2, 2)
    low, high = found["time_ratio_range"]
    assert 0 < low <= found["time_ratio"] <= high
    assert found["time_ratio"] == pytest.approx((low + high) / 2), "the median of two"
    assert 0 < found["forced_share"] < 1
    assert found["rejected_share"] > 0.2, "an untrained model is often overruled"
    assert found["unconstrained_parse_rate"] == 0
    text = output.read_text()
    assert text.startswith("Batches of 2 on ")
    header, _, cells = [line.strip("| ").split(" | ") for line in text.splitlines()[-3:]]
    assert (
        dict(zip(header, cells, strict=True)).items()
        >= {
            "model": f"{tmp_path.name}/tiny",
            "replies": "5",
            "full batches": "2",
            "time ratio": f"{found['time_ratio']:.3f}",
            "its range": f"{low:.3f} to {high:.3f}",
        }.items()
    )


def test_what_is_not_there_is_named_with_its_flag(command, tmp_path):
    data = write(tmp_path / "data.json", [row(0, POSTS[0])])
    with pytest.raises(SystemExit, match=r"^error: --models .*/none: no such folder"):
        command("--models", tmp_path / "none", "--data_path", data)
    with pytest.raises(SystemExit, match=r"^error: --data_path .*none.json: no such file"):
        command("--models", tmp_path, "--data_path", tmp_path / "none.json")
