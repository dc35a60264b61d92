//! Scalar functions of f32 and f64, as the kernels call them.

/// The functions that kernels apply to each element.
pub trait Functions: Copy {
    /// `|x|`
    fn abs(self) -> Self;
    /// `√x`, correctly rounded.
    fn sqrt(self) -> Self;
    /// `eˣ`
    fn exp(self) -> Self;
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
    ($t:ident, $erf:path) => {
        impl Functions for $t {
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $t::exp(self)
            }
            #[inline(always)]
            fn expm1(self) -> Self {
                $t::exp_m1(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $t::ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $t::ln_1p(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $t::tanh(self)
            }
            #[inline(always)]
            fn sigmoid(self) -> Self {
                1.0 / (1.0 + $t::exp(-self))
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn sin(self) -> Self {
                $t::sin(self)
            }
            #[inline(always)]
            fn cos(self) -> Self {
                $t::cos(self)
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

functions!(f32, libm::erff);
functions!(f64, libm::erf);
