#!/usr/bin/env bash
# Compare the UltraFeedback policy with the reference answers of AlpacaEval 2.0 by its own program,
# in an environment of its own. The key is read from OPENAI_API_KEY. Edit this block, or override
# from outside:
#     POLICY=my-model bash alpaca_eval.sh
#     JUDGE=my-judge BASE_URL=http://localhost:8000/v1 bash alpaca_eval.sh \
#         --data my_instructions.json --length_controlled false
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=../../..

POLICY=${POLICY:-../ckpt/text2grad_ultrafeedback/final_merge}
ANNOTATORS=${ANNOTATORS:-weighted_alpaca_eval_gpt4_turbo}
JUDGE=${JUDGE:-}
BASE_URL=${BASE_URL:-}
TEMPERATURE=${TEMPERATURE:-0.7}
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-1024}
BATCH_SIZE=${BATCH_SIZE:-16}
OUTPUT=${OUTPUT:-result/alpaca_eval.json}
SEED=${SEED:-42}
VENV=${VENV:-../../../.venv-alpaca-eval}

[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python3
# DRY_RUN=1 prints each command, quoted so that it can be pasted, in place of running it.
run() {
    if [ -z "${DRY_RUN:-}" ]; then "$@"; return; fi
    printf 'cd %q && ' "$PWD"
    printf '%q ' "$@"
    echo
}

run "$PYTHON" alpaca_eval.py \
    --model_path "$POLICY" \
    --annotators_config "$ANNOTATORS" \
    --judge_model "$JUDGE" \
    --base_url "$BASE_URL" \
    --temperature "$TEMPERATURE" \
    --max_new_tokens "$MAX_NEW_TOKENS" \
    --batch_size "$BATCH_SIZE" \
    --output_file "$OUTPUT" \
    --seed "$SEED" \
    --environment "$VENV" \
    "$@"
