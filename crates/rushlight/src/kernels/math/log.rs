//! ln x and ln(1 + x).
//!
//! x = 2ᵏ (1 + f) with -1/3 ≤ f < 1/3, so ln x = k ln 2 + ln(1 + f), and ln(1 + f) = f − f²/2 + f³ P(f).

use super::{LN_2, polynomial, two_to};

const TWO_THIRDS: u32 = 0x3f2a_aaab;

/// k and 1 + f of a positive normal number.
#[inline(always)]
fn split(x: f32) -> (i32, f32) {
    let bits = x.to_bits().wrapping_sub(TWO_THIRDS);
    (bits as i32 >> 23, f32::from_bits((bits & 0x007f_ffff).wrapping_add(TWO_THIRDS)))
}

/// k ln 2 + ln(1 + f): small terms first.
#[inline(always)]
fn join(k: f32, f: f32) -> f32 {
    let p = [
        0.333_333_34,
        -0.249_998_11,
        0.199_997_65,
        -0.166_800_86,
        0.142_989_53,
        -0.121_878_59,
        0.108_223_72,
        -0.128_813_3,
        0.117_254_44,
    ];
    let square = f * f;
    let small = square * f * polynomial(f, p) + k * LN_2[1] - 0.5 * square;
    f + small + k * LN_2[0]
}

/// ln x
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    let denormal = x < f32::MIN_POSITIVE;
    let (k, m) = split(if denormal { x * two_to(23) } else { x });
    let y = join(k as f32 - if denormal { 23.0 } else { 0.0 }, m - 1.0);
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x >= 0.0 { y } else { f32::NAN };
    if x == 0.0 { f32::NEG_INFINITY } else { y }
}

/// ln(1 + x): what 1 + x loses by rounding is added to f.
#[inline(always)]
pub(super) fn ln_1p(x: f32) -> f32 {
    let sum = 1.0 + x;
    let lost = if x.abs() < 1.0 { x - (sum - 1.0) } else { 1.0 - (sum - x) };
    let (k, m) = split(sum);
    // Where the clamp changes the scale, what was lost is below rounding.
    let y = join(k as f32, (m - 1.0) + lost * two_to(-k.clamp(-100, 100)));
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x >= -1.0 { y } else { f32::NAN };
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    y.copysign(x)
}
