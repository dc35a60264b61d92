#!/usr/bin/env bash
# Train, evaluate, save, load, generate in a loop, and see that nothing grows: scripts/soak.sh [MINUTES, 60]. Linux only.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo run --release -p rushlight-models --example soak -- "${1:-60}"
