"""The benchmark of the optimisation step: what it builds, its programs, and its figures."""

import json
import sys
from typing import ClassVar

import pytest
from trees import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import ppo_step
import ppo_step_own
from ppo_step_worker import Settings

FACTS = {
    "loaded_mib": 10.0,
    "products_seconds": 1.5,
    "attention": "sdpa",
    "dtype": "float32",
    "threads": 2,
    **dict.fromkeys(("trl", "transformers", "peft", "torch"), "0.1"),
}
PROGRAM = """
import json, sys
print(json.dumps({"ready": True, "threads": json.loads(sys.argv[1])["threads"]}), flush=True)
for number, _ in enumerate(sys.stdin):
    print(json.dumps({"seconds": 1.0 + number, "peak_mib": 5.0 + number}), flush=True)
"""


def settings_of(policy_files, folder, **own):
    return Settings(
        model=policy_files[0],
        dtype="fp32",
        folder=str(folder),
        prompt_tokens=24,
        response_tokens=6,
        batch_size=4,
        mini_batch_size=1,
        ppo_epochs=3,
        lora_r=2,
        learning_rate=1e-3,
        kl_penalty="full",
        threads=1,
        own=own,
    )


@pytest.mark.parametrize(("own", "passes"), [({}, 4), ({"max_tokens_per_microbatch": 70}, 2)])
def test_our_program_makes_whole_steps(policy_files, tmp_path, own, passes):
    made = ppo_step_own.build(settings_of(policy_files, tmp_path, **own))
    sizes = []
    run = made.updater.run
    made.updater.run = lambda batches, *more: sizes.append(len(batches)) or run(batches, *more)
    rows = [made.step(made.order.batch(0)) for _ in range(2)]
    assert sizes == [passes] * 2
    for row in rows:
        assert (row["updates"], row["response_tokens"], row["parse_rate"]) == (3, 6.0, 1.0)
    assert rows[0]["kl"] == 0.0 < rows[1]["kl"], "it learned"


def test_both_programs_see_the_same_sequences(policy_files, tmp_path):
    settings = settings_of(policy_files, tmp_path)
    prompts, responses = settings.sequences(500)
    assert (prompts, responses) == settings.sequences(500)
    assert [len(ids) for ids in responses] == [6] * 4
    assert all(21 <= len(ids) <= 27 for ids in prompts)
    scores = settings.token_scores()
    assert [len(row) for row in scores] == [6] * 4
    assert {score for row in scores for score in row} == {-1.0, 0.0, 1.0}


def test_a_program_answers_line_by_line_and_its_end_is_told(tmp_path):
    script, log = tmp_path / "program.py", tmp_path / "log"
    script.write_text(PROGRAM)
    worker = ppo_step.Worker(sys.executable, str(script), {"threads": 3}, log)
    assert worker.facts["threads"] == 3
    worker.step(counted=False)
    worker.step()
    assert (worker.seconds, worker.peak_mib) == ([2.0], 6.0)
    worker.close()
    script.write_text("raise SystemExit('no such model')")
    with pytest.raises(ppo_step.UserError, match="ended with status 1: no such model"):
        ppo_step.Worker(sys.executable, str(script), {"threads": 3}, log)


class FakeWorker:
    """A program whose steps take what its kind takes."""

    started: ClassVar[list] = []
    # TRL gets slower, ours does not: 8 / 4, 10 / 4, 12 / 4
    times: ClassVar[dict] = {"peer": [99.0, 8.0, 10.0, 12.0], "ours": [99.0, 4.0, 4.0, 4.0]}

    def __init__(self, python, script, settings, log):
        self.started.append((python, script, settings["own"]))
        self.kind = "peer" if script == ppo_step.PEER_SCRIPT else "ours"
        self.left, self.seconds, self.facts = [*self.times[self.kind]], [], FACTS
        self.peak_mib = 1000.0 if self.kind == "peer" else 700.0

    def step(self, counted=True):
        taken = self.left.pop(0)
        self.seconds += [taken] * counted

    def close(self):
        pass


def test_figures_and_table(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(ppo_step, "Worker", FakeWorker)
    monkeypatch.setattr(ppo_step, "ready", lambda *where: "python of TRL")
    FakeWorker.started.clear()
    output = tmp_path / "table.md"
    words = "ppo_step.py --model tiny --prompt_tokens 128 --budgets 384 --dtype fp32 --json"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--output_path", str(output)])
    ppo_step.main()
    found = json.loads(capsys.readouterr().out)
    assert FakeWorker.started == [
        ("python of TRL", "ppo_step_peer.py", {}),
        (sys.executable, "ppo_step_own.py", {}),
        (sys.executable, "ppo_step_own.py", {"max_tokens_per_microbatch": 384}),
    ]
    assert (found["speedup"], found["memory_ratio"]) == (2.5, 0.7)
    assert [row["variant"] for row in found["rows"]] == ["as TRL", "384"]
    assert found["rows"][1]["speedup_range"] == [2.0, 3.0]
    peer = found["rows"][0]["peer"]
    assert (peer["mini_batch"], peer["epochs"], peer["attention"]) == (1, 4, "sdpa")
    last = output.read_text().splitlines()[-1].strip("| ").split(" | ")
    assert last == [
        *("128", "384", "4.000", "10.000", "1.500", "2.500"),
        *("2.00 to 3.00", "700", "1000", "0.700"),
    ]


def test_products_are_counted_as_often_as_a_step_makes_them(policy_files, tmp_path, monkeypatch):
    settings = settings_of(policy_files, tmp_path)
    lm = ppo_step_own.build(settings).policy.lm.get_base_model()
    monkeypatch.setattr(
        ppo_step_own, "_seconds", lambda rows, out, inputs, dtype: rows * out * inputs
    )
    prompts, responses = settings.sequences(lm.config.vocab_size)
    answered = sum(map(len, responses))
    layers = lm.model.layers.parameters()
    weights = sum(p.numel() for p in layers if p.dim() == 2 and not p.requires_grad)
    below = (sum(map(len, prompts)) + answered) * weights
    head = answered * lm.lm_head.weight.numel()
    assert ppo_step_own.products_seconds(settings, lm) == (2 + 2 * 3) * (below + head)


def test_bf16_is_refused_where_it_is_slow(monkeypatch):
    monkeypatch.setattr(ppo_step, "cpu_dtype", lambda: "fp32")
    monkeypatch.setattr(sys, "argv", ["ppo_step.py", "--dtype", "bf16"])
    with pytest.raises(SystemExit, match=r"^error: --dtype bf16: .* pass fp32"):
        ppo_step.main()
