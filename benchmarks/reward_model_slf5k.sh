#!/usr/bin/env bash
# A reward model trained for longer than the quick run's, on the sample posts; at most an hour on
# two cores with the embedded model; a run that was stopped goes on. Beside the summaries of the
# data it learns from the policy's own answers, annotated by the same annotator: those are what it
# will judge in PPO, and they are measured apart too.
#
#     bash benchmarks/reward_model_slf5k.sh
#     DATA_PATH=records.json PREPARE="--fields.prompt question+passages --fields.response prediction
#         --fields.reference gold --valid_fraction 0.2" ANNOTATOR=human OWN_ANSWERS=0 \
#         PROMPT_TOKENS=360 OUTPUT=runs/reward_model_qa bash benchmarks/reward_model_slf5k.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD

MODEL=${MODEL:-$ROOT/models/smollm2-135m-instruct}
OUTPUT=$(realpath -m "${OUTPUT:-runs/reward_model_slf5k}")
DATA_PATH=$(realpath -m "${DATA_PATH:-RM_Data_Anno/SLF5K/sample}")
PREPARE=${PREPARE:---candidates all}
ANNOTATOR=${ANNOTATOR:-reference}
OWN_ANSWERS=${OWN_ANSWERS:-2} # to each training post; 0: none
PROMPT_TOKENS=${PROMPT_TOKENS:-900}
TARGET_FORMAT=${TARGET_FORMAT:-spans}
EPOCHS=${EPOCHS:-3}
LEARNING_RATE=${LEARNING_RATE:-1e-3}
LAST_LAYERS=${LAST_LAYERS:-12}

bash env.sh
PYTHON=$ROOT/.venv/bin/python
export PYTHON TOKENIZERS_PARALLELISM=false DS_LOG_LEVEL=error HF_HUB_DISABLE_TELEMETRY=1
command -v nvidia-smi > /dev/null || export DS_ACCELERATOR=cpu
ANNO=$ROOT/RM_Data_Anno/SLF5K RM=$ROOT/NL_Reward_Model/SLF5K
POLICY=$ROOT/NL_Gradient_Policy_Optimization/SLF5K
mkdir -p "$OUTPUT/data"
[ -d "$MODEL" ] || "$PYTHON" -m text2grad.embedded --output_path "$MODEL"

annotate() { # SPLIT FILE FLAGS...
    "$PYTHON" "$ANNO/dual_feedback_annotation_RM.py" --annotator "$ANNOTATOR" \
        --data_path "$2" --output_path "$OUTPUT/data/$1_annotated.json" "${@:3}"
}

# shellcheck disable=SC2086  # PREPARE is a list of words
"$PYTHON" "$ANNO/prepare_data.py" --data_path "$DATA_PATH" --output_dir "$OUTPUT/data" $PREPARE
own_answers() { # SPLIT SEED: appends to `own`
    local file=$OUTPUT/data/$1_own_$2
    [ -f "${file}_annotated.json" ] || "$PYTHON" "$POLICY/Evaluation/infer_val.py" \
        --model_path "$MODEL" --seed "$2" --input_path "$OUTPUT/data/$1.json" --sample_size 0 \
        --temperature 0.7 --top_p 1 --prompt_max_length "$PROMPT_TOKENS" --max_new_tokens 56 \
        --output_dir "$OUTPUT/data" --output_name "$1_own_$2.json"
    annotate "$1_own_$2" "$file.json"
    own+=("${file}_annotated.json")
}
annotate train "$OUTPUT/data/train.json"
annotate validation "$OUTPUT/data/validation.json"
more=()
if [ "$OWN_ANSWERS" -gt 0 ]; then
    own=()
    for seed in $(seq "$OWN_ANSWERS"); do own_answers train "$seed"; done
    more+=(--more_data_path "${own[@]}")
    own=()
    own_answers validation 1
    more+=(--more_valid_data_path "${own[@]}")
fi

env MODEL="$MODEL" DATA="$OUTPUT/data/train_annotated.json" \
    VALID="$OUTPUT/data/validation_annotated.json" \
    OUTPUT="$OUTPUT" EPOCHS="$EPOCHS" LEARNING_RATE="$LEARNING_RATE" MICRO_BATCH=4 ACCUMULATION=2 \
    TARGETS=all-linear LORA_DROPOUT=0 EVAL_STEPS=0 SAVE_STEPS=50 \
    bash "$RM/deepspeed_train_slf5k.sh" --data_dir "$OUTPUT/split" \
    --target_format "$TARGET_FORMAT" --lr_scheduler_type linear --warmup_ratio 0.1 \
    --lora_last_layers "$LAST_LAYERS" --eval_samples 32 \
    --prompt_max_length "$PROMPT_TOKENS" --resume_from_checkpoint auto ${more[@]+"${more[@]}"}
"$PYTHON" "$RM/Evaluation/1_merge_lora.py" --lora_model "$OUTPUT/final" --dtype bf16
"$PYTHON" "$RM/Evaluation/2_infer.py" --model_path "$OUTPUT/final_merge" --batch_size 32 \
    --data_path "$OUTPUT/split/slf5k_test.json" --prompt_max_length "$PROMPT_TOKENS" \
    --unconstrained_samples 32 --output_path "$OUTPUT/inference.json"
"$PYTHON" "$RM/Evaluation/3_metrics.py" --input_file "$OUTPUT/inference.json" \
    --train_file "$OUTPUT/split/slf5k_train.json" --output_file "$OUTPUT/metrics.json" \
    --tokenizer "$OUTPUT/final_merge" --apart '_own_[0-9]+_annotated$'
"$PYTHON" benchmarks/reward_model_table.py "$OUTPUT" --output_path "$OUTPUT/table.md"
