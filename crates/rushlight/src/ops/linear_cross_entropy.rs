//! A linear layer and the cross-entropy of what it gives, in one operation that never holds the logits whole.
//!
//! ```text
//! z = x Wᵀ + b,  loss = cross_entropy(z, t),  dz = as there,  dx = dz W,  dW = dzᵀ x,  db = Σ dz
//! ```
//!
//! A language model of 50,257 tokens has 200 kB of logits for each place, and as much for their gradient: more than all
//! that its layers keep. Here a block of rows at a time is multiplied, becomes its own gradient, and is multiplied into
//! dx, dW and db at once, all in the forward pass: the loss is a scalar, so its gradient is a factor that backward
//! brings in at the end. Source: Hsu et al. 2024 (Liger Kernel).

use crate::autograd::{Grads, interrupted_before, is_grad_enabled, record, tracks};
use crate::kernels::cross_entropy as kernel;
use crate::kernels::gemm::{Mat, MatMul, MatMut, affine, gemm, gemm_rounded};
use crate::ops::cross_entropy::{CrossEntropy, Rows};
use crate::ops::linear::matrix;
use crate::ops::loss::Reduction;
use crate::ops::precision::rounds;
use crate::storage::Buffer;
use crate::{DType, Error, Float, Result, Shape, Tensor, no_grad};

const OP: &str = "linear_cross_entropy";

/// Bytes of logits made at once. Each block reads W and reads and writes dW, so blocks must not be small; 48 MiB are an
/// eighth of the logits of 1,024 places among 50,257 tokens with their gradient.
const BLOCK: usize = if cfg!(test) { 256 } else { 48 << 20 };

impl CrossEntropy {
    /// [`CrossEntropy::forward`] of the logits `x Wᵀ + b`, in the memory of a block of them: with x `[.., in]`, the
    /// weight `[C, in]`, the bias `[C]` and i64 targets `[..]` (or a distribution, `[.., C]`).
    ///
    /// The gradients of x, W and b are computed in the forward pass where one of them is tracked. PyTorch:
    /// `F.linear_cross_entropy`. Losses that stay apart (`Reduction::None`), distributions as targets, halves and class
    /// weights that learn take the two operations one after the other, and the logits' memory.
    ///
    /// Errors: as those of [`Tensor::linear`] and [`CrossEntropy::forward`].
    pub fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, target: &Tensor) -> Result<Tensor> {
        let [classes, inner] = weight.dims_of(OP)?;
        if x.dims().last() != Some(&inner) {
            let message = format!("input {} does not end in the {inner} features of {}", x.shape(), weight.shape());
            return Err(Error::invalid(OP, message));
        }
        if let Some(b) = bias.filter(|b| b.dims() != [classes]) {
            return Err(Error::invalid(OP, format!("bias of shape {} for {classes} classes", b.shape())));
        }
        let lead = x.shape().without(x.rank() - 1);
        let rows = lead.checked_numel(OP)?;
        let hard = !target.dtype().is_float();
        let expected = if hard { lead.clone() } else { x.shape().with(x.rank() - 1, classes) };
        if *target.shape() != expected {
            let message =
                format!("targets of shape {} for inputs of shape {}; expected {expected}", target.shape(), x.shape());
            return Err(Error::invalid(OP, message));
        }
        let dtype = bias.iter().fold(x.dtype().promote(weight.dtype()), |dtype, b| dtype.promote(b.dtype()));
        let flat = x.reshape([rows, inner])?;
        let constant = self.weight.as_ref().is_none_or(|w| !w.is_tracked());
        if !hard || !constant || self.reduction == Reduction::None || ![DType::F32, DType::F64].contains(&dtype) {
            let target = if hard { target.reshape(rows)? } else { target.reshape([rows, classes])? };
            let losses = self.forward(&flat.linear(weight, bias)?, &target)?;
            return if self.reduction == Reduction::None { losses.reshape(lead) } else { Ok(losses) };
        }
        self.check_smoothing(OP)?;
        let rows = self.rows(OP, &Shape::from([rows, classes]), dtype, &target.reshape(rows)?)?;
        let (x, w, b) = (flat.to_dtype(dtype)?, weight.to_dtype(dtype)?, bias.map(|b| b.to_dtype(dtype)).transpose()?);
        let of = Of { x, w, b, rows };
        if dtype == DType::F64 { of.loss::<f64>(self.reduction) } else { of.loss::<f32>(self.reduction) }
    }
}

/// What the loss is made of, x as `[N, in]`.
struct Of {
    x: Tensor,
    w: Tensor,
    b: Option<Tensor>,
    rows: Rows,
}

impl Of {
    fn loss<T: MatMul + Float<Compute = T>>(self, reduction: Reduction) -> Result<Tensor> {
        let total = if reduction == Reduction::Mean { self.rows.total::<T>()? } else { 1.0 };
        let (x, w, b) = (self.x.clone(), self.w.clone(), self.b.clone());
        let inputs: smallvec::SmallVec<[&Tensor; 3]> = [&x, &w].into_iter().chain(&b).collect();
        let tracked = tracks(&inputs);
        let (loss, grads) = no_grad(|| {
            let (losses, grads) = self.blocks::<T>(tracked, total)?;
            Ok::<_, Error>((losses.sum(..)?.div(total)?, grads))
        })?;
        record(OP, loss, &inputs, move |dy| {
            if is_grad_enabled() {
                return self.rule(&dy.div(total)?);
            }
            let dy = dy.item::<f64>()?;
            // Where the loss is what backward was called on, nothing is left to do.
            let scaled = |g: &Tensor| if dy == 1.0 { Ok(g.clone()) } else { g.mul(dy) };
            grads.iter().map(|g| g.as_ref().map(scaled).transpose()).collect::<Result<Grads>>()
        })
    }

    /// The loss of each row and, of those inputs that are tracked, the gradients of `Σ losses / total`.
    fn blocks<T: MatMul + Float<Compute = T>>(&self, tracked: bool, total: f64) -> Result<(Tensor, Grads)> {
        let Of { x, w, b, rows } = self;
        let ([n, inner], classes) = (x.dims_of(OP)?, rows.classes);
        // Every element is written by the first block, if there is one.
        let fresh = |of: &Tensor| match n {
            0 => Tensor::zeros(of.shape().clone(), T::DTYPE),
            _ => Tensor::build(OP, of.shape().clone(), |_: &mut [T]| ()),
        };
        let grad = |of: &Tensor| of.is_tracked().then(|| fresh(of)).transpose();
        let (mut dx, mut dw) = if tracked { (grad(x)?, grad(w)?) } else { (None, None) };
        let mut db = b.as_ref().filter(|_| tracked).map(grad).transpose()?.flatten();

        let (x, bias) = (x.packed()?, b.as_ref().map(Tensor::packed).transpose()?);
        let (x, w) = (x.slice::<T>(OP)?, matrix::<T>(w)?);
        let (bias, of) = (bias.as_ref().map(|b| b.slice::<T>(OP)).transpose()?, rows.data::<T>()?);
        let product = if rounds() { gemm_rounded } else { gemm };
        let blocks = (n * classes * size_of::<T>()).div_ceil(BLOCK).max(1);
        let most = n.div_ceil(blocks);
        let mut logits = Buffer::<T>::try_scratch(most * classes, OP)?;
        let ones = vec![T::from_f64(1.0); most];
        let mut losses = Tensor::zeros(n, T::DTYPE)?;
        let all = losses.make_mut::<T>(OP)?;
        for from in (0..n).step_by(most.max(1)) {
            let count = most.min(n - from);
            interrupted_before(count * classes)?;
            let (z, of) = (&mut logits[..count * classes], of.only(from, count));
            let (x, losses) =
                (Mat::row_major(&x[from * inner..][..count * inner], count, inner), &mut all[from..][..count]);
            affine(z, x, w.t(), bias, rounds());
            if !tracked {
                kernel::forward(z, of, losses, &mut vec![0.0; count]);
                continue;
            }
            kernel::forward_backward(z, of, T::from_f64(1.0 / total), losses);
            let dz = Mat::row_major(z, count, classes);
            if let Some(dx) = &mut dx {
                let dx = &mut dx.make_mut::<T>(OP)?[from * inner..][..count * inner];
                product(MatMut::row_major(dx, count, inner), dz, w, false);
            }
            if let Some(dw) = &mut dw {
                product(MatMut::row_major(dw.make_mut(OP)?, classes, inner), dz.t(), x, from > 0);
            }
            if let Some(db) = &mut db {
                let ones = Mat::row_major(&ones[..count], 1, count);
                gemm(MatMut::row_major(db.make_mut(OP)?, 1, classes), ones, dz, from > 0);
            }
        }
        let mut grads = Grads::from_iter([dx, dw]);
        grads.extend(b.is_some().then_some(db));
        Ok((losses, grads))
    }

    /// The gradients by operations that are recorded; `dy` is that of each row's loss.
    fn rule(&self, dy: &Tensor) -> Result<Grads> {
        let Of { x, w, b, rows } = self;
        let z = x.linear(w, b.as_ref())?;
        let dz = rows.rule(&z, &dy.expand(x.dims()[0])?)?;
        let mut grads = Grads::from_iter([Some(dz.matmul(w)?), Some(dz.t()?.matmul(x)?)]);
        if b.is_some() {
            grads.push(Some(dz.sum(0)?));
        }
        Ok(grads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Generator;
    use crate::{GradCheck, grad, gradcheck, gradgradcheck};

    fn random(shape: [usize; 2], seed: u64) -> Tensor {
        let mut x = vec![0.0f64; shape[0] * shape[1]];
        Generator::new(seed).fill_uniform(&mut x, -2.0, 2.0);
        Tensor::from_vec(x, shape).unwrap()
    }

    fn close(a: &Tensor, b: &Tensor, tolerance: f64) {
        assert_eq!(a.shape(), b.shape());
        for (a, b) in a.to_vec::<f64>().unwrap().into_iter().zip(b.to_vec::<f64>().unwrap()) {
            assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} is not {b}");
        }
    }

    /// Loss and gradients are those of the two operations, for one block of rows, several, and none.
    #[test]
    fn is_linear_and_cross_entropy() {
        for (seed, [n, inner, classes]) in
            [[1, 1, 1], [2, 3, 4], [23, 5, 7], [40, 2, 3], [0, 3, 2], [6, 0, 3], [3, 2, 90]].into_iter().enumerate()
        {
            let seed = 10 * seed as u64;
            let target =
                Tensor::from_vec((0..n).map(|i| if i % 5 == 3 { 0 } else { (i * 7 % classes) as i64 }).collect(), n);
            let target = target.unwrap();
            let x = random([inner, n], seed).t().unwrap();
            let w = random([classes, 2 * inner], seed + 1).slice_step(1, 0, 2 * inner as i64, 2).unwrap();
            let b = random([1, classes], seed + 2).squeeze(0).unwrap();
            let weights = random([1, classes], seed + 3).squeeze(0).unwrap().exp().unwrap();
            for (bias, weighted, label_smoothing, ignore_index) in
                [(false, false, 0.0, -100), (true, false, 0.2, 0), (true, true, 0.0, 0), (false, true, 0.3, -100)]
            {
                for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
                    let weight = weighted.then(|| weights.clone());
                    let options = CrossEntropy { weight, ignore_index, label_smoothing, reduction };
                    let fused = |t: &[Tensor]| options.linear(&t[0], &t[1], bias.then(|| &t[2]), &target);
                    let apart = |t: &[Tensor]| options.forward(&t[0].linear(&t[1], bias.then(|| &t[2]))?, &target);
                    let inputs = if bias { vec![x.clone(), w.clone(), b.clone()] } else { vec![x.clone(), w.clone()] };
                    let (y, expected) = (fused(&inputs).unwrap(), apart(&inputs).unwrap());
                    assert_eq!(y.shape(), expected.shape());
                    // The mean of nothing.
                    if reduction == Reduction::Mean && expected.item::<f64>().unwrap().is_nan() {
                        assert!(
                            y.item::<f64>().unwrap().is_nan()
                                && target.to_vec::<i64>().unwrap().iter().all(|t| *t == ignore_index)
                        );
                        continue;
                    }
                    close(&y, &expected, 1e-12);

                    let tracked: Vec<Tensor> = inputs.iter().map(|t| t.requires_grad().unwrap()).collect();
                    let all: Vec<&Tensor> = tracked.iter().collect();
                    let gradients =
                        |y: Tensor, again| grad(&[&y.mul(3.0).unwrap().sum(..).unwrap()], &all, again).unwrap();
                    let expected = gradients(apart(&tracked).unwrap(), false);
                    for again in [false, true] {
                        for (a, b) in gradients(fused(&tracked).unwrap(), again).iter().zip(&expected) {
                            close(a.as_ref().unwrap(), b.as_ref().unwrap(), 1e-11);
                        }
                    }
                    if n * inner > 0 && n < 10 && classes < 10 {
                        gradcheck(fused, &inputs, GradCheck::default()).unwrap();
                        gradgradcheck(|t| fused(t)?.sin(), &inputs, GradCheck::default()).unwrap();
                    }
                    let single: Vec<Tensor> = tracked.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
                    close(&fused(&single).unwrap().to_dtype(DType::F64).unwrap(), &y, 1e-5);
                }
            }
        }
    }

    /// What learns gets its gradient, what does not costs nothing and changes nothing.
    #[test]
    fn each_input_may_be_constant() {
        let target = Tensor::new([1i64, 2, 0, 1, 1, 2, 0, 0, 1]).unwrap();
        let inputs = [random([9, 2], 1), random([3, 2], 2), random([1, 3], 3).squeeze(0).unwrap()];
        let loss = |t: &[Tensor]| CrossEntropy::default().linear(&t[0], &t[1], Some(&t[2]), &target).unwrap();
        let all: Vec<Tensor> = inputs.iter().map(|t| t.requires_grad().unwrap()).collect();
        let expected = loss(&all).backward().unwrap();
        for mask in 1..8usize {
            let some: Vec<Tensor> =
                (0..3).map(|i| if mask >> i & 1 == 1 { all[i].clone() } else { inputs[i].clone() }).collect();
            let grads = loss(&some).backward().unwrap();
            assert_eq!(grads.len(), mask.count_ones() as usize);
            some.iter()
                .filter(|t| t.is_tracked())
                .for_each(|t| close(grads.get(t).unwrap(), expected.get(t).unwrap(), 1e-14));
        }
        assert!(!loss(&inputs).is_tracked());
        close(&loss(&inputs), &loss(&all).detach(), 1e-14);
    }

    #[test]
    fn leading_dims_distributions_and_halves() {
        let (x, w) = (random([6, 4], 1).reshape([2, 3, 4]).unwrap(), random([5, 4], 2));
        let target = Tensor::new([[1i64, 4, 0], [2, -100, 3]]).unwrap();
        let flat =
            |o: &CrossEntropy, t: &Tensor| o.forward(&x.linear(&w, None).unwrap().flatten(0, 1).unwrap(), t).unwrap();
        let none = CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() };
        let losses = none.linear(&x, &w, None, &target).unwrap();
        assert_eq!(losses.dims(), [2, 3]);
        close(&losses.flatten(0, 1).unwrap(), &flat(&none, &target.flatten(0, 1).unwrap()), 1e-12);
        let soft = random([6, 5], 3).softmax(1).unwrap();
        let mean = CrossEntropy::default();
        let loss = mean.linear(&x, &w, None, &soft.reshape([2, 3, 5]).unwrap()).unwrap();
        close(&loss, &flat(&mean, &soft), 1e-12);
        let half = |t: &Tensor| t.to_dtype(DType::F16).unwrap();
        let loss = mean.linear(&half(&x), &half(&w), None, &target).unwrap();
        assert_eq!(loss.dtype(), DType::F16);
        close(&loss.to_dtype(DType::F64).unwrap(), &flat(&mean, &target.flatten(0, 1).unwrap()), 2e-2);
    }

    #[test]
    fn bad_shapes_are_named() {
        let (x, w) = (random([2, 3], 1), random([4, 3], 2));
        let ce = CrossEntropy::default();
        let says = |r: Result<Tensor>, what: &str| {
            let message = r.unwrap_err().to_string();
            assert!(message.contains(what) && message.contains(OP), "{message}");
        };
        let target = Tensor::new([0i64, 1]).unwrap();
        says(ce.linear(&x, &w.t().unwrap(), None, &target), "[2, 3] does not end in the 4 features of [3, 4]");
        says(ce.linear(&x, &w, Some(&random([1, 3], 1)), &target), "bias of shape [1, 3] for 4 classes");
        says(ce.linear(&x, &w, None, &Tensor::new([0i64]).unwrap()), "expected [2]");
        says(ce.linear(&x, &w, None, &Tensor::new([0i64, 4]).unwrap()), "target 4 at index 1 is outside the 4 classes");
        says(CrossEntropy { label_smoothing: 2.0, ..ce }.linear(&x, &w, None, &target), "label smoothing");
        says(CrossEntropy::default().linear(&Tensor::new(1.0f64).unwrap(), &w, None, &target), "does not end in");
    }
}
