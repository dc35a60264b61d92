//! A recurrent layer over a whole sequence as one operation, for `nn::Rnn`, `nn::Lstm` and `nn::Gru`.
//!
//! Step by step, a graph of views and small operations would cost more than the arithmetic. Here the product with the
//! input is made before, for all steps at once; what is left is in `kernels/recurrent.rs`, recorded once. Derivatives of
//! the gradient go by the definition in tensor operations, step by step.

use std::sync::Arc;

use crate::autograd::{Grads, grad, is_grad_enabled, record_with_output, tracks};
use crate::kernels::gemm::{Mat, MatMul};
pub(crate) use crate::kernels::recurrent::Cell;
use crate::kernels::recurrent::{Given, Sequence};
use crate::ops::binary::when_tracked;
use crate::ops::precision::rounds;
use crate::{DType, Real, Result, Tensor};

const OP: &str = "recurrent";

/// One direction of one layer: what happens in a step, and where the steps are.
#[derive(Clone)]
pub(crate) struct Recurrence {
    pub cell: Cell,
    /// Where each row ends.
    pub lengths: Option<Arc<[usize]>>,
    pub reverse: bool,
}

/// The operands, in the order of their gradients.
#[derive(Clone)]
struct Operands {
    /// `[T, B, gates · hidden]`
    x: Tensor,
    /// `[B, hidden]`
    h: Tensor,
    /// `[gates · hidden, hidden]`
    weight: Tensor,
    c: Option<Tensor>,
    /// `[gates · hidden]`
    bias: Option<Tensor>,
}

impl Operands {
    fn all(&self) -> smallvec::SmallVec<[&Tensor; 5]> {
        [&self.x, &self.h, &self.weight].into_iter().chain(&self.c).chain(&self.bias).collect()
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Operands> {
        let option = |t: &Option<Tensor>| t.as_ref().map(&f).transpose();
        let (c, bias) = (option(&self.c)?, option(&self.bias)?);
        Ok(Operands { x: f(&self.x)?, h: f(&self.h)?, weight: f(&self.weight)?, c, bias })
    }
}

impl Recurrence {
    /// From the input's product `[T, B, gates · hidden]` and a state to `[T + states, B, hidden]`: the output of each step,
    /// and behind them the state at the end. The caller has checked the shapes.
    pub fn run(
        &self,
        x: &Tensor,
        (h, c): (&Tensor, Option<&Tensor>),
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (x, h, weight) = (x.clone(), h.clone(), weight.clone());
        let given = Operands { x, h, weight, c: c.cloned(), bias: bias.cloned() };
        let dtype = given.all().iter().fold(given.x.dtype(), |dtype, t| dtype.promote(t.dtype()));
        match dtype {
            DType::F64 => self.fused::<f64>(given.map(|t| t.to_dtype(dtype))?),
            _ => self.fused::<f32>(given.map(|t| t.to_dtype(DType::F32))?)?.to_dtype(dtype),
        }
    }

    fn sequence(&self, given: &Operands) -> Result<Sequence<'_>> {
        let ([steps, batch, _], hidden) = (given.x.dims_of(OP)?, given.h.size(-1)?);
        let (cell, lengths, reverse) = (self.cell, self.lengths.as_deref(), self.reverse);
        Ok(Sequence { cell, steps, batch, hidden, lengths, reverse, round: rounds() })
    }

    fn fused<C: MatMul + Real>(&self, given: Operands) -> Result<Tensor> {
        let s = self.sequence(&given)?;
        let plain = given.map(|t| t.detach().packed())?;
        let (x, bias) = (plain.x.slice::<C>(OP)?, plain.bias.as_ref().map(|b| b.slice::<C>(OP)).transpose()?);
        // Every step packs the weight anew, which is slow across its rows: they are laid across once. One row packs nothing.
        let across = if s.steps > 1 && s.batch > 1 { Some(plain.weight.t()?.packed()?) } else { None };
        let mut parts = parts::<C>(&plain)?;
        if let Some(across) = &across {
            let [hidden, width] = across.dims_of(OP)?;
            parts.weight = Mat::row_major(across.slice(OP)?, hidden, width).t();
        }
        let size = [s.steps, s.batch, s.cell.kept() * s.hidden];
        let mut kept = tracks(&given.all()).then(|| Tensor::zeros(size, C::DTYPE)).transpose()?;
        let keep = kept.as_mut().map(|kept| kept.make_mut::<C>(OP)).transpose()?;
        let shape = [s.steps + s.cell.states(), s.batch, s.hidden].into();
        let y = Tensor::build(OP, shape, |y: &mut [C]| s.forward(x, &parts, bias, y, keep))?;
        let Some(kept) = kept else { return Ok(y) };
        let (own, saved) = (self.clone(), given.clone());
        record_with_output(OP, y, &given.all(), move |y, dy| {
            if is_grad_enabled() { own.rule(&saved, dy) } else { own.backward::<C>(&saved, y, &kept, dy) }
        })
    }

    fn backward<C: MatMul + Real>(&self, given: &Operands, y: &Tensor, kept: &Tensor, dy: &Tensor) -> Result<Grads> {
        let s = self.sequence(given)?;
        let (plain, dy) = (given.map(|t| t.detach().packed())?, dy.packed()?);
        let parts = parts::<C>(&plain)?;
        let (mut dg, mut dh, mut dc) = (Tensor::zeros(0, C::DTYPE)?, given.h.zeros_like()?, None);
        if s.cell == Cell::Gru {
            dg = given.x.zeros_like()?;
        }
        if let Some(c) = &given.c {
            dc = Some(c.zeros_like()?);
        }
        let read = (y.slice::<C>(OP)?, kept.slice::<C>(OP)?, dy.slice::<C>(OP)?);
        let (dg_data, dh_data) = (dg.make_mut::<C>(OP)?, dh.make_mut::<C>(OP)?);
        let dc_data = dc.as_mut().map(|dc| dc.make_mut::<C>(OP)).transpose()?.unwrap_or_default();
        let dx = Tensor::build(OP, given.x.shape().clone(), |da: &mut [C]| {
            s.backward(&parts, read, (da, dg_data), (dh_data, dc_data));
        })?;
        let width = s.cell.gates() * s.hidden;
        let flat = if s.cell == Cell::Gru { &dg } else { &dx }.reshape([s.steps * s.batch, width])?;
        let dw = || {
            let previous = Tensor::build(OP, [s.steps * s.batch, s.hidden].into(), |out: &mut [C]| {
                s.previous(read.0, parts.h, out);
            })?;
            flat.t()?.matmul(&previous)
        };
        let mut grads = Grads::new();
        let dw = when_tracked(&given.weight, dw)?;
        let db = given.bias.as_ref().map(|b| when_tracked(b, || flat.sum(0))).transpose()?;
        grads.extend([Some(dx), Some(dh), dw]);
        grads.extend(dc.map(Some));
        grads.extend(db);
        Ok(grads)
    }

    /// The gradients by the definition, which can be differentiated.
    fn rule(&self, given: &Operands, dy: &Tensor) -> Result<Grads> {
        // Names of their own: the same tensor may be given twice, and is to get both gradients.
        let given = given.map(|t| t.reshape(t.shape()))?;
        let (y, all) = (self.composed(&given)?, given.all());
        let wanted: Vec<&Tensor> = all.iter().copied().filter(|t| t.is_tracked()).collect();
        let mut found = grad(&[&y.mul(dy)?.sum(..)?], &wanted, true)?.into_iter();
        Ok(all.iter().map(|t| if t.is_tracked() { found.next().flatten() } else { None }).collect())
    }

    /// The definition, step by step.
    fn composed(&self, given: &Operands) -> Result<Tensor> {
        let s = self.sequence(given)?;
        let (mut h, mut c) = (given.h.clone(), given.c.clone());
        let mut outputs = vec![h.zeros_like()?; s.steps];
        for step in 0..s.steps {
            let t = if self.reverse { s.steps - 1 - step } else { step };
            let (x, g) = (given.x.select(0, t as i64)?, h.linear(&given.weight, given.bias.as_ref())?);
            let part = |of: &Tensor, i: usize| of.narrow(1, i * s.hidden, s.hidden);
            let sum = |i: usize| part(&x, i)?.add(&part(&g, i)?);
            let (new, cell) = match (self.cell, &c) {
                (Cell::Tanh, _) => (sum(0)?.tanh()?, None),
                (Cell::Relu, _) => (sum(0)?.relu()?, None),
                (Cell::Gru, _) => {
                    let n = part(&x, 2)?.add(&sum(0)?.sigmoid()?.mul(&part(&g, 2)?)?)?.tanh()?;
                    (h.gate(&n, &sum(1)?)?, None)
                }
                (Cell::Lstm, c) => {
                    let fresh = sum(0)?.sigmoid()?.mul(&sum(2)?.tanh()?)?;
                    let old = c.as_ref().unwrap_or(&h);
                    let c = old.mul(&sum(1)?.sigmoid()?)?.add(&fresh)?;
                    (sum(3)?.sigmoid()?.mul(&c.tanh()?)?, Some(c))
                }
            };
            let runs = match &self.lengths {
                None => None,
                Some(l) => Some(Tensor::from_vec(l.iter().map(|&l| t < l).collect::<Vec<bool>>(), [s.batch, 1])?),
            };
            let either = |new: Tensor, old: &Tensor| runs.as_ref().map_or(Ok(new.clone()), |r| r.where_cond(&new, old));
            outputs[t] = either(new.clone(), &h.zeros_like()?)?;
            c = match (cell, c) {
                (Some(cell), Some(old)) => Some(either(cell, &old)?),
                (_, old) => old,
            };
            h = either(new, &h)?;
        }
        outputs.push(h);
        outputs.extend(c);
        Tensor::stack(&outputs, 0)
    }
}

fn parts<C: MatMul + Real>(given: &Operands) -> Result<Given<'_, C>> {
    let c = given.c.as_ref().map(|c| c.slice::<C>(OP)).transpose()?.unwrap_or_default();
    let [width, hidden] = given.weight.dims_of(OP)?;
    Ok(Given { h: given.h.slice(OP)?, c, weight: Mat::row_major(given.weight.slice(OP)?, width, hidden) })
}
