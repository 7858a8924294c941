#!/usr/bin/env bash
# SLF5K with the published models, in bf16, on GPUs of 80 GB. Each stage by itself, more flags at its end:
#     bash presets/slf5k.sh reward_model        8B, on 8 GPUs
#     bash presets/slf5k.sh policy --steps 500  8B, on 4 GPUs
# Variables from outside count as for the shells of the stages; what it takes, and whether it fits:
#     python benchmarks/scaling.py --preset slf5k
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
STAGE=${1:-}
MORE=()
case $STAGE in
reward_model)
    export GPUS=${GPUS:-8}
    export MODEL=${MODEL:-meta-llama/Llama-3.1-8B-Instruct}
    export MICRO_BATCH=${MICRO_BATCH:-1}
    SHELL_OF_STAGE=NL_Reward_Model/SLF5K/deepspeed_train_slf5k.sh
    ;;
policy)
    export GPUS=${GPUS:-4}
    export POLICY=${POLICY:-meta-llama/Llama-3.1-8B-Instruct}
    export BATCH_SIZE=${BATCH_SIZE:-12}
    export ACCUMULATION=${ACCUMULATION:-$((12 / (${NODES:-1} * (GPUS > 1 ? GPUS : 1))))}
    SHELL_OF_STAGE=NL_Gradient_Policy_Optimization/SLF5K/train_slf5k.sh
    MORE=(--max_tokens_per_microbatch "${MICRO_TOKENS:-4096}")
    ;;
*)
    echo "error: STAGE ${STAGE:-(none)}: reward_model or policy" >&2
    exit 2
    ;;
esac
shift
exec bash "$SHELL_OF_STAGE" --dtype bf16 "${MORE[@]}" "$@"
