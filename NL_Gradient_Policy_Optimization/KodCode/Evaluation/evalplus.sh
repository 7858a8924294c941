#!/usr/bin/env bash
# HumanEval, HumanEval+, MBPP and MBPP+ of a policy. Edit this block, or override from outside:
#     POLICY=my-model DATASETS=humaneval bash evalplus.sh
#     POLICY=my-model SAMPLES=10 TEMPERATURE=0.8 K="1 10" bash evalplus.sh
# EvalPlus' data is fetched once; without a network name the files in HUMANEVAL_PATH and MBPP_PATH.
# Flags given here go to evalplus_metrics.py. Generated code runs only in the sandbox.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=../../..

POLICY=${POLICY:-../ckpt/text2grad_kodcode/final_merge}
DATASETS=${DATASETS:-humaneval mbpp}
HUMANEVAL_PATH=${HUMANEVAL_PATH:-}
MBPP_PATH=${MBPP_PATH:-}
OUTPUT_DIR=${OUTPUT_DIR:-result}
SAMPLE_SIZE=${SAMPLE_SIZE:-0}
SAMPLES=${SAMPLES:-1}
K=${K:-1}
TEMPERATURE=${TEMPERATURE:-0}
PROMPT_MAX_LENGTH=${PROMPT_MAX_LENGTH:-970}
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-768}
BATCH_SIZE=${BATCH_SIZE:-32}
WORKERS=${WORKERS:-0}
SEED=${SEED:-42}

[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python3
# DRY_RUN=1 prints each command, quoted so that it can be pasted, in place of running it.
run() {
    if [ -z "${DRY_RUN:-}" ]; then "$@"; return; fi
    printf 'cd %q && ' "$PWD"
    printf '%q ' "$@"
    echo
}

read -ra draws <<< "$K"
for dataset in $DATASETS; do
    run "$PYTHON" evalplus_problems.py \
        --dataset "$dataset" \
        --humaneval_path "$HUMANEVAL_PATH" \
        --mbpp_path "$MBPP_PATH" \
        --output_path "$OUTPUT_DIR/${dataset}_problems.json"
    run "$PYTHON" infer_val.py \
        --model_path "$POLICY" \
        --input_path "$OUTPUT_DIR/${dataset}_problems.json" \
        --output_dir "$OUTPUT_DIR" \
        --output_name "${dataset}_samples.json" \
        --sample_size "$SAMPLE_SIZE" \
        --samples_per_prompt "$SAMPLES" \
        --temperature "$TEMPERATURE" \
        --prompt_max_length "$PROMPT_MAX_LENGTH" \
        --max_new_tokens "$MAX_NEW_TOKENS" \
        --batch_size "$BATCH_SIZE" \
        --seed "$SEED"
    run "$PYTHON" evalplus_metrics.py \
        --dataset "$dataset" \
        --humaneval_path "$HUMANEVAL_PATH" \
        --mbpp_path "$MBPP_PATH" \
        --input_file "$OUTPUT_DIR/${dataset}_samples.json" \
        --output_file "$OUTPUT_DIR/${dataset}_plus.json" \
        --k "${draws[@]}" \
        --sample_size "$SAMPLE_SIZE" \
        --workers "$WORKERS" \
        --seed "$SEED" \
        "$@"
done
