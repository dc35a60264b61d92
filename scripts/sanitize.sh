#!/usr/bin/env bash
# The library's tests under a sanitizer: scripts/sanitize.sh [address | thread] [arguments of cargo test]
#
# Without arguments: --lib --tests, all but the examples in the documentation.
#
# Needs a Rust toolchain that ships the sanitizers' runtimes, as rustup's do for x86_64 and aarch64 Linux, and some ten
# minutes. RUSTC_BOOTSTRAP=1 lets a stable compiler take the -Z option.
#
# address (the default): reads and writes past a buffer and of freed ones, at every level of vector code. Each buffer is
#   a block of its own that ends with its last element and starts out as NaN (`rushlight_exact`, storage.rs), so what is
#   read before it is written fails a test. Leaks are not looked for: the caches of threads outlive main.
# thread: two threads at one place, of which one writes, unordered. The standard library is built for it too, as it orders
#   much of that (its channels, its Condvar): this needs rustup's nightly with rust-src. One test at a time; the library's
#   own threads are at work in them all. Slow: name what is of interest, as in
#   scripts/sanitize.sh thread --lib kernels::parallel
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-address}
shift || true
host=$(rustc -vV | sed -n 's/^host: //p')
runtime=$(rustc --print sysroot)/lib/rustlib/$host/lib
case $kind in
  address) flags="-Zsanitizer=address --cfg rushlight_exact" ls=asan ;;
  thread) flags="-Zsanitizer=thread" ls=tsan ;;
  *) echo "expected address or thread, not $kind"; exit 2 ;;
esac
[ "$kind" = address ] || runtime=$(rustc +nightly --print sysroot)/lib/rustlib/$host/lib
if ! compgen -G "$runtime/*$ls*" > /dev/null; then
  echo "this toolchain has no runtime for the sanitizer: no *$ls* in $runtime"
  exit 1
fi

export RUSTC_BOOTSTRAP=1 RUSTFLAGS="${RUSTFLAGS:-} $flags"
# A refused allocation is a null pointer, as elsewhere: a test asks for too much.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 TSAN_OPTIONS=allocator_may_return_null=1
toolchain=() std=()
# The caches and builds of the two do not mix with the ordinary one.
run() { cargo "${toolchain[@]}" test "${std[@]}" --target "$host" --target-dir "target/$ls" -p rushlight --no-fail-fast "$@"; }
[ $# -gt 0 ] || set -- --lib --tests

if [ "$kind" = thread ]; then
  toolchain=(+nightly) std=(-Zbuild-std)
  RUST_TEST_THREADS=1 run "$@"
  exit
fi
for level in avx512 avx2 baseline; do
  echo "== RUSHLIGHT_SIMD=$level (or the best that this processor has)"
  RUSHLIGHT_SIMD=$level run "$@"
done
