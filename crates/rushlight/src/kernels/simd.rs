//! Run-time dispatch: the same loop compiled for each processor generation, the best one picked when it runs.
//!
//! A kernel is a plain loop over slices that the compiler can turn into vector code. [`dispatch`] compiles it three
//! times on x86-64 (baseline, AVX2 + FMA, AVX-512) so that a stock build is a fast build; NEON is part of the aarch64
//! baseline. What a kernel calls inside must be `#[inline(always)]`, or it stays baseline code.

use std::sync::atomic::{AtomicU8, Ordering};

/// The instruction sets a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target's baseline has (SSE2 on x86-64, NEON on aarch64).
    Baseline = 1,
    /// AVX2 and FMA (x86-64-v3).
    Avx2 = 2,
    /// AVX-512 F, BW, CD, DQ, VL (x86-64-v4).
    Avx512 = 3,
}

static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The level in use: the best that this processor has, or less if `RUSHLIGHT_SIMD` (`baseline`, `avx2`, `avx512`) or
/// [`force_level`] says so.
#[inline]
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => {
            let asked = match std::env::var("RUSHLIGHT_SIMD").as_deref() {
                Ok("baseline") => Level::Baseline,
                Ok("avx2") => Level::Avx2,
                _ => Level::Avx512,
            };
            force_level(asked)
        }
    }
}

/// The best level that this processor has.
pub fn best_level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("f16c");
        let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        if avx2 && avx512 {
            return Level::Avx512;
        }
        if avx2 {
            return Level::Avx2;
        }
    }
    Level::Baseline
}

/// Uses `level`, or the best that this processor has where that is lower; returns what is used. For tests.
pub fn force_level(level: Level) -> Level {
    let used = level.min(best_level());
    LEVEL.store(used as u8, Ordering::Relaxed);
    used
}

/// Runs `f` compiled for the level in use. `f` should be a closure marked `#[inline(always)]`.
#[inline]
pub fn dispatch<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,f16c")]
        fn avx512<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,f16c")]
        fn avx2<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        match level() {
            // SAFETY: `force_level` never sets a level above `best_level`, which has seen these features.
            Level::Avx512 => return unsafe { avx512(f) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { avx2(f) },
            Level::Baseline => {}
        }
    }
    f()
}

/// Runs a loop for the processor, telling it whether to fuse multiplications and additions: on x86-64 below AVX2 that
/// would be a function call each.
macro_rules! dispatch_fused {
    ($fused:ident => $body:expr) => {
        if cfg!(target_arch = "x86_64") && $crate::kernels::simd::level() == $crate::kernels::simd::Level::Baseline {
            const $fused: bool = false;
            $body
        } else {
            const $fused: bool = true;
            $crate::kernels::simd::dispatch(
                #[inline(always)]
                || $body,
            )
        }
    };
}

pub(crate) use dispatch_fused;

/// Asks for the cache lines of `len` elements from `start` on, to be read or written soon: what a processor does not
/// foresee, such as short runs far apart. Nothing is read, so any address will do.
#[inline(always)]
pub(crate) fn prefetch<T>(start: *const T, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for i in (0..len).step_by(lanes::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and the instruction never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(i).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len);
}

/// Runs `f` on pieces of `0..n`, which it passes in order, and asks on the way for the same pieces of `next`.
///
/// For a loop over a row that lies in the nearest cache, where the next row can come while this one is worked on: with all
/// of it asked for at once, the loop would wait instead.
#[inline(always)]
pub(crate) fn while_next_comes<T, const N: usize>(
    n: usize,
    next: [*const T; N],
    mut f: impl FnMut(std::ops::Range<usize>),
) {
    const PIECE: usize = 64;
    for start in (0..n).step_by(PIECE) {
        let end = n.min(start + PIECE);
        for next in next {
            prefetch(next.wrapping_add(start), end - start);
        }
        f(start..end);
    }
}

/// Where the row after this one begins, if there is one.
#[inline(always)]
pub(crate) fn after<T>(row: &[T]) -> *const T {
    row.as_ptr().wrapping_add(row.len())
}

/// Elements in a vector: 64 bytes, one register with AVX-512, two with AVX2, four with NEON.
pub(crate) const fn lanes<C>() -> usize {
    64 / size_of::<C>()
}

/// How many vectors a tile is wide at most: beside six rows, what the registers hold.
pub(crate) fn max_vectors() -> usize {
    match level() {
        Level::Avx512 => 4,
        _ => 1,
    }
}

/// For tests of this crate, which share one level: those that force it run alone, beside no other that compares bits.
#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

    use super::{Level, force_level};

    static LEVEL: RwLock<()> = RwLock::new(());

    /// Keeps others from the level; it is the best again in the end.
    pub(crate) struct Forced(#[allow(dead_code)] RwLockWriteGuard<'static, ()>);

    pub(crate) fn force_levels() -> Forced {
        Forced(LEVEL.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn keep_level() -> RwLockReadGuard<'static, ()> {
        LEVEL.read().unwrap_or_else(PoisonError::into_inner)
    }

    impl Drop for Forced {
        fn drop(&mut self) {
            force_level(Level::Avx512);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_computes_the_same_sum() {
        let _forced = testing::force_levels();
        let x: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
            force_level(level);
            let s: f32 = dispatch(
                #[inline(always)]
                || x.iter().map(|v| v * 2.0).sum(),
            );
            assert_eq!(s, 999_000.0);
        }
    }
}
