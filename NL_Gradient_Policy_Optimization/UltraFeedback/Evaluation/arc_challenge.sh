#!/usr/bin/env bash
# Measure the UltraFeedback policy on ARC-Challenge by lm-eval, which gets an environment of its own:
# its packages are apart, torch and transformers are those of .venv. Edit this block, or override
# from outside:
#     POLICY=my-model bash arc_challenge.sh
#     bash arc_challenge.sh --data my_arc.jsonl --num_fewshot 0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=../../..

POLICY=${POLICY:-../ckpt/text2grad_ultrafeedback/final_merge}
NUM_FEWSHOT=${NUM_FEWSHOT:-25}
CHAT_TEMPLATE=${CHAT_TEMPLATE:-true}
FEWSHOT_AS_MULTITURN=${FEWSHOT_AS_MULTITURN:-true}
BATCH_SIZE=${BATCH_SIZE:-8}
MAX_SAMPLES=${MAX_SAMPLES:-0}
OUTPUT=${OUTPUT:-result/arc_challenge.json}
SEED=${SEED:-42}
VENV=${VENV:-../../../.venv-lm-eval}

[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python3
# DRY_RUN=1 prints each command, quoted so that it can be pasted, in place of running it.
run() {
    if [ -z "${DRY_RUN:-}" ]; then "$@"; return; fi
    printf 'cd %q && ' "$PWD"
    printf '%q ' "$@"
    echo
}

run "$PYTHON" arc_challenge.py \
    --model_path "$POLICY" \
    --num_fewshot "$NUM_FEWSHOT" \
    --apply_chat_template "$CHAT_TEMPLATE" \
    --fewshot_as_multiturn "$FEWSHOT_AS_MULTITURN" \
    --batch_size "$BATCH_SIZE" \
    --max_samples "$MAX_SAMPLES" \
    --output_file "$OUTPUT" \
    --seed "$SEED" \
    --environment "$VENV" \
    "$@"
