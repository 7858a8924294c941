"""Figures of a step that need no model."""

from text2grad.step_log import length_figures


def test_lengths_and_the_share_cut_at_the_limit():
    prompts = [[1] * 10, [1] * 20]
    responses = [[5] * 3, [5] * 8]
    assert length_figures(prompts, responses, limit=8) == {
        "prompt_tokens": 15.0,
        "response_tokens_min": 3,
        "response_tokens_max": 8,
        "cut_share": 0.5,
    }
