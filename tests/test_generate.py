"""A policy's answers to a file of prompts: a run that was stopped ends as it would have ended."""

import json
import shutil

import pytest

from text2grad import generate
from text2grad.config import PolicyInferConfig
from text2grad.generate import infer_policy


@pytest.fixture
def answer(policy_files, tmp_path, monkeypatch):
    """Answers eight posts in batches of three; gives the answers, and the sizes that it sampled.

    With `stop_after` it is stopped before it samples another batch, and gives no answers.
    """
    sample = generate.sample_responses

    def go(folder, stop_after=None, **flags):
        sizes = []

        def counted(policy, prompts, sampling):
            if len(sizes) == stop_after:
                raise KeyboardInterrupt
            sizes.append(len(prompts))
            return sample(policy, prompts, sampling)

        monkeypatch.setattr(generate, "sample_responses", counted)
        given = {"model_path": policy_files[0], "temperature": 1.0, "max_new_tokens": 6} | flags
        place = {"input_path": policy_files[1], "output_dir": str(tmp_path / folder)}
        args = PolicyInferConfig(
            **given, **place, output_name="a.json", batch_size=3, dtype="fp32", top_p=1.0
        )
        output = tmp_path / folder / "a.json"
        try:
            infer_policy(args)
        except KeyboardInterrupt:
            assert not output.exists()
            return None, sizes
        return [row["response"] for row in json.loads(output.read_text())], sizes

    return go


def test_a_run_that_was_stopped_goes_on_and_draws_what_it_would_have_drawn(answer):
    whole, sizes = answer("whole")
    assert sizes == [3, 3, 2]
    assert answer("other", seed=1)[0] != whole, "the answers are drawn"
    assert answer("stopped", stop_after=1) == (None, [3])
    assert answer("stopped", stop_after=1) == (None, [3])
    assert answer("stopped") == (whole, [2])
    assert answer("stopped") == (whole, [])


@pytest.mark.parametrize(
    "flags", [{"seed": 1}, {"temperature": 0.0}, {"max_new_tokens": 5}, {"prompt_file": "own.txt"}]
)
def test_answers_of_other_settings_are_not_taken(answer, tmp_path, flags):
    if "prompt_file" in flags:
        own = tmp_path / "own.txt"
        own.write_text("$prompt")
        flags = {"prompt_file": str(own)}
    first, _ = answer("run")
    again, sizes = answer("run", **flags)
    assert sizes == [3, 3, 2]
    assert again != first
    assert answer("run") == (first, [])


def test_answers_of_other_weights_are_not_taken(answer, policy_files, tmp_path):
    model = shutil.copytree(policy_files[0], tmp_path / "model")
    assert answer("run", model_path=str(model))[1] == [3, 3, 2]
    assert answer("run", model_path=str(model))[1] == []
    (model / "model.safetensors").touch()
    assert answer("run", model_path=str(model))[1] == [3, 3, 2]
