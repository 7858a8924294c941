#!/usr/bin/env bash
# Train the UltraFeedback reward model. Edit this block, or override from outside:
#     MODEL=my-model bash deepspeed_train_ultrafeedback.sh --learning_rate 2e-5
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=../..

MODEL=${MODEL:-meta-llama/Llama-3.1-8B-Instruct}
DATA=${DATA:-../../RM_Data_Anno/UltraFeedback/data/train_annotated.json}
VALID=${VALID:-../../RM_Data_Anno/UltraFeedback/data/validation_annotated.json}
OUTPUT=${OUTPUT:-ckpt/llama31-8B-ultrafeedback}
EPOCHS=${EPOCHS:-3}
LEARNING_RATE=${LEARNING_RATE:-1e-5}
MICRO_BATCH=${MICRO_BATCH:-1}
ACCUMULATION=${ACCUMULATION:-1}
LORA_R=${LORA_R:-16}
LORA_ALPHA=${LORA_ALPHA:-32}
LORA_DROPOUT=${LORA_DROPOUT:-0.1}
TARGETS=${TARGETS:-q_proj v_proj}
MAX_LENGTH=${MAX_LENGTH:-1250}
EVAL_STEPS=${EVAL_STEPS:-400}
SAVE_STEPS=${SAVE_STEPS:-400}
GPUS=${GPUS:-$(nvidia-smi --list-gpus 2> /dev/null | grep -c '^GPU ' || true)}
NODES=${NODES:-}
SLOTS=${SLOTS:-}
HOSTFILE=${HOSTFILE:-}
MAIN_ADDRESS=${MAIN_ADDRESS:-}
MAIN_PORT=${MAIN_PORT:-29500}
DEEPSPEED=${DEEPSPEED:-$([ "$GPUS" -gt 0 ] || [ -n "$NODES$HOSTFILE" ] && echo deepspeed.json || true)}

[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python3
# DRY_RUN=1 prints each command, quoted so that it can be pasted, in place of running it.
run() {
    if [ -z "${DRY_RUN:-}" ]; then exec "$@"; fi  # a SIGTERM reaches it
    printf 'cd %q && ' "$PWD"
    printf '%q ' "$@"
    echo
}
stop() { echo "error: $1" >&2; exit 2; }

# DeepSpeed where there are GPUs, one plain process where there are none.
WHERE=(--num_gpus "$GPUS")
# Several machines: NODES names them and SLOTS says how many GPUs each has, or HOSTFILE is a file that
# does. Started on one of them, by pdsh over ssh; MAIN_ADDRESS is the first one's where ssh and the
# GPUs use different networks.
if [ -n "$NODES" ]; then
    [ -z "$HOSTFILE" ] || stop "NODES=$NODES: HOSTFILE=$HOSTFILE names the machines too; set one of them"
    [[ $NODES =~ [a-zA-Z.] && ! $NODES =~ [^a-zA-Z0-9@.,[:space:]_-] ]] ||
        stop "NODES=$NODES: expected the names of the machines, separated by commas or spaces"
    [ -n "$SLOTS" ] || SLOTS=$GPUS
    [[ $SLOTS =~ ^[1-9][0-9]*$ ]] || stop "SLOTS=$SLOTS: expected how many GPUs each of NODES=$NODES has"
    HOSTFILE=$OUTPUT/hostfile
    HOSTS=$(printf "%s slots=$SLOTS\n" ${NODES//,/ })
    if [ -n "${DRY_RUN:-}" ]; then
        printf 'cd %q && mkdir -p %q && cat > %q << END\n%s\nEND\n' "$PWD" "$OUTPUT" "$HOSTFILE" "$HOSTS"
    else
        mkdir -p "$OUTPUT"
        echo "$HOSTS" > "$HOSTFILE"
    fi
elif [ -n "$SLOTS" ]; then
    stop "SLOTS=$SLOTS: the GPUs of each of NODES, which is not set; for one machine set GPUS"
elif [ -n "$HOSTFILE" ]; then
    [ -f "$HOSTFILE" ] || stop "HOSTFILE=$HOSTFILE: no such file; a line of it is: name slots=8"
fi
if [ -n "$HOSTFILE" ]; then
    [ -n "${DRY_RUN:-}" ] || command -v pdsh > /dev/null || stop "HOSTFILE=$HOSTFILE: needs pdsh; apt-get install pdsh"
    WHERE=(--hostfile "$HOSTFILE" --force_multi --master_port "$MAIN_PORT")
    [ -z "$MAIN_ADDRESS" ] || WHERE+=(--master_addr "$MAIN_ADDRESS")
fi
LAUNCH=("$PYTHON" train_rm.py)
if [ "$GPUS" -gt 0 ] || [ -n "$HOSTFILE" ]; then
    FIND='import importlib.metadata as m; m.version("deepspeed")'
    [ -n "${DRY_RUN:-}" ] || "$PYTHON" -c "$FIND" 2> /dev/null ||
        stop "GPUS=$GPUS: DeepSpeed is not installed; run bash env.sh, or set GPUS=0"
    LAUNCH=("$PYTHON" -m deepspeed.launcher.runner "${WHERE[@]}" train_rm.py)
    # It would die of a SIGTERM, and then nobody waits until the processes have saved.
    trap '' TERM
fi

run "${LAUNCH[@]}" \
    --base_model "$MODEL" \
    --data_path "$DATA" \
    --valid_data_path "$VALID" \
    --output_dir "$OUTPUT" \
    --num_train_epochs "$EPOCHS" \
    --learning_rate "$LEARNING_RATE" \
    --per_device_train_batch_size "$MICRO_BATCH" \
    --gradient_accumulation_steps "$ACCUMULATION" \
    --lora_r "$LORA_R" \
    --lora_alpha "$LORA_ALPHA" \
    --lora_dropout "$LORA_DROPOUT" \
    --lora_target_modules $TARGETS \
    --max_length "$MAX_LENGTH" \
    --eval_steps "$EVAL_STEPS" \
    --save_steps "$SAVE_STEPS" \
    --deepspeed "$DEEPSPEED" \
    "$@"
