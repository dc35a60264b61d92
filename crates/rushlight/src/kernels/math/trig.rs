//! sin and cos, for all arguments.
//!
//! x · 2/π = q + f with q whole and |f| ≤ 1/2; q mod 4 says which of ±sin, ±cos of r = f π/2 it is.

use super::polynomial;

/// The first 256 bits of 2/π.
const TWO_OVER_PI: [u64; 4] =
    [0xa2f9_836e_4e44_1529, 0xfc27_57d1_f534_ddc0, 0xdb62_9599_3c43_9041, 0xfe51_63ab_debb_c561];

const fn power(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// Bits `from..from + count` of 2/π, in their place.
const fn piece(from: usize, count: usize) -> f64 {
    let (mut bits, mut i) = (0u64, from);
    while i < from + count {
        bits = bits << 1 | TWO_OVER_PI[i / 64] >> (63 - i % 64) & 1;
        i += 1;
    }
    bits as f64 * power(-((from + count) as i32))
}

/// q (mod 2³²) and r.
///
/// A product of 24 bits of x and 27 bits of 2/π is exact in f64; only its remainder by 4 matters, and nothing of it
/// from 2⁵³ on, where it is a multiple of 4. 188 bits of 2/π suffice for the largest f32.
#[inline(always)]
fn reduce(x: f32) -> (u32, f32) {
    // Adding and subtracting it rounds to a whole number.
    const TO_WHOLE: f64 = 1.5 * power(52);
    let x = x as f64;
    let a = part(x * const { piece(0, 27) });
    let b = part(x * const { piece(27, 27) });
    let c = part(x * const { piece(54, 27) });
    let d = part(x * const { piece(81, 27) });
    let e = part(x * const { piece(108, 27) });
    let rest = x * const { piece(135, 53) };
    let shifted = a + b + c + d + e + rest + TO_WHOLE;
    // q first: where f is a millionth of the parts they then cancel without rounding.
    let f = (a - (shifted - TO_WHOLE)) + b + c + d + e + rest;
    (shifted.to_bits() as u32, (f * std::f64::consts::FRAC_PI_2) as f32)
}

/// What counts of a product: its remainder by 4.
#[inline(always)]
fn part(product: f64) -> f64 {
    const TO_FOURS: f64 = 1.5 * power(54);
    let product = if product.abs() < power(53) { product } else { 0.0 };
    product - ((product + TO_FOURS) - TO_FOURS)
}

/// sin r for |r| ≤ π/4
#[inline(always)]
fn sin_near(r: f32) -> f32 {
    let t = r * r;
    let y = r + r * t * polynomial(t, [-0.166_666_55, 0.008_332_188, -0.000_195_180_94]);
    y.copysign(r) // for -0
}

/// cos r for |r| ≤ π/4
#[inline(always)]
fn cos_near(r: f32) -> f32 {
    let t = r * r;
    1.0 + t * polynomial(t, [-0.5, 0.041_666_646, -0.001_388_731, 2.443_243_2e-5])
}

/// sin of q quarter turns and r more.
#[inline(always)]
fn sin_of(q: u32, r: f32) -> f32 {
    let y = if q & 1 == 0 { sin_near(r) } else { cos_near(r) };
    f32::from_bits(y.to_bits() ^ (q & 2) << 30)
}

/// sin x
#[inline(always)]
pub(super) fn sin(x: f32) -> f32 {
    let (q, r) = reduce(x);
    if x.abs() < f32::INFINITY { sin_of(q, r) } else { f32::NAN }
}

/// cos x
#[inline(always)]
pub(super) fn cos(x: f32) -> f32 {
    let (q, r) = reduce(x);
    if x.abs() < f32::INFINITY { sin_of(q.wrapping_add(1), r) } else { f32::NAN }
}

/// sin and cos of 2π · `turns`, for `turns` in [0, 1].
#[inline(always)]
pub(crate) fn sin_cos_turns(turns: f32) -> [f32; 2] {
    const TO_WHOLE: f32 = 12_582_912.0;
    let quarters = 4.0 * turns;
    let shifted = quarters + TO_WHOLE;
    let r = (quarters - (shifted - TO_WHOLE)) * std::f32::consts::FRAC_PI_2;
    let q = shifted.to_bits();
    [sin_of(q, r), sin_of(q.wrapping_add(1), r)]
}
