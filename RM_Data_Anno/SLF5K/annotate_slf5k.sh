#!/usr/bin/env bash
# Prepare SLF5K and annotate both splits. Edit this block, or override from outside:
#     DATA_PATH=sample CANDIDATES=all ANNOTATOR=reference bash annotate_slf5k.sh
#     BASE_URL=http://localhost:8000/v1 ANNOTATOR_MODEL=my-model bash annotate_slf5k.sh --cot false
# Flags given here go to the annotation. The key is read from OPENAI_API_KEY.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=../..

TASK=${TASK:-slf5k}
SOURCE=${SOURCE:-JeremyAlain/SLF5K}
DATA_PATH=${DATA_PATH:-}
CANDIDATES=${CANDIDATES:-feedback}
OUTPUT_DIR=${OUTPUT_DIR:-data}
MAX_SAMPLES=${MAX_SAMPLES:-0}
ANNOTATOR=${ANNOTATOR:-openai}
BASE_URL=${BASE_URL:-}
ANNOTATOR_MODEL=${ANNOTATOR_MODEL:-gpt-4o}
COT=${COT:-true}
TEMPERATURE=${TEMPERATURE:-0.3}
CONCURRENCY=${CONCURRENCY:-32}
SEED=${SEED:-42}

[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python3
# DRY_RUN=1 prints each command, quoted so that it can be pasted, in place of running it.
run() {
    if [ -z "${DRY_RUN:-}" ]; then "$@"; return; fi
    printf 'cd %q && ' "$PWD"
    printf '%q ' "$@"
    echo
}

run "$PYTHON" prepare_data.py \
    --task "$TASK" \
    --source "$SOURCE" \
    --data_path "$DATA_PATH" \
    --candidates "$CANDIDATES" \
    --output_dir "$OUTPUT_DIR" \
    --max_samples "$MAX_SAMPLES" \
    --seed "$SEED"

for split in train validation; do
    run "$PYTHON" dual_feedback_annotation_RM.py \
        --task "$TASK" \
        --data_path "$OUTPUT_DIR/$split.json" \
        --output_path "$OUTPUT_DIR/${split}_annotated.json" \
        --annotator "$ANNOTATOR" \
        --base_url "$BASE_URL" \
        --annotator_model "$ANNOTATOR_MODEL" \
        --cot "$COT" \
        --temperature "$TEMPERATURE" \
        --concurrency "$CONCURRENCY" \
        --seed "$SEED" \
        "$@"
done
