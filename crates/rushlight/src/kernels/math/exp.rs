//! eˣ and what is made of it: eˣ − 1, the logistic sigmoid, tanh.
//!
//! x = n ln 2 + r with n whole and |r| ≤ ln 2 / 2, so eˣ = 2ⁿ eʳ, and eʳ is a polynomial.

use super::{LN_2, polynomial, two_to};

/// Adding 1.5 · 2²³ rounds to a whole number, which then stands in the low bits.
const TO_WHOLE: f32 = 12_582_912.0;

/// n and r of |x| < 2²².
#[inline(always)]
fn reduce(x: f32) -> (i32, f32) {
    let shifted = x.mul_add(std::f32::consts::LOG2_E, TO_WHOLE);
    let whole = shifted - TO_WHOLE;
    let n = shifted.to_bits().wrapping_sub(TO_WHOLE.to_bits()) as i32;
    (n, (-whole).mul_add(LN_2[1], (-whole).mul_add(LN_2[0], x)))
}

/// eʳ for |r| ≤ ln 2 / 2: 2⁻²⁸ from exact before rounding.
#[inline(always)]
fn exp_reduced(r: f32) -> f32 {
    let q = polynomial(r, [0.499_999_94, 0.166_665_17, 0.041_668_102, 0.008_369_153, 0.001_383_759_9]);
    1.0 + (r * r).mul_add(q, r)
}

/// eˣ
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Beyond these the result is infinite or 0; comparisons that leave NaN as it is.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (n, r) = reduce(x);
    // 2ⁿ in two factors: n is from -150, which gives denormal results, to 128, where 2ⁿ alone would overflow.
    let half = n >> 1;
    exp_reduced(r) * two_to(half) * two_to(n.wrapping_sub(half))
}

/// eˣ for x ≤ 64, as in a softmax; NaN for ∞.
#[inline(always)]
pub(super) fn exp_below(x: f32) -> f32 {
    let x = if x < -104.0 { -104.0 } else { x };
    let (n, r) = reduce(x);
    // One factor of the two is a constant: 2ⁿ⁺²⁴ is normal for n from -150 to 93, and only the last product rounds.
    exp_reduced(r) * two_to(n.wrapping_add(24)) * (1.0 / 16_777_216.0)
}

/// eˣ for |x| ≤ 87, where it is a normal number.
#[inline(always)]
pub(super) fn exp_near(x: f32) -> f32 {
    let (n, r) = reduce(x);
    exp_reduced(r) * two_to(n)
}

/// eˣ − 1 = 2ⁿ (eʳ − 1) + (2ⁿ − 1)
#[inline(always)]
pub(super) fn expm1(x: f32) -> f32 {
    let y = if x > 89.0 { 89.0 } else { x };
    let y = if y < -18.0 { -18.0 } else { y };
    let (n, r) = reduce(y);
    let q = polynomial(r, [0.5, 0.166_666_36, 0.041_666_51, 0.008_341_51, 0.001_393_053_9, 0.000_150_461_06]);
    let m = r + r * r * q;
    // Half of it, for n = 128.
    let half = two_to(n.wrapping_sub(1));
    let far = 2.0 * (half * m + (half - 0.5));
    (if n == 0 { m } else { far }).copysign(x)
}

/// 1 / (1 + e⁻ˣ)
///
/// With e = exp(-|x|), which cannot overflow, and q = e / (1 + e): 1 − q above 0, and e − e q = q below, where the
/// division's error then matters little.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let base = if x < 0.0 { e } else { 1.0 };
    base - base * (e / (1.0 + e))
}

/// 1 / (1 + e⁻ˣ) in f64, as [`sigmoid`].
#[inline(always)]
pub(super) fn sigmoid_f64(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    let base = if x < 0.0 { e } else { 1.0 };
    base - base * (e / (1.0 + e))
}

/// tanh x = 1 − 2 / (e²ˣ + 1), and near 0, where that cancels, x + x³ P(x²)
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let t = a * a;
    let p = polynomial(t, [-0.333_333_16, 0.133_325_44, -0.053_847_548, 0.021_050_714, -0.006_242_849]);
    let near = a + a * t * p;
    // 1 to the last bit from 9.01 on.
    let b = if a > 10.0 { 10.0 } else { a };
    let far = 1.0 - 2.0 / (exp_near(2.0 * b) + 1.0);
    (if a < 0.55 { near } else { far }).copysign(x)
}
