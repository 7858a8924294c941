"""Flags of stage 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from text2grad.config.backends import RolloutBackendConfig
from text2grad.config.checks import above, at_least, fraction
from text2grad.config.testing import FaultSearchConfig
from text2grad.config.training import AdapterTrainConfig, AnyFormat, Dtype
from text2grad.schema import FieldNames, UserError


@dataclass(frozen=True)
class SFTConfig(AdapterTrainConfig):
    """Fine-tune the policy on the human references: the start of PPO."""

    task: str = "slf5k"
    """which task's prompt and keys; or your own, a .py file"""
    base_model_name: str = "meta-llama/Llama-3.1-8B-Instruct"
    """model to adapt: a folder or a hub id"""
    data_path: str = "../../RM_Data_Anno/SLF5K/data/train.json"
    """records with a reference"""
    output_dir: str = "ckpt/sft"
    """trainer states and final (the adapter)"""
    prompt_file: str = ""
    """own wording of the policy's prompt, with the same $slots"""
    prompt_max_length: int = 640
    """tokens of the prompt; a longer post is shortened inside the post"""
    answer_max_length: int = 128
    """tokens of the reference; a record with a longer one is dropped and named"""
    ALIASES: ClassVar[dict[str, str]] = {"data_file_path": "data_path", "model": "base_model_name"}

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 32, "prompt_max_length")


@dataclass(frozen=True)
class PolicyConfig(RolloutBackendConfig, FaultSearchConfig):
    """Optimise the policy with PPO on token-level rewards from natural-language feedback."""

    task: str = "slf5k"
    """which task's prompt, keys and scores; or your own, a .py file"""
    # models
    base_model_name: str = "meta-llama/Llama-3.1-8B-Instruct"
    """policy to start from: a folder or a hub id"""
    base_model_adapter_model: str = ""
    """adapter merged into the policy before training, for example that of train_sft.py"""
    reward_model_name: str = "../../NL_Reward_Model/SLF5K/ckpt/llama31-8B-slf5k/final_merge"
    """reward model: merged, or an adapter; with --reward_base_url its name at that server"""
    reward_model_metrics: str = "../../NL_Reward_Model/SLF5K/Evaluation/reward_model_metrics.json"
    """what 3_metrics.py wrote about the reward model, checked before the first step; "" for none"""
    require_rm_gate: bool = False
    """refuse to start unless every check of the reward model passes"""
    reward_target_format: AnyFormat = ""
    """format that it was trained on, "" for the one that its folder names, else spans"""
    feedback_source: Literal["reward_model", "reference", "execution", "scalar_model"] = (
        "reward_model"
    )
    """who judges the samples: the reward model, or directly the annotator of that name;
    scalar_model: --reward_model_name is one of paper/train_scalar_reward.py, and quotes nothing"""
    dtype: Dtype = "auto"
    """precision of policy and reward model; adapter, value head and losses are fp32"""
    load_in_4bit: bool = False
    """keep the policy's frozen weights packed in 4 bits (QLoRA): a GPU and bitsandbytes"""
    lora_r: int = 16
    """rank of the policy's adapter"""
    lora_alpha: int = 32
    """scale of the policy's adapter"""
    lora_target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """adapted layers, or all-linear"""
    lora_last_layers: int = 0
    """adapt only this many of the last blocks: faster, as nothing runs backward below; 0 for all"""
    # data
    data_file_path: str = "../../RM_Data_Anno/SLF5K/data/train.json"
    """prompts to train on"""
    valid_data_file_path: str = "../../RM_Data_Anno/SLF5K/data/validation.json"
    """prompts to validate on every --eval_steps"""
    prompt_file: str = ""
    """own wording of the policy's prompt, with the same $slots"""
    chat_template: str = ""
    """file with the policy's Jinja chat template, "" for the model's own"""
    reward_prompt_file: str = ""
    """own wording of the reward model's prompt, with the same $slots"""
    prompt_max_length: int = 640
    """tokens of the prompt; a longer post is shortened inside the post"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""
    # run
    output_dir: str = "ckpt/text2grad_slf5k"
    """checkpoints epoch_E_step_S, metrics.jsonl, samples.jsonl"""
    train_epochs: int = 4
    """passes over the prompts"""
    steps: int = 6000
    """PPO steps at most"""
    save_freq: int = 10
    """steps between checkpoints; the last step is always saved"""
    save_total_limit: int = 0
    """checkpoints kept beside the best one, 0 for all"""
    resume_from_checkpoint: str = ""
    """a checkpoint, or auto for the newest whole one in --output_dir"""
    eval_steps: int = 0
    """steps between validations by the reward model, 0 for none; the best checkpoint is kept"""
    eval_samples: int = 64
    """prompts per validation"""
    seed: int = 42
    """seed of order, sampling and initial weights"""
    log_with: Literal["none", "tensorboard", "wandb"] = "none"
    """tracker beside metrics.jsonl; both write into --output_dir, wandb needs pip install wandb"""
    project_name: str = "text2grad"
    """project name at the tracker; tensorboard's folder in --output_dir"""
    tracker_kwargs: str = ""
    """more arguments for the tracker, as JSON, for wandb for example {"mode": "offline"}"""
    # sampling
    output_max_length: int = 90
    """tokens of a response"""
    temperature: float = 1.0
    """of sampling and of every log-probability"""
    top_p: float = 1.0
    """nucleus; below 1 what is sampled is not what is optimised"""
    top_k: int = 0
    """likewise, 0 for off"""
    num_beams: int = 1
    """likewise, 1 for off"""
    repetition_penalty: float = 1.0
    """likewise, 1 for off"""
    min_new_tokens: int = 0
    """likewise, 0 for off"""
    allow_off_policy_sampling: bool = False
    """accept settings under which sampled and optimised policy differ"""
    # critique
    constrained_decoding: bool = True
    """valid JSON and verbatim quotes by construction; a server is asked for valid JSON alone"""
    reward_batch_size: int = 16
    """responses judged together"""
    reward_prompt_max_length: int = 900
    """tokens of the reward model's prompt"""
    reward_max_new_tokens: int = 500
    """tokens of a critique"""
    localisation_seconds: float = 4.0
    """--feedback_source execution: time for trial edits of one response that failed its tests"""
    max_unparseable_share: float = 0.5
    """share of unparseable critiques in a step that counts as a bad step"""
    max_bad_steps: int = 5
    """bad steps in a row that stop the run"""
    # watches: each warns when the last --watch_steps steps leave a bound
    watch_steps: int = 8
    """steps that a watch looks back over"""
    max_unmatched_rate: float = 0.05
    """share of the quotes that are not in their response"""
    min_coverage: float = 0.02
    """share of the tokens that a quote scores, at least"""
    max_coverage: float = 0.98
    """share of the tokens that a quote scores, at most"""
    max_sign_share: float = 0.95
    """share of the scored tokens with the same sign"""
    max_rejected_share: float = 0.3
    """share of the critique's tokens that constrained decoding chose against the reward model"""
    max_removed_mass: float = 0.3
    """probability that constrained decoding took away, per token"""
    max_reward_swing: float = 3.0
    """median change of the reward from step to step, where it goes to and fro, in units of what
    the sampling of a batch explains"""
    max_length_growth: float = 1.5
    """length of the responses against the first --watch_steps steps"""
    min_length_growth: float = 0.6
    """likewise, for responses that shrink"""
    max_kl_ratio: float = 2.0
    """KL against --kl_target"""
    # credit
    credit_assignment: Literal["span", "scalar", "spread"] = "span"
    """span: Text2Grad; scalar: the same scores as one reward on the last token; spread: their sum
    shared evenly among the tokens"""
    unmarked_score: float | None = None
    """score of a token that no quote marks, where the task judges it; None for the task's own"""
    length_weight: bool = False
    """shrink positive scores beyond --length_weight_tokens"""
    length_weight_tokens: int = 48
    """length from which positive scores shrink"""
    gamma: float = 1.0
    """discount"""
    lam: float = 0.95
    """GAE's bias-variance trade"""
    whiten: Literal["shift", "scale", "none"] = "shift"
    """advantages: zero mean and unit deviation, unit deviation only, or as they are"""
    whiten_floor: float = 0.1
    """smallest deviation that advantages are divided by"""
    # KL
    kl_penalty: Literal["full", "kl", "k1", "k2", "k3", "abs", "mse"] = "full"
    """estimator of the penalty per token"""
    init_kl_coef: float = 0.2
    """weight of the penalty at the start"""
    adap_kl_ctrl: bool = True
    """steer the weight towards --kl_target"""
    kl_target: float = 6.0
    """nats per response that the controller aims at"""
    kl_horizon: int = 10000
    """responses over which the controller acts; small runs need a small one"""
    early_stopping: bool = False
    """stop the updates of a batch beyond 1.5 times --target_kl"""
    target_kl: float = 0.1
    """nats per token between sampled and updated policy"""
    # optimisation
    batch_size: int = 12
    """responses per PPO step, over all processes"""
    mini_batch_size: int = 1
    """responses per forward pass and process"""
    gradient_accumulation_steps: int = 12
    """forward passes per update"""
    max_tokens_per_microbatch: int = 0
    """tokens per forward pass and process instead, padding included: an update has as many
    responses as the two flags above say, which share as few passes as fit; 0 for off"""
    gradient_checkpointing: bool = False
    """recompute activations: less memory, slower"""
    ppo_epochs: int = 4
    """passes over each batch"""
    learning_rate: float = 1e-6
    """peak learning rate"""
    lr_scheduler_type: str = "linear"
    """schedule over the PPO steps, by its transformers name"""
    warmup_steps: int = 0
    """PPO steps with a rising learning rate"""
    adafactor: bool = True
    """Adafactor instead of AdamW"""
    weight_decay: float = 0.0
    """decoupled weight decay"""
    max_grad_norm: float = 1.0
    """gradient clipping"""
    cliprange: float = 0.2
    """clip range of the ratio"""
    cliprange_value: float = 0.2
    """clip range of the value, in deviations of the return"""
    vf_coef: float = 0.1
    """weight of the value loss"""
    value_learning_rate: float = 0.0
    """learning rate of the value head, 0 for --learning_rate"""
    detach_value_steps: int = 0
    """steps in which the value loss does not reach the shared backbone"""
    ratio_threshold: float = 10.0
    """skip an update whose mean ratio is beyond this"""
    mask_loss: Literal["", "loss_p", "loss_v"] = ""
    """leave out the policy loss (loss_p) or the value loss (loss_v)"""
    logp_chunk_tokens: int = 256
    """tokens whose logits exist at once"""
    deepspeed: str = ""
    """DeepSpeed configuration file, ZeRO-1, 2 or 3; "" for plain data parallel"""
    ddp_timeout: int = 1800
    """seconds that a process waits for the slowest one before the run ends"""
    local_rank: int = -1
    """set by the launcher"""

    ALIASES: ClassVar[dict[str, str]] = {
        "model": "base_model_name",
        "data_path": "data_file_path",
        "valid_data_path": "valid_data_file_path",
        "max_new_tokens": "output_max_length",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        above(self, 0, "learning_rate", "temperature", "kl_target", "kl_horizon", "target_kl")
        above(self, 0, "cliprange", "cliprange_value", "ratio_threshold", "whiten_floor", "top_p")
        at_least(self, 1, "batch_size", "mini_batch_size", "gradient_accumulation_steps")
        at_least(self, 1, "ppo_epochs", "train_epochs", "steps", "save_freq", "output_max_length")
        at_least(self, 1, "reward_batch_size", "logp_chunk_tokens", "num_beams", "eval_samples")
        at_least(self, 1, "max_bad_steps", "lora_r", "ddp_timeout")
        at_least(self, 0, "weight_decay", "warmup_steps")
        at_least(self, 0, "init_kl_coef", "vf_coef", "max_tokens_per_microbatch", "eval_steps")
        at_least(self, 0, "detach_value_steps", "save_total_limit", "lora_last_layers")
        fraction(self, "gamma", "lam", "max_unparseable_share", "max_unmatched_rate")
        fraction(self, "min_coverage", "max_coverage", "max_sign_share", "min_length_growth")
        fraction(self, "max_rejected_share", "max_removed_mass")
        at_least(self, 4, "watch_steps")
        above(self, 0, "max_reward_swing", "max_length_growth", "max_kl_ratio", "max_grad_norm")
        if self.require_rm_gate and not self.reward_model_metrics:
            raise UserError("--require_rm_gate true: needs --reward_model_metrics")
        if self.load_in_4bit and self.base_model_adapter_model:
            raise UserError(
                f"--base_model_adapter_model {self.base_model_adapter_model}: cannot be merged "
                "into the packed weights of --load_in_4bit true; merge it first (merge_lora.py) "
                "and name the merged model by --base_model_name"
            )
        if self.batch_size % (self.mini_batch_size * self.gradient_accumulation_steps):
            raise UserError(
                f"--batch_size {self.batch_size} is not a multiple of --mini_batch_size "
                f"{self.mini_batch_size} times --gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}"
            )
        if self.reward_base_url and self.ddp_timeout <= self.reward_patience_seconds:
            raise UserError(
                f"--ddp_timeout {self.ddp_timeout} must be more than --reward_patience_seconds "
                f"{self.reward_patience_seconds:g}, for which one process may wait for its server"
            )
        self._check_sampling()
        self._check_backends(self.feedback_source, self.num_beams)

    def _check_sampling(self) -> None:
        off = {
            "top_p": self.top_p < 1,
            "top_k": self.top_k > 0,
            "num_beams": self.num_beams > 1,
            "repetition_penalty": self.repetition_penalty != 1,
            "min_new_tokens": self.min_new_tokens > 0,
        }
        found = [name for name, is_off in off.items() if is_off]
        named = " ".join(f"--{name} {getattr(self, name)}" for name in found)
        if named and not self.allow_off_policy_sampling:
            raise UserError(
                f"{named}: samples would not come from the policy that is optimised; drop the "
                "flag, or pass --allow_off_policy_sampling true"
            )

    def bound_flags(self) -> dict[str, Any]:
        """The flags that a resumed run cannot change."""
        names = """task base_model_adapter_model lora_r lora_alpha lora_target_modules
            lora_last_layers learning_rate init_kl_coef batch_size credit_assignment
            unmarked_score temperature seed feedback_noise"""
        return {name: getattr(self, name) for name in names.split()}
