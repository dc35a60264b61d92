//! The f32 functions against f64, over every exponent, at every instruction set.

use super::Functions;
use crate::kernels::simd::{Level, dispatch, force_level, testing::force_levels};

/// Samples of each kind: fewer where the code is slow.
const DENSITY: u32 = if cfg!(debug_assertions) { 256 } else { 4096 };

/// Every exponent with mantissas from end to end, both signs; and where the functions do their work, up to 105.
fn samples() -> Vec<f32> {
    let step = (1 << 23) / DENSITY;
    let mantissas = (0..DENSITY).map(|i| i * step + i % step).chain([1, 2, 0x7f_fffe, 0x7f_ffff]);
    let all = mantissas.flat_map(|m| (0..=255u32).map(move |e| e << 23 | m));
    let near = (0..256 * DENSITY).map(|i| (105.0 * (i as f64 / (256 * DENSITY) as f64).powi(2)) as f32);
    all.map(f32::from_bits).chain(near).flat_map(|x| [x, -x]).collect()
}

/// Units in the last place of an f32 between `y` and `exact`; infinite if they differ in kind (NaN, infinity, or the
/// sign of 0).
fn error(y: f32, exact: f64) -> f64 {
    if exact.is_nan() || y.is_nan() {
        return if exact.is_nan() && y.is_nan() { 0.0 } else { f64::INFINITY };
    }
    let rounded = exact as f32;
    if rounded.is_infinite() || y.is_infinite() || exact == 0.0 {
        let overflowed = y.is_infinite() && exact.abs() > f32::MAX as f64;
        let same = (y == rounded || overflowed) && y.is_sign_negative() == exact.is_sign_negative();
        return if same { 0.0 } else { f64::INFINITY };
    }
    let exponent = (exact.abs().max(f32::MIN_POSITIVE as f64).to_bits() >> 52) as i32 - 1023;
    (y as f64 - exact).abs() / 2f64.powi(exponent - 23)
}

fn check(name: &str, bound: f64, xs: &[f32], f: impl Fn(f32) -> f32 + Copy, exact: fn(f64) -> f64) {
    let run = || {
        let mut y = vec![0.0f32; xs.len()];
        dispatch(
            #[inline(always)]
            || {
                for (y, x) in y.iter_mut().zip(xs) {
                    *y = f(*x);
                }
            },
        );
        y
    };
    let _forced = force_levels();
    force_level(Level::Baseline);
    let ys = run();
    let errors = xs.iter().zip(&ys).map(|(x, y)| error(*y, exact(*x as f64)));
    let (worst, i) = errors.zip(0..).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a });
    assert!(worst <= bound, "{name}({:e}) = {:e}: {worst} units in the last place", xs[i], ys[i]);
    for level in [Level::Avx2, Level::Avx512] {
        force_level(level);
        for ((x, a), b) in xs.iter().zip(&ys).zip(run()) {
            assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{name}({x:e}): {a:e}, {level:?} {b:e}");
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    // Two forms, each without overflow, and without a difference that cancels.
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

/// The bounds are what the worst of all 2³² arguments needs, rounded up.
#[test]
fn within_two_units_in_the_last_place() {
    let xs = samples();
    macro_rules! check {
        ($($name:ident $bound:literal $exact:path;)*) => {$(
            check(stringify!($name), $bound, &xs, #[inline(always)] |x| Functions::$name(x), $exact);
        )*};
    }
    check! {
        exp 1.0 f64::exp;
        expm1 1.5 f64::exp_m1;
        ln 0.8 f64::ln;
        ln_1p 1.6 f64::ln_1p;
        sigmoid 1.9 sigmoid;
        tanh 1.5 f64::tanh;
        erf 1.4 libm::erf;
        sin 1.6 f64::sin;
        cos 1.6 f64::cos;
    }
    let below: Vec<f32> = xs.into_iter().filter(|x| *x <= 64.0 || x.is_nan()).collect();
    check(
        "exp_below",
        1.0,
        &below,
        #[inline(always)]
        |x| x.exp_below(),
        f64::exp,
    );
}

#[test]
fn special_values() {
    fn same(name: &str, y: f32, expected: f32) {
        assert!(
            y.to_bits() == expected.to_bits() || y.is_nan() && expected.is_nan(),
            "{name}: {y:e}, not {expected:e}"
        );
    }
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    // f, and its values at 0, -0, ∞, -∞.
    let table: [(&str, fn(f32) -> f32, [f32; 4]); 9] = [
        ("exp", Functions::exp, [1.0, 1.0, INF, 0.0]),
        ("expm1", Functions::expm1, [0.0, -0.0, INF, -1.0]),
        ("ln", Functions::ln, [-INF, -INF, INF, NAN]),
        ("ln_1p", Functions::ln_1p, [0.0, -0.0, INF, NAN]),
        ("sigmoid", Functions::sigmoid, [0.5, 0.5, 1.0, 0.0]),
        ("tanh", Functions::tanh, [0.0, -0.0, 1.0, -1.0]),
        ("erf", Functions::erf, [0.0, -0.0, 1.0, -1.0]),
        ("sin", Functions::sin, [0.0, -0.0, NAN, NAN]),
        ("cos", Functions::cos, [1.0, 1.0, NAN, NAN]),
    ];
    for (name, f, expected) in table {
        for (x, y) in [0.0, -0.0, INF, -INF].into_iter().zip(expected) {
            same(name, f(x), y);
        }
        for nan in [NAN, -NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            same(name, f(nan), NAN);
        }
    }
    same("ln(1)", Functions::ln(1.0f32), 0.0);
    same("ln_1p(-1)", Functions::ln_1p(-1.0f32), -INF);
    same("ln(-1)", Functions::ln(-1.0f32), NAN);
    same("exp(-103.97)", Functions::exp(-103.97f32), f32::from_bits(1));
    same("exp(88.72283)", Functions::exp(88.722_83f32), f32::MAX.min((88.722_83f32 as f64).exp() as f32));
}

#[test]
fn sigmoid_keeps_its_tail() {
    for x in [-700.0, -100.0, -30.0, -1e-300, 0.0, 1.0, 40.0, 800.0] {
        let y = Functions::sigmoid(x);
        assert!((y - sigmoid(x)).abs() <= 4.0 * f64::EPSILON * sigmoid(x), "{x}: {y:e}");
    }
    assert_eq!(Functions::sigmoid(f64::NEG_INFINITY), 0.0);
    assert_eq!(Functions::sigmoid(f64::INFINITY), 1.0);
    assert!(Functions::is_nan(Functions::sigmoid(f64::NAN)));
}

#[test]
fn turns() {
    for i in 0..=4096 {
        let v = i as f32 / 4096.0;
        let (sin, cos) = (v as f64 * std::f64::consts::TAU).sin_cos();
        let [s, c] = super::sin_cos_turns(v);
        assert!((s as f64 - sin).abs() < 1.2e-7 && (c as f64 - cos).abs() < 1.2e-7, "{v}: {s} {c}, not {sin} {cos}");
    }
    assert_eq!(super::sin_cos_turns(0.25f32), [1.0, 0.0]);
}
