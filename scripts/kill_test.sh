#!/usr/bin/env bash
# Trainings killed (SIGKILL) at 200 random moments, resumed, and compared bit for bit with one left alone. Some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --release -p rushlight-cli --test cli -- --ignored --nocapture --exact killed::killed_at_200_random_moments
