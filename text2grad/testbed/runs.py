"""One run of the testbed: the trainer as it is, told by a synthetic annotator, measured exactly."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch

from text2grad.alignment import response_text
from text2grad.config import PolicyConfig
from text2grad.files import read_rows, write_rows
from text2grad.testbed import language
from text2grad.testbed.critics import SyntheticAnnotator
from text2grad.testbed.plan import CURVE_FILE, METHODS, Run
from text2grad.testbed.start_model import write_start_model
from text2grad.trainer import Text2GradTrainer

if TYPE_CHECKING:
    from text2grad.config import TestbedConfig

START = "start_model"
PROMPT_TOKENS = 32
TOKENS_PER_PHRASE = 3
"""two words and a comma; after the last phrase the end"""
MEASURED = ("quality", "good", "poor", "valid_response_tokens")


class MeasuredTrainer(Text2GradTrainer):
    """The trainer, with the exact quality of held-out responses as its validation."""

    def validate(self) -> dict[str, float]:
        """One sampled response to each held-out prompt.

        Training draws the same numbers with and without it, and methods that are compared are
        measured with the same draws.

        Returns:
            Means over the responses: "quality" (good minus poor phrases), "good", "poor",
            "valid_response_tokens".
        """
        prompts = [self.renderer.render_record(record).ids for record in self.valid_prompts]
        with torch.random.fork_rng(devices=[]), self.weights.whole():
            torch.manual_seed(self.args.seed * 10**5 + self.step_number)
            responses = self.sampler.sample(prompts, self._sampling())
        texts = [response_text(self.token_bytes.pieces(ids)) for ids in responses]
        found = [language.quality(text) for text in texts]
        return {
            "quality": mean(one.net for one in found),
            "good": mean(one.good for one in found),
            "poor": mean(one.poor for one in found),
            "valid_response_tokens": mean(map(len, responses)),
        }


def write_prompts(folder: Path) -> None:
    """`train.json` and `validation.json`; the second asks for pairs the first never names."""
    for name, held_out in (("train", False), ("validation", True)):
        texts = language.prompts(held_out)
        rows = [{"id": f"{name}-{n}", "prompt": text} for n, text in enumerate(texts)]
        write_rows(folder / f"{name}.json", rows, "--output_dir")


def policy_flags(run: Run, args: TestbedConfig, root: Path) -> PolicyConfig:
    """The trainer's flags; runs differ in credit, learning rate and seed, and in nothing else."""
    return PolicyConfig(
        task="ultrafeedback",
        base_model_name=str(root / START),
        data_file_path=str(root / "data" / "train.json"),
        valid_data_file_path=str(root / "data" / "validation.json"),
        output_dir=str(run.folder(root)),
        reward_model_metrics="",
        dtype="fp32",
        lora_target_modules=("all-linear",),
        credit_assignment=METHODS[run.method].credit,
        learning_rate=run.learning_rate,
        lr_scheduler_type="constant",
        adafactor=False,
        seed=run.seed,
        steps=args.steps,
        train_epochs=args.steps,
        save_freq=args.steps,
        batch_size=args.batch_size,
        mini_batch_size=args.mini_batch_size,
        gradient_accumulation_steps=1,
        ppo_epochs=args.ppo_epochs,
        init_kl_coef=args.init_kl_coef,
        adap_kl_ctrl=False,
        eval_steps=args.eval_steps,
        eval_samples=args.eval_samples,
        prompt_max_length=PROMPT_TOKENS,
        output_max_length=TOKENS_PER_PHRASE * args.most_phrases,
    )


def make_run(run: Run, args: TestbedConfig, root: Path) -> list[dict[str, Any]] | None:
    """Train and measure; one that was stopped on the way starts anew.

    Returns:
        The rows of its `curve.jsonl`, from step 0 on; None if it was done before.
    """
    folder = run.folder(root)
    if (folder / CURVE_FILE).exists():
        return None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with (
        open(folder / "log.txt", "w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        write_start_model(root / START, args.start_steps, args.most_phrases)
        critic = SyntheticAnnotator(METHODS[run.method].marks, run.noise, run.seed)
        trainer = MeasuredTrainer(policy_flags(run, args, root), critic)
        first = {"step": 0, **trainer.validate()}
        trainer.train()
    steps = read_rows(folder / "metrics.jsonl", "--output_dir")
    measured = [first, *(row for row in steps if "quality" in row)]
    rows = [run.facts() | {k: row[k] for k in ("step", *MEASURED)} for row in measured]
    _keep_little(folder)
    write_rows(folder / CURVE_FILE, rows, "--output_dir")
    return rows


def _keep_little(folder: Path) -> None:
    """Hundreds of runs: of each the samples of the last step, and no state to go on from."""
    samples = read_rows(folder / "samples.jsonl", "--output_dir")
    last = samples[-1]["step"]
    rows = [row for row in samples if row["step"] == last]
    write_rows(folder / "samples.jsonl", rows, "--output_dir")
    for name in ("epoch_*", "final"):
        for path in folder.glob(name):
            shutil.rmtree(path)
