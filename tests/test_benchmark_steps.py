"""The benchmarks of a PPO step and of the reward model's training, on models of a few kilobytes."""

import json
import sys

import pytest
from annotated import POSTS, row, save_base, write
from policy_runs import save_tiny, write_posts
from trees import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import rm_train
import whole_step


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a benchmark with flags and gives what it printed."""

    def start(program, *flags):
        monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, flags)])
        capsys.readouterr()
        program.main()
        return capsys.readouterr().out

    return start


# -- the whole step


def test_a_step_with_and_without_its_critique(command, tmp_path):
    output = tmp_path / "whole_step.md"
    found = json.loads(
        command(
            *(whole_step, "--json", "--output_path", output),
            *("--base_model_name", save_tiny(tmp_path / "policy")),
            *("--reward_model_name", save_base(tmp_path / "judge")),
            *("--data_file_path", write_posts(tmp_path / "posts.json")),
            *("--batch_size", 4, "--mini_batch_size", 2, "--ppo_epochs", 1, "--rounds", 2),
            *("--output_max_length", 8, "--reward_max_new_tokens", 70, "--dtype", "fp32"),
        )
    )
    judged, anew, alone = (found["ways"][way] for way in whole_step.WAYS)
    assert 20 < found["critique_tokens"] <= 70
    assert len(found["response_tokens"]) == found["rounds"] == 2
    for way in (judged, anew, alone):
        assert way["seconds"]["update"] > 0
        assert sum(way["share"].values()) == pytest.approx(1, abs=0.2), "medians of two shares"
    assert judged["share"]["critique"] > 0.2, "a tiny model's critique is most of its step"
    assert alone["share"]["critique"] < 0.1
    assert alone["overhead"] == 0
    assert judged["overhead"] > 0
    text = output.read_text()
    assert text.startswith("4 prompts a step of ")
    assert text.count("\n| ") == 4 + 1
    assert f"| {judged['seconds']['step']:.3f} |" in text


def seconds(rollout, critique, score=1.0, update=4.0):
    phases = {"rollout": rollout, "critique": critique, "score": score, "update": update}
    return {**phases, "step": sum(phases.values())}


def test_overhead_is_that_of_the_same_round():
    # steps of 10, 11 and 8 s, then of 20, 24 and 16 s on a machine that is half as fast
    first, second, third = whole_step.WAYS
    slow = {"score": 2.0, "update": 8.0}
    found = whole_step.summary(
        [
            {first: seconds(3, 2), second: seconds(3, 3), third: seconds(3, 0)},
            {
                first: seconds(6, 4, **slow),
                second: seconds(6, 8, **slow),
                third: seconds(6, 0, **slow),
            },
        ]
    )
    assert found["ways"][first]["overhead"] == pytest.approx(0.25)
    assert found["ways"][first]["overhead_range"] == pytest.approx([0.25, 0.25])
    assert found["ways"][second]["overhead_range"] == pytest.approx([0.375, 0.5])
    assert found["ways"][first]["share"]["critique"] == pytest.approx(0.2)
    assert found["ways"][first]["seconds"]["step"] == pytest.approx(15)
    assert found["prefix_ratio_range"] == pytest.approx([1 / 2, 2 / 3])


def test_what_a_step_lacks_is_named_with_its_flag(command, tmp_path):
    flags = ("--data_file_path", write_posts(tmp_path / "posts.json"))
    with pytest.raises(SystemExit, match=r"^error: --base_model_name .*/none: no such folder"):
        command(whole_step, "--base_model_name", tmp_path / "none", *flags)


# -- the reward model's training


def test_training_speed_and_padding(command, tmp_path):
    # lengths by turns, so that a random batch pads and a batch of similar length hardly does
    rows = [row(n, f"{n} {POSTS[0] * (1 + n % 2 * 6)}") for n in range(40)]
    output = tmp_path / "rm_train.md"
    found = json.loads(
        command(
            *(rm_train, "--json", "--output_path", output, "--dtype", "fp32"),
            *("--base_model", save_base(tmp_path / "base")),
            *("--data_path", write(tmp_path / "annotated.json", rows)),
            *("--batch_size", 2, "--accumulation", 1, "--updates", 2, "--rounds", 1),
        )
    )
    ways = {one["way"]: one for one in found["ways"]}
    assert list(ways) == list(rm_train.WAYS)
    own, shuffled, grouped, plain = ways.values()
    assert found["examples"] == 40
    assert 0 < found["target_tokens"] < found["tokens_per_example"]
    assert own["padding_share"] == pytest.approx(grouped["padding_share"])
    assert own["padding_share"] < 0.5 * shuffled["padding_share"]
    assert shuffled["padding_share"] > 0.05
    assert plain["speed"] == 1
    assert all(one["tokens_per_second"] > 0 for one in ways.values())
    assert output.read_text().count("\n| ") == 4 + 2


def test_speed_is_against_the_last_way_of_the_same_round():
    # 100 tokens in 2 s against 60 in 3 s: 2.5 times as fast; then twice as fast
    own, shuffled, grouped, plain = rm_train.WAYS
    slow = rm_train.Timed(3.0, 60, 0.25)
    fast = {own: rm_train.Timed(2.0, 100, 0.1), shuffled: slow, grouped: slow, plain: slow}
    found = rm_train.summary([fast, {**fast, own: rm_train.Timed(2.0, 80, 0.3)}], updates=2)
    assert found[0]["speed"] == pytest.approx(2.25)
    assert found[0]["speed_range"] == pytest.approx([2.0, 2.5])
    assert found[0]["seconds_per_update"] == pytest.approx(1.0)
    assert found[0]["tokens_per_second"] == pytest.approx(45)
    assert found[0]["padding_share"] == pytest.approx(0.2)
    assert [one["speed"] for one in found[1:]] == [1, 1, 1]


def test_records_without_annotation_are_named_with_their_flag(command, tmp_path):
    bare = {"id": "r0", "post": POSTS[0], "generated_summary": "So."}
    with pytest.raises(SystemExit, match=r"^error: .*--data_path"):
        command(rm_train, "--data_path", write(tmp_path / "bare.json", [bare]))
