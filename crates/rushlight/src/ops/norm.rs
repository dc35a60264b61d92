//! Normalisation: layer, RMS, group and batch norm.
//!
//! ```text
//! x̂ = (x − mean) / √(var + ε),  y = x̂ · w + b      over: layer: the last dims of each sample
//! RMS: x̂ = x / √(mean x² + ε),  y = x̂ · w                batch: each channel, batch and spatial dims together
//!                                                        group: each sample's group of channels, and spatial dims
//! ```
//!
//! The variance is the biased one. Layer and RMS norm are fused, forward and backward; group norm is a layer norm of
//! reshaped rows; batch norm is made of tensor operations. Weights are cast to the dtype of `x`.

use crate::autograd::{Grads, is_grad_enabled, record};
use crate::dtype::each_float;
use crate::kernels::norm;
use crate::ops::binary::when_tracked;
use crate::ops::reduce::float_only;
use crate::storage::Buffer;
use crate::tensor::IntoShape;
use crate::{DType, Error, Float, Result, Shape, Tensor};

/// What layer norm (`centre`) and RMS norm share: each row of the dims from `lead` on by its own mean and size.
#[derive(Clone, Copy)]
struct Rows {
    op: &'static str,
    centre: bool,
    lead: usize,
    eps: f64,
}

impl Rows {
    fn forward(self, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
        let op = self.op;
        let (rows, n) = self.sizes(x);
        let packed = x.detach().packed()?;
        let (w, b) = (constant(weight)?, constant(bias)?);
        let (y, stats) = each_float!(op, x.dtype(), T => {
            let x = packed.slice::<T>(op)?;
            let affine = (elements::<T>(op, &w)?, elements::<T>(op, &b)?);
            let mut stats = Buffer::<<T as Float>::Compute>::try_scratch(2 * rows, op)?;
            let y = Tensor::build(op, packed.shape().clone(), |y: &mut [T]| {
                let stats = stats.as_chunks_mut().0;
                if self.centre {
                    norm::layer_norm_forward(x, n, affine, self.eps, y, stats);
                } else {
                    norm::rms_norm_forward(x, n, affine.0, self.eps, y, stats);
                }
            })?;
            (y, Tensor::from_buffer(stats, [rows, 2].into()))
        });
        let inputs: Vec<&Tensor> = [Some(x), weight, bias].into_iter().flatten().collect();
        let (x, weight, bias) = (x.clone(), weight.cloned(), bias.cloned());
        record(op, y, &inputs, move |dy| {
            let (weight, bias) = (weight.as_ref(), bias.as_ref());
            if is_grad_enabled() {
                self.rule(&x, weight, bias, dy)
            } else {
                self.fused_rule(&x, weight, bias, &stats, dy)
            }
        })
    }

    /// The number of rows and their length.
    fn sizes(self, x: &Tensor) -> (usize, usize) {
        (x.dims()[..self.lead].iter().product(), x.dims()[self.lead..].iter().product())
    }

    /// `dx = rstd · (g − mean g − x̂ · mean(g ∘ x̂))` with `g = dy ∘ w` (RMS: without `mean g`), `dw = Σ dy ∘ x̂`,
    /// `db = Σ dy`.
    fn rule(self, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>, dy: &Tensor) -> Result<Grads> {
        let mean = |t: &Tensor| t.mean_keepdim((self.lead..t.rank()).collect::<Vec<_>>());
        let centred = if self.centre { x.sub(&mean(x)?)? } else { x.clone() };
        let rstd = mean(&centred.square()?)?.add(self.eps)?.rsqrt()?;
        let normal = centred.mul(&rstd)?;
        let g = match weight {
            Some(w) => dy.mul(w)?,
            None => dy.clone(),
        };
        let mut dx = g.sub(&normal.mul(&mean(&g.mul(&normal)?)?)?)?;
        if self.centre {
            dx = dx.sub(&mean(&g)?)?;
        }
        let mut grads = Grads::new();
        grads.push(Some(dx.mul(&rstd)?));
        if let Some(w) = weight {
            grads.push(when_tracked(w, || dy.mul(&normal)?.sum_to(w.shape()))?);
        }
        if let Some(b) = bias {
            grads.push(when_tracked(b, || dy.sum_to(b.shape()))?);
        }
        Ok(grads)
    }

    fn fused_rule(
        self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        stats: &Tensor,
        dy: &Tensor,
    ) -> Result<Grads> {
        let op = self.op;
        let (_, n) = self.sizes(x);
        let (x, dy, w) = (x.detach().packed()?, dy.packed()?, constant(weight)?);
        each_float!(op, x.dtype(), T => {
            let stats = stats.slice::<<T as Float>::Compute>(op)?.as_chunks().0;
            let (rows, w) = ((dy.slice::<T>(op)?, x.slice::<T>(op)?), elements::<T>(op, &w)?);
            let sums = |t: Option<&Tensor>| {
                t.filter(|t| t.is_tracked()).map(|_| Buffer::<T>::try_scratch(n, op)).transpose()
            };
            let (mut dw, mut db) = (sums(weight)?, sums(bias)?);
            let dx = Tensor::build(op, x.shape().clone(), |dx: &mut [T]| {
                let (dw, db) = (dw.as_deref_mut(), db.as_deref_mut());
                if self.centre {
                    norm::layer_norm_backward(rows, n, w, stats, dx, dw, db);
                } else {
                    norm::rms_norm_backward(rows, n, w, stats, dx, dw);
                }
            })?;
            let mut grads = Grads::new();
            grads.push(Some(dx));
            for (t, sums) in [(weight, dw), (bias, db)] {
                if let Some(t) = t {
                    grads.push(sums.map(|sums| Tensor::from_buffer(sums, t.shape().clone())));
                }
            }
            Ok(grads)
        })
    }
}

fn constant(t: Option<&Tensor>) -> Result<Option<Tensor>> {
    t.map(|t| t.detach().packed()).transpose()
}

fn elements<'a, T: Float>(op: &'static str, t: &'a Option<Tensor>) -> Result<Option<&'a [T]>> {
    t.as_ref().map(|t| t.slice::<T>(op)).transpose()
}

/// A weight or bias of just this shape, as the dtype of `x`.
fn parameter(op: &'static str, what: &str, t: Option<&Tensor>, shape: &Shape, x: &Tensor) -> Result<Option<Tensor>> {
    match t {
        Some(t) if t.shape() != shape => {
            Err(Error::invalid(op, format!("{what} of shape {}, expected {shape}", t.shape())))
        }
        Some(t) => {
            float_only(op, t)?;
            t.to_dtype(x.dtype()).map(Some)
        }
        None => Ok(None),
    }
}

/// The channels: dim 1.
fn channels(op: &'static str, x: &Tensor) -> Result<usize> {
    float_only(op, x)?;
    let message = || format!("expected an input of shape [N, C] or [N, C, …], got {}", x.shape());
    x.dims().get(1).copied().ok_or_else(|| Error::invalid(op, message()))
}

/// `[C]` as `[C, 1, …]`, which broadcasts along dim 1 of `x`.
fn along_channels(t: &Tensor, x: &Tensor) -> Result<Tensor> {
    let shape: Shape = (1..x.rank()).map(|d| if d == 1 { t.numel() } else { 1 }).collect();
    t.reshape(shape)
}

/// The dtype that sums over many elements are kept in.
fn wide(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 })
}

impl Tensor {
    fn norm_rows(
        &self,
        (op, centre): (&'static str, bool),
        normalized_shape: impl IntoShape,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        float_only(op, self)?;
        let shape = normalized_shape.shape(op)?;
        if shape.rank() == 0 || !self.dims().ends_with(&shape) {
            let message = format!("an input of shape {} does not end in the normalized shape {shape}", self.shape());
            return Err(Error::invalid(op, message));
        }
        let (w, b) = (parameter(op, "weight", weight, &shape, self)?, parameter(op, "bias", bias, &shape, self)?);
        let lead = self.rank() - shape.rank();
        Rows { op, centre, lead, eps }.forward(self, w.as_ref(), b.as_ref())
    }

    /// `(x − mean) / √(var + ε) · w + b` with mean and variance over the last dims, which are `normalized_shape`, as
    /// are weight and bias. PyTorch: `F.layer_norm`. Source: Ba et al. 2016.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let y = Tensor::new([[1.0f32, 3.0], [10.0, 30.0]])?.layer_norm(2, None, None, 0.0)?;
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: not a float dtype; a shape that does not end so; a weight or bias of another shape.
    pub fn layer_norm(
        &self,
        normalized_shape: impl IntoShape,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        self.norm_rows(("layer_norm", true), normalized_shape, weight, bias, eps)
    }

    /// `x / √(mean x² + ε) · w`, the mean over the last dims, which are `normalized_shape`, as is the weight.
    /// PyTorch: `F.rms_norm`. Source: Zhang & Sennrich 2019. Errors: as [`Tensor::layer_norm`].
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let y = Tensor::new([[3.0f32, -3.0], [0.5, 0.5]])?.rms_norm(2, None, 0.0)?;
    /// assert_eq!(y.to_vec::<f32>()?, [1.0, -1.0, 1.0, 1.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    pub fn rms_norm(&self, normalized_shape: impl IntoShape, weight: Option<&Tensor>, eps: f64) -> Result<Tensor> {
        self.norm_rows(("rms_norm", false), normalized_shape, weight, None, eps)
    }

    /// `[N, C, …]`, each sample's C channels in `groups` of neighbours, each group (with its spatial dims) by its own
    /// mean and variance; then `· w + b` per channel, `[C]`. PyTorch: `F.group_norm`. Source: Wu & He 2018.
    ///
    /// One group is a layer norm of all dims; a group per channel an instance norm.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let x = Tensor::new([[1.0f32, 3.0, 10.0, 30.0]])?;
    /// assert_eq!(x.group_norm(2, None, None, 0.0)?.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: not a float dtype; channels that do not divide into the groups; a weight or bias of another shape.
    pub fn group_norm(
        &self,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        let op = "group_norm";
        let c = channels(op, self)?;
        if groups == 0 || c % groups != 0 {
            return Err(Error::invalid(op, format!("{c} channels cannot be divided into {groups} groups")));
        }
        let (w, b) =
            (parameter(op, "weight", weight, &[c].into(), self)?, parameter(op, "bias", bias, &[c].into(), self)?);
        let n: usize = self.dims()[2..].iter().product::<usize>() * (c / groups);
        let rows = self.reshape([self.dims()[0], groups, n])?;
        let y = Rows { op, centre: true, lead: 2, eps }.forward(&rows, None, None)?.reshape(self.shape())?;
        y.affine(w.as_ref(), b.as_ref())
    }

    /// `x · w + b` per channel.
    fn affine(&self, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
        let mut y = self.clone();
        if let Some(w) = weight {
            y = y.mul(&along_channels(w, self)?)?;
        }
        if let Some(b) = bias {
            y = y.add(&along_channels(b, self)?)?;
        }
        Ok(y)
    }

    /// `(x − mean) / √(var + ε) · w + b` per channel of `[N, C, …]`, by statistics that are given, `[C]`: what a batch
    /// norm layer does in evaluation. PyTorch: `F.batch_norm(training=False)`.
    ///
    /// Errors: not a float dtype; statistics, weight or bias of another shape.
    pub fn batch_norm(
        &self,
        mean: &Tensor,
        var: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        let op = "batch_norm";
        let shape = Shape::from([channels(op, self)?]);
        let x = wide(self)?;
        let given = |what, t| parameter(op, what, t, &shape, &x);
        let (Some(mean), Some(var)) = (given("mean", Some(mean))?, given("variance", Some(var))?) else {
            return Err(Error::invalid(op, "no statistics"));
        };
        let (w, b) = (given("weight", weight)?, given("bias", bias)?);
        let rstd = var.add(eps)?.rsqrt()?;
        let scale = w.map_or(Ok(rstd.clone()), |w| w.mul(&rstd))?;
        let y = x.sub(&along_channels(&mean, &x)?)?.affine(Some(&scale), b.as_ref())?;
        y.to_dtype(self.dtype())
    }

    /// Batch norm by the statistics of the batch itself, as in training, and these: `(y, mean, var)`, the two
    /// `[C]`, outside the graph, and the variance unbiased (`Σ (x − mean)² / (n − 1)`), which is what PyTorch's running
    /// statistics are moved towards. PyTorch: `F.batch_norm(training=True)`. Source: Ioffe & Szegedy 2015.
    ///
    /// ```
    /// # use rushlight::Tensor;
    /// let (y, mean, var) = Tensor::new([[1.0f32], [3.0]])?.batch_norm_train(None, None, 0.0)?;
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0]);
    /// assert_eq!((mean.item::<f32>()?, var.item::<f32>()?), (2.0, 2.0));
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: not a float dtype; less than two values per channel; a weight or bias of another shape.
    pub fn batch_norm_train(
        &self,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let op = "batch_norm";
        let shape = Shape::from([channels(op, self)?]);
        let x = wide(self)?;
        let (w, b) = (parameter(op, "weight", weight, &shape, &x)?, parameter(op, "bias", bias, &shape, &x)?);
        let dims: Vec<usize> = (0..x.rank()).filter(|&d| d != 1).collect();
        let n: usize = dims.iter().map(|&d| x.dims()[d]).product();
        if n < 2 {
            let message = format!("training needs two values per channel or more, got shape {}", self.shape());
            return Err(Error::invalid(op, message));
        }
        let mean = x.mean_keepdim(dims.clone())?;
        let centred = x.sub(&mean)?;
        let var = centred.square()?.mean(dims)?;
        let rstd = var.add(eps)?.rsqrt()?;
        let scale = w.map_or(Ok(rstd.clone()), |w| w.mul(&rstd))?;
        let y = centred.affine(Some(&scale), b.as_ref())?.to_dtype(self.dtype())?;
        let unbiased = var.detach().mul(n as f64 / (n - 1) as f64)?;
        Ok((y, mean.detach().reshape(shape)?, unbiased))
    }
}
