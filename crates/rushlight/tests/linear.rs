//! The linear layer's product by its definition, its gradients twice, its sizes of 0 and 1, and what it does in bf16.

mod common;

use common::*;
use rushlight::{DType, MatmulPrecision, Tensor, gradcheck, gradgradcheck, with_matmul_precision};

/// `y[.., o] = Σ x[.., i] w[o, i] + b[o]`, one after the other.
fn naive(x: &Naive, w: &Naive, b: Option<&Naive>) -> Naive {
    let (out, inner) = (w.shape[0], w.shape[1]);
    let shape = [&x.shape[..x.shape.len() - 1], &[out]].concat();
    Naive::from_fn(&shape, |at| {
        let (o, lead) = (at[at.len() - 1], &at[..at.len() - 1]);
        let sum: f64 = (0..inner).map(|i| x.at(&[lead, &[i]].concat()) * w.at(&[o, i])).sum();
        sum + b.map_or(0.0, |b| b.at(&[o]))
    })
}

const LEADS: [&[usize]; 7] = [&[], &[1], &[5], &[2, 3], &[0], &[3, 0], &[2, 1, 2]];

#[test]
fn linear_is_its_definition_in_every_layout() {
    let rng = &mut Rng(1);
    for lead in LEADS {
        for (inner, out) in [(3, 4), (1, 1), (0, 2), (2, 0), (17, 33)] {
            let shape = [lead, &[inner]].concat();
            for dtype in [DType::F64, DType::F32, DType::I64] {
                let (x, w) = (tensor(rng, &shape, dtype), tensor(rng, &[out, inner], dtype));
                let b = tensor(rng, &[out], dtype);
                for b in [None, Some(&b)] {
                    let expected = naive(&Naive::of(&x), &Naive::of(&w), b.map(Naive::of).as_ref());
                    assert_close(&x.linear(&w, b).unwrap(), &expected, 1e-6, &format!("{shape:?} to {out}, {dtype}"));
                }
            }
        }
    }
}

#[test]
fn its_gradients_are_right_once_and_twice() {
    let rng = &mut Rng(2);
    for lead in LEADS {
        for (inner, out) in [(3, 2), (1, 1), (0, 2), (2, 0)] {
            let shape = [lead, &[inner]].concat();
            let inputs =
                [smooth(rng, &shape, -1.0, 1.0), smooth(rng, &[out, inner], -1.0, 1.0), smooth(rng, &[out], -1.0, 1.0)];
            let name = format!("{shape:?} to {out}");
            for n in [2, 3] {
                let f = |t: &[Tensor]| t[0].linear(&t[1], t.get(2));
                gradcheck(f, &inputs[..n], Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
                gradgradcheck(|t| f(t)?.sin(), &inputs[..n], Default::default())
                    .unwrap_or_else(|e| panic!("{name}, twice: {e}"));
            }
        }
    }
}

#[test]
fn only_what_is_tracked_gets_a_gradient() {
    let rng = &mut Rng(3);
    let [x, w, b] = [vec![4, 3], vec![2, 3], vec![2]].map(|s| tensor(rng, &s, DType::F32));
    let w = w.requires_grad().unwrap();
    let grads = x.linear(&w, Some(&b)).unwrap().sum(..).unwrap().backward().unwrap();
    // Σ of the outputs: each row of dW is the column sums of x.
    let sums = Naive::of(&x).reduce(&[0], |v| v.iter().sum());
    let expected = Naive::from_fn(&[2, 3], |at| sums.data[at[1]]);
    assert_close(grads.get(&w).unwrap(), &expected, 1e-6, "dW");
    assert!(grads.get(&x).is_none() && grads.get(&b).is_none());
}

#[test]
fn rounded_products_are_near_forward_and_back() {
    let [x, w] = [[70, 300], [90, 300]].map(|s| Tensor::randn(s, DType::F32).unwrap().requires_grad().unwrap());
    let b = Tensor::randn(90, DType::F32).unwrap().requires_grad().unwrap();
    let all = || {
        let y = x.linear(&w, Some(&b)).unwrap();
        let grads = y.mul(&y).unwrap().sum(..).unwrap().backward().unwrap();
        [y.detach(), grads.get(&x).unwrap().clone(), grads.get(&w).unwrap().clone(), grads.get(&b).unwrap().clone()]
    };
    let exact = all();
    let rounded = with_matmul_precision(MatmulPrecision::Medium, all);
    for (name, (e, r)) in ["y", "dx", "dw", "db"].iter().zip(exact.iter().zip(&rounded)) {
        let size = e.abs().unwrap().amax(..).unwrap().item::<f64>().unwrap();
        let error = e.sub(r).unwrap().abs().unwrap().amax(..).unwrap().item::<f64>().unwrap();
        // Each of the 300 products is off by at most 2⁻⁸, mostly by chance in both directions.
        assert!(error < size / 50.0, "{name}: {error} of {size}");
        let double = e.to_dtype(DType::F64).unwrap().sub(r.to_dtype(DType::F64).unwrap()).unwrap();
        assert!(double.mean(..).unwrap().item::<f64>().unwrap().abs() < size / 500.0, "{name} is off to one side");
    }
}

#[test]
fn bad_arguments_are_errors_that_say_what_is_wrong() {
    let t = |s: &[usize]| Tensor::zeros(s, DType::F32).unwrap();
    let error = |x: &[usize], w: &[usize], b: Option<&[usize]>| {
        let b = b.map(t);
        message(t(x).linear(&t(w), b.as_ref()))
    };
    assert!(error(&[2, 3], &[4, 5], None).contains("does not end in the 5 features"));
    assert!(error(&[], &[4, 1], None).contains("does not end in the 1 features"));
    assert!(error(&[2, 3], &[3], None).contains("linear"));
    assert!(error(&[2, 3], &[4, 3], Some(&[3])).contains("for 4 outputs"));
    assert!(error(&[2, 3], &[4, 3], Some(&[1, 4])).contains("for 4 outputs"));
}
