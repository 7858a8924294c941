"""With a vocabulary as large as Llama 3's, memory goes by chunks of tokens, not by the batch."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import byte_level_tokenizer, tiny_llama
from torch.profiler import ProfilerActivity, profile

from text2grad.policy import Policy
from text2grad.rollout import MicroBatch, score_tokens_of

VOCABULARY = 128_256
ROW = 4 * VOCABULARY  # bytes of the fp32 logits of one token
PROMPT, RESPONSE = 4, 48


def peak_bytes(run):
    """The most that lay allocated at once, beyond what did before; by the allocator's own count."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.fixture(scope="module")
def policy():
    model = tiny_llama(byte_level_tokenizer(), vocab_size=VOCABULARY, hidden_size=16)
    lm = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))
    return Policy(lm)


def batch_of(rows):
    prompts = [list(range(1, PROMPT + 1))] * rows
    responses = [list(range(100, 100 + RESPONSE))] * rows
    return MicroBatch.collate(range(rows), prompts, responses, 0, torch.device("cpu"))


def step(policy, rows, chunk):
    """Scoring with the KL of whole distributions, then a backward pass."""
    batch = batch_of(rows)
    score_tokens_of(policy.lm, policy.value_head, [batch], (rows, RESPONSE), 0.7, chunk)
    logp, values = policy(batch, 0.7, chunk, False)
    (logp.sum() + values.sum()).backward()
    policy.zero_grad()


def test_peak_memory_goes_by_the_chunk(policy):
    step(policy, 1, 8)  # what is allocated once
    peaks = {
        (rows, chunk): peak_bytes(lambda rows=rows, chunk=chunk: step(policy, rows, chunk))
        for rows, chunk in ((2, 4), (4, 4), (4, 8))
    }
    one_batch = 4 * RESPONSE * ROW
    assert peaks[4, 4] < 16 * 4 * ROW < one_batch / 2
    # twice the tokens add what their hidden states take, less than the logits of two tokens
    assert abs(peaks[4, 4] - peaks[2, 4]) < 2 * ROW
    # twice the chunk adds as much again as the chunk took
    assert peaks[4, 8] - peaks[4, 4] > 3 * 4 * ROW
    whole = peak_bytes(lambda: step(policy, 4, 4 * RESPONSE))
    assert whole > 3 * one_batch, "without chunks the measurement would show it"
