#!/usr/bin/env bash
# Trainings that meet a fault at a random moment, go on with --resume, and are compared bit for bit with one left alone:
# 200 are killed (SIGKILL), 50 times the disk is full, 50 times the folder becomes read-only. Some minutes. The full disk is
# a small tmpfs, which takes root to mount; without, it says that it was skipped. One of the three alone:
#   scripts/kill_test.sh killed::a_folder_locked_at_50_random_moments
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- killed::killed_at_200_random_moments killed::a_disk_full_at_50_random_moments \
  killed::a_folder_locked_at_50_random_moments
cargo test --release -p rushlight-cli --test cli -- --ignored --nocapture --test-threads 1 --exact "$@"
