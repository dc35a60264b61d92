//! Random numbers: seeded, counter-based, the same on any number of threads.
//!
//! Each thread has a default [`Generator`] that `randn`, dropout and layer initialisation draw from, so that threads
//! do not disturb each other's sequences. The first thread to draw starts at seed 0, the next at 1: a program that
//! draws on several threads calls [`manual_seed`] on each, for the same numbers every time. [`state`] and
//! [`set_state`] save and restore a thread's generator, as a training checkpoint does.
//!
//! ```
//! use rushlight::{DType, Tensor, random};
//! random::manual_seed(7);
//! let a = Tensor::randn([2, 3], DType::F32)?;
//! random::manual_seed(7);
//! assert_eq!(Tensor::randn([2, 3], DType::F32)?.to_vec::<f32>()?, a.to_vec::<f32>()?);
//! # Ok::<(), rushlight::Error>(())
//! ```

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kernels::math::{Functions, sin_cos_turns};
use crate::kernels::random::{fill, philox};
use crate::{DType, Element, Error, Float, Real, Result};

/// A stream of random numbers: a seed, and how many 128-bit blocks of it are used up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Generator {
    seed: u64,
    offset: u64,
}

/// [0, 1) from 32 bits, in steps that f32 holds exactly.
#[inline(always)]
fn unit32(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

/// [0, 1) from 64 bits, in steps that f64 holds exactly.
#[inline(always)]
fn unit64(low: u32, high: u32) -> f64 {
    ((((high as u64) << 32) | low as u64) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Two independent normal numbers from two uniform ones. Source: Box & Muller 1958.
///
/// All 32 bits go into the radius, so that the tail reaches 6.7 σ.
#[inline(always)]
fn normal_pair32(u: u32, v: u32) -> [f32; 2] {
    let u = (u as f32 + 0.5) * (1.0 / (1u64 << 32) as f32);
    let r = (-2.0 * Functions::ln(u)).sqrt();
    let [sin, cos] = sin_cos_turns(unit32(v));
    [r * cos, r * sin]
}

/// As [`normal_pair32`], for u and v in [0, 1).
#[inline(always)]
fn normal_pair64(u: f64, v: f64) -> [f64; 2] {
    let r = (-2.0 * (1.0 - u).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
    [r * cos, r * sin]
}

/// The largest number below `high`.
fn below_high<T: Float>(high: T) -> T {
    let x = high.to_f64();
    let mut step = (x.abs() * 2f64.powi(-54)).max(f64::from_bits(1));
    while step.is_finite() {
        let y = T::from_f64(x - step);
        if y < high {
            return y;
        }
        step *= 2.0;
    }
    high
}

impl Generator {
    /// The stream of `seed`, from its start.
    pub fn new(seed: u64) -> Generator {
        Generator { seed, offset: 0 }
    }

    /// Another stream, independent of this one; the next call gives yet another.
    pub fn fork(&mut self) -> Generator {
        Generator::new(self.next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, ..] = self.block();
        (b as u64) << 32 | a as u64
    }

    /// Uniform in [0, 1).
    pub fn next_f64(&mut self) -> f64 {
        let [a, b, ..] = self.block();
        unit64(a, b)
    }

    /// A random order of `0..n`. Source: Fisher & Yates; Durstenfeld 1964.
    pub fn permutation(&mut self, n: usize) -> Vec<i64> {
        let mut order = vec![0; n];
        self.fill_permutation(&mut order);
        order
    }

    /// The same, into `order`.
    pub(crate) fn fill_permutation(&mut self, order: &mut [i64]) {
        order.iter_mut().zip(0..).for_each(|(o, i)| *o = i);
        for i in (1..order.len()).rev() {
            let j = below(self.next_u64(), i as u64 + 1) as usize;
            order.swap(i, j);
        }
    }

    fn block(&mut self) -> [u32; 4] {
        philox(self.seed, self.take(1, 1))
    }

    /// Uses up the blocks for `n` elements and returns where they start.
    pub(crate) fn take(&mut self, n: usize, per_block: usize) -> u64 {
        let start = self.offset;
        self.offset = start.wrapping_add(n.div_ceil(per_block) as u64);
        start
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Uniform in [low, high): a number that rounds up to `high` becomes the one below it.
    pub(crate) fn fill_uniform<T: Float>(&mut self, out: &mut [T], low: f64, high: f64) {
        let (first, end) = (T::from_f64(low), T::from_f64(high));
        let last = below_high(end);
        let last = if last > first { last } else { first };
        if T::DTYPE == DType::F64 {
            let offset = self.take(out.len(), 2);
            fill(
                out,
                self.seed,
                offset,
                #[inline(always)]
                move |[a, b, c, d]| {
                    [unit64(a, b), unit64(c, d)].map(
                        #[inline(always)]
                        move |u| before(T::from_f64(low + (high - low) * u), end, last),
                    )
                },
            );
        } else {
            let (low, width) = (T::Compute::of(low), T::Compute::of(high - low));
            let offset = self.take(out.len(), 4);
            fill(
                out,
                self.seed,
                offset,
                #[inline(always)]
                move |bits| {
                    bits.map(
                        #[inline(always)]
                        move |b| before(T::down(low + width * T::Compute::of(unit32(b) as f64)), end, last),
                    )
                },
            );
        }
    }

    pub(crate) fn fill_normal<T: Float>(&mut self, out: &mut [T], mean: f64, std: f64) {
        if T::DTYPE == DType::F64 {
            let offset = self.take(out.len(), 2);
            fill(
                out,
                self.seed,
                offset,
                #[inline(always)]
                move |[a, b, c, d]| {
                    let z = normal_pair64(unit64(a, b), unit64(c, d));
                    [T::from_f64(mean + std * z[0]), T::from_f64(mean + std * z[1])]
                },
            );
        } else {
            let (mean, std) = (T::Compute::of(mean), T::Compute::of(std));
            let offset = self.take(out.len(), 4);
            fill(
                out,
                self.seed,
                offset,
                #[inline(always)]
                move |[a, b, c, d]| {
                    let ([p, q], [r, s]) = (normal_pair32(a, b), normal_pair32(c, d));
                    [p, q, r, s].map(
                        #[inline(always)]
                        move |z| T::down(mean + std * T::Compute::of(z as f64)),
                    )
                },
            );
        }
    }

    /// 1 with probability `p`, else 0.
    pub(crate) fn fill_bernoulli<T: Element>(&mut self, out: &mut [T], p: f64) {
        let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
        let offset = self.take(out.len(), 2);
        fill(
            out,
            self.seed,
            offset,
            #[inline(always)]
            move |[a, b, c, d]| [if unit64(a, b) < p { one } else { zero }, if unit64(c, d) < p { one } else { zero }],
        );
    }

    /// Integers in [low, high).
    pub(crate) fn fill_randint(&mut self, out: &mut [i64], low: i64, high: i64) {
        let span = high.wrapping_sub(low) as u64;
        let offset = self.take(out.len(), 2);
        fill(out, self.seed, offset, |[a, b, c, d]| {
            [(a, b), (c, d)].map(|(a, b)| low.wrapping_add(below((b as u64) << 32 | a as u64, span) as i64))
        });
    }
}

/// `x` where it is below `end`, else `last`.
#[inline(always)]
fn before<T: Float>(x: T, end: T, last: T) -> T {
    if x.up() < end.up() { x } else { last }
}

/// `bits` scaled to `0..span`: unequal by at most span/2⁶⁴. Source: Lemire 2019.
#[inline(always)]
fn below(bits: u64, span: u64) -> u64 {
    ((bits as u128 * span as u128) >> 64) as u64
}

/// How many threads have drawn a number: the seed of the next one, so that no two draw the same.
static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static DEFAULT: RefCell<Generator> = RefCell::new(Generator::new(THREADS.fetch_add(1, Ordering::Relaxed)));
}

/// Starts this thread's generator anew from `seed`. PyTorch: `torch.manual_seed` (which is per process).
pub fn manual_seed(seed: u64) {
    set_state(Generator::new(seed));
}

/// This thread's generator as it is now. PyTorch: `torch.get_rng_state`.
pub fn state() -> Generator {
    DEFAULT.with_borrow(Clone::clone)
}

/// Puts this thread's generator back to a saved state. PyTorch: `torch.set_rng_state`.
pub fn set_state(generator: Generator) {
    DEFAULT.set(generator);
}

thread_local! {
    static ROWS: Cell<Option<Rows>> = const { Cell::new(None) };
}

/// Rows `start .. start + len` of a batch of `of`.
#[derive(Clone, Copy)]
struct Rows {
    start: usize,
    len: usize,
    of: usize,
}

/// Runs `f`, whose tensors are rows `rows` of a batch of `of`, so that dropout drops what it would drop there of the
/// whole batch, and uses up as many numbers: each part of a batch gives what the batch would, wherever it is computed.
///
/// Only dropout knows of it, also that of attention; a backward walk that runs a forward again
/// ([`crate::checkpoint`]) belongs inside. Errors are those of the operations: a tensor that is dropped from does not
/// consist of so many equal rows.
///
/// ```
/// # use rushlight::{DType, Tensor, random};
/// let x = Tensor::ones([4, 3], DType::F32)?;
/// random::manual_seed(0);
/// let whole = x.dropout(0.5)?;
/// random::manual_seed(0);
/// let part = random::with_rows(1..3, 4, || x.narrow(0, 1, 2)?.dropout(0.5))?;
/// assert_eq!(part.to_vec::<f32>()?, whole.narrow(0, 1, 2)?.to_vec::<f32>()?);
/// # Ok::<(), rushlight::Error>(())
/// ```
pub fn with_rows<R>(rows: Range<usize>, of: usize, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Rows>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ROWS.set(self.0);
        }
    }
    let _restore = Restore(ROWS.replace(Some(Rows { start: rows.start, len: rows.len(), of })));
    f()
}

/// Where a mask begins in the random stream of `seed`: `skip` elements into block `block`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    pub seed: u64,
    pub block: u64,
    pub skip: usize,
}

/// The place for `n` elements of `per_block` a block, which are used up with those of the rows around them.
pub(crate) fn place(op: &'static str, n: usize, per_block: usize) -> Result<Place> {
    let (before, all) = match ROWS.get() {
        None => (0, n),
        Some(Rows { start, len, of }) if len > 0 && n.is_multiple_of(len) && start + len <= of => {
            let row = n / len;
            (start.saturating_mul(row), of.saturating_mul(row))
        }
        Some(Rows { start, len, of }) => {
            let message = format!("{n} elements are not rows {start} to {} of a batch of {of}", start + len);
            return Err(Error::invalid(op, message));
        }
    };
    let (seed, first) = with(|g| (g.seed(), g.take(all, per_block)));
    Ok(Place { seed, block: first.wrapping_add((before / per_block) as u64), skip: before % per_block })
}

/// Runs `f` with this thread's generator.
pub(crate) fn with<R>(f: impl FnOnce(&mut Generator) -> R) -> R {
    DEFAULT.with_borrow_mut(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(x: &[f64]) -> (f64, f64) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        (mean, x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64)
    }

    #[test]
    fn moments_are_right() {
        let mut g = Generator::new(1);
        let mut x = vec![0.0f32; 100_000];
        g.fill_normal(&mut x, 1.0, 2.0);
        let (mean, var) = moments(&x.iter().map(|&v| v as f64).collect::<Vec<_>>());
        assert!((mean - 1.0).abs() < 0.02 && (var - 4.0).abs() < 0.06, "{mean} {var}");
        let mut x = vec![0.0f64; 100_000];
        g.fill_normal(&mut x, 0.0, 1.0);
        let (mean, var) = moments(&x);
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{mean} {var}");
        g.fill_uniform(&mut x, -1.0, 3.0);
        let (mean, var) = moments(&x);
        assert!((mean - 1.0).abs() < 0.02 && (var - 16.0 / 12.0).abs() < 0.02, "{mean} {var}");
        assert!(x.iter().all(|v| (-1.0..3.0).contains(v)));
        g.fill_bernoulli(&mut x, 0.3);
        assert!((moments(&x).0 - 0.3).abs() < 0.01);
        let mut n = vec![0i64; 60_000];
        g.fill_randint(&mut n, -2, 4);
        for value in -2..4 {
            let count = n.iter().filter(|v| **v == value).count();
            assert!((9_600..10_400).contains(&count), "{value}: {count}");
        }
    }

    #[test]
    fn uniform_never_rounds_up_to_the_end() {
        let mut x = vec![crate::bf16::ZERO; 50_000];
        Generator::new(3).fill_uniform(&mut x, 0.0, 1.0);
        assert!(x.iter().all(|v| (0.0..1.0).contains(&v.to_f64())));
        let mean = moments(&x.iter().map(|v| v.to_f64()).collect::<Vec<_>>()).0;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        // Eight numbers of f32 between the ends, and no number at all.
        let mut x = vec![0.0f32; 1000];
        Generator::new(3).fill_uniform(&mut x, 1.0, 1.0 + 8.0 * f32::EPSILON as f64);
        assert!(x.iter().all(|v| (1.0..1.0 + 8.0 * f32::EPSILON).contains(v)));
        assert!(x.contains(&1.0) && x.contains(&(1.0 + 7.0 * f32::EPSILON)));
        Generator::new(3).fill_uniform(&mut x, -2.0, -2.0);
        assert!(x.iter().all(|v| *v == -2.0));
        assert_eq!(below_high(1.0f32), 1.0f32.next_down());
        assert_eq!(below_high(0.0f64), 0.0f64.next_down());
        assert_eq!(below_high(-3.5f64), (-3.5f64).next_down());
        assert_eq!(below_high(crate::f16::ONE).to_f64(), 1.0 - 2f64.powi(-11));
        assert!(below_high(f32::NAN).is_nan());
    }

    /// The share of numbers below each of some bounds is the normal distribution's, tails included.
    #[test]
    fn normal_has_its_distribution() {
        fn check<T: Float>() {
            let mut x = vec![T::from_f64(0.0); 200_000];
            Generator::new(12).fill_normal(&mut x, 0.0, 1.0);
            for bound in [-3.0, -2.0, -1.0, -0.3, 0.0, 0.5, 1.5, 2.5, 3.5] {
                let share = x.iter().filter(|x| x.to_f64() < bound).count() as f64 / x.len() as f64;
                let expected = 0.5 * (1.0 + libm::erf(bound / 2f64.sqrt()));
                let deviation = (expected * (1.0 - expected) / x.len() as f64).sqrt();
                assert!((share - expected).abs() < 4.0 * deviation, "{bound}: {share}, not {expected}");
            }
            let product = x.chunks_exact(2).map(|p| p[0].to_f64() * p[1].to_f64()).sum::<f64>();
            assert!((product / 1e5).abs() < 0.0125, "the numbers of a pair go together: {product}");
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn a_fill_can_be_cut_and_resumed() {
        let mut whole = vec![0.0f32; 100_000];
        Generator::new(5).fill_normal(&mut whole, 0.0, 1.0);
        let (mut a, mut b) = (vec![0.0f32; 40_000], vec![0.0f32; 60_000]);
        let mut g = Generator::new(5);
        g.fill_normal(&mut a, 0.0, 1.0);
        let saved: Generator = serde_json::from_str(&serde_json::to_string(&g).unwrap()).unwrap();
        saved.clone().fill_normal(&mut b, 0.0, 1.0);
        assert_eq!(whole, [a, b].concat());
        assert_ne!(Generator::new(6).next_u64(), Generator::new(5).next_u64());
    }

    #[test]
    fn a_fill_is_the_same_on_any_number_of_threads() {
        let _kept = crate::kernels::simd::testing::keep_level();
        let fill = |threads| {
            crate::set_num_threads(threads).unwrap();
            let mut x = vec![0.0f32; 3 * crate::kernels::parallel::GRAIN + 7];
            Generator::new(8).fill_normal(&mut x, 0.0, 1.0);
            x
        };
        let one = fill(1);
        assert_eq!(one, fill(3));
        crate::set_num_threads(0).unwrap();
        // And a number depends on its place alone, whatever instruction set made it.
        assert!(one.iter().enumerate().all(|(i, x)| {
            let mut block = [0.0f32; 4];
            Generator { seed: 8, offset: (i / 4) as u64 }.fill_normal(&mut block, 0.0, 1.0);
            block[i % 4] == *x
        }));
    }

    #[test]
    fn forks_are_streams_of_their_own() {
        let (mut a, mut b) = (Generator::new(4), Generator::new(4));
        let (fork, next) = (a.fork(), a.fork());
        assert_eq!(fork, b.fork());
        assert_ne!(fork.clone().next_u64(), next.clone().next_u64());
        assert_ne!(fork.clone().next_u64(), Generator::new(4).next_u64());
        manual_seed(4);
        let saved = state();
        let x = with(Generator::next_f64);
        set_state(saved);
        assert_eq!(x, with(Generator::next_f64));
    }

    #[test]
    fn threads_draw_different_numbers() {
        let draw = || std::thread::spawn(|| with(Generator::next_u64)).join().unwrap();
        assert_ne!(draw(), draw());
    }

    #[test]
    fn permutations_hold_each_number_once() {
        let mut g = Generator::new(9);
        let mut p = g.permutation(1000);
        assert_ne!(p, g.permutation(1000));
        p.sort_unstable();
        assert_eq!(p, (0..1000).collect::<Vec<_>>());
    }
}
