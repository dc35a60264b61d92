//! The error function.

use super::exp::exp_near;
use super::polynomial;

/// erf x = x + x P(x²) near 0, and 1 − exp(G(|x|)) with sign beyond, where G is fitted to ln(1 − erf |x|)
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let near =
        [0.128_379_17, -0.376_126_26, 0.112_835_79, -0.026_853_347, 0.005_187_162, -0.000_799_785_3, 7.806_903e-5];
    let near = a + a * polynomial(a * a, near);
    // 1 to the last bit from 3.92 on.
    let b = if a > 4.0 { 4.0 } else { a };
    let far = [
        -0.000_176_949_48,
        -1.127_751_8,
        -0.637_055_93,
        -0.104_040_705,
        0.022_278_69,
        -0.003_056_006_5,
        0.000_197_221_98,
    ];
    let far = 1.0 - exp_near(polynomial(b, far));
    (if a < 0.95 { near } else { far }).copysign(x)
}
