//! Layer, RMS, group and batch norm by their definition, and their gradients twice, over random shapes and layouts.

mod common;

use common::*;
use rushlight::{DType, Result, Tensor, grad, gradcheck, gradgradcheck};

fn both(name: &str, inputs: &[Tensor], f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    gradcheck(f, inputs, Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    // A function after it makes dy depend on the inputs, so that the rule is differentiated by dy as well.
    gradgradcheck(|t| f(t)?.sin(), inputs, Default::default()).unwrap_or_else(|e| panic!("{name}, twice: {e}"));
    // The fused gradients and those made of operations agree.
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.requires_grad().unwrap()).collect();
    let y = f(&inputs).unwrap();
    let loss = y.mul(y.detach().sin().unwrap()).unwrap().sum(..).unwrap();
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let [fused, made] = [false, true].map(|c| grad(&[&loss], &refs, c).unwrap());
    for (fused, made) in fused.iter().zip(&made) {
        assert_close(fused.as_ref().unwrap(), &Naive::of(made.as_ref().unwrap()), 1e-11, name);
    }
}

/// `(x − mean) / √(var + ε)` (or without the mean) of the places that share a `key`.
fn normalized<K: PartialEq>(x: &Naive, eps: f64, centre: bool, key: impl Fn(&[usize]) -> K) -> Naive {
    Naive::from_fn(&x.shape, |at| {
        let all = indices(&x.shape);
        let row: Vec<f64> = all.iter().filter(|i| key(i) == key(at)).map(|i| x.at(i)).collect();
        let n = row.len() as f64;
        let mean = if centre { row.iter().sum::<f64>() / n } else { 0.0 };
        let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        (x.at(at) - mean) / (var + eps).sqrt()
    })
}

/// `x · w + b`, where both are looked up by the part of the index that `key` gives.
fn affine(x: &Naive, w: &Naive, b: &Naive, key: impl Fn(&[usize]) -> Vec<usize>) -> Naive {
    Naive::from_fn(&x.shape, |i| x.at(i) * w.at(&key(i)) + b.at(&key(i)))
}

const SHAPES: [&[usize]; 8] = [&[4], &[3, 5], &[1, 1], &[2, 1, 3], &[2, 3, 2, 2], &[0, 3], &[2, 0], &[1, 70]];

#[test]
fn layer_and_rms_norm_are_their_definitions() {
    let rng = &mut Rng(1);
    for shape in SHAPES {
        for lead in 0..shape.len() {
            let inner = &shape[lead..];
            let (x, w, b) =
                (tensor(rng, shape, DType::F64), tensor(rng, inner, DType::F64), tensor(rng, inner, DType::F64));
            let (naive, nw, nb) = (Naive::of(&x), Naive::of(&w), Naive::of(&b));
            let none = Naive::from_fn(inner, |_| 0.0);
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5), (DType::F16, 1e-2)] {
                let [x, w, b] = [&x, &w, &b].map(|t| t.to_dtype(dtype).unwrap());
                let hat = normalized(&naive, 1e-2, true, |i| i[..lead].to_vec());
                let expected = affine(&hat, &nw, &nb, |i| i[lead..].to_vec());
                assert_close(&x.layer_norm(inner, Some(&w), Some(&b), 1e-2).unwrap(), &expected, tolerance, "layer");
                assert_close(&x.layer_norm(inner, None, None, 1e-2).unwrap(), &hat, tolerance, "layer, plain");
                let hat = normalized(&naive, 1e-2, false, |i| i[..lead].to_vec());
                let expected = affine(&hat, &nw, &none, |i| i[lead..].to_vec());
                assert_close(&x.rms_norm(inner, Some(&w), 1e-2).unwrap(), &expected, tolerance, "rms");
            }
        }
    }
}

#[test]
fn group_and_batch_norm_are_their_definitions() {
    let rng = &mut Rng(2);
    for (shape, groups) in [
        (vec![2, 6], 3),
        (vec![2, 4, 3], 2),
        (vec![1, 2, 2, 3], 1),
        (vec![3, 2, 2, 2], 2),
        (vec![2, 1, 1, 2], 1),
        (vec![0, 2, 3], 2),
    ] {
        let c = shape[1];
        let x = tensor(rng, &shape, DType::F64);
        let [w, b, mean] = [(); 3].map(|_| tensor(rng, &[c], DType::F64));
        let var = smooth(rng, &[c], 0.5, 2.0);
        let (naive, nw, nb, nm, nv) = (Naive::of(&x), Naive::of(&w), Naive::of(&b), Naive::of(&mean), Naive::of(&var));
        let channel = |i: &[usize]| vec![i[1]];
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5), (DType::BF16, 4e-2)] {
            let [x, w, b, mean, var] = [&x, &w, &b, &mean, &var].map(|t| t.to_dtype(dtype).unwrap());
            let hat = normalized(&naive, 1e-2, true, |i| (i[0], i[1] / (c / groups)));
            let y = x.group_norm(groups, Some(&w), Some(&b), 1e-2).unwrap();
            assert_close(&y, &affine(&hat, &nw, &nb, channel), tolerance, "group");

            let hat = Naive::from_fn(&shape, |i| (naive.at(i) - nm.at(&[i[1]])) / (nv.at(&[i[1]]) + 1e-2).sqrt());
            let y = x.batch_norm(&mean, &var, Some(&w), Some(&b), 1e-2).unwrap();
            assert_eq!(y.dtype(), dtype);
            assert_close(&y, &affine(&hat, &nw, &nb, channel), tolerance, "batch");
            if x.numel() == 0 {
                continue;
            }
            let hat = normalized(&naive, 1e-2, true, |i| i[1]);
            let (y, mean, var) = x.batch_norm_train(Some(&w), Some(&b), 1e-2).unwrap();
            assert_eq!(y.dtype(), dtype);
            assert_close(&y, &affine(&hat, &nw, &nb, channel), tolerance, "batch, training");
            let dims: Vec<usize> = (0..shape.len()).filter(|d| *d != 1).collect();
            let of = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
            let unbiased = |v: &[f64]| v.iter().map(|x| (x - of(v)).powi(2)).sum::<f64>() / (v.len() - 1) as f64;
            assert_close(&mean, &naive.reduce(&dims, of), tolerance, "mean");
            assert_close(&var, &naive.reduce(&dims, unbiased), tolerance, "variance");
        }
    }
}

#[test]
fn gradients_once_and_twice() {
    let rng = &mut Rng(3);
    for shape in [vec![3], vec![2, 4], vec![2, 3, 2], vec![2, 1], vec![0, 2]] {
        let lead = rng.below(shape.len());
        let inner = shape[lead..].to_vec();
        let x = smooth(rng, &shape, -2.0, 2.0);
        let [w, b] = [(); 2].map(|_| smooth(rng, &inner, -2.0, 2.0));
        let all = [x, w, b];
        both("layer", &all, &|t| t[0].layer_norm(&inner[..], Some(&t[1]), Some(&t[2]), 0.1));
        both("layer, weight", &all[..2], &|t| t[0].layer_norm(&inner[..], Some(&t[1]), None, 0.1));
        both("layer, bias", &[all[0].clone(), all[2].clone()], &|t| {
            t[0].layer_norm(&inner[..], None, Some(&t[1]), 0.1)
        });
        both("rms", &all[..2], &|t| t[0].rms_norm(&inner[..], Some(&t[1]), 0.1));
        both("rms, plain", &all[..1], &|t| t[0].rms_norm(&inner[..], None, 0.1));
    }
    for (shape, groups) in [(vec![2, 4], 2), (vec![2, 2, 3], 1), (vec![1, 2, 2, 1], 2)] {
        let x = smooth(rng, &shape, -2.0, 2.0);
        let [w, b, mean] = [(); 3].map(|_| smooth(rng, &shape[1..2], -2.0, 2.0));
        let var = smooth(rng, &shape[1..2], 0.5, 2.0);
        let all = [x, w, b, mean, var];
        both("group", &all[..3], &|t| t[0].group_norm(groups, Some(&t[1]), Some(&t[2]), 0.1));
        both("batch", &all, &|t| t[0].batch_norm(&t[3], &t[4], Some(&t[1]), Some(&t[2]), 0.1));
        both("batch, training", &all[..3], &|t| t[0].batch_norm_train(Some(&t[1]), Some(&t[2]), 0.1).map(|(y, ..)| y));
    }
}

#[test]
fn a_repeated_row_and_large_offsets() -> Result<()> {
    // An expanded input: each row is the same storage.
    let x = Tensor::new([[1.0f64, 2.0, 4.0]])?;
    let f = |t: &[Tensor]| t[0].expand([3, 3])?.layer_norm(3, None, None, 1e-3);
    both("expanded", &[x], &f);
    // 1e4 + {0, 1}: the offset does not drown the variance in f32.
    let x = Tensor::from_vec((0..512).map(|i| 1e4 + (i % 2) as f32).collect(), [2, 256])?;
    for y in [x.layer_norm(256, None, None, 0.0)?, x.group_norm(1, None, None, 0.0)?] {
        assert!(y.abs()?.sub(1.0)?.abs()?.amax(..)?.item::<f32>()? < 1e-5);
    }
    // Only the gradients that are asked for.
    let (w, b) = (Tensor::ones(256, DType::F32)?, Tensor::zeros(256, DType::F32)?.requires_grad()?);
    let grads = x.layer_norm(256, Some(&w), Some(&b), 1e-5)?.sum(..)?.backward()?;
    assert_eq!(grads.get(&b).unwrap().to_vec::<f32>()?, [2.0; 256]);
    Ok(())
}

#[test]
fn a_weight_of_another_dtype_gets_its_gradient_in_its_own() -> Result<()> {
    let x = Tensor::new([[1.0f32, 2.0]])?.to_dtype(DType::BF16)?;
    let w = Tensor::ones(2, DType::F32)?.requires_grad()?;
    for y in [x.layer_norm(2, Some(&w), None, 1e-5)?, x.batch_norm(&w.detach(), &w.detach(), Some(&w), None, 1e-5)?] {
        assert_eq!(y.dtype(), DType::BF16);
        assert_eq!(y.sum(..)?.backward()?.get(&w).unwrap().dtype(), DType::F32);
    }
    Ok(())
}

#[test]
fn bad_arguments_are_errors() -> Result<()> {
    let x = Tensor::ones([2, 4], DType::F32)?;
    let w = Tensor::ones(3, DType::F32)?;
    let text = message(x.layer_norm(3, None, None, 1e-5));
    assert!(text.contains("[2, 4]") && text.contains("[3]"), "{text}");
    assert!(message(x.layer_norm((), None, None, 1e-5)).contains("layer_norm"));
    assert!(message(x.rms_norm(4, Some(&w), 1e-5)).contains("weight of shape [3], expected [4]"));
    assert!(message(x.layer_norm(4, None, Some(&w), 1e-5)).contains("bias of shape [3]"));
    assert!(message(x.to_dtype(DType::I64)?.layer_norm(4, None, None, 1e-5)).contains("i64"));
    assert!(message(x.group_norm(3, None, None, 1e-5)).contains("4 channels cannot be divided into 3 groups"));
    assert!(x.group_norm(0, None, None, 1e-5).is_err());
    assert!(message(x.batch_norm(&w, &w, None, None, 1e-5)).contains("mean of shape [3]"));
    assert!(message(x.narrow(0, 0, 1)?.batch_norm_train(None, None, 1e-5)).contains("two values per channel"));
    assert!(message(w.batch_norm_train(None, None, 1e-5)).contains("[N, C]"));
    Ok(())
}
