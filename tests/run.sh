#!/usr/bin/env bash
# Set up what the tests need and run them; at most 15 minutes on two cores.
#
#     bash tests/run.sh              without the slow tests and those on the embedded model
#     bash tests/run.sh --all        everything
#     bash tests/run.sh -k align     other arguments go to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

select=(-m "not slow and not embedded")
arguments=()
for argument in "$@"; do
    if [ "$argument" = --all ]; then select=(); else arguments+=("$argument"); fi
done

bash env.sh < /dev/null
browser=${CHROMIUM:-$(command -v chromium chromium-browser google-chrome | head -n 1 || true)}
if [ -z "$browser" ] && [ -z "${REQUIRE_CHROMIUM:-}" ]; then
    echo "no chromium: the report's tests in a browser are skipped" \
        "(on Debian: apt-get install --no-install-recommends chromium)" >&2
fi
# One thread per process: two processes on two cores, and sums in the same order on every machine.
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES-}
exec "$PWD/.venv/bin/python" -m pytest -q -n "${TEST_PROCESSES:-2}" --dist loadscope \
    ${select[@]+"${select[@]}"} ${arguments[@]+"${arguments[@]}"} < /dev/null
