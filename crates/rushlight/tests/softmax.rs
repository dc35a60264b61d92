//! Softmax, log-softmax and dropout: definitions, edge rows, and gradients twice, over random shapes and layouts.

mod common;

use common::*;
use rushlight::{DType, Result, Tensor, grad, gradcheck, gradgradcheck, random};

/// `f` of each row along `dim`.
fn along(x: &Naive, dim: usize, f: impl Fn(&[f64], f64) -> f64) -> Naive {
    Naive::from_fn(&x.shape, |i| {
        let mut j = i.to_vec();
        let row: Vec<f64> = (0..x.shape[dim])
            .map(|k| {
                j[dim] = k;
                x.at(&j)
            })
            .collect();
        f(&row, x.at(i))
    })
}

fn naive_log_softmax(x: &Naive, dim: usize) -> Naive {
    along(x, dim, |row, x| {
        let m = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        x - m - row.iter().map(|v| (v - m).exp()).sum::<f64>().ln()
    })
}

#[test]
fn are_their_definitions_along_any_dim() {
    let rng = &mut Rng(1);
    for _ in 0..40 {
        let shape = rng.shape(4);
        for dim in 0..shape.len() {
            let x = tensor(rng, &shape, DType::F64);
            let log = naive_log_softmax(&Naive::of(&x), dim);
            let soft = Naive { shape: shape.clone(), data: log.data.iter().map(|v| v.exp()).collect() };
            let from_end = dim as i64 - shape.len() as i64;
            for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 1e-6), (DType::F16, 2e-3), (DType::BF16, 1e-2)]
            {
                let x = x.to_dtype(dtype).unwrap();
                assert_close(&x.softmax(dim).unwrap(), &soft, tolerance, "softmax");
                assert_close(&x.log_softmax(from_end).unwrap(), &log, tolerance, "log_softmax");
            }
        }
    }
    let one = Tensor::full((), 7.0, DType::F32).unwrap();
    assert_eq!(one.softmax(0).unwrap().item::<f32>().unwrap(), 1.0);
    assert_eq!(one.log_softmax(-1).unwrap().item::<f32>().unwrap(), 0.0);
}

#[test]
fn the_two_way_softmax_is_sigmoid() -> Result<()> {
    let x = Tensor::linspace(-40.0, 40.0, 81, DType::F64)?;
    let two = Tensor::stack(&[x.zeros_like()?, x.clone()], 0)?;
    assert_close(&two.softmax(0)?.select(0, 1)?, &Naive::of(&x.sigmoid()?), 1e-15, "softmax([0, x])[1]");
    assert_close(&two.log_softmax(0)?.select(0, 1)?, &Naive::of(&x.log_sigmoid()?), 1e-14, "its logarithm");
    Ok(())
}

#[test]
fn rows_at_the_edge() -> Result<()> {
    let inf = f64::INFINITY;
    let nan = f64::NAN;
    let rows: [([f64; 3], [f64; 3], [f64; 3]); 6] = [
        ([1e4, 1e4, -1e4], [0.5, 0.5, 0.0], [-(2f64.ln()), -(2f64.ln()), -2e4 - 2f64.ln()]),
        ([-inf, 0.0, -inf], [0.0, 1.0, 0.0], [-inf, 0.0, -inf]),
        ([-inf, -inf, -inf], [nan; 3], [nan; 3]),
        ([inf, 0.0, 1.0], [nan; 3], [nan; 3]),
        ([nan, 0.0, 1.0], [nan; 3], [nan; 3]),
        ([-1e4, -1e4, -1e4], [1.0 / 3.0; 3], [-(3f64.ln()); 3]),
    ];
    for dtype in [DType::F64, DType::F32] {
        let x = Tensor::new(rows.map(|r| r.0).to_vec())?.to_dtype(dtype)?;
        let soft = Naive { shape: vec![6, 3], data: rows.iter().flat_map(|r| r.1).collect() };
        let log = Naive { shape: vec![6, 3], data: rows.iter().flat_map(|r| r.2).collect() };
        for (x, back) in [(x.clone(), false), (x.t()?.contiguous()?, true)] {
            let dim = if back { 0 } else { 1 };
            let turn = |t: Tensor| if back { t.t() } else { Ok(t) };
            let (soft_of, log_of) = (turn(x.softmax(dim)?)?, turn(x.log_softmax(dim)?)?);
            assert_close(&soft_of, &soft, 1e-6, "softmax");
            assert_close(&log_of, &log, 1e-6, "log_softmax");
        }
    }
    // What is masked with −∞ has gradient 0, and no NaN reaches the others.
    let x = Tensor::new([0.3f64, -inf, -0.2])?.requires_grad()?;
    let y = x.softmax(0)?;
    for create_graph in [false, true] {
        let dx = grad(&[&y.select(0, 0)?], &[&x], create_graph)?.remove(0).unwrap().to_vec::<f64>()?;
        let p = y.to_vec::<f64>()?;
        assert!((dx[0] - p[0] * p[2]).abs() < 1e-15 && dx[1] == 0.0 && (dx[2] + p[0] * p[2]).abs() < 1e-15, "{dx:?}");
    }
    Ok(())
}

#[test]
fn gradients_once_and_twice() {
    let rng = &mut Rng(2);
    for shape in [vec![1], vec![4], vec![2, 3], vec![3, 1, 2], vec![2, 0], vec![2, 3, 2]] {
        for dim in 0..shape.len() {
            let x = [smooth(rng, &shape, -2.0, 2.0)];
            let soft = |t: &[Tensor]| t[0].softmax(dim);
            let log = |t: &[Tensor]| t[0].log_softmax(dim);
            let wide = |t: &[Tensor]| t[0].unsqueeze(0)?.expand([&[2], &shape[..]].concat())?.softmax(dim + 1);
            for (name, f) in [("softmax", &soft as &dyn Fn(&[Tensor]) -> _), ("log", &log), ("expanded", &wide)] {
                gradcheck(f, &x, Default::default()).unwrap_or_else(|e| panic!("{name} {shape:?} {dim}: {e}"));
                // A function after it makes dy depend on x, so that the rule is differentiated by dy as well.
                gradgradcheck(|t| f(t)?.sin(), &x, Default::default())
                    .unwrap_or_else(|e| panic!("{name} {shape:?} {dim}, twice: {e}"));
                let x = x[0].requires_grad().unwrap();
                let loss = f(std::slice::from_ref(&x)).unwrap().square().unwrap().sum(..).unwrap();
                let [fused, made] = [false, true].map(|c| grad(&[&loss], &[&x], c).unwrap().remove(0).unwrap());
                assert_close(&fused, &Naive::of(&made), 1e-13, name);
            }
        }
    }
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    let x = Tensor::ones([2, 3], DType::F32)?;
    assert!(message(x.softmax(2)).contains("dim 2 is out of range for shape [2, 3]"));
    assert!(message(x.log_softmax(-3)).contains("dim -3"));
    assert!(message(x.to_dtype(DType::I64)?.softmax(0)).contains("i64"));
    Ok(())
}

#[test]
fn dropout_zeroes_and_scales_and_its_gradient_uses_the_same_mask() -> Result<()> {
    random::manual_seed(3);
    let x = Tensor::ones([100, 50], DType::F32)?.t()?.requires_grad()?;
    let y = x.dropout(0.2)?;
    let values = y.to_vec::<f32>()?;
    assert!(values.iter().all(|v| *v == 0.0 || *v == 1.25));
    let zeros = values.iter().filter(|v| **v == 0.0).count() as f64 / 5000.0;
    assert!((zeros - 0.2).abs() < 0.03, "{zeros} dropped");
    let dx = grad(&[&y.sum(..)?], &[&x], false)?.remove(0).unwrap();
    assert_eq!(dx.to_vec::<f32>()?, values);
    // Another call, another mask; the same seed, the same mask.
    assert_ne!(x.dropout(0.2)?.to_vec::<f32>()?, values);
    random::manual_seed(3);
    assert_eq!(x.dropout(0.2)?.to_vec::<f32>()?, values);
    assert_eq!(x.dropout(0.0)?.to_vec::<f32>()?, x.to_vec::<f32>()?);
    let none = x.mul(f64::MAX)?.dropout(1.0)?;
    assert!(none.to_vec::<f32>()?.iter().all(|v| *v == 0.0), "p = 1 gives zeros, also of infinities");
    assert!(none.sum(..)?.backward()?.get(&x).is_some());
    assert_eq!(Tensor::ones([0, 3], DType::F64)?.dropout(0.5)?.dims(), [0, 3]);
    for p in [-0.1, 1.1, f64::NAN] {
        assert!(message(x.dropout(p)).contains("probability"));
    }
    let fixed = |t: &[Tensor]| {
        random::manual_seed(5);
        t[0].square()?.dropout(0.5)
    };
    let x = [Tensor::uniform([3, 4], 0.5, 1.0, DType::F64)?];
    gradcheck(fixed, &x, Default::default())?;
    gradgradcheck(fixed, &x, Default::default())
}
