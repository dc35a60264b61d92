//! Attention: every query takes the mean of the values, weighed by how well their keys match it.
//!
//! ```text
//! p = softmax(q·kᵀ·scale + mask)        y = p·v
//! ```
//!
//! The fused kernels (`kernels::attention`) never hold the matrix of weights, forward or backward. The same made of matrix
//! products and softmax gives second gradients, the gradient of a mask, and the weights themselves.

use crate::autograd::{Grads, is_grad_enabled, record_with_output};
use crate::kernels::attention::{self, Dropout, Mask, MaskValues, Operand, Problem, Rows, Saved, Sizes};
use crate::ops::binary::when_tracked;
use crate::ops::reduce::float_only;
use crate::storage::Buffer;
use crate::{DType, Error, Layout, Real, Result, Shape, Tensor, random};

const OP: &str = "scaled_dot_product_attention";

/// Which keys a query sees by its place, as in a model that must not look ahead. With as many keys as queries the two
/// kinds are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Causal {
    /// All keys.
    #[default]
    No,
    /// Query `i` sees keys `0..=i`. PyTorch: `is_causal=True`, `causal_upper_left`.
    UpperLeft,
    /// The last query sees all keys, query `i` keys `0..=i + keys − queries`: what new queries need that follow the keys
    /// of a cache. PyTorch: `causal_lower_right`.
    LowerRight,
}

/// The options of [`Tensor::scaled_dot_product_attention`], by PyTorch's names. Grouped queries (`enable_gqa`) are seen
/// by the shapes.
///
/// ```
/// # use rushlight::{AttentionOptions, Causal};
/// let decoder = AttentionOptions { causal: Causal::UpperLeft, dropout_p: 0.1, ..Default::default() };
/// assert!(decoder.attn_mask.is_none() && decoder.scale.is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct AttentionOptions {
    /// Broadcast to `[.., heads, queries, keys]`: bool, true where a query sees a key; or float, added to the scores.
    pub attn_mask: Option<Tensor>,
    /// The share of weights that is dropped, the others divided by `1 − dropout_p`. Default 0.
    pub dropout_p: f64,
    /// Which keys a query sees by its place. A mask holds as well. Default all.
    pub causal: Causal,
    /// What scores are multiplied by. Default `1 / √dim`.
    pub scale: Option<f64>,
}

impl Tensor {
    /// `softmax(q·kᵀ·scale + mask)·v` of these queries: `[.., heads, queries, dim]` with key `[.., kv_heads, keys, dim]`
    /// and value `[.., kv_heads, keys, value_dim]` to `[.., heads, queries, value_dim]`.
    ///
    /// `heads` may be a multiple of `kv_heads`: neighbouring heads of queries then share a head of keys (grouped
    /// queries). A query that sees no key gives zeros. Memory grows with `queries + keys`, not with their product.
    /// Tensors laid out as `[batch, queries, heads, dim]` and transposed are read where they lie, and the output is laid
    /// out like the queries. Halves are computed in f32.
    ///
    /// With `p` the weights, `dv = pᵀ·dy`, `ds = p ∘ (dy·vᵀ − Σ dy ∘ y)`, `dq = ds·k·scale`, `dk = dsᵀ·q·scale`, and a
    /// float mask's gradient is `ds`, for which the matrix of weights is made.
    ///
    /// ```
    /// # use rushlight::{AttentionOptions, Causal, Tensor};
    /// let q = Tensor::new([[[0.0f32], [0.0]]])?; // one head, two queries that match all keys alike
    /// let v = Tensor::new([[[1.0f32], [3.0]]])?;
    /// let y = q.scaled_dot_product_attention(&q, &v, &AttentionOptions::default())?;
    /// assert_eq!(y.to_vec::<f32>()?, [2.0, 2.0]);
    /// let causal = AttentionOptions { causal: Causal::UpperLeft, ..Default::default() };
    /// assert_eq!(q.scaled_dot_product_attention(&q, &v, &causal)?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// PyTorch: `F.scaled_dot_product_attention`. Source: Vaswani et al. 2017; Dao 2023.
    ///
    /// Errors: shapes that do not fit; dtypes that differ; not a float dtype; `dropout_p` is no probability.
    pub fn scaled_dot_product_attention(
        &self,
        key: &Tensor,
        value: &Tensor,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        let plan = Plan::new(self, key, Some(value), options)?;
        let compute = plan.dtype;
        let [q, k, v] = [self, key, value].map(|t| to_four(t)?.to_dtype(compute));
        let y = plan.fused(&q?, &k?, &v?)?.to_dtype(self.dtype())?;
        let shape = self.shape().with(self.rank() - 1, value.dims()[value.rank() - 1]);
        if self.rank() == 4 { Ok(y) } else { y.reshape(shape) }
    }

    /// The weights of [`Tensor::scaled_dot_product_attention`], `[.., heads, queries, keys]`, before dropout: for a look
    /// at what a model attends to. Unlike it, this holds the whole matrix.
    ///
    /// ```
    /// # use rushlight::{AttentionOptions, Tensor};
    /// let q = Tensor::new([[[0.0f32]]])?;
    /// let k = Tensor::new([[[1.0f32], [2.0]]])?;
    /// assert_eq!(q.attention_weights(&k, &AttentionOptions::default())?.to_vec::<f32>()?, [0.5, 0.5]);
    /// # Ok::<(), rushlight::Error>(())
    /// ```
    /// Errors: as there.
    pub fn attention_weights(&self, key: &Tensor, options: &AttentionOptions) -> Result<Tensor> {
        let plan = Plan::new(self, key, None, options)?;
        let [q, k] = [self, key].map(|t| to_four(t)?.to_dtype(plan.dtype));
        let shape = self.shape().with(self.rank() - 1, key.dims()[key.rank() - 2]);
        plan.weights(&q?, &k?, plan.mask.as_ref())?.reshape(shape)?.to_dtype(self.dtype())
    }
}

/// `[.., heads, rows, n]` as `[batch, heads, rows, n]`.
fn to_four(t: &Tensor) -> Result<Tensor> {
    if t.rank() == 4 { Ok(t.clone()) } else { t.reshape(four(t.shape())) }
}

fn four(shape: &[usize]) -> Shape {
    let at = |from_end: usize| shape.len().checked_sub(from_end).map_or(1, |d| shape[d]);
    let batch = shape[..shape.len().saturating_sub(3)].iter().product();
    [batch, at(3), at(2), at(1)].into()
}

/// What is to be computed, of tensors of four dims.
#[derive(Clone)]
struct Plan {
    sizes: Sizes,
    dtype: DType,
    scale: f64,
    diagonal: Option<isize>,
    mask: Option<Tensor>,
    dropout: Option<Dropout>,
}

impl Plan {
    fn new(q: &Tensor, k: &Tensor, v: Option<&Tensor>, options: &AttentionOptions) -> Result<Plan> {
        float_only(OP, q)?;
        let v = v.unwrap_or(k);
        for t in [k, v] {
            if t.dtype() != q.dtype() {
                let message = format!("expected dtype {}, as the query's (cast with to_dtype)", q.dtype());
                return Err(Error::dtype(OP, t.dtype(), message));
            }
        }
        let [batch, heads, queries, dim] = sizes(q);
        let [_, kv_heads, keys, key_dim] = sizes(k);
        let value_dim = sizes(v)[3];
        let lead = |t: &Tensor| Shape::from(&t.dims()[..t.rank().saturating_sub(3)]);
        let shapes = || format!("query {}, key {}, value {}", q.shape(), k.shape(), v.shape());
        let ranks = q.rank() >= 2 && k.rank() == q.rank() && v.rank() == q.rank();
        if !ranks || lead(k) != lead(q) || lead(v) != lead(q) || dim != key_dim || sizes(v)[..3] != sizes(k)[..3] {
            let message =
                "expected [.., heads, queries, dim], [.., kv_heads, keys, dim] and [.., kv_heads, keys, value_dim]";
            return Err(Error::invalid(OP, format!("{message}, got {}", shapes())));
        }
        if heads != kv_heads && (kv_heads == 0 || heads % kv_heads != 0) {
            let message =
                format!("{heads} heads of queries cannot share {kv_heads} heads of keys evenly: {}", shapes());
            return Err(Error::invalid(OP, message));
        }
        let p = options.dropout_p;
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::invalid(OP, format!("dropout_p {p} is no probability")));
        }
        let dtype = if q.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let full = q.shape().with(q.rank() - 1, keys);
        let mask = options.attn_mask.as_ref().map(|mask| {
            let mask = if mask.dtype() == DType::Bool { mask.clone() } else { mask.to_dtype(dtype)? };
            mask.broadcast_to(OP, &full)?.reshape(four(&full))
        });
        if let Some(mask) = options.attn_mask.as_ref().filter(|m| m.dtype() != DType::Bool && !m.dtype().is_float()) {
            return Err(Error::dtype(OP, mask.dtype(), "expected a bool or float attn_mask"));
        }
        let dropout = (p > 0.0).then(|| -> Result<Dropout> {
            // Each query's weights begin at a block, so a place is one, too.
            let weights = (batch * heads * queries).saturating_mul(keys.next_multiple_of(4));
            let place = random::place(OP, weights, 4)?;
            Ok(Dropout { p, place: (place.seed, place.block) })
        });
        Ok(Plan {
            sizes: Sizes { batch, heads, kv_heads, queries, keys, dim, value_dim },
            dtype,
            scale: options.scale.unwrap_or(1.0 / (dim.max(1) as f64).sqrt()),
            diagonal: match options.causal {
                Causal::No => None,
                Causal::UpperLeft => Some(0),
                Causal::LowerRight => Some(keys as isize - queries as isize),
            },
            mask: mask.transpose()?,
            dropout: dropout.transpose()?,
        })
    }

    fn fused(self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let s = self.sizes;
        let interleaved = is_interleaved(q);
        let (y, lse) = match self.dtype {
            DType::F64 => self.forward::<f64>(q, k, v, interleaved)?,
            _ => self.forward::<f32>(q, k, v, interleaved)?,
        };
        let y = laid_out(y, [s.batch, s.heads, s.queries, s.value_dim], interleaved);
        let mask = self.mask.clone().filter(|m| m.dtype() != DType::Bool);
        let inputs: Vec<&Tensor> = [Some(q), Some(k), Some(v), mask.as_ref()].into_iter().flatten().collect();
        let (q, k, v, added) = (q.clone(), k.clone(), v.clone(), mask.clone());
        record_with_output(OP, y, &inputs, move |y: &Tensor, dy: &Tensor| {
            if is_grad_enabled() || added.as_ref().is_some_and(Tensor::is_tracked) {
                return self.rule(&q, &k, &v, dy);
            }
            let mut grads = match self.dtype {
                DType::F64 => self.backward::<f64>(&q, &k, &v, y, &lse, dy)?,
                _ => self.backward::<f32>(&q, &k, &v, y, &lse, dy)?,
            };
            grads.extend(added.as_ref().map(|_| None));
            Ok(grads)
        })
    }

    /// Runs `f` on the operands where they lie, or on a copy of those that the kernels cannot read there.
    fn problem<C: Real, R>(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        f: impl FnOnce(&Problem<C>) -> Result<R>,
    ) -> Result<R> {
        let (q, k, v) = (readable(q)?, readable(k)?, readable(v)?);
        let mask = match &self.mask {
            Some(m) if m.layout().strides().iter().any(|s| *s < 0) => Some(m.detach().packed()?),
            other => other.clone(),
        };
        let mask = mask.as_ref().map(|m| -> Result<Mask<C>> {
            let values = match m.dtype() {
                DType::Bool => MaskValues::Keep(m.raw::<bool>(OP)?),
                _ => MaskValues::Add(m.raw::<C>(OP)?),
            };
            let strides = std::array::from_fn(|d| m.strides()[d] as usize);
            Ok(Mask { values, offset: m.layout().offset(), strides })
        });
        f(&Problem {
            sizes: self.sizes,
            q: operand(&q)?,
            k: operand(&k)?,
            v: operand(&v)?,
            scale: self.scale,
            diagonal: self.diagonal,
            mask: mask.transpose()?,
            dropout: self.dropout,
        })
    }

    /// `y` and `lse`.
    fn forward<C: attention::Attend>(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        interleaved: bool,
    ) -> Result<(Tensor, Tensor)> {
        let s = self.sizes;
        let shape = Shape::from([s.batch, s.heads, s.queries, s.value_dim]);
        let mut y = Buffer::<C>::try_scratch(shape.checked_numel(OP)?, OP)?;
        let rows = s.batch * s.heads * s.queries;
        let mut lse = Buffer::<C>::try_scratch(rows, OP)?;
        self.problem(q, k, v, |p| attention::forward(p, &mut y, interleaved, &mut lse))?;
        Ok((Tensor::from_buffer(y, shape), Tensor::from_buffer(lse, [rows].into())))
    }

    fn backward<C: attention::Attend>(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        y: &Tensor,
        lse: &Tensor,
        dy: &Tensor,
    ) -> Result<Grads> {
        let (y, dy) = (readable(y)?, readable(dy)?);
        let saved = Saved { y: operand::<C>(&y)?, lse: lse.slice(OP)?, dy: operand(&dy)? };
        let buffer = |t: &Tensor| Buffer::<C>::try_scratch(t.numel(), OP);
        let (mut dq, mut dk, mut dv) = (buffer(q)?, buffer(k)?, buffer(v)?);
        let grads =
            [(&mut dq[..], is_interleaved(q)), (&mut dk[..], is_interleaved(k)), (&mut dv[..], is_interleaved(v))];
        self.problem(q, k, v, |p| attention::backward(p, &saved, grads))?;
        let grad = |t: &Tensor, buffer| {
            let shape = t.dims_of::<4>(OP)?;
            Ok::<_, Error>(Some(laid_out(Tensor::from_buffer(buffer, shape.into()), shape, is_interleaved(t))))
        };
        Ok([grad(q, dq)?, grad(k, dk)?, grad(v, dv)?].into_iter().collect())
    }

    /// `[batch, heads, ..]` by groups of heads that share one of the keys: `[batch, kv_heads, group, ..]`.
    fn grouped(&self, t: &Tensor) -> Result<Tensor> {
        let s = self.sizes;
        let group = t.dims()[1].checked_div(s.kv_heads).unwrap_or(1);
        t.reshape([s.batch, s.kv_heads, group, t.dims()[2], t.dims()[3]])
    }

    /// `p`, made of tensor operations: `[batch, heads, queries, keys]`.
    fn weights(&self, q: &Tensor, k: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let s = self.sizes;
        let scores = self.grouped(q)?.matmul(&self.grouped(k)?.t()?)?.mul(self.scale)?;
        let mut scores = scores.reshape([s.batch, s.heads, s.queries, s.keys])?;
        scores = match mask {
            Some(mask) if mask.dtype() == DType::Bool => mask.where_cond(&scores, f64::NEG_INFINITY)?,
            Some(mask) => scores.add(mask)?,
            None => scores,
        };
        if let Some(diagonal) = self.diagonal {
            let places = |n: usize| Tensor::arange(0.0, n as f64, 1.0, DType::I64);
            let last = places(s.queries)?.add(diagonal as i64 as f64)?.unsqueeze(1)?;
            scores = last.ge(&places(s.keys)?)?.where_cond(&scores, f64::NEG_INFINITY)?;
        }
        if scores.numel() == 0 {
            return Ok(scores);
        }
        // Rows without a key, which softmax would make NaN.
        let some = scores.detach().amax_keepdim(-1)?.ne(f64::NEG_INFINITY)?;
        some.where_cond(&some.where_cond(&scores, 0.0)?.softmax(-1)?, 0.0)
    }

    /// Dropout of the weights, or of their gradient.
    fn dropped(&self, p: &Tensor) -> Result<Tensor> {
        let Some(Dropout { p: rate, place: (seed, block) }) = self.dropout else { return Ok(p.clone()) };
        let keys = self.sizes.keys;
        let behind = (keys.next_multiple_of(4) - keys) as i64;
        p.pad(&[(0, behind)], 0.0)?.dropped(rate, random::Place { seed, block, skip: 0 })?.narrow(-1, 0, keys)
    }

    /// The gradients, made of tensor operations.
    fn rule(&self, q: &Tensor, k: &Tensor, v: &Tensor, dy: &Tensor) -> Result<Grads> {
        let mask = self.mask.as_ref();
        let p = self.weights(q, k, mask)?;
        let (k_group, v_group, dy) = (self.grouped(k)?, self.grouped(v)?, self.grouped(dy)?);
        let dp = dy.matmul(&v_group.t()?)?.reshape(p.shape())?;
        let dp = self.dropped(&dp)?;
        let ds = p.mul(&dp.sub(&dp.mul(&p)?.sum_keepdim(-1)?)?)?;
        let (ds_group, p_group) = (self.grouped(&ds)?, self.grouped(&self.dropped(&p)?)?);
        let summed = |t: Tensor, like: &Tensor| t.sum_to(self.grouped(like)?.shape())?.reshape(like.shape());
        let mut grads = Grads::new();
        grads.push(when_tracked(q, || ds_group.matmul(&k_group)?.mul(self.scale)?.reshape(q.shape()))?);
        grads.push(when_tracked(k, || summed(ds_group.t()?.matmul(&self.grouped(q)?)?.mul(self.scale)?, k))?);
        grads.push(when_tracked(v, || summed(p_group.t()?.matmul(&dy)?, v))?);
        if let Some(mask) = mask.filter(|m| m.dtype() != DType::Bool) {
            grads.push(when_tracked(mask, || Ok(ds.clone()))?);
        }
        Ok(grads)
    }
}

fn sizes(t: &Tensor) -> [usize; 4] {
    let shape = four(t.dims());
    [shape[0], shape[1], shape[2], shape[3]]
}

/// Whether `[batch, heads, rows, n]` lies as `[batch, rows, heads, n]`.
fn is_interleaved(t: &Tensor) -> bool {
    t.dims()[1] > 1 && t.dims()[2] > 1 && t.strides()[1] < t.strides()[2]
}

/// A buffer of `[batch, heads, rows, n]`, or of `[batch, rows, heads, n]` where `interleaved`, as the former.
fn laid_out(t: Tensor, [b, h, t_, n]: [usize; 4], interleaved: bool) -> Tensor {
    if !interleaved {
        return t;
    }
    t.with_layout(Layout::contiguous([b, t_, h, n].into()).permute(&[0, 2, 1, 3]))
}

/// The tensor, or a copy, with rows whose elements are neighbours, and strides that are not negative.
fn readable(t: &Tensor) -> Result<Tensor> {
    let (dims, strides) = (t.dims(), t.strides());
    let fits = strides.iter().all(|s| *s >= 0) && (dims[3] <= 1 || strides[3] == 1);
    if fits { Ok(t.clone()) } else { t.detach().packed() }
}

fn operand<C: Real>(t: &Tensor) -> Result<Operand<'_, C>> {
    let stride = |d: usize| t.strides()[d] as usize;
    let at = Rows { offset: t.layout().offset(), batch: stride(0), head: stride(1), row: stride(2) };
    Ok(Operand { data: t.raw(OP)?, at })
}
