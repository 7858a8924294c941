"""vLLM's protocol against a stand-in: what it is asked, in which order, and what comes back."""

import sys
from pathlib import Path
from types import SimpleNamespace

import annotated
import policy_runs
import pytest
import torch
from fake_vllm import FakeVllm, seeded_ids
from safetensors.torch import load_file
from tiny import byte_level_tokenizer

from text2grad.annotators.reward_vllm import VllmRewardModel
from text2grad.config import RewardInferConfig
from text2grad.files import read_rows
from text2grad.parsing import target_json
from text2grad.reward_model import infer_reward_model
from text2grad.reward_quality import decoding_path
from text2grad.rollout import Sampling
from text2grad.samplers import build_sampler
from text2grad.schema import Feedback, Span, UserError
from text2grad.tasks import get_task
from text2grad.vllm_engine import VllmEngine, gpu_share

TASK = get_task("slf5k")
END = 2  # <|im_end|> of the tiny tokenizer
SAID = Feedback("It keeps the point.", (Span("the park", "good"), Span("A summary", "poor")))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return policy_runs.save_tiny(tmp_path_factory.mktemp("policy"))


def engine_of(monkeypatch, say):
    fake = FakeVllm(say).install(monkeypatch)
    return fake, VllmEngine("m", "--flag vllm", max_tokens=99)


# -- one call of the library


def test_sampled_ids_come_back_as_they_are_up_to_their_first_end(monkeypatch):
    said = {5: ([7, 8, END, 9], "stop"), 6: ([9, 9], "length"), 4: ([END], "stop")}
    fake, engine = engine_of(monkeypatch, lambda prompt, params: said[prompt[0]])
    sampling = Sampling(20, 0.7, (END, 3), 0)
    out = engine.generate([[5], [6, 1], [4]], sampling, seeds=[11, 12, 13])
    assert out == [[7, 8, END], [9, 9], [END]]
    ((prompts, params, adapter),) = fake.calls
    assert (prompts, adapter) == ([[5], [6, 1], [4]], None)
    first = params[0]
    assert (first.temperature, first.top_p, first.top_k) == (0.7, 1.0, -1)
    assert (first.max_tokens, first.stop_token_ids, first.detokenize) == (20, [END, 3], False)
    assert [one.seed for one in params] == [11, 12, 13]


def test_off_policy_settings_have_vllms_names(monkeypatch):
    fake, engine = engine_of(monkeypatch, lambda prompt, params: ([END], "stop"))
    extra = {"top_p": 0.9, "top_k": 5, "num_beams": 1, "repetition_penalty": 1.1}
    sampling = Sampling(8, 1.0, (END,), 0, (*extra.items(), ("min_new_tokens", 3)))
    engine.generate([[5]], sampling)
    (params,) = fake.calls[0][1]
    assert (params.top_p, params.top_k, params.repetition_penalty) == (0.9, 5, 1.1)
    assert (params.min_tokens, params.seed) == (3, None)


@pytest.mark.parametrize("said", [([7, 8], "stop"), ([], "stop"), ([7], "abort"), ([], "length")])
def test_a_response_that_ends_without_an_end_is_refused(monkeypatch, said):
    """The end token would be missing from the optimised sequence."""
    _, engine = engine_of(monkeypatch, lambda prompt, params: said)
    with pytest.raises(UserError, match=r"^--flag vllm: vLLM 0.0 did not return the ids .*use hf$"):
        engine.generate([[5]], Sampling(20, 1.0, (END,), 0))


def test_answers_to_other_prompts_are_refused(monkeypatch):
    fake, engine = engine_of(monkeypatch, lambda prompt, params: ([END], "stop"))
    other = SimpleNamespace(token_ids=(END,), finish_reason="stop")
    fake.output = lambda prompt, params: SimpleNamespace(prompt_token_ids=[1], outputs=[other])
    with pytest.raises(UserError, match="did not return the ids"):
        engine.generate([[5]], Sampling(20, 1.0, (END,), 0))


def test_without_vllm_or_gpu_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr("text2grad.vllm_engine.has_gpu", lambda: False)
    with pytest.raises(UserError, match=r"^--flag vllm: vLLM needs a GPU, and none is visible"):
        VllmEngine("m", "--flag vllm", max_tokens=9)
    monkeypatch.setattr("text2grad.vllm_engine.has_gpu", lambda: True)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"vLLM cannot be imported \(.*\); pip install vllm$"):
        VllmEngine("m", "--flag vllm", max_tokens=9)


def test_a_model_that_vllm_refuses_is_named(monkeypatch):
    FakeVllm(None).install(monkeypatch)

    def refuse(**settings):
        raise ValueError("no\nsuch model")

    monkeypatch.setattr(sys.modules["vllm"], "LLM", refuse)
    with pytest.raises(UserError, match=r"^--flag vllm: vLLM does not load m: no such model$"):
        VllmEngine("m", "--flag vllm", max_tokens=9)


@pytest.mark.parametrize(
    ("limit", "share"),
    [("", 0.9), ("30GiB", 0.375), ("79GiB", 0.9)],  # of 80 GiB; 79 / 80 is above 0.9
)
def test_memory_as_a_share(monkeypatch, limit, share):
    monkeypatch.setattr("text2grad.vllm_engine.has_gpu", lambda: True)
    card = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert gpu_share(limit) == share


def test_memory_that_is_no_size():
    with pytest.raises(UserError, match=r"--gpu_memory lots: no size"):
        gpu_share("lots")


# -- rollouts of PPO


@pytest.fixture
def start(model, tmp_path):
    """Makes trainers of one run, on a data file of its own."""
    data = policy_runs.write_posts(tmp_path / "posts.json")

    def make(folder="run", **changes):
        changes = {"rollout_backend": "vllm", "steps": 2, **changes}
        return policy_runs.trainer(policy_runs.config(model, data, tmp_path / folder, **changes))

    return make


def policy_adapter(made):
    """The adapter of the policy as it is, under the names of its file."""
    state = made.policy.lm.state_dict()
    return {n.replace(".default", ""): w.clone() for n, w in state.items() if "lora_" in n}


def test_weights_are_synchronised_once_after_each_step_and_before_the_next_rollout(
    monkeypatch, start, model, tmp_path
):
    fake = FakeVllm(seeded_ids).install(monkeypatch)
    made = start(eval_steps=1, valid_data_file_path=str(tmp_path / "posts.json"), eval_samples=2)
    events, seen = [], []

    def listen(adapter):
        events.append(f"generate {adapter.lora_int_id}")
        saved = load_file(f"{adapter.lora_path}/adapter_model.safetensors")
        assert len(list(Path(adapter.lora_path).parent.iterdir())) == 1  # older ones are gone
        own = policy_adapter(made)
        assert saved.keys() == own.keys()
        assert all(torch.equal(saved[name], own[name]) for name in saved)
        seen.append(sum(weight.abs().sum() for weight in saved.values()).item())

    def noting(name, call):
        def wrapped(*args):
            events.append(name)
            return call(*args)

        return wrapped

    fake.listener = listen
    made.updater.run = noting("update", made.updater.run)
    made.sampler.sync = noting("sync", made.sampler.sync)
    made.train()
    step = ["update", "sync"]
    assert events == [
        *("sync", "generate 1", *step, "generate 2"),  # the second one for the validation
        *("generate 2", *step, "generate 3"),
    ]
    assert seen[0] != seen[1] == seen[2] != seen[3]
    assert [call[2].lora_name for call in fake.calls] == [
        f"adapter-{number}" for number in (1, 2, 2, 3)
    ]
    greedy = [{one.temperature for one in params} for _, params, _ in fake.calls]
    assert greedy == [{1.0}, {0.0}, {1.0}, {0.0}]
    seeds = [[one.seed for one in params] for _, params, _ in fake.calls]
    assert len({*seeds[0], *seeds[2]}) == 8  # one for each sample
    assert set(seeds[1] + seeds[3]) == {None}
    (engine,) = fake.engines  # the base model is loaded once
    assert engine["model"] == model
    assert (engine["enable_lora"], engine["max_lora_rank"], engine["max_loras"]) == (True, 16, 1)
    assert (engine["dtype"], engine["max_model_len"]) == ("float32", 128 + 12)
    assert engine["gpu_memory_utilization"] == 0.3


def test_old_log_probabilities_are_the_trainers_own(monkeypatch, start, tmp_path):
    """The stand-in gives none, and the first ratio of every step is exactly 1."""
    FakeVllm(seeded_ids).install(monkeypatch)
    start().train()
    rows = policy_runs.rows_of(tmp_path / "run")
    assert [row["first_ratio"] for row in rows] == [1.0, 1.0]
    assert [row["first_approx_kl"] for row in rows] == [0.0, 0.0]


def test_sampled_ids_are_optimised_as_they_are(monkeypatch, start):
    fake = FakeVllm(lambda prompt, params: ([9, 300, END, 4], "stop")).install(monkeypatch)
    made = start()
    made.sampler.sync(0)
    batches, _, _ = policy_runs.scored(made)
    ids = [row[mask].tolist() for b in batches for row, mask in zip(*response_rows(b), strict=True)]
    assert ids == [[9, 300, END]] * 4
    prompts = [made.renderer.render_record(r).ids for r in made.order.batch(0)]
    assert fake.calls[0][0] == prompts


def response_rows(batch):
    return batch.response_ids, batch.response_mask


def test_a_resumed_run_samples_what_the_undisturbed_one_did(monkeypatch, start, tmp_path):
    FakeVllm(seeded_ids).install(monkeypatch)
    start("whole", steps=3).train()
    start("halves", steps=2).train()
    fake = FakeVllm(seeded_ids).install(monkeypatch)
    start("halves", steps=3, resume_from_checkpoint="auto").train()
    assert [call[2].lora_int_id for call in fake.calls] == [3]
    whole, halves = (policy_runs.rows_of(tmp_path / name) for name in ("whole", "halves"))
    assert policy_runs.comparable(whole) == policy_runs.comparable(halves)


def test_several_processes_are_refused(start):
    args = start(rollout_backend="hf").args
    vllm = SimpleNamespace(**vars(args) | {"rollout_backend": "vllm"})
    with pytest.raises(UserError, match=r"--rollout_backend vllm: .* there are 2; start one"):
        build_sampler(vllm, None, SimpleNamespace(accelerator=SimpleNamespace(num_processes=2)))


def test_hf_needs_no_vllm(monkeypatch, start):
    monkeypatch.setitem(sys.modules, "vllm", None)
    made = start(rollout_backend="hf")
    _, responses = made.collect(made.order.batch(0))
    assert all(1 <= len(ids) <= 12 for ids in responses)


# -- 2_infer.py


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return annotated.save_base(tmp_path_factory.mktemp("base"))


def infer_args(base, folder, backend, **flags):
    data = annotated.write(
        folder / "test.json", [annotated.row(n, post) for n, post in enumerate(annotated.POSTS)]
    )
    flags = {"max_new_tokens": 120, "dtype": "fp32", "unconstrained_samples": 0, **flags}
    output = str(folder / f"{backend}.json")
    return RewardInferConfig(
        model_path=base, data_path=data, output_path=output, backend=backend, **flags
    )


def test_the_result_file_has_the_shape_of_hf(monkeypatch, base, tmp_path):
    tokenizer = byte_level_tokenizer()
    reply = tokenizer.encode(target_json(SAID, TASK), add_special_tokens=False)

    def say(prompt, params):
        broken = "Monday" in tokenizer.decode(prompt)
        return ([*reply[:9], END] if broken else [*reply, END]), "stop"

    fake = FakeVllm(say).install(monkeypatch)
    infer_reward_model(infer_args(base, tmp_path, "hf"))
    args = infer_args(base, tmp_path, "vllm", tensor_parallel_size=2, temperature=0.5)
    infer_reward_model(args)
    hf, vllm = (read_rows(tmp_path / f"{name}.json", "") for name in ("hf", "vllm"))
    parsed = [row for row in vllm if "unparseable" not in row]
    assert [row.keys() for row in parsed] == [hf[0].keys()] * 4
    assert parsed[0]["reply"] == target_json(SAID, TASK)
    assert [span["match"] for span in parsed[0]["spans"]] == ["exact", "exact"]
    (failed,) = (row for row in vllm if "unparseable" in row)
    assert "Monday" in failed["post"]
    (engine,) = fake.engines
    assert (engine["model"], engine["tensor_parallel_size"]) == (base, 2)
    assert "enable_lora" not in engine
    ((prompts, params, _),) = fake.calls
    assert {one.temperature for one in params} == {0.5}
    assert tokenizer.decode(prompts[0]).startswith("<|im_start|>user\nJudge the summary")
    facts = read_rows(decoding_path(args.output_path), "")
    assert facts[0]["constrained"] is False


def test_an_adapter_is_to_be_merged_first(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"--model_path .*: an adapter.*1_merge_lora.py"):
        VllmRewardModel(TASK, RewardInferConfig(model_path=str(tmp_path), backend="vllm"))
