//! What this machine can do: multiply-adds, and bytes read and copied.
//!
//! The limits of bytes are those of memory: a row of 64 MiB that finds half of its input in a large cache can pass
//! them. The loops are the simplest there are. Turbo, neighbours and cooling move the limits, so they are measured in each
//! run, just before the rows.

use std::hint::black_box;
use std::io;
use std::sync::Barrier;
use std::time::Instant;

use memmap2::MmapMut;
use pulp::{Arch, Simd, WithSimd};
use serde::Serialize;

/// The limits with the given number of threads, in 10⁹ operations or bytes per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Multiply-adds of f32, each counted as two operations.
    pub f32_gflops: f64,
    /// Multiply-adds of f64.
    pub f64_gflops: f64,
    /// Bytes read from memory.
    pub read_gbs: f64,
    /// Bytes read and written, each counted twice: the better of copying and of changing in place.
    pub copy_gbs: f64,
}

/// Numbers of eight bytes in the array of a thread: 128 MiB, well beyond its caches.
const ARRAY: usize = 16 << 20;
/// Short and many, so that one of them is not disturbed.
const ROUNDS: usize = 64;

/// Measures them, in a few seconds.
pub fn measure(threads: usize) -> io::Result<Limits> {
    let mut from = arrays(threads)?;
    let mut to = arrays(threads)?;
    let array = 8.0 * ARRAY as f64;
    let read = best(&mut from, array, |x| dispatch(Read(numbers(x))));
    let change = best(&mut from, 2.0 * array, |x| dispatch(Change(numbers(x))));
    let mut both: Vec<_> = from.iter_mut().zip(&mut to).collect();
    let copy = best(&mut both, 2.0 * array, |(from, to)| numbers(to).copy_from_slice(numbers(from)));
    Ok(Limits {
        f32_gflops: flops(threads, |rounds| dispatch(F32(rounds))),
        f64_gflops: flops(threads, |rounds| dispatch(F64(rounds))),
        read_gbs: read,
        copy_gbs: copy.max(change),
    })
}

/// One array for each thread, in huge pages where the system has them: looking up small ones would be measured too.
fn arrays(threads: usize) -> io::Result<Vec<MmapMut>> {
    let one = |_| {
        let mut map = MmapMut::map_anon(8 * ARRAY)?;
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage); // only speed depends on it
        map.fill(1);
        Ok(map)
    };
    (0..threads).map(one).collect()
}

fn numbers(map: &mut MmapMut) -> &mut [u64] {
    pulp::bytemuck::cast_slice_mut(map)
}

/// `work` of `run` on the state of each thread, in 10⁹ per second, the best of some rounds.
fn best<T: Send>(states: &mut [T], work: f64, run: impl Fn(&mut T) + Sync) -> f64 {
    let threads = states.len();
    let start = Barrier::new(threads);
    // Each thread looks at the clock itself: one that waits for the others may be woken late, and see too little.
    let one = |state: &mut T| {
        let mut times = vec![];
        for _ in 0..ROUNDS {
            start.wait();
            let begin = Instant::now();
            run(state);
            times.push((begin, Instant::now()));
        }
        times
    };
    let times: Vec<Vec<(Instant, Instant)>> = std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = states.iter_mut().map(|state| scope.spawn(move || one(state))).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    // A round lasts from its first begin to its last end.
    let span = |round: usize| {
        let begin = times.iter().map(|t| t[round].0).min()?;
        let end = times.iter().map(|t| t[round].1).max()?;
        Some((end - begin).as_secs_f64())
    };
    let seconds = (0..ROUNDS).filter_map(span).fold(f64::INFINITY, f64::min);
    work * threads as f64 / seconds / 1e9
}

/// Operations per second of `run(rounds)`, which returns how many it made.
fn flops(threads: usize, run: impl Fn(usize) -> usize + Sync) -> f64 {
    // A few milliseconds, also where there are no vectors.
    let mut rounds = 1000;
    loop {
        let begin = Instant::now();
        run(rounds);
        if begin.elapsed().as_secs_f64() > 2e-3 {
            break;
        }
        rounds *= 2;
    }
    let each = run(rounds);
    best(&mut vec![(); threads], each as f64, |()| {
        black_box(run(black_box(rounds)));
    })
}

/// Runs `op` with the widest vectors that this processor has. pulp's own choice leaves AVX2 out with our features, and
/// another set of features would have all of `gemm` built a second time.
fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    let arch = Arch::new();
    #[cfg(target_arch = "x86_64")]
    if let (Arch::Scalar, Some(avx2)) = (arch, pulp::x86::V3::try_new()) {
        return Simd::vectorize(avx2, op);
    }
    arch.dispatch(op)
}

/// Accumulators: more than latency × units of any processor (2 × 5), no more than its registers hold (16).
const CHAINS: usize = 12;

struct F32(usize);

impl WithSimd for F32 {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (scale, shift) = (simd.splat_f32s(0.999), simd.splat_f32s(0.001));
        let mut sums = [simd.splat_f32s(black_box(0.5)); CHAINS];
        for _ in 0..self.0 {
            for s in &mut sums {
                *s = simd.mul_add_f32s(*s, scale, shift);
            }
        }
        for s in sums {
            black_box(simd.reduce_sum_f32s(s));
        }
        2 * self.0 * CHAINS * S::F32_LANES
    }
}

struct F64(usize);

impl WithSimd for F64 {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let (scale, shift) = (simd.splat_f64s(0.999), simd.splat_f64s(0.001));
        let mut sums = [simd.splat_f64s(black_box(0.5)); CHAINS];
        for _ in 0..self.0 {
            for s in &mut sums {
                *s = simd.mul_add_f64s(*s, scale, shift);
            }
        }
        for s in sums {
            black_box(simd.reduce_sum_f64s(s));
        }
        2 * self.0 * CHAINS * S::F64_LANES
    }
}

struct Read<'a>(&'a [u64]);

impl WithSimd for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Independent sums: the next addition need not wait for the last one.
        let mut sums = [simd.splat_u64s(0); 8];
        for chunk in S::as_simd_u64s(self.0).0.as_chunks::<8>().0 {
            for i in 0..8 {
                sums[i] = simd.add_u64s(sums[i], chunk[i]);
            }
        }
        let mut sum = sums[0];
        for s in &sums[1..] {
            sum = simd.add_u64s(sum, *s);
        }
        black_box(sum);
    }
}

struct Change<'a>(&'a mut [u64]);

impl WithSimd for Change<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for v in self.0.iter_mut() {
            *v = v.wrapping_add(3);
        }
        black_box(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_all_threads_and_never_too_high() {
        let wait = std::time::Duration::from_millis(2);
        let rate = best(&mut [(), ()], 1e6, |()| std::thread::sleep(wait));
        // Two threads of 10⁶ in 2 ms: 1 in 10⁹ per second.
        assert!(rate > 0.1 && rate <= 1.0, "{rate}");
        assert_eq!(dispatch(F32(3)) % (2 * 3 * CHAINS), 0);
    }
}
