//! Reductions over dims: sum, mean, prod, any, all, and what is made of them: var, std, norm, logsumexp.
//!
//! Dims next to each other are reduced as one; others one after the other, the last first.

use crate::autograd::{record, record_with_output};
use crate::dtype::each_float;
use crate::kernels::reduce::{self, Product, Sum, With};
use crate::kernels::softmax;
use crate::tensor::Dims;
use crate::{DType, Error, Float, Result, Shape, Tensor};

/// Runs of adjacent dims, as (first, one past the last), the last run first.
fn runs(dims: &[usize]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = vec![];
    for &d in dims {
        match out.last_mut() {
            Some((_, end)) if *end == d => *end += 1,
            _ => out.push((d, d + 1)),
        }
    }
    out.reverse();
    out
}

/// `[outer, n, inner]`: the shape cut before and after dims `start..end`.
pub(super) fn cut(shape: &Shape, start: usize, end: usize) -> (usize, usize, usize) {
    (shape[..start].iter().product(), shape[start..end].iter().product(), shape[end..].iter().product())
}

/// The shape with the given dims of size 1.
pub(super) fn kept(shape: &Shape, dims: &[usize]) -> Shape {
    shape.iter().enumerate().map(|(d, &s)| if dims.contains(&d) { 1 } else { s }).collect()
}

/// The shape without the given dims.
fn dropped(shape: &Shape, dims: &[usize]) -> Shape {
    shape.iter().enumerate().filter(|(d, _)| !dims.contains(d)).map(|(_, &s)| s).collect()
}

/// Reduces run after run with `f(input, cut, output shape)`; dims keep size 1.
fn over_runs(
    x: &Tensor,
    dims: &[usize],
    f: impl Fn(&Tensor, (usize, usize, usize), Shape) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut x = x.detach().packed()?;
    for (start, end) in runs(dims) {
        let shape = kept(x.shape(), &(start..end).collect::<Vec<_>>());
        x = f(&x, cut(x.shape(), start, end), shape)?;
    }
    Ok(x)
}

/// `f` of halves, computed in f32: sums of them leave their range (65,504 for f16) where the result does not.
fn in_f32(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Option<Result<Tensor>> {
    let half = matches!(x.dtype(), DType::F16 | DType::BF16);
    half.then(|| f(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype()))
}

impl Tensor {
    /// Σ over `dims`, which go away. Integers and bool sum to i64. PyTorch: `sum`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let t = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]])?;
    /// assert_eq!(t.sum(0)?.to_vec::<f32>()?, [4.0, 6.0]);
    /// assert_eq!(t.sum(..)?.item::<f32>()?, 10.0);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: a dim out of range or named twice.
    pub fn sum(&self, dims: impl Dims) -> Result<Tensor> {
        let dims = dims.indices("sum", self.shape())?;
        let shape = dropped(self.shape(), &dims);
        self.sum_keepdim(dims.to_vec())?.reshape(shape)
    }

    /// [`Tensor::sum`], the dims kept with size 1. PyTorch: `sum(keepdim=True)`.
    pub fn sum_keepdim(&self, dims: impl Dims) -> Result<Tensor> {
        let dims = dims.indices("sum", self.shape())?;
        if !self.dtype().is_float() {
            let x = self.to_dtype(DType::I64)?;
            let add = With { start: 0i64, step: i64::wrapping_add, join: i64::wrapping_add };
            return over_runs(&x, &dims, |x, cut, shape| {
                let x = x.slice::<i64>("sum")?;
                Tensor::build("sum", shape, |out: &mut [i64]| reduce::fold(x, cut, out, add, |a| a))
            });
        }
        if runs(&dims).len() > 1
            && let Some(sum) = in_f32(self, |x| x.sum_keepdim(dims.to_vec()))
        {
            return sum;
        }
        let out = over_runs(self, &dims, |x, cut, shape| {
            each_float!("sum", x.dtype(), T => {
                let x = x.slice::<T>("sum")?;
                Tensor::build("sum", shape, |out: &mut [T]| reduce::fold(x, cut, out, Sum, T::down))
            })
        })?;
        let before = self.shape().clone();
        record("sum", out, &[self], move |dy| dy.broadcast_to("sum", &before))
    }

    /// The mean over `dims`, which go away. PyTorch: `mean`. Errors: as [`Tensor::sum`]; not a float dtype.
    pub fn mean(&self, dims: impl Dims) -> Result<Tensor> {
        let dims = dims.indices("mean", self.shape())?;
        let shape = dropped(self.shape(), &dims);
        self.mean_keepdim(dims.to_vec())?.reshape(shape)
    }

    /// [`Tensor::mean`], the dims kept with size 1.
    pub fn mean_keepdim(&self, dims: impl Dims) -> Result<Tensor> {
        float_only("mean", self)?;
        let dims = dims.indices("mean", self.shape())?;
        if let Some(mean) = in_f32(self, |x| x.mean_keepdim(dims.to_vec())) {
            return mean;
        }
        let n: usize = dims.iter().map(|&d| self.dims()[d]).product();
        self.sum_keepdim(dims.to_vec())?.div(n as f64)
    }

    /// Π over `dims`, which go away. The gradient is right with zeros among the elements. PyTorch: `prod`.
    pub fn prod(&self, dims: impl Dims) -> Result<Tensor> {
        let dims = dims.indices("prod", self.shape())?;
        let shape = dropped(self.shape(), &dims);
        if !self.dtype().is_float() {
            let times = With { start: 1i64, step: i64::wrapping_mul, join: i64::wrapping_mul };
            let x = self.to_dtype(DType::I64)?;
            return over_runs(&x, &dims, |x, cut, shape| {
                let x = x.slice::<i64>("prod")?;
                Tensor::build("prod", shape, |out: &mut [i64]| reduce::fold(x, cut, out, times, |a| a))
            })?
            .reshape(shape);
        }
        let out = over_runs(self, &dims, |x, cut, shape| {
            each_float!("prod", x.dtype(), T => {
                let x = x.slice::<T>("prod")?;
                Tensor::build("prod", shape, |out: &mut [T]| reduce::fold(x, cut, out, Product, T::down))
            })
        })?;
        let x = self.clone();
        record("prod", out, &[self], move |dy| {
            // dx = dy · (product of the others): the reduced dims as one last dim, then products before and after.
            let keep: Vec<usize> = (0..x.rank()).filter(|d| !dims.contains(d)).collect();
            let order: Vec<usize> = keep.iter().chain(dims.iter()).copied().collect();
            let back: Vec<usize> = (0..order.len()).map(|d| order.iter().position(|&o| o == d).unwrap_or(d)).collect();
            let moved = x.permute(&order)?;
            let n: usize = dims.iter().map(|&d| x.dims()[d]).product();
            let lead: Shape = keep.iter().map(|&d| x.dims()[d]).collect();
            let rows = moved.reshape(lead.inserted(lead.rank(), n))?;
            let others = exclusive_product(&rows)?;
            others.mul(&dy.reshape(lead.inserted(lead.rank(), 1))?)?.reshape(moved.shape())?.permute(&back)
        })?
        .reshape(shape)
    }

    /// Whether any element over `dims` is nonzero. PyTorch: `any`.
    pub fn any(&self, dims: impl Dims) -> Result<Tensor> {
        self.truth("any", dims, With { start: false, step: |a, b| a | b, join: |a, b| a | b })
    }

    /// Whether all elements over `dims` are nonzero. PyTorch: `all`.
    pub fn all(&self, dims: impl Dims) -> Result<Tensor> {
        self.truth("all", dims, With { start: true, step: |a, b| a & b, join: |a, b| a & b })
    }

    fn truth<S, J>(&self, name: &'static str, dims: impl Dims, f: With<bool, S, J>) -> Result<Tensor>
    where
        S: Fn(bool, bool) -> bool + Copy + Sync,
        J: Fn(bool, bool) -> bool + Copy + Sync,
    {
        let dims = dims.indices(name, self.shape())?;
        let x = self.detach().to_dtype(DType::Bool)?;
        over_runs(&x, &dims, |x, cut, shape| {
            let x = x.slice::<bool>(name)?;
            Tensor::build(name, shape, |out: &mut [bool]| reduce::fold(x, cut, out, f, |a| a))
        })?
        .reshape(dropped(self.shape(), &dims))
    }

    /// The variance over `dims`, `Σ (x − mean)² / (n − correction)`. PyTorch: `var(correction=…)`, where 1 is usual.
    pub fn var(&self, dims: impl Dims, correction: f64) -> Result<Tensor> {
        let dims = dims.indices("var", self.shape())?;
        let shape = dropped(self.shape(), &dims);
        self.var_keepdim(dims.to_vec(), correction)?.reshape(shape)
    }

    /// [`Tensor::var`], the dims kept with size 1.
    pub fn var_keepdim(&self, dims: impl Dims, correction: f64) -> Result<Tensor> {
        float_only("var", self)?;
        let dims = dims.indices("var", self.shape())?;
        if let Some(var) = in_f32(self, |x| x.var_keepdim(dims.to_vec(), correction)) {
            return var;
        }
        let n: usize = dims.iter().map(|&d| self.dims()[d]).product();
        let centred = self.sub(&self.mean_keepdim(dims.to_vec())?)?;
        centred.square()?.sum_keepdim(dims.to_vec())?.div((n as f64 - correction).max(0.0))
    }

    /// The standard deviation over `dims`. PyTorch: `std(correction=…)`.
    pub fn std(&self, dims: impl Dims, correction: f64) -> Result<Tensor> {
        let dims = dims.indices("std", self.shape())?;
        if let Some(std) = in_f32(self, |x| x.std(dims.to_vec(), correction)) {
            return std;
        }
        self.var(dims.to_vec(), correction)?.sqrt()
    }

    /// `ln Σ eˣ` over `dims`, without overflow: the soft max. Its gradient is softmax. PyTorch: `logsumexp`.
    pub fn logsumexp(&self, dims: impl Dims) -> Result<Tensor> {
        let op = "logsumexp";
        float_only(op, self)?;
        let dims = dims.indices(op, self.shape())?;
        let shape = dropped(self.shape(), &dims);
        let y = over_runs(self, &dims, |x, cut, shape| {
            each_float!(op, x.dtype(), T => {
                let x = x.slice::<T>(op)?;
                Tensor::build(op, shape, |out: &mut [T]| softmax::logsumexp(x, cut, out))
            })
        })?;
        let x = self.clone();
        record_with_output(op, y, &[self], move |y: &Tensor, dy: &Tensor| {
            // A row of −∞ has no largest element to send a gradient to: exp(−∞ − 0) is 0.
            let y = y.eq(f64::NEG_INFINITY)?.where_cond(&y.zeros_like()?, y)?;
            x.sub(&y)?.exp()?.mul(dy)
        })?
        .reshape(shape)
    }

    /// The p-norm `(Σ |x|ᵖ)^(1/p)` over `dims`; p may be ∞, −∞ or 0 (the count of nonzeros).
    /// PyTorch: `torch.linalg.vector_norm`. The gradient at the zero vector is 0 for p = 2.
    pub fn norm(&self, p: f64, dims: impl Dims) -> Result<Tensor> {
        float_only("norm", self)?;
        let dims = dims.indices("norm", self.shape())?;
        if let Some(norm) = in_f32(self, |x| x.norm(p, dims.to_vec())) {
            return norm;
        }
        let shape = dropped(self.shape(), &dims);
        let (named, x) = (dims.to_vec(), self);
        match p {
            1.0 => x.abs()?.sum(named),
            2.0 => {
                let sum = x.detach().square()?.sum_keepdim(named.clone())?;
                let (y, x) = (sum.sqrt()?, x.clone());
                record_with_output("norm", y, &[self], move |y, dy| {
                    let flat = y.eq(0.0)?;
                    let safe = flat.where_cond(&y.ones_like()?, y)?;
                    let scale = flat.where_cond(&y.zeros_like()?, &dy.div(&safe)?)?;
                    x.mul(&scale)
                })?
                .reshape(shape)
            }
            f64::INFINITY => x.abs()?.amax(named),
            f64::NEG_INFINITY => x.abs()?.amin(named),
            0.0 => {
                let count = x.detach().ne(0.0)?.to_dtype(x.dtype())?.sum(named)?;
                let before = x.shape().clone();
                record("norm", count, &[x], move |dy| Tensor::zeros(&before, dy.dtype()))
            }
            p => x.abs()?.powf(p)?.sum(named)?.powf(1.0 / p),
        }
    }
}

/// Along the last dim, the product of all other elements: products of those before times products of those after.
fn exclusive_product(rows: &Tensor) -> Result<Tensor> {
    let last = rows.rank() - 1;
    rows.exclusive_cumprod(last)?.mul(&rows.flip(last)?.exclusive_cumprod(last)?.flip(last)?)
}

pub(super) fn float_only(op: &'static str, x: &Tensor) -> Result<()> {
    if x.dtype().is_float() {
        Ok(())
    } else {
        Err(Error::dtype(op, x.dtype(), "expected a float dtype (cast with to_dtype)"))
    }
}
