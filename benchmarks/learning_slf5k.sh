#!/usr/bin/env bash
# Does the policy learn, by a measure it was not trained on? Several seeds, with feedback from the
# reward model and, for comparison, from the reference annotator directly; at most two hours on two
# cores with the embedded model. A run that was stopped goes on.
#
#     bash benchmarks/reward_model_slf5k.sh && bash benchmarks/learning_slf5k.sh
#     SEEDS="1 2" STEPS=10 SOURCES=reference bash benchmarks/learning_slf5k.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD

MODEL=${MODEL:-$ROOT/models/smollm2-135m-instruct}
REWARD=$(realpath -m "${REWARD:-runs/reward_model_slf5k/final_merge}")
OUTPUT=$(realpath -m "${OUTPUT:-runs/learning_slf5k}")
SOURCES=${SOURCES:-reward_model reference}
SEEDS=${SEEDS:-1 2 3}
STEPS=${STEPS:-14}
TABLE=${TABLE:-$ROOT/benchmarks/results/learning_slf5k.md}

bash env.sh
PYTHON=$ROOT/.venv/bin/python
export PYTHON TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_TELEMETRY=1
POLICY=$ROOT/NL_Gradient_Policy_Optimization/SLF5K
ANNO=$ROOT/RM_Data_Anno/SLF5K
mkdir -p "$OUTPUT"
[ -d "$MODEL" ] || "$PYTHON" -m text2grad.embedded --output_path "$MODEL"
"$PYTHON" "$ANNO/prepare_data.py" --data_path "$ANNO/sample" --output_dir "$OUTPUT/data"

answer() { # MODEL NAME
    "$PYTHON" "$POLICY/Evaluation/infer_val.py" --model_path "$1" --output_name "$2.json" \
        --input_path "$OUTPUT/data/validation.json" --output_dir "$OUTPUT/answers" \
        --sample_size 0 --max_new_tokens 64 --temperature 0
}
[ -f "$OUTPUT/answers/before.json" ] || answer "$MODEL" before

for source in $SOURCES; do
    for seed in $SEEDS; do
        run=$OUTPUT/$source-$seed
        [ ! -f "$run/evaluation.json" ] || continue
        env POLICY="$MODEL" REWARD_MODEL="$REWARD" DATA="$OUTPUT/data/train.json" \
            VALID="$OUTPUT/data/validation.json" OUTPUT="$run" SEED="$seed" STEPS="$STEPS" \
            LEARNING_RATE=2e-4 ADAFACTOR=false BATCH_SIZE=8 MINI_BATCH_SIZE=4 \
            ACCUMULATION=1 PPO_EPOCHS=2 INIT_KL_COEF=0.05 KL_TARGET=6 OUTPUT_MAX_LENGTH=56 SAVE_FREQ=7 \
            bash "$POLICY/train_slf5k.sh" --feedback_source "$source" --temperature 0.7 \
            --lora_target_modules all-linear --lora_last_layers 12 --kl_horizon 200 \
            --value_learning_rate 1e-3 --detach_value_steps 4 --reward_max_new_tokens 256 \
            --save_total_limit 1 --resume_from_checkpoint auto
        "$PYTHON" "$POLICY/Evaluation/merge_lora.py" --lora_model "$run/final" --dtype bf16
        answer "$run/final_merge" "$source-$seed"
        "$PYTHON" "$POLICY/Evaluation/metrics.py" --input_file "$OUTPUT/answers/$source-$seed.json" \
            --compare_file "$OUTPUT/answers/before.json" --output_file "$run/evaluation.json" \
            --reward_model_name "$REWARD"
        rm -r "$run/final_merge"
    done
done
"$PYTHON" benchmarks/learning_table.py "$OUTPUT" --output_path "$TABLE"
