//! Scalar functions of f32 and f64, as the kernels call them.
//!
//! The f32 functions are written here, without branches or tables, so that a loop over them becomes vector code inside
//! [`dispatch`](super::simd::dispatch): 0.3 to 0.7 ns an element with AVX-512 (sin and cos 1.6), where a call of the C
//! library takes 2.5 to 3. Each is within 2 units in the last place for every f32 (`accuracy.rs` has their bounds).
//! A loop gains from it only if all of it is inlined: write `for`, since `for_each` with a large closure is a call.
//!
//! They fuse multiplications and additions: half of the operations, less rounding, and the same bits on every processor
//! that can. On x86 without FMA (before 2013) each is a call, slow and right.
//!
//! The polynomials are minimax fits of the relative error of the result (Remez exchange), rounded to f32 one
//! coefficient at a time with the rest fitted again. The f64 functions are the C library's.

mod erf;
mod exp;
mod log;
mod trig;

#[cfg(test)]
mod accuracy;

pub(crate) use trig::sin_cos_turns;

/// The functions that kernels apply to each element.
pub trait Functions: Copy {
    /// `|x|`
    fn abs(self) -> Self;
    /// `√x`, correctly rounded.
    fn sqrt(self) -> Self;
    /// `eˣ`
    fn exp(self) -> Self;
    /// `eˣ` of `x ≤ 64`, faster; NaN for ∞.
    fn exp_below(self) -> Self;
    /// `eˣ − 1`
    fn expm1(self) -> Self;
    /// `ln x`
    fn ln(self) -> Self;
    /// `ln(1 + x)`
    fn ln_1p(self) -> Self;
    /// `tanh x`
    fn tanh(self) -> Self;
    /// `1 / (1 + e⁻ˣ)`
    fn sigmoid(self) -> Self;
    /// `2/√π ∫₀ˣ e^(−t²) dt`
    fn erf(self) -> Self;
    /// `sin x`
    fn sin(self) -> Self;
    /// `cos x`
    fn cos(self) -> Self;
    /// `tan x`
    fn tan(self) -> Self;
    /// `xʸ`
    fn powf(self, y: Self) -> Self;
    /// `x · a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Largest integer at or below.
    fn floor(self) -> Self;
    /// Smallest integer at or above.
    fn ceil(self) -> Self;
    /// Nearest integer, ties to even.
    fn round(self) -> Self;
    /// Toward zero.
    fn trunc(self) -> Self;
    /// Whether `x` is NaN.
    fn is_nan(self) -> bool;
    /// Whether `x` is neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// The larger; NaN if either is NaN.
    fn maximum(self, y: Self) -> Self;
    /// The smaller; NaN if either is NaN.
    fn minimum(self, y: Self) -> Self;
}

macro_rules! functions {
    ($t:ident, $($name:ident = $f:path),*) => {
        impl Functions for $t {
            $(#[inline(always)]
            fn $name(self) -> Self {
                $f(self)
            })*
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn tan(self) -> Self {
                $t::tan(self)
            }
            #[inline(always)]
            fn powf(self, y: Self) -> Self {
                $t::powf(self, y)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $t::mul_add(self, a, b)
            }
            #[inline(always)]
            fn floor(self) -> Self {
                $t::floor(self)
            }
            #[inline(always)]
            fn ceil(self) -> Self {
                $t::ceil(self)
            }
            #[inline(always)]
            fn round(self) -> Self {
                $t::round_ties_even(self)
            }
            #[inline(always)]
            fn trunc(self) -> Self {
                $t::trunc(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            #[inline(always)]
            fn maximum(self, y: Self) -> Self {
                if self > y || self.is_nan() { self } else { y }
            }
            #[inline(always)]
            fn minimum(self, y: Self) -> Self {
                if self < y || self.is_nan() { self } else { y }
            }
        }
    };
}

functions!(
    f32,
    exp = exp::exp,
    exp_below = exp::exp_below,
    expm1 = exp::expm1,
    ln = log::ln,
    ln_1p = log::ln_1p,
    tanh = exp::tanh,
    sigmoid = exp::sigmoid,
    erf = erf::erf,
    sin = trig::sin,
    cos = trig::cos
);

functions!(
    f64,
    exp = f64::exp,
    exp_below = f64::exp,
    expm1 = f64::exp_m1,
    ln = f64::ln,
    ln_1p = f64::ln_1p,
    tanh = f64::tanh,
    sigmoid = exp::sigmoid_f64,
    erf = libm::erf,
    sin = f64::sin,
    cos = f64::cos
);

/// `c[0] + c[1] x + c[2] x² + …`, by Horner's rule.
///
/// Fused, here and in what calls it: half of the operations, less rounding, the same bits on every processor. On one
/// without such an instruction (x86 of before 2013) it is a function call, which is slow and right.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum.mul_add(x, c[i]);
    }
    sum
}

/// 2ⁱ for `i` in -126..=127.
#[inline(always)]
fn two_to(i: i32) -> f32 {
    f32::from_bits((i.wrapping_add(127) as u32) << 23)
}

/// ln 2 in two parts; the high one has 16 bits, so its product with an exponent is exact.
const LN_2: [f32; 2] = [LN_2_HIGH, (std::f64::consts::LN_2 - LN_2_HIGH as f64) as f32];
const LN_2_HIGH: f32 = 45_426.0 / 65_536.0;
