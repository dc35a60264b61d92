//! Joining and cutting: cat, stack, split, chunk, repeat, roll, pad, tril, triu.

use crate::autograd::{no_gradient, record};
use crate::dtype::each_dtype;
use crate::kernels::{stream, strided};
use crate::ops::reduce::cut;
use crate::storage::reserved;
use crate::tensor::{Dim, IntoShape};
use crate::{Error, Layout, Result, Shape, Tensor};

impl Tensor {
    /// Tensors one after the other along `dim`. PyTorch: `cat`.
    ///
    /// Dtypes are promoted. Errors: no tensor; sizes that differ beside `dim`.
    pub fn cat<T: AsRef<Tensor>>(tensors: &[T], dim: impl Dim) -> Result<Tensor> {
        let op = "cat";
        let first = tensors.first().ok_or_else(|| Error::invalid(op, "no tensors to join"))?.as_ref();
        let dim = dim.index(op, first.shape())?;
        let dtype = tensors.iter().fold(first.dtype(), |d, t| d.promote(t.as_ref().dtype()));
        let mut size = 0;
        for (i, t) in tensors.iter().enumerate() {
            let t = t.as_ref();
            if t.rank() != first.rank() || t.shape().with(dim, 0) != first.shape().with(dim, 0) {
                let message =
                    format!("tensor {i} of shape {} does not join {} along dim {dim}", t.shape(), first.shape());
                return Err(Error::invalid(op, message));
            }
            size += t.dims()[dim];
        }
        let parts: Vec<Tensor> = tensors.iter().map(|t| t.as_ref().to_dtype(dtype)).collect::<Result<_>>()?;
        let shape = first.shape().with(dim, size);
        let out = each_dtype!(dtype, T => {
            let data: Vec<Tensor> = parts.iter().map(|t| t.detach().packed()).collect::<Result<_>>()?;
            // Each part is, for every outer index, one run of `n · inner` elements.
            let runs: Vec<(&[T], usize)> = data
                .iter()
                .map(|t| { let (_, n, inner) = cut(t.shape(), dim, dim + 1); Ok((t.slice::<T>(op)?, n * inner)) })
                .collect::<Result<_>>()?;
            let (outer, ..) = cut(&shape, dim, dim + 1);
            Tensor::build(op, shape, |out: &mut [T]| {
                let mut at = 0;
                for o in 0..outer {
                    for (x, run) in &runs {
                        out[at..at + run].copy_from_slice(&x[o * run..(o + 1) * run]);
                        at += run;
                    }
                }
            })?
        });
        let refs: Vec<&Tensor> = parts.iter().collect();
        if !dtype.is_float() {
            return no_gradient(op, out, &refs);
        }
        let wanted: Vec<(usize, bool)> = parts.iter().map(|t| (t.dims()[dim], t.is_tracked())).collect();
        record(op, out, &refs, move |dy| {
            let mut start = 0;
            wanted
                .iter()
                .map(|&(size, tracked)| {
                    start += size;
                    if tracked { dy.narrow(dim, start - size, size).map(Some) } else { Ok(None) }
                })
                .collect::<Result<Vec<_>>>()
        })
    }

    /// Tensors of one shape along a new dim. PyTorch: `stack`. Errors: no tensor; shapes that differ.
    pub fn stack<T: AsRef<Tensor>>(tensors: &[T], dim: impl Dim) -> Result<Tensor> {
        let first = tensors.first().ok_or_else(|| Error::invalid("stack", "no tensors to join"))?.as_ref();
        if let Some(t) = tensors.iter().find(|t| t.as_ref().shape() != first.shape()) {
            let message = format!("shapes {} and {} differ", first.shape(), t.as_ref().shape());
            return Err(Error::invalid("stack", message));
        }
        let dim = dim.gap("stack", first.shape())?;
        let rows: Vec<Tensor> = tensors.iter().map(|t| t.as_ref().unsqueeze(dim)).collect::<Result<_>>()?;
        Tensor::cat(&rows, dim)
    }

    /// Pieces of `size` along `dim` (the last may be smaller), as views. PyTorch: `split(size, dim)`.
    pub fn split(&self, size: usize, dim: impl Dim) -> Result<Vec<Tensor>> {
        let dim = dim.index("split", self.shape())?;
        if size == 0 {
            return Err(Error::invalid("split", "the size of a piece is 0"));
        }
        let n = self.dims()[dim];
        let count = n.div_ceil(size).max(1);
        let mut pieces = reserved("split", count)?;
        for i in 0..count {
            pieces.push(self.narrow(dim, i * size, size.min(n - i * size))?);
        }
        Ok(pieces)
    }

    /// Pieces of the given sizes along `dim`, as views. PyTorch: `split(sizes, dim)`. Errors: another sum.
    pub fn split_sizes(&self, sizes: &[usize], dim: impl Dim) -> Result<Vec<Tensor>> {
        let dim = dim.index("split", self.shape())?;
        if sizes.iter().try_fold(0usize, |a, &s| a.checked_add(s)) != Some(self.dims()[dim]) {
            let message = format!("sizes {sizes:?} do not add up to dim {dim} of shape {}", self.shape());
            return Err(Error::invalid("split", message));
        }
        let mut start = 0;
        sizes
            .iter()
            .map(|&size| {
                start += size;
                self.narrow(dim, start - size, size)
            })
            .collect()
    }

    /// At most `chunks` pieces of equal size along `dim` (the last may be smaller). PyTorch: `chunk`.
    pub fn chunk(&self, chunks: usize, dim: impl Dim) -> Result<Vec<Tensor>> {
        if chunks == 0 {
            return Err(Error::invalid("chunk", "the number of chunks is 0"));
        }
        let n = self.size(dim)?;
        self.split(n.div_ceil(chunks).max(1), dim)
    }

    /// The whole tensor repeated `times[d]` times along each dim, new dims in front. PyTorch: `repeat`.
    pub fn repeat(&self, times: impl IntoShape) -> Result<Tensor> {
        let times = times.shape("repeat")?;
        let lead = times
            .rank()
            .checked_sub(self.rank())
            .ok_or_else(|| Error::invalid("repeat", format!("{times} names fewer dims than shape {}", self.shape())))?;
        // [.., 1, n, ..] expanded to [.., t, n, ..] and merged to [.., t·n, ..].
        let size = |d: usize| if d < lead { 1 } else { self.dims()[d - lead] };
        let apart: Shape = (0..times.rank()).flat_map(|d| [1, size(d)]).collect();
        let wide: Shape = (0..times.rank()).flat_map(|d| [times[d], size(d)]).collect();
        wide.checked_numel("repeat")?;
        let merged: Shape = (0..times.rank()).map(|d| times[d] * size(d)).collect();
        self.reshape(apart)?.broadcast_to("repeat", &wide)?.reshape(merged)
    }

    /// Each element of `dim` repeated `times` times in place. PyTorch: `repeat_interleave`.
    pub fn repeat_interleave(&self, times: usize, dim: impl Dim) -> Result<Tensor> {
        let dim = dim.index("repeat_interleave", self.shape())?;
        let wide = self.shape().inserted(dim + 1, times);
        wide.checked_numel("repeat_interleave")?;
        let merged = self.shape().with(dim, self.dims()[dim] * times);
        self.unsqueeze(dim + 1)?.broadcast_to("repeat_interleave", &wide)?.reshape(merged)
    }

    /// Moved by `shift` along `dim`, what leaves at one end coming in at the other. PyTorch: `roll`.
    pub fn roll(&self, shift: i64, dim: impl Dim) -> Result<Tensor> {
        let dim = dim.index("roll", self.shape())?;
        let n = self.dims()[dim];
        if n == 0 {
            return Ok(self.clone());
        }
        let start = shift.wrapping_neg().rem_euclid(n as i64) as usize;
        Tensor::cat(&[self.narrow(dim, start, n - start)?, self.narrow(dim, 0, start)?], dim)
    }

    /// `value` added around the last dims: `(before, after)` for the last, then the one before it, and so on; negative
    /// amounts cut. PyTorch: `F.pad(mode="constant")`.
    pub fn pad(&self, amounts: &[(i64, i64)], value: f64) -> Result<Tensor> {
        let op = "pad";
        if amounts.len() > self.rank() {
            let message = format!("{} pairs for shape {}", amounts.len(), self.shape());
            return Err(Error::invalid(op, message));
        }
        let (mut x, mut shape, mut starts) = (self.clone(), self.shape().clone(), vec![0; self.rank()]);
        for (i, &(before, after)) in amounts.iter().enumerate() {
            let dim = self.rank() - 1 - i;
            let cut = |amount: i64| amount.min(0).unsigned_abs() as usize;
            let gone = cut(before).saturating_add(cut(after));
            let Some(left) = self.dims()[dim].checked_sub(gone) else {
                let message = format!("({before}, {after}) cuts more than dim {dim} of shape {}", self.shape());
                return Err(Error::invalid(op, message));
            };
            x = x.narrow(dim, cut(before), left)?;
            let sizes = before.max(0).checked_add(after.max(0)).and_then(|s| s.checked_add(left as i64));
            let size = sizes.ok_or_else(|| Error::invalid(op, "the padding overflows"))?;
            (shape, starts[dim]) = (shape.with(dim, size as usize), before.max(0) as usize);
        }
        shape.checked_numel(op)?;
        let inner = x.shape().clone();
        let place = |l: Layout| (0..l.rank()).fold(l, |l, d| l.slice(d, starts[d], inner[d], 1));
        let to = place(Layout::contiguous(shape.clone()));
        let data = x.detach().packed()?;
        let out = each_dtype!(x.dtype(), T => {
            let data = data.slice::<T>(op)?;
            Tensor::build(op, shape, |out: &mut [T]| {
                stream::fill(out, crate::Element::from_f64(value));
                strided::write_at(out, &to, data);
            })?
        });
        if !out.dtype().is_float() {
            return Ok(out);
        }
        record(op, out, &[&x], move |dy| (0..dy.rank()).try_fold(dy.clone(), |g, d| g.narrow(d, starts[d], inner[d])))
    }

    /// `[rows, cols]` of bool: whether `col − row ≤ diagonal`.
    fn lower_mask(rows: usize, cols: usize, diagonal: i64) -> Result<Tensor> {
        Tensor::build("tril", [rows, cols].into(), |out: &mut [bool]| {
            for (i, o) in out.iter_mut().enumerate() {
                *o = (i % cols) as i64 - (i / cols) as i64 <= diagonal;
            }
        })
    }

    /// The last two dims with zeros above the given diagonal. PyTorch: `tril`.
    pub fn tril(&self, diagonal: i64) -> Result<Tensor> {
        let [rows, cols] = self.matrix_dims("tril")?;
        Tensor::lower_mask(rows, cols, diagonal)?.where_cond(self, &Tensor::zeros((), self.dtype())?)
    }

    /// The last two dims with zeros below the given diagonal. PyTorch: `triu`.
    pub fn triu(&self, diagonal: i64) -> Result<Tensor> {
        let [rows, cols] = self.matrix_dims("triu")?;
        let below = Tensor::lower_mask(rows, cols, diagonal.saturating_sub(1))?;
        below.logical_not()?.where_cond(self, &Tensor::zeros((), self.dtype())?)
    }

    fn matrix_dims(&self, op: &'static str) -> Result<[usize; 2]> {
        match *self.dims() {
            [.., rows, cols] => Ok([rows, cols]),
            _ => Err(Error::invalid(op, format!("expected at least two dims, got shape {}", self.shape()))),
        }
    }

    /// Each place of `dim` as a tensor of its own, the dim gone, as views. PyTorch: `unbind`.
    pub fn unbind(&self, dim: impl Dim) -> Result<Vec<Tensor>> {
        let n = self.size(dim)?;
        let mut places = reserved("unbind", n)?;
        for i in 0..n as i64 {
            places.push(self.select(dim, i)?);
        }
        Ok(places)
    }
}

impl AsRef<Tensor> for Tensor {
    fn as_ref(&self) -> &Tensor {
        self
    }
}
