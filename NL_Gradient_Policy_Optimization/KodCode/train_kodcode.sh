#!/usr/bin/env bash
# Optimise the KodCode policy. Edit this block, or override from outside:
#     POLICY=my-model REWARD_MODEL=my-rm bash train_kodcode.sh --steps 500
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=../..

POLICY=${POLICY:-meta-llama/Llama-3.2-3B-Instruct}
REWARD_MODEL=${REWARD_MODEL:-../../NL_Reward_Model/KodCode/ckpt/llama31-8B-kodcode/final_merge}
RM_METRICS=${RM_METRICS:-../../NL_Reward_Model/KodCode/Evaluation/reward_model_metrics.json}
DATA=${DATA:-../../RM_Data_Anno/KodCode/data/train.json}
VALID=${VALID:-../../RM_Data_Anno/KodCode/data/validation.json}
OUTPUT=${OUTPUT:-ckpt/text2grad_kodcode}
GPUS=${GPUS:-$(nvidia-smi --list-gpus 2> /dev/null | grep -c '^GPU ' || true)}
NODES=${NODES:-1}
NODE_RANK=${NODE_RANK:-}
MAIN_ADDRESS=${MAIN_ADDRESS:-}
MAIN_PORT=${MAIN_PORT:-29500}
LEARNING_RATE=${LEARNING_RATE:-5e-7}
SCHEDULER=${SCHEDULER:-cosine}
ADAFACTOR=${ADAFACTOR:-false}
DEEPSPEED=${DEEPSPEED:-$([ $((NODES * GPUS)) -gt 1 ] && [ "$ADAFACTOR" = false ] && echo deepspeed.json || true)}
BATCH_SIZE=${BATCH_SIZE:-$((8 * NODES * (GPUS > 1 ? GPUS : 1)))}
MINI_BATCH_SIZE=${MINI_BATCH_SIZE:-1}
ACCUMULATION=${ACCUMULATION:-8}
PPO_EPOCHS=${PPO_EPOCHS:-4}
TRAIN_EPOCHS=${TRAIN_EPOCHS:-4}
STEPS=${STEPS:-6000}
INIT_KL_COEF=${INIT_KL_COEF:-0.07}
ADAP_KL_CTRL=${ADAP_KL_CTRL:-true}
KL_PENALTY=${KL_PENALTY:-full}
KL_TARGET=${KL_TARGET:-6}
EARLY_STOPPING=${EARLY_STOPPING:-false}
PROMPT_MAX_LENGTH=${PROMPT_MAX_LENGTH:-970}
OUTPUT_MAX_LENGTH=${OUTPUT_MAX_LENGTH:-256}
TEMPERATURE=${TEMPERATURE:-0.6}
UNMARKED_SCORE=${UNMARKED_SCORE:-1}
SAVE_FREQ=${SAVE_FREQ:-20}
EVAL_STEPS=${EVAL_STEPS:-0}
SEED=${SEED:-42}

[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python3
# DRY_RUN=1 prints each command, quoted so that it can be pasted, in place of running it.
run() {
    if [ -z "${DRY_RUN:-}" ]; then exec "$@"; fi  # a SIGTERM reaches it
    printf 'cd %q && ' "$PWD"
    printf '%q ' "$@"
    echo
}

# Several GPUs: accelerate starts a process for each, under DeepSpeed where the optimiser can be
# sharded (DEEPSPEED=deepspeed.json asks for it anywhere, --deepspeed "" for none). Else one process.
# NODES machines with GPUS each: the same command on all, with NODE_RANK 0, 1, ... and the first
# one's MAIN_ADDRESS.
LAUNCH=("$PYTHON" train_kodcode.py)
PROCESSES=$((NODES * (GPUS > 1 ? GPUS : 1)))
if [ "$PROCESSES" -gt 1 ]; then
    for SAID in "num_processes: $PROCESSES" "num_machines: $NODES"; do
        FOUND=$(grep "^${SAID%%:*}:" accelerate_config.yaml || true)
        [ -z "$FOUND" ] || [ "$FOUND" = "$SAID" ] || {
            echo "error: $FOUND of accelerate_config.yaml contradicts GPUS=$GPUS and NODES=$NODES, $SAID; remove that line" >&2
            exit 2
        }
    done
    LAUNCH=("$PYTHON" -m accelerate.commands.launch --config_file accelerate_config.yaml
        --num_processes "$PROCESSES" --num_machines "$NODES")
    if [ "$NODES" -gt 1 ]; then
        [ -n "$NODE_RANK" ] && [ -n "$MAIN_ADDRESS" ] || {
            echo "error: NODES=$NODES: set MAIN_ADDRESS, the address of the first machine, and NODE_RANK, the number of this one from 0" >&2
            exit 2
        }
        LAUNCH+=(--machine_rank "$NODE_RANK" --main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT")
    fi
    LAUNCH+=(train_kodcode.py)
fi

run "${LAUNCH[@]}" \
    --base_model_name "$POLICY" \
    --reward_model_name "$REWARD_MODEL" \
    --reward_model_metrics "$RM_METRICS" \
    --data_file_path "$DATA" \
    --valid_data_file_path "$VALID" \
    --output_dir "$OUTPUT" \
    --learning_rate "$LEARNING_RATE" \
    --lr_scheduler_type "$SCHEDULER" \
    --adafactor "$ADAFACTOR" \
    --batch_size "$BATCH_SIZE" \
    --mini_batch_size "$MINI_BATCH_SIZE" \
    --gradient_accumulation_steps "$ACCUMULATION" \
    --ppo_epochs "$PPO_EPOCHS" \
    --train_epochs "$TRAIN_EPOCHS" \
    --steps "$STEPS" \
    --init_kl_coef "$INIT_KL_COEF" \
    --adap_kl_ctrl "$ADAP_KL_CTRL" \
    --kl_penalty "$KL_PENALTY" \
    --kl_target "$KL_TARGET" \
    --early_stopping "$EARLY_STOPPING" \
    --prompt_max_length "$PROMPT_MAX_LENGTH" \
    --output_max_length "$OUTPUT_MAX_LENGTH" \
    --temperature "$TEMPERATURE" \
    --unmarked_score "$UNMARKED_SCORE" \
    --save_freq "$SAVE_FREQ" \
    --eval_steps "$EVAL_STEPS" \
    --deepspeed "$DEEPSPEED" \
    --seed "$SEED" \
    "$@"
