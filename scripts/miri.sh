#!/usr/bin/env bash
# Views, storage, index arithmetic and the safe kernels under Miri: scripts/miri.sh [arguments of cargo test].
# Needs rustup's nightly with miri and rust-src (rustup +nightly component add miri rust-src); some minutes.
#
# Miri runs neither vector code nor what the `gemm` crate does with it, so the kernels are held at their scalar level;
# each pointer of storage.rs, of views and of the loops over strides is followed, and each borrow checked.
set -euo pipefail
cd "$(dirname "$0")/.."
# Temporary files and the clock are the host's; leaks are not looked for, as the caches of threads outlive main.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks ${MIRIFLAGS:-}"
export RUSHLIGHT_SIMD=baseline PROPTEST_CASES=4
[ $# -gt 0 ] || set -- --lib -- storage shape:: tensor:: --skip mapped --skip refused # no files are mapped, no memory is refused there
cargo +nightly miri test --target-dir target/miri -p rushlight "$@"
