#!/usr/bin/env bash
# The readers under libFuzzer: scripts/fuzz.sh [seconds for each, 600] [targets]. Needs a nightly toolchain and cargo-fuzz.
#
# Finds lie in fuzz/artifacts; what leads to new paths is kept in fuzz/corpus. The seeds in fuzz/seeds are committed, and
# an ordinary test replays them (crates/rushlight-models/tests/corpus.rs): a find that is mended goes there.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:-600}
shift || true
[ $# -gt 0 ] || set -- $(cargo +nightly fuzz list --fuzz-dir .)
cargo +nightly fuzz build --fuzz-dir .
[ ! -d /dev/shm ] || export TMPDIR=/dev/shm
host=$(rustc -vV | sed -n 's/^host: //p')
for target in "$@"; do
  echo "== $target"
  mkdir -p "corpus/$target" "artifacts/$target"
  # A tensor that is refused is an error, not a find; what is used is.
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 "target/$host/release/$target" "corpus/$target" "seeds/$target" \
    -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -malloc_limit_mb=16000 \
    -max_len=16384 -verbosity=1 -print_final_stats=1 -close_fd_mask=1 2>&1 | grep -E "^stat::|DONE|ERROR|panicked|SUMMARY|Test unit|terminated" || true
done
