//! The soft gate: a learned choice between two.
//!
//! ```text
//! z = x·σ(r) + y·(1 − σ(r))
//! dx = dz·σ(r)    dy = dz·(1 − σ(r))    dr = dz·(x − y)·σ(r)·(1 − σ(r))
//! ```
//!
//! It is softmax gating between two, and what Highway networks, GRUs and LSTMs are made of. Cost: one pass over the
//! three operands, and one for each gradient; neither σ nor a product is kept.

use crate::autograd::{is_grad_enabled, record};
use crate::dtype::each_float;
use crate::kernels::elementwise::{float2, float3};
use crate::kernels::simd::dispatch;
use crate::ops::binary::{promote, when_tracked};
use crate::tensor::Arg;
use crate::{DType, Real, Result, Shape, Tensor};

const OP: &str = "gate";

impl Tensor {
    /// The soft gate `x·σ(r) + y·(1 − σ(r))` of this and `y`, opened for this by the score `r`; all three broadcast.
    ///
    /// All three have a gradient: who is used learns, and `r` learns who is useful. With the step in place of σ, `r`
    /// would learn nothing. PyTorch: `x * torch.sigmoid(r) + y * (1 - torch.sigmoid(r))`, whose values it has where
    /// something is not finite too: an infinity times a weight that has rounded to 0 is NaN, as is all that comes from
    /// NaN. Halves are rounded once, at the end.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([3.0f64, 3.0, 3.0])?;
    /// let r = Tensor::new([-40.0f64, 0.0, 40.0])?.requires_grad()?;
    /// let z = x.gate(-1.0, &r)?;
    /// assert_eq!(z.to_vec::<f64>()?, [-1.0, 1.0, 3.0]);
    /// let grads = z.sum(..)?.backward()?;
    /// assert_eq!(grads.get(&r).unwrap().to_vec::<f64>()?[1], (3.0 - -1.0) * 0.5 * 0.5);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Integers are computed in f32. Errors: shapes that do not broadcast.
    pub fn gate(&self, y: impl Arg, r: impl Arg) -> Result<Tensor> {
        let (x, y) = promote(self, y)?;
        let (x, r) = promote(&x, r)?;
        let dtype = if x.dtype().is_float() { x.dtype() } else { DType::F32 };
        let [x, y, r] = [x.to_dtype(dtype)?, y.to_dtype(dtype)?, r.to_dtype(dtype)?];
        let shape = x.shape().broadcast(y.shape(), OP)?.broadcast(r.shape(), OP)?;
        let z = each_float!(OP, dtype, T => fused::<T>([&x, &y, &r], shape.clone(), &|z, x| mix(z, x))?);
        let saved = [x.clone(), y.clone(), r.clone()];
        record(OP, z, &[&x, &y, &r], move |dz| {
            let [x, y, r] = &saved;
            let dx = || if is_grad_enabled() { dz.mul(&r.sigmoid()?) } else { share(dz, r, false) };
            let dy = || if is_grad_enabled() { dz.mul(&shut(r)?) } else { share(dz, r, true) };
            let dr = || {
                if is_grad_enabled() {
                    return dz.mul(&x.sub(y)?)?.mul(&r.sigmoid()?.mul(&shut(r)?)?);
                }
                each_float!(OP, dtype, T => {
                    let apart = fused::<T>([dz, x, y], shape.clone(), &|out, t| difference(out, t))?;
                    let (apart, r) = (apart.strided::<T>(OP)?, expanded(r, &shape)?);
                    let r = r.strided::<T>(OP)?;
                    Tensor::build(OP, shape.clone(), |out: &mut [T]| float2(apart, r, out, &|out, t, r| slope(out, t, r)))
                })
            };
            Ok([
                when_tracked(x, || dx()?.sum_to(x.shape()))?,
                when_tracked(y, || dy()?.sum_to(y.shape()))?,
                when_tracked(r, || dr()?.sum_to(r.shape()))?,
            ])
        })
    }
}

/// `1 − σ(r)`
fn shut(r: &Tensor) -> Result<Tensor> {
    r.sigmoid()?.neg()?.add(1.0)
}

fn expanded(t: &Tensor, shape: &Shape) -> Result<Tensor> {
    Ok(t.with_layout(t.layout().expand(shape, OP)?))
}

/// `f` of three operands, broadcast to `shape`, outside the graph.
fn fused<T: crate::Float>(
    operands: [&Tensor; 3],
    shape: Shape,
    f: &(dyn Fn(&mut [T::Compute], [&[T::Compute]; 3]) + Sync),
) -> Result<Tensor> {
    let [a, b, c] = [expanded(operands[0], &shape)?, expanded(operands[1], &shape)?, expanded(operands[2], &shape)?];
    let data = [a.strided::<T>(OP)?, b.strided::<T>(OP)?, c.strided::<T>(OP)?];
    Tensor::build(OP, shape, |out: &mut [T]| float3(data, out, f))
}

/// `dz` times `σ(r)`, or times `1 − σ(r)`.
fn share(dz: &Tensor, r: &Tensor, shut: bool) -> Result<Tensor> {
    let r = expanded(r, dz.shape())?;
    each_float!(OP, dz.dtype(), T => {
        let (dz_data, r) = (dz.strided::<T>(OP)?, r.strided::<T>(OP)?);
        Tensor::build(OP, dz.shape().clone(), |out: &mut [T]| {
            float2(dz_data, r, out, &|out, dz, r| if shut { passed_by(out, dz, r) } else { passed(out, dz, r) });
        })
    })
}

/// A loop over a block; not inlined, so that it is compiled once for f32 and once for f64.
macro_rules! loops {
    ($($name:ident($a:ident $(, $b:ident)*) = $value:expr;)*) => {$(
        #[inline(never)]
        fn $name<C: Real>(out: &mut [C], $a: &[C], $($b: &[C]),*) {
            dispatch(
                #[inline(always)]
                || {
                    let n = out.len();
                    $(let $b = &$b[..n];)*
                    for (i, (out, &$a)) in out.iter_mut().zip($a).enumerate() {
                        $(let $b = $b[i];)*
                        *out = $value;
                    }
                },
            );
        }
    )*};
}

loops! {
    passed(dz, r) = dz * r.sigmoid();
    passed_by(dz, r) = dz * (C::ONE - r.sigmoid());
    slope(dz, r) = { let open = r.sigmoid(); dz * (open * (C::ONE - open)) };
    gated(x, y, r) = { let open = r.sigmoid(); x * open + y * (C::ONE - open) };
    apart(dz, x, y) = dz * (x - y);
}

fn mix<C: Real>(z: &mut [C], [x, y, r]: [&[C]; 3]) {
    gated(z, x, y, r);
}

fn difference<C: Real>(out: &mut [C], [dz, x, y]: [&[C]; 3]) {
    apart(out, dz, x, y);
}
