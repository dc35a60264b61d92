//! First and second gradients of every function of one or two numbers, of reductions, scans and products, in f64, over
//! random shapes and layouts.

mod common;

use common::*;
use rushlight::{GradCheck, Result, Tensor, einsum, grad, gradcheck, gradgradcheck};

fn both(name: &str, inputs: &[Tensor], options: GradCheck, f: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    gradcheck(f, inputs, options).unwrap_or_else(|e| panic!("{name}: {e}"));
    gradgradcheck(f, inputs, options).unwrap_or_else(|e| panic!("{name}, twice: {e}"));
}

#[test]
fn functions_of_one_number() {
    type F = (&'static str, (f64, f64), fn(&Tensor) -> Result<Tensor>);
    // Kinks (at 0, ±1/2) are outside the intervals or far too thin to be met at 1e-6.
    let functions: &[F] = &[
        ("exp", (-2.0, 2.0), |x| x.exp()),
        ("expm1", (-2.0, 2.0), |x| x.expm1()),
        ("log", (0.2, 3.0), |x| x.log()),
        ("log2", (0.2, 3.0), |x| x.log2()),
        ("log10", (0.2, 3.0), |x| x.log10()),
        ("log1p", (-0.7, 3.0), |x| x.log1p()),
        ("sqrt", (0.2, 3.0), |x| x.sqrt()),
        ("rsqrt", (0.3, 3.0), |x| x.rsqrt()),
        ("reciprocal", (0.3, 3.0), |x| x.reciprocal()),
        ("reciprocal below", (-3.0, -0.3), |x| x.reciprocal()),
        ("sin", (-3.0, 3.0), |x| x.sin()),
        ("cos", (-3.0, 3.0), |x| x.cos()),
        ("tan", (-1.0, 1.0), |x| x.tan()),
        ("tanh", (-3.0, 3.0), |x| x.tanh()),
        ("sigmoid", (-4.0, 4.0), |x| x.sigmoid()),
        ("erf", (-2.0, 2.0), |x| x.erf()),
        ("relu", (-2.0, 2.0), |x| x.relu()),
        ("leaky_relu", (-2.0, 2.0), |x| x.leaky_relu(0.1)),
        ("elu", (-2.0, 2.0), |x| x.elu(0.7)),
        ("gelu", (-3.0, 3.0), |x| x.gelu()),
        ("gelu_tanh", (-3.0, 3.0), |x| x.gelu_tanh()),
        ("silu", (-3.0, 3.0), |x| x.silu()),
        ("mish", (-3.0, 3.0), |x| x.mish()),
        ("softplus", (-3.0, 3.0), |x| x.softplus()),
        ("log_sigmoid", (-3.0, 3.0), |x| x.log_sigmoid()),
        ("abs", (-2.0, 2.0), |x| x.abs()),
        ("neg", (-2.0, 2.0), |x| x.neg()),
        ("square", (-2.0, 2.0), |x| x.square()),
        ("powf 2.5", (0.2, 2.0), |x| x.powf(2.5)),
        ("powf -1", (0.3, 2.0), |x| x.powf(-1.0)),
        ("powf 0", (-2.0, 2.0), |x| x.powf(0.0)),
        ("powi 3", (-2.0, 2.0), |x| x.powi(3)),
        ("clamp", (-2.0, 2.0), |x| x.clamp(-0.5, 0.5)),
        ("sign", (-2.0, 2.0), |x| x.sign()),
        ("step", (-2.0, 2.0), |x| x.step()),
        ("floor", (-2.0, 2.0), |x| x.floor()),
        ("ceil", (-2.0, 2.0), |x| x.ceil()),
        ("round", (-2.0, 2.0), |x| x.round()),
        ("trunc", (-2.0, 2.0), |x| x.trunc()),
    ];
    let rng = &mut Rng(1);
    for (name, (low, high), f) in functions {
        for shape in [vec![], vec![1, 3], vec![2, 0], rng.shape(3)] {
            let x = smooth(rng, &shape, *low, *high);
            both(name, std::slice::from_ref(&x), Default::default(), &|x| f(&x[0]));
            // The fused derivative and the one made of operations agree.
            let x = x.requires_grad().unwrap();
            let y = f(&x).unwrap();
            let [fused, made] = [false, true].map(|c| grad(&[&y], &[&x], c).unwrap().remove(0).unwrap());
            assert_close(&fused, &Naive::of(&made), 1e-12, name);
        }
    }
}

#[test]
fn functions_of_two_numbers_broadcast() {
    type F = (&'static str, (f64, f64), fn(&Tensor, &Tensor) -> Result<Tensor>);
    let functions: &[F] = &[
        ("add", (-2.0, 2.0), |a, b| a.add(b)),
        ("sub", (-2.0, 2.0), |a, b| a.sub(b)),
        ("mul", (-2.0, 2.0), |a, b| a.mul(b)),
        ("div", (0.5, 2.0), |a, b| a.div(b)),
        ("pow", (0.5, 2.0), |a, b| a.pow(b)),
        ("maximum", (-2.0, 2.0), |a, b| a.maximum(b)),
        ("minimum", (-2.0, 2.0), |a, b| a.minimum(b)),
        ("remainder", (0.5, 2.0), |a, b| a.remainder(b)),
        ("floor_divide", (0.5, 2.0), |a, b| a.floor_divide(b)),
    ];
    let rng = &mut Rng(2);
    for (name, (low, high), f) in functions {
        for shapes in [(vec![2, 3], vec![2, 3]), (vec![2, 1], vec![3]), (vec![], vec![2]), (vec![2, 0], vec![1])] {
            let inputs = [smooth(rng, &shapes.0, *low, *high), smooth(rng, &shapes.1, *low, *high)];
            both(name, &inputs, Default::default(), &|x| f(&x[0], &x[1]));
        }
    }
}

#[test]
fn reductions_scans_and_products() {
    let ties = Tensor::new([[1.0f64, 1.0, 0.5], [2.0, 2.0, 2.0]]).unwrap();
    let moved = GradCheck { perturb: 0.05, ..Default::default() };
    type F = (&'static str, fn(&Tensor) -> Result<Tensor>);
    let functions: &[F] = &[
        ("max", |x| Ok(x.max(1)?.0)),
        ("min", |x| Ok(x.min(0)?.0)),
        ("amax", |x| x.amax(..)),
        ("amin", |x| x.amin(1)),
        ("norm inf", |x| x.norm(f64::INFINITY, 1)),
    ];
    for (name, f) in functions {
        both(name, std::slice::from_ref(&ties), moved, &|x| f(&x[0]));
    }
    let functions: &[F] = &[
        ("sum", |x| x.sum(1)),
        ("mean", |x| x.mean([0, 2])),
        ("prod", |x| x.prod([0, 2])),
        ("var", |x| x.var(1, 1.0)),
        ("std", |x| x.std([0, 1], 0.0)),
        ("norm 1", |x| x.norm(1.0, 2)),
        ("norm 2", |x| x.norm(2.0, ..)),
        ("norm 3", |x| x.norm(3.0, 0)),
        ("logsumexp", |x| x.logsumexp([0, 1])),
        ("cumsum", |x| x.cumsum(1)),
        ("cumprod", |x| x.cumprod(1)),
        ("einsum", |x| einsum("ijk,ikj->jk", &[x, &x.transpose(1, 2)?.contiguous()?])),
        ("einsum diagonal", |x| einsum("i...j,i->j...", &[x, &x.select(1, 0)?.select(1, 0)?])),
        ("trace", |x| x.select(0, 0)?.trace()),
        ("outer", |x| x.select(0, 0)?.select(0, 0)?.outer(&x.select(0, 1)?.select(1, 1)?)),
        ("dot", |x| x.select(2, 0)?.select(0, 0)?.dot(&x.select(2, 1)?.select(0, 1)?)),
    ];
    let rng = &mut Rng(3);
    for (name, f) in functions {
        let x = smooth(rng, &[2, 3, 2], 0.3, 1.5);
        both(name, &[x], Default::default(), &|x| f(&x[0]));
    }
    // Zeros among the factors: none, one and two in a row.
    let zeros = Tensor::new([[0.5f64, 2.0, -1.0, 3.0], [0.5, 0.0, -1.0, 3.0], [0.0, 2.0, 0.0, 3.0]]).unwrap();
    both("prod with zeros", std::slice::from_ref(&zeros), Default::default(), &|x| x[0].prod(1));
    both("cumprod with zeros", &[zeros], Default::default(), &|x| x[0].cumprod(1));
}
