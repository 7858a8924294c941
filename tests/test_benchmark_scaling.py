"""The benchmark of scaling, from its command line, on a model of a few kilobytes."""

import json
import sys

import pytest
import torch
from policy_runs import save_tiny
from trees import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import scaling
import scaling_runs

from text2grad.estimate_time import Machine


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the benchmark with flags and gives what it printed."""

    def start(*flags):
        monkeypatch.setattr(sys, "argv", ["scaling.py", *map(str, flags)])
        capsys.readouterr()
        scaling.main()
        return capsys.readouterr().out

    return start


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    # deep and wide enough that blocks, not the libraries, decide about bytes
    sizes = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4}
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", **sizes)


def test_the_grid_says_what_fits_and_what_it_assumes(command):
    found = json.loads(command("--estimate", "--json"))
    assert {row["gpus"] for row in found} == {1, 8, 64, 256, 1024}
    models = {row["model"] for row in found}
    assert {"Llama-3.2-1B-Instruct", "Llama-3.1-70B-Instruct"} <= models
    by = {(row["stage"], row["model"], row["gpus"]): row for row in found}
    for row in found:
        assert row["way"] == "none" or (row["gigabytes"] <= 80 and row["seconds"] > 0)
    small, large = (by["policy", f"Llama-3.{name}-Instruct", 8] for name in ("1-8B", "1-70B"))
    assert small["way"] == "reward model beside"
    assert "4 bits" in large["way"], "70B in bf16 are 141 GB"
    assert large["seconds"] > 4 * small["seconds"]
    more = by["policy", "Llama-3.1-8B-Instruct", 1024]
    assert more["per_hour"] == pytest.approx(128 * small["per_hour"], rel=0.02)
    printed = command("--estimate", "--gpu", "H100-80GB")
    assert printed.startswith("Estimates, not measurements. H100-80GB: 989 TFLOP/s at 40%")


def test_what_does_not_fit_at_all_is_said():
    small = Machine(1e9, 1e12, 1e12, 1e9, 1e9)
    ways = scaling._reward_ways("Llama-3.1-70B-Instruct", 8)
    row = scaling._fitted("reward model", "Llama-3.1-70B-Instruct", 8, ways, small)
    assert (row["way"], row["seconds"]) == ("none", None)


def test_one_thing_is_changed_at_a_time():
    base = scaling_runs.Load()
    for name, load in scaling_runs.loads(base):
        changed = {key for key, value in vars(load).items() if value != getattr(base, key)}
        assert changed == ({name} if name != "base" else set())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_bytes_in_use_are_within_a_third_of_the_estimate(model, dtype):
    torch.manual_seed(0)
    for row in scaling_runs.measure_bytes(model, [96, 384], dtype):
        assert 0.75 < row["ratio"] < 1.34, row


def test_most_bytes_is_the_largest_sum_at_a_time():
    def work():
        for _ in range(3):
            kept = torch.ones(1000)
            del kept
        first, second = torch.ones(500), torch.ones(750)
        return first, second

    assert scaling_runs.most_bytes(work) == pytest.approx(5000, abs=512)


@pytest.mark.slow  # three processes that import torch
def test_figures_and_tables_of_a_measurement(command, monkeypatch, model, tmp_path):
    """Two runs of the real command, one of them on two processes."""
    both = [("base", scaling_runs.Load(128, 8, 4)), ("ranks", scaling_runs.Load(128, 8, 4, 2))]
    monkeypatch.setattr(scaling_runs, "loads", lambda base: both)
    file = tmp_path / "scaling.md"
    flags = ["--model", model, "--prompt", 128, "--response", 8, "--batch", 4, "--steps", 1]
    found = json.loads(command(*flags, "--dtype", "fp32", "--json", "--output_path", file))
    assert [row["ranks"] for row in found["steps"]] == [1, 2]
    for row in found["steps"]:
        assert 64 < row["prompt"] <= 128
        assert row["seconds"] == pytest.approx(row["rollout"] + row["score"] + row["update"])
        assert row["tokens_per_second"] == pytest.approx(32 / row["seconds"])
        assert row["update_ratio"] > 0
    assert found["parameters"] == scaling_runs.shape_facts(model)["parameters"]
    text = file.read_text()
    assert text.startswith("tiny, ")
    assert "| ranks | 2 |" in text
    assert text.count("estimate / measured") == 4


def test_a_run_that_fails_is_one_line(command, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: --model .*none: neither a folder"):
        command("--model", tmp_path / "none")
