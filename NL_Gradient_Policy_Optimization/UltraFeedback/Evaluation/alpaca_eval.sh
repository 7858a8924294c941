#!/usr/bin/env bash
# Compare the UltraFeedback policy with the reference answers of AlpacaEval 2.0 by its own program,
# in an environment of its own. The key is read from OPENAI_API_KEY. Edit this block, or override
# from outside:
#     MODEL=my-model bash alpaca_eval.sh
#     JUDGE=my-judge BASE_URL=http://localhost:8000/v1 bash alpaca_eval.sh \
#         --data my_instructions.json --length_controlled false
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=../../..

MODEL=${MODEL:-../ckpt/text2grad_ultrafeedback/final_merge}
ANNOTATORS=${ANNOTATORS:-weighted_alpaca_eval_gpt4_turbo}
JUDGE=${JUDGE:-}
BASE_URL=${BASE_URL:-}
OUTPUT=${OUTPUT:-result/alpaca_eval.json}
SEED=${SEED:-42}
VENV=${VENV:-$ROOT/.venv-alpaca-eval}
# with pandas 3 it cannot read its own cache
ALPACA_EVAL=(alpaca_eval==0.6.6 "pandas==2.3.3")

[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python3
# DRY_RUN=1 prints each command, quoted so that it can be pasted, in place of running it.
run() {
    if [ -z "${DRY_RUN:-}" ]; then "$@"; return; fi
    printf 'cd %q && ' "$PWD"
    printf '%q ' "$@"
    echo
}

set_up() {
    echo "setting up $VENV with ${ALPACA_EVAL[*]}"
    "$PYTHON" -m venv --clear "$VENV"
    "$VENV/bin/python" -m pip --disable-pip-version-check install --quiet "${ALPACA_EVAL[@]}"
}
# not by importing it: this folder has a script of the same name
[ -n "${DRY_RUN:-}" ] || "$VENV/bin/python" -m pip show --quiet alpaca_eval 2> /dev/null || set_up

run "$PYTHON" alpaca_eval.py \
    --model_path "$MODEL" \
    --annotators_config "$ANNOTATORS" \
    --judge_model "$JUDGE" \
    --base_url "$BASE_URL" \
    --output_file "$OUTPUT" \
    --seed "$SEED" \
    --python "$VENV/bin/python" \
    "$@"
