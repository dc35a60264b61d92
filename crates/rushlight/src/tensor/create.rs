//! Making tensors: from Rust values, filled, counted up, and random.

use crate::dtype::each_dtype;
use crate::kernels::stream;
use crate::storage::Buffer;
use crate::tensor::IntoShape;
use crate::{DType, Element, Error, Result, Shape, Tensor, random};

/// Nested arrays, slices and vectors of numbers, up to four deep: what [`Tensor::new`] takes.
pub trait NestedArray {
    /// The number at the bottom.
    type Item: Element;
    /// Adds the sizes to `dims` (at nesting `depth`) and the numbers to `out`; `false` where rows differ in length.
    fn collect(&self, depth: usize, dims: &mut Vec<usize>, out: &mut Vec<Self::Item>) -> bool;
}

macro_rules! number {
    ($($t:ty),*) => {$(
        impl NestedArray for $t {
            type Item = $t;
            fn collect(&self, depth: usize, dims: &mut Vec<usize>, out: &mut Vec<$t>) -> bool {
                out.push(*self);
                dims.len() == depth
            }
        }
    )*};
}
number!(f32, f64, crate::bf16, crate::f16, i64, u8, bool);

impl<A: NestedArray> NestedArray for [A] {
    type Item = A::Item;
    fn collect(&self, depth: usize, dims: &mut Vec<usize>, out: &mut Vec<A::Item>) -> bool {
        // The first element on each level says how long that level is; the others must agree.
        if dims.len() == depth {
            if !out.is_empty() {
                return false;
            }
            dims.push(self.len());
        }
        dims[depth] == self.len() && self.iter().all(|x| x.collect(depth + 1, dims, out))
    }
}

impl<A: NestedArray, const N: usize> NestedArray for [A; N] {
    type Item = A::Item;
    fn collect(&self, depth: usize, dims: &mut Vec<usize>, out: &mut Vec<A::Item>) -> bool {
        self.as_slice().collect(depth, dims, out)
    }
}

impl<A: NestedArray> NestedArray for Vec<A> {
    type Item = A::Item;
    fn collect(&self, depth: usize, dims: &mut Vec<usize>, out: &mut Vec<A::Item>) -> bool {
        self.as_slice().collect(depth, dims, out)
    }
}

impl<A: NestedArray + ?Sized> NestedArray for &A {
    type Item = A::Item;
    fn collect(&self, depth: usize, dims: &mut Vec<usize>, out: &mut Vec<A::Item>) -> bool {
        (**self).collect(depth, dims, out)
    }
}

impl Tensor {
    /// From a number or nested arrays, slices or vectors. PyTorch: `torch.tensor`.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let t = Tensor::new([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]])?;
    /// assert_eq!(t.dims(), [2, 3]);
    /// assert!(Tensor::new(vec![vec![1.0f32], vec![2.0, 3.0]]).is_err());
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: rows of different lengths.
    pub fn new<A: NestedArray>(values: A) -> Result<Tensor> {
        let (mut dims, mut out) = (vec![], vec![]);
        if !values.collect(0, &mut dims, &mut out) {
            return Err(Error::invalid("tensor", "rows of different lengths cannot form a tensor"));
        }
        Tensor::from_slice(&out, dims)
    }

    /// From elements in row-major order, copied. Errors: their number is not that of `shape`.
    pub fn from_slice<T: Element>(data: &[T], shape: impl IntoShape) -> Result<Tensor> {
        let shape = shape.shape("from_slice")?;
        if data.len() != shape.numel() {
            let message = format!("{} elements do not fill shape {shape} of {}", data.len(), shape.numel());
            return Err(Error::invalid("from_slice", message));
        }
        Ok(Tensor::from_buffer(Buffer::copy_of(data, "from_slice")?, shape))
    }

    /// From a vector of elements in row-major order. Errors: their number is not that of `shape`.
    pub fn from_vec<T: Element>(data: Vec<T>, shape: impl IntoShape) -> Result<Tensor> {
        Tensor::from_slice(&data, shape)
    }

    /// Filled with `value`, converted to `dtype`. PyTorch: `torch.full`.
    pub fn full(shape: impl IntoShape, value: f64, dtype: DType) -> Result<Tensor> {
        let shape = shape.shape("full")?;
        each_dtype!(dtype, T => {
            Tensor::build("full", shape, |out: &mut [T]| stream::fill(out, T::from_f64(value)))
        })
    }

    /// Filled with 0. PyTorch: `torch.zeros`.
    pub fn zeros(shape: impl IntoShape, dtype: DType) -> Result<Tensor> {
        Tensor::full(shape, 0.0, dtype)
    }

    /// Filled with 1. PyTorch: `torch.ones`.
    pub fn ones(shape: impl IntoShape, dtype: DType) -> Result<Tensor> {
        Tensor::full(shape, 1.0, dtype)
    }

    /// Shape and dtype of this, filled with `value`. PyTorch: `torch.full_like`.
    pub fn full_like(&self, value: f64) -> Result<Tensor> {
        Tensor::full(self.shape(), value, self.dtype())
    }

    /// Shape and dtype of this, filled with 0. PyTorch: `torch.zeros_like`.
    pub fn zeros_like(&self) -> Result<Tensor> {
        self.full_like(0.0)
    }

    /// Shape and dtype of this, filled with 1. PyTorch: `torch.ones_like`.
    pub fn ones_like(&self) -> Result<Tensor> {
        self.full_like(1.0)
    }

    /// `start, start + step, …` below (for a negative step: above) `end`. PyTorch: `torch.arange`.
    ///
    /// ```
    /// # use rushlight::{DType, Tensor};
    /// assert_eq!(Tensor::arange(1.0, 2.0, 0.25, DType::F32)?.to_vec::<f32>()?, [1.0, 1.25, 1.5, 1.75]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: a step that is zero, not finite or leads away from `end`.
    pub fn arange(start: f64, end: f64, step: f64, dtype: DType) -> Result<Tensor> {
        let count = ((end - start) / step).ceil();
        if step == 0.0 || !count.is_finite() || count < 0.0 {
            let message = format!("no range from {start} to {end} by steps of {step}");
            return Err(Error::invalid("arange", message));
        }
        each_dtype!(dtype, T => Tensor::build("arange", (count as usize).shape("arange")?, |out: &mut [T]| {
            out.iter_mut().enumerate().for_each(|(i, o)| *o = T::from_f64(start + i as f64 * step));
        }))
    }

    /// `count` numbers evenly from `start` to `end`, both included. PyTorch: `torch.linspace`.
    pub fn linspace(start: f64, end: f64, count: usize, dtype: DType) -> Result<Tensor> {
        let step = (end - start) / (count.max(2) - 1) as f64;
        each_dtype!(dtype, T => Tensor::build("linspace", count.shape("linspace")?, |out: &mut [T]| {
            // From both ends, so that the last number is `end` to the bit.
            let at = |i: usize| if i < count.div_ceil(2) { start + i as f64 * step } else { end - (count - 1 - i) as f64 * step };
            out.iter_mut().enumerate().for_each(|(i, o)| *o = T::from_f64(at(i)));
        }))
    }

    /// The identity matrix of `n` rows. PyTorch: `torch.eye`.
    pub fn eye(n: usize, dtype: DType) -> Result<Tensor> {
        each_dtype!(dtype, T => Tensor::build("eye", [n, n].shape("eye")?, |out: &mut [T]| {
            out.fill(T::from_f64(0.0));
            out.iter_mut().step_by(n + 1).for_each(|o| *o = T::from_f64(1.0));
        }))
    }

    fn random<T: Element>(
        op: &'static str,
        shape: Shape,
        fill: impl FnOnce(&mut random::Generator, &mut [T]),
    ) -> Result<Tensor> {
        Tensor::build(op, shape, |out: &mut [T]| random::with(|g| fill(g, out)))
    }

    /// Uniform in [0, 1), from this thread's generator (see [`crate::random`]). PyTorch: `torch.rand`.
    pub fn rand(shape: impl IntoShape, dtype: DType) -> Result<Tensor> {
        Tensor::uniform(shape, 0.0, 1.0, dtype)
    }

    /// Uniform in [low, high). PyTorch: `torch.empty(shape).uniform_(low, high)`.
    pub fn uniform(shape: impl IntoShape, low: f64, high: f64, dtype: DType) -> Result<Tensor> {
        let shape = shape.shape("rand")?;
        crate::dtype::each_float!("rand", dtype, T => {
            Tensor::random::<T>("rand", shape, |g, out| g.fill_uniform(out, low, high))
        })
    }

    /// Normal with mean 0 and variance 1. PyTorch: `torch.randn`.
    pub fn randn(shape: impl IntoShape, dtype: DType) -> Result<Tensor> {
        Tensor::normal(shape, 0.0, 1.0, dtype)
    }

    /// Normal with the given mean and standard deviation. PyTorch: `torch.normal`.
    pub fn normal(shape: impl IntoShape, mean: f64, std: f64, dtype: DType) -> Result<Tensor> {
        let shape = shape.shape("randn")?;
        crate::dtype::each_float!("randn", dtype, T => {
            Tensor::random::<T>("randn", shape, |g, out| g.fill_normal(out, mean, std))
        })
    }

    /// Integers uniform in [low, high), i64. PyTorch: `torch.randint`.
    pub fn randint(low: i64, high: i64, shape: impl IntoShape) -> Result<Tensor> {
        if low >= high {
            return Err(Error::invalid("randint", format!("no integer from {low} to below {high}")));
        }
        Tensor::random::<i64>("randint", shape.shape("randint")?, |g, out| g.fill_randint(out, low, high))
    }

    /// A random order of `0..n`, i64. PyTorch: `torch.randperm`.
    pub fn randperm(n: usize) -> Result<Tensor> {
        Tensor::random("randperm", Shape::from(&[n][..]), |g, out: &mut [i64]| g.fill_permutation(out))
    }

    /// 1 with probability `p`, else 0. PyTorch: `torch.bernoulli`.
    pub fn bernoulli(shape: impl IntoShape, p: f64, dtype: DType) -> Result<Tensor> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::invalid("bernoulli", format!("{p} is no probability")));
        }
        let shape = shape.shape("bernoulli")?;
        each_dtype!(dtype, T => Tensor::random::<T>("bernoulli", shape, |g, out| g.fill_bernoulli(out, p)))
    }

    /// Shape and dtype of this, uniform in [0, 1). PyTorch: `torch.rand_like`.
    pub fn rand_like(&self) -> Result<Tensor> {
        Tensor::rand(self.shape(), self.dtype())
    }

    /// Shape and dtype of this, normal. PyTorch: `torch.randn_like`.
    pub fn randn_like(&self) -> Result<Tensor> {
        Tensor::randn(self.shape(), self.dtype())
    }

    /// Integers uniform in [low, high) in the shape of this, i64. PyTorch: `torch.randint_like`.
    pub fn randint_like(&self, low: i64, high: i64) -> Result<Tensor> {
        Tensor::randint(low, high, self.shape())
    }

    /// Class numbers as rows of 0 and 1: `[..]` to `[.., classes]`, i64. PyTorch: `F.one_hot`.
    ///
    /// Errors: not i64; a number outside `0..classes`.
    pub fn one_hot(&self, classes: usize) -> Result<Tensor> {
        let labels = self.to_vec::<i64>()?;
        let (op, dim) = ("one_hot", self.rank());
        if let Some(&index) = labels.iter().find(|l| **l < 0 || **l >= classes as i64) {
            return Err(Error::Index { op, index, dim, size: classes });
        }
        Tensor::build(op, self.shape().inserted(dim, classes), |out: &mut [i64]| {
            out.fill(0);
            labels.iter().enumerate().for_each(|(row, &l)| out[row * classes + l as usize] = 1);
        })
    }
}
