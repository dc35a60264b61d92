//! Many rows of x by AVX512-VNNI: sixteen rows of W are unpacked to bytes, in the order that the products read them, and
//! stay in cache while all rows of x pass.

use std::arch::x86_64::*;

use super::{OP, whole};
use crate::kernels::parallel::{self, Shared};
use crate::kernels::quant::Blocks;
use crate::kernels::simd::dispatch;
use crate::storage::reserved;
use crate::{Error, Result};

/// Rows of W in a panel: the lanes of a register.
const LANES: usize = 16;
/// Panels of a task, and of a tile.
const PANELS: usize = 2;
/// Rows of x in a tile: with two panels and two bytes of a number, 24 registers of sums.
const HIGH: usize = 6;
/// Rows of x that are made whole numbers at a time.
const CHUNK: usize = 8;

/// x in two bytes a number, with a scale for each 32 and a sum for each group of W's scales.
struct Whole {
    /// `[m, 2, k]`: high bytes, low bytes.
    bytes: Vec<i8>,
    /// `[m, k / group, 2]`: scale and sum.
    scales: Vec<[f32; 2]>,
}

fn room<T: Copy>(len: usize, value: T) -> Result<Vec<T>> {
    let mut out = reserved(OP, len)?;
    out.resize(len, value);
    Ok(out)
}

fn prepare(x: &[f32], k: usize, group: usize) -> Result<Whole> {
    let m = x.len() / k;
    let (mut bytes, mut scales) = (room(m * 2 * k, 0i8)?, room(m * (k / group), [0.0; 2])?);
    parallel::chunks2((&mut bytes, CHUNK * 2 * k), (&mut scales, CHUNK * (k / group)), |at, bytes, scales| {
        let x = &x[at * CHUNK * k..];
        dispatch(
            #[inline(always)]
            || {
                let rows = bytes.chunks_exact_mut(2 * k).zip(scales.chunks_exact_mut(k / group)).zip(x.chunks_exact(k));
                for ((bytes, scales), x) in rows {
                    let (high, low) = bytes.split_at_mut(k);
                    let (high, low) = (high.as_chunks_mut::<32>().0, low.as_chunks_mut::<32>().0);
                    let runs = x.as_chunks::<32>().0.iter().zip(scales.chunks_exact_mut(32 / group));
                    for ((x, scales), (high, low)) in runs.zip(high.iter_mut().zip(low)) {
                        let scale = whole(x, high, low);
                        for (g, out) in scales.iter_mut().enumerate() {
                            let numbers = g * group..(g + 1) * group;
                            let sum: i32 = numbers.map(|i| 256 * high[i] as i32 + low[i] as i32).sum();
                            *out = [scale, scale * sum as f32];
                        }
                    }
                }
            },
        );
    });
    Ok(Whole { bytes, scales })
}

/// Sixteen rows of W: for each four numbers 16 × 4 bytes, for each group of them 16 scales and 16 minima.
#[derive(Clone)]
struct Panel {
    bytes: Vec<[u8; 64]>,
    scales: Vec<[[f32; LANES]; 2]>,
}

/// As [`super::product`].
pub(super) fn product<K: Blocks>(out: &mut [f32], x: &[f32], w: &[u8], (n, k): (usize, usize)) -> Result<()> {
    let group = if K::SIXTEENS { 16 } else { 32 };
    let m = x.len() / k;
    let x = prepare(x, k, group)?;
    let out = Shared::new(out);
    // Panels for each task in turn, made by the caller: a task has nobody to tell of a refusal.
    let threads = parallel::num_threads();
    let each = PANELS * LANES;
    let tasks = n.div_ceil(each);
    let panel = || Ok::<_, Error>(Panel { bytes: room(k / 4, [0; 64])?, scales: room(k / group, [[0.0; LANES]; 2])? });
    let scratches = (0..threads.min(tasks)).map(|_| Ok([panel()?, panel()?])).collect::<Result<Vec<_>>>()?;
    let lanes = scratches.len();
    let scratches: Vec<_> = scratches.into_iter().map(std::sync::Mutex::new).collect();
    // Each scratch serves every so many tasks, one thread at a time.
    let next = std::sync::atomic::AtomicUsize::new(0);
    parallel::run(lanes, |lane| {
        let mut panels = scratches[lane].lock().unwrap_or_else(|e| e.into_inner());
        loop {
            let task = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            let j = task * each;
            let rows = each.min(n - j);
            // SAFETY: `there` has seen the instructions; a task has columns of its own.
            unsafe {
                unpack::<K>(&mut panels, &w[j * (w.len() / n)..][..rows * (w.len() / n)], w.len() / n);
                for i in (0..m).step_by(HIGH) {
                    let at = |r: usize| (i + r).min(m - 1);
                    let bytes = std::array::from_fn(|r| &x.bytes[at(r) * 2 * k..][..2 * k]);
                    let scales = std::array::from_fn(|r| &x.scales[at(r) * (k / group)..][..k / group]);
                    let sums =
                        if K::SIXTEENS { tile::<4>(bytes, scales, &panels) } else { tile::<8>(bytes, scales, &panels) };
                    for (r, sums) in sums.iter().enumerate().take(m - i) {
                        out.at((i + r) * n + j, rows).copy_from_slice(&sums.as_flattened()[..rows]);
                    }
                }
            }
        }
    });
    Ok(())
}

/// # Safety
/// The instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi1,bmi2,f16c")]
unsafe fn unpack<K: Blocks>(panels: &mut [Panel; PANELS], w: &[u8], row: usize) {
    for (p, panel) in panels.iter_mut().enumerate() {
        for lane in 0..LANES {
            let at = (p * LANES + lane) * row;
            // Rows that are not there leave what was before, which no one asks for.
            let Some(w) = w.get(at..at + row) else { return };
            let mut q = [0; 32];
            for (b, block) in w.chunks_exact(K::SIZE).enumerate() {
                for j in 0..K::LEN / 32 {
                    let run = b * (K::LEN / 32) + j;
                    let pairs = K::bytes(block, j, &mut q);
                    for (to, from) in panel.bytes[8 * run..][..8].iter_mut().zip(q.as_chunks::<4>().0) {
                        to[4 * lane..][..4].copy_from_slice(from);
                    }
                    let groups = if K::SIXTEENS { 2 } else { 1 };
                    for (to, pair) in panel.scales[groups * run..][..groups].iter_mut().zip(pairs) {
                        (to[0][lane], to[1][lane]) = pair;
                    }
                }
            }
        }
    }
}

/// Six rows of x by two panels; a group is `STEPS` times four numbers.
///
/// # Safety
/// The instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi1,bmi2,f16c")]
unsafe fn tile<const STEPS: usize>(
    x: [&[i8]; HIGH],
    scales: [&[[f32; 2]]; HIGH],
    panels: &[Panel; PANELS],
) -> [[[f32; LANES]; PANELS]; HIGH] {
    let groups = scales[0].len();
    let k = groups * STEPS * 4;
    assert!(x.iter().all(|x| x.len() == 2 * k) && scales.iter().all(|s| s.len() == groups));
    assert!(panels.iter().all(|p| p.bytes.len() * 4 == k && p.scales.len() == groups));
    let zero = _mm512_setzero_si512();
    let mut sums = [[_mm512_setzero_ps(); PANELS]; HIGH];
    for g in 0..groups {
        let (mut high, mut low) = ([[zero; PANELS]; HIGH], [[zero; PANELS]; HIGH]);
        for s in g * STEPS..(g + 1) * STEPS {
            // SAFETY: within the lengths asserted above.
            unsafe {
                let q: [__m512i; PANELS] =
                    std::array::from_fn(|p| _mm512_loadu_si512(panels.get_unchecked(p).bytes.as_ptr().add(s).cast()));
                for r in 0..HIGH {
                    let bytes = x[r].as_ptr().add(4 * s);
                    let four = |at: *const i8| _mm512_set1_epi32(at.cast::<i32>().read_unaligned());
                    let (h, l) = (four(bytes), four(bytes.add(k)));
                    for p in 0..PANELS {
                        high[r][p] = _mm512_dpbusd_epi32(high[r][p], q[p], h);
                        low[r][p] = _mm512_dpbusd_epi32(low[r][p], q[p], l);
                    }
                }
            }
        }
        for p in 0..PANELS {
            let [d, m] = &panels[p].scales[g];
            // SAFETY: whole arrays.
            let (d, m) = unsafe { (_mm512_loadu_ps(d.as_ptr()), _mm512_loadu_ps(m.as_ptr())) };
            for r in 0..HIGH {
                let [scale, sum] = scales[r][g];
                let both = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32::<8>(high[r][p]), low[r][p]));
                let by = _mm512_mul_ps(d, _mm512_set1_ps(scale));
                sums[r][p] = _mm512_fmadd_ps(by, both, sums[r][p]);
                sums[r][p] = _mm512_fmadd_ps(m, _mm512_set1_ps(sum), sums[r][p]);
            }
        }
    }
    let mut out = [[[0.0; LANES]; PANELS]; HIGH];
    for (out, sum) in out.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        // SAFETY: a whole array.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *sum) };
    }
    out
}
