//! Functions of one element: `y = f(x)`, `dx = dy · f′(x)`.
//!
//! Each is a [`Function`]: `f` and `f′` on one number, from which the forward and the fused backward loops are
//! compiled. The third line of each method is the same derivative written with tensor operations; it is used where
//! the gradient itself must be differentiable.

use crate::autograd::{is_grad_enabled, no_gradient, record};
use crate::dtype::each_float;
use crate::kernels::elementwise::{float1, float2, map1};
use crate::kernels::simd::dispatch;
use crate::{DType, Element, Float, Real, Result, Tensor};

/// A function of one number and its derivative.
pub(crate) trait Function: Copy + Send + Sync + 'static {
    /// `f(x)`
    fn f<C: Real>(&self, x: C) -> C;
    /// `f′(x)`
    fn d<C: Real>(&self, x: C) -> C;
}

/// `out = f(x)`; not inlined, so that it is compiled once for f32 and once for f64.
#[inline(never)]
fn apply<F: Function, C: Real>(f: F, out: &mut [C], x: &[C]) {
    dispatch(
        #[inline(always)]
        || {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = f.f(x);
            }
        },
    );
}

/// `dx = dy · f′(x)`
#[inline(never)]
fn chain<F: Function, C: Real>(f: F, dx: &mut [C], x: &[C], dy: &[C]) {
    dispatch(
        #[inline(always)]
        || {
            for (o, (&x, &dy)) in dx.iter_mut().zip(x.iter().zip(dy)) {
                *o = dy * f.d(x);
            }
        },
    );
}

/// `f` of every element, outside the graph. Integers are computed in f32, as in PyTorch.
fn forward<F: Function>(name: &'static str, x: &Tensor, f: F) -> Result<Tensor> {
    let x = if x.dtype().is_float() { x.clone() } else { x.to_dtype(DType::F32)? };
    each_float!(name, x.dtype(), T => {
        let data = x.strided::<T>(name)?;
        Tensor::build(name, x.shape().clone(), |out: &mut [T]| float1(data, out, &|out, x| apply(f, out, x)))
    })
}

/// `y = f(x)` with its gradient; `twice(x, dy)` is `dy · f′(x)` in tensor operations.
pub(crate) fn function<F: Function>(
    name: &'static str,
    x: &Tensor,
    f: F,
    twice: impl Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let y = forward(name, x, f)?;
    let saved = x.clone();
    record(name, y, &[x], move |dy| {
        if is_grad_enabled() {
            return twice(&saved, dy);
        }
        each_float!(name, dy.dtype(), T => {
            let (x, dy) = (saved.strided::<T>(name)?, dy.strided::<T>(name)?);
            Tensor::build(name, saved.shape().clone(), |dx: &mut [T]| {
                float2(x, dy, dx, &|dx, x, dy| chain(f, dx, x, dy));
            })
        })
    })
}

macro_rules! functions {
    ($($Name:ident $(($p:ident))*: |$s:ident, $x:ident| $f:expr, $d:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $Name $((functions!(@ty $p)))*;
        impl Function for $Name {
            #[inline(always)]
            fn f<C: Real>(&self, $x: C) -> C {
                let $s = self;
                let _ = $s;
                $f
            }
            #[inline(always)]
            fn d<C: Real>(&self, $x: C) -> C {
                let $s = self;
                let _ = ($s, $x);
                $d
            }
        }
    )*};
    (@ty $p:ident) => { f64 };
}

/// `if c { a } else { b }`, as a select that vectorises.
macro_rules! pick {
    ($c:expr, $a:expr, $b:expr) => {
        if $c { $a } else { $b }
    };
}

const FRAC_2_SQRT_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI;
const SQRT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// 1 / √(2π), the normal density at 0.
const DENSITY: f64 = 0.398_942_280_401_432_7;
/// √(2/π) and the cubic coefficient of GELU's tanh form.
const GELU_A: f64 = 0.797_884_560_802_865_4;
const GELU_B: f64 = 0.044_715;

functions! {
    Exp: |s, x| x.exp(), x.exp();
    Expm1: |s, x| x.expm1(), x.exp();
    Ln: |s, x| x.ln(), C::ONE / x;
    Log2: |s, x| x.ln() * C::of(std::f64::consts::LOG2_E), C::of(std::f64::consts::LOG2_E) / x;
    Log10: |s, x| x.ln() * C::of(std::f64::consts::LOG10_E), C::of(std::f64::consts::LOG10_E) / x;
    Ln1p: |s, x| x.ln_1p(), C::ONE / (C::ONE + x);
    Sqrt: |s, x| x.sqrt(), C::of(0.5) / x.sqrt();
    Rsqrt: |s, x| C::ONE / x.sqrt(), C::of(-0.5) / (x * x.sqrt());
    Recip: |s, x| C::ONE / x, -(C::ONE / (x * x));
    Sin: |s, x| x.sin(), x.cos();
    Cos: |s, x| x.cos(), -x.sin();
    Tan: |s, x| x.tan(), { let t = x.tan(); C::ONE + t * t };
    Tanh: |s, x| x.tanh(), { let t = x.tanh(); C::ONE - t * t };
    Sigmoid: |s, x| x.sigmoid(), { let y = x.sigmoid(); y * (C::ONE - y) };
    Erf: |s, x| x.erf(), C::of(FRAC_2_SQRT_PI) * (-(x * x)).exp();
    Relu: |s, x| pick!(x > C::ZERO || x.is_nan(), x, C::ZERO), pick!(x > C::ZERO, C::ONE, C::ZERO);
    LeakyRelu(slope): |s, x| pick!(x > C::ZERO, x, x * C::of(s.0)), pick!(x > C::ZERO, C::ONE, C::of(s.0));
    Elu(alpha): |s, x| pick!(x > C::ZERO, x, C::of(s.0) * x.expm1()), pick!(x > C::ZERO, C::ONE, C::of(s.0) * x.exp());
    Gelu: |s, x| C::of(0.5) * x * (C::ONE + (x * C::of(SQRT_HALF)).erf()),
        C::of(0.5) * (C::ONE + (x * C::of(SQRT_HALF)).erf()) + x * C::of(DENSITY) * (C::of(-0.5) * x * x).exp();
    GeluTanh: |s, x| { let t = (C::of(GELU_A) * (x + C::of(GELU_B) * x * x * x)).tanh(); C::of(0.5) * x * (C::ONE + t) }, {
        let t = (C::of(GELU_A) * (x + C::of(GELU_B) * x * x * x)).tanh();
        let du = C::of(GELU_A) * (C::ONE + C::of(3.0 * GELU_B) * x * x);
        C::of(0.5) * (C::ONE + t) + C::of(0.5) * x * (C::ONE - t * t) * du
    };
    Silu: |s, x| x * x.sigmoid(), { let y = x.sigmoid(); y * (C::ONE + x * (C::ONE - y)) };
    // softplus(x) = max(x, 0) + ln(1 + e^-|x|): no overflow at either end.
    Mish: |s, x| x * (x.maximum(C::ZERO) + (-x.abs()).exp().ln_1p()).tanh(), {
        let t = (x.maximum(C::ZERO) + (-x.abs()).exp().ln_1p()).tanh();
        t + x * (C::ONE - t * t) * x.sigmoid()
    };
    Softplus: |s, x| x.maximum(C::ZERO) + (-x.abs()).exp().ln_1p(), x.sigmoid();
    LogSigmoid: |s, x| x.minimum(C::ZERO) - (-x.abs()).exp().ln_1p(), (-x).sigmoid();
    Abs: |s, x| x.abs(), sign(x);
    Neg: |s, x| -x, -C::ONE;
    Square: |s, x| x * x, x + x;
    PowC(p): |s, x| x.powf(C::of(s.0)), C::of(s.0) * x.powf(C::of(s.0 - 1.0));
}

#[inline(always)]
fn sign<C: Real>(x: C) -> C {
    if x > C::ZERO {
        C::ONE
    } else if x < C::ZERO {
        -C::ONE
    } else {
        x * C::ZERO // 0, or NaN
    }
}

/// A function whose derivative is zero wherever it has one.
fn flat(name: &'static str, x: &Tensor, f: impl Fn(f64) -> f64 + Sync + Copy) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return Ok(x.clone());
    }
    let y = each_float!(name, x.dtype(), T => {
        let data = x.strided::<T>(name)?;
        // Rounding and signs of an f32 are exact in f64.
        Tensor::build(name, x.shape().clone(), |out: &mut [T]| map1(data, out, |x: T| T::from_f64(f(x.to_f64()))))?
    });
    record(name, y, &[x], |dy| dy.zeros_like())
}

/// Integer arithmetic on i64 and u8 (wrapping), where a float function has an exact integer one.
fn integer(name: &'static str, x: &Tensor, f: impl Fn(i64) -> i64 + Sync + Copy) -> Result<Tensor> {
    let shape = x.shape().clone();
    let out = if x.dtype() == DType::U8 {
        let data = x.strided::<u8>(name)?;
        Tensor::build(name, shape, |out: &mut [u8]| map1(data, out, |x: u8| u8::from_i64(f(x as i64))))?
    } else {
        let x = x.to_dtype(DType::I64)?;
        let data = x.strided::<i64>(name)?;
        Tensor::build(name, shape, |out: &mut [i64]| map1(data, out, f))?
    };
    no_gradient(name, out, &[x])
}

macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident = $function:expr, $twice:expr;)*) => {
        impl Tensor {$(
            $(#[$doc])*
            pub fn $method(&self) -> Result<Tensor> {
                function(stringify!($method), self, $function, $twice)
            }
        )*}
    };
}

methods! {
    /// `eˣ`. PyTorch: `exp`.
    exp = Exp, |x, dy| dy.mul(&x.exp()?);
    /// `eˣ − 1`, accurate near 0. PyTorch: `expm1`.
    expm1 = Expm1, |x, dy| dy.mul(&x.exp()?);
    /// Natural logarithm; NaN below 0, −∞ at 0. PyTorch: `log`.
    log = Ln, |x, dy| dy.div(x);
    /// Logarithm to base 2. PyTorch: `log2`.
    log2 = Log2, |x, dy| dy.div(&x.mul(std::f64::consts::LN_2)?);
    /// Logarithm to base 10. PyTorch: `log10`.
    log10 = Log10, |x, dy| dy.div(&x.mul(std::f64::consts::LN_10)?);
    /// `ln(1 + x)`, accurate near 0. PyTorch: `log1p`.
    log1p = Ln1p, |x, dy| dy.div(&x.add(1.0)?);
    /// `√x`; NaN below 0. PyTorch: `sqrt`.
    sqrt = Sqrt, |x, dy| dy.mul(&x.rsqrt()?.mul(0.5)?);
    /// `1/√x`. PyTorch: `rsqrt`.
    rsqrt = Rsqrt, |x, dy| dy.mul(&x.rsqrt()?.div(x)?.mul(-0.5)?);
    /// `1/x`. PyTorch: `reciprocal`.
    reciprocal = Recip, |x, dy| dy.neg()?.div(&x.square()?);
    /// Sine. PyTorch: `sin`.
    sin = Sin, |x, dy| dy.mul(&x.cos()?);
    /// Cosine. PyTorch: `cos`.
    cos = Cos, |x, dy| dy.mul(&x.sin()?.neg()?);
    /// Tangent, `dx = dy (1 + tan² x)`. PyTorch: `tan`.
    tan = Tan, |x, dy| dy.mul(&x.tan()?.square()?.add(1.0)?);
    /// Hyperbolic tangent, `dx = dy (1 − tanh² x)`. PyTorch: `tanh`.
    tanh = Tanh, |x, dy| dy.mul(&x.tanh()?.square()?.neg()?.add(1.0)?);
    /// The soft step `σ(x) = 1 / (1 + e⁻ˣ)`, the two-way softmax: `σ(x) = softmax([0, x])[1]`. PyTorch: `sigmoid`.
    sigmoid = Sigmoid, |x, dy| { let y = x.sigmoid()?; dy.mul(&y.mul(&y.neg()?.add(1.0)?)?) };
    /// The error function, `dx = dy · 2/√π · e^(−x²)`. PyTorch: `erf`.
    erf = Erf, |x, dy| dy.mul(&x.square()?.neg()?.exp()?.mul(FRAC_2_SQRT_PI)?);
    /// `max(x, 0)`: the two-way max. Its derivative is [`Tensor::step`], 0 at 0. PyTorch: `relu`.
    relu = Relu, |x, dy| dy.mul(&x.step()?);
    /// `x · Φ(x) = x/2 · (1 + erf(x/√2))`. PyTorch: `gelu`. Source: Hendrycks & Gimpel 2016.
    gelu = Gelu, |x, dy| {
        let phi = x.mul(SQRT_HALF)?.erf()?.add(1.0)?.mul(0.5)?;
        dy.mul(&phi.add(&x.mul(&x.square()?.mul(-0.5)?.exp()?)?.mul(DENSITY)?)?)
    };
    /// GELU by `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))`. PyTorch: `gelu(approximate="tanh")`.
    gelu_tanh = GeluTanh, |x, dy| {
        let x2 = x.square()?;
        let t = x.mul(&x2.mul(GELU_B)?.add(1.0)?)?.mul(GELU_A)?.tanh()?;
        let du = x2.mul(3.0 * GELU_B)?.add(1.0)?.mul(GELU_A)?;
        let slope = t.square()?.neg()?.add(1.0)?.mul(&du)?.mul(x)?;
        dy.mul(&t.add(1.0)?.add(&slope)?.mul(0.5)?)
    };
    /// `x · σ(x)`, also called swish. PyTorch: `silu`.
    silu = Silu, |x, dy| {
        let y = x.sigmoid()?;
        dy.mul(&x.mul(&y.neg()?.add(1.0)?)?.add(1.0)?.mul(&y)?)
    };
    /// `x · tanh(softplus(x))`. PyTorch: `mish`. Source: Misra 2019.
    mish = Mish, |x, dy| {
        let t = x.softplus()?.tanh()?;
        let slope = x.mul(&t.square()?.neg()?.add(1.0)?)?.mul(&x.sigmoid()?)?;
        dy.mul(&t.add(&slope)?)
    };
    /// `ln(1 + eˣ)`, the soft relu; stable at both ends. PyTorch: `softplus` (with beta 1).
    softplus = Softplus, |x, dy| dy.mul(&x.sigmoid()?);
    /// `ln σ(x)`, stable. PyTorch: `logsigmoid`.
    log_sigmoid = LogSigmoid, |x, dy| dy.mul(&x.neg()?.sigmoid()?);
}

impl Tensor {
    /// `|x|`, with gradient 0 at 0. PyTorch: `abs`.
    pub fn abs(&self) -> Result<Tensor> {
        if !self.dtype().is_float() {
            return integer("abs", self, i64::wrapping_abs);
        }
        function("abs", self, Abs, |x, dy| dy.mul(&x.sign()?))
    }

    /// `−x`. PyTorch: `neg`.
    pub fn neg(&self) -> Result<Tensor> {
        if !self.dtype().is_float() {
            return integer("neg", self, i64::wrapping_neg);
        }
        function("neg", self, Neg, |_, dy| dy.neg())
    }

    /// `x²`. PyTorch: `square`.
    pub fn square(&self) -> Result<Tensor> {
        if !self.dtype().is_float() {
            return integer("square", self, |x| x.wrapping_mul(x));
        }
        function("square", self, Square, |x, dy| dy.mul(&x.mul(2.0)?))
    }

    /// `xⁿ` for a fixed exponent, `dx = n xⁿ⁻¹ dy`. PyTorch: `pow(x, n)`.
    pub fn powf(&self, exponent: f64) -> Result<Tensor> {
        match exponent {
            2.0 => return self.square(),
            // x⁰ is 1 with gradient 0, also at x = 0 where the general rule has 0 · ∞.
            0.0 if self.dtype().is_float() => return flat("pow", self, |_| 1.0),
            _ => {}
        }
        function("pow", self, PowC(exponent), move |x, dy| dy.mul(&x.powf(exponent - 1.0)?.mul(exponent)?))
    }

    /// `xⁿ` for a fixed integer exponent; exact on integers for n ≥ 0. PyTorch: `pow(x, n)`.
    pub fn powi(&self, exponent: i32) -> Result<Tensor> {
        match u32::try_from(exponent) {
            Ok(n) if !self.dtype().is_float() => integer("pow", self, move |x| x.wrapping_pow(n)),
            _ => self.powf(exponent as f64),
        }
    }

    /// −1, 0 or 1 by the sign; gradient 0. PyTorch: `sign`.
    pub fn sign(&self) -> Result<Tensor> {
        if !self.dtype().is_float() {
            return integer("sign", self, i64::signum);
        }
        flat("sign", self, sign)
    }

    /// 1 where `x > 0`, else 0: relu's derivative and the two-way argmax; gradient 0. PyTorch: `heaviside(x, 0)`.
    pub fn step(&self) -> Result<Tensor> {
        flat("step", self, |x| if x.is_nan() { x } else { (x > 0.0) as u8 as f64 })
    }

    /// Largest integer at or below; gradient 0. PyTorch: `floor`.
    pub fn floor(&self) -> Result<Tensor> {
        flat("floor", self, f64::floor)
    }

    /// Smallest integer at or above; gradient 0. PyTorch: `ceil`.
    pub fn ceil(&self) -> Result<Tensor> {
        flat("ceil", self, f64::ceil)
    }

    /// Nearest integer, ties to even; gradient 0. PyTorch: `round`.
    pub fn round(&self) -> Result<Tensor> {
        flat("round", self, f64::round_ties_even)
    }

    /// Toward zero; gradient 0. PyTorch: `trunc`.
    pub fn trunc(&self) -> Result<Tensor> {
        flat("trunc", self, f64::trunc)
    }

    /// `x` above 0, `slope · x` below. PyTorch: `leaky_relu(x, negative_slope)`.
    pub fn leaky_relu(&self, negative_slope: f64) -> Result<Tensor> {
        function("leaky_relu", self, LeakyRelu(negative_slope), move |x, dy| {
            let step = x.step()?;
            dy.mul(&step.mul(1.0 - negative_slope)?.add(negative_slope)?)
        })
    }

    /// `x` above 0, `α (eˣ − 1)` below. PyTorch: `elu(x, alpha)`. Source: Clevert et al. 2015.
    pub fn elu(&self, alpha: f64) -> Result<Tensor> {
        function("elu", self, Elu(alpha), move |x, dy| {
            let above = x.gt(0.0)?;
            dy.mul(&above.where_cond(&x.ones_like()?, &x.exp()?.mul(alpha)?)?)
        })
    }

    /// Cut to `[min, max]`; the gradient passes where `min ≤ x ≤ max`. PyTorch: `clamp`.
    ///
    /// Either bound may be infinite. With `min > max` every element becomes `max`, as in PyTorch.
    pub fn clamp(&self, min: f64, max: f64) -> Result<Tensor> {
        if !self.dtype().is_float() {
            return integer("clamp", self, move |x| (x.max(min.ceil() as i64)).min(max.floor() as i64));
        }
        let y = each_float!("clamp", self.dtype(), T => {
            let (data, low, high) = (self.strided::<T>("clamp")?, T::from_f64(min).up(), T::from_f64(max).up());
            Tensor::build("clamp", self.shape().clone(), |out: &mut [T]| {
                map1(data, out, |x: T| {
                    let x = x.up();
                    let x = if x < low { low } else { x };
                    T::down(if x > high { high } else { x })
                });
            })?
        });
        let x = self.clone();
        record("clamp", y, &[self], move |dy| {
            let inside = x.ge(min)?.logical_and(&x.le(max)?)?;
            dy.mul(&inside.to_dtype(dy.dtype())?)
        })
    }
}
