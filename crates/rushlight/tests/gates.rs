//! The soft gate, and layers of gates: PyTorch's numbers, gradients, who is chosen and who learns.

mod common;
#[path = "common/layers.rs"]
mod layers;
#[path = "common/reference.rs"]
mod reference;

use common::{Naive, Rng, assert_close, broadcast_shapes, message, smooth};
use layers::{cast, check, check_gradients};
use reference::load;
use rushlight::nn::*;
use rushlight::{DType, Result, Tensor, grad, gradcheck, gradgradcheck, random};

fn composed(x: &Tensor, y: &Tensor, r: &Tensor) -> Result<Tensor> {
    let open = r.sigmoid()?;
    x.mul(&open)?.add(&y.mul(&open.neg()?.add(1.0)?)?)
}

#[test]
fn a_gate_is_its_formula_of_any_shapes() -> Result<()> {
    let rng = &mut Rng(1);
    let fixed: [[&[usize]; 3]; 4] =
        [[&[], &[], &[]], [&[2, 1], &[3], &[2, 3]], [&[3], &[2, 1], &[1]], [&[0, 2], &[2], &[1, 1]]];
    let mut cases: Vec<[Vec<usize>; 3]> = fixed.iter().map(|c| c.map(<[usize]>::to_vec)).collect();
    for _ in 0..12 {
        let (a, b, out) = broadcast_shapes(rng);
        let shapes = [a, b, out];
        let order = rng.permutation(3);
        cases.push([0, 1, 2].map(|i| shapes[order[i]].clone()));
    }
    for shapes in cases {
        let inputs = shapes.clone().map(|s| smooth(rng, &s, -2.0, 2.0));
        gradcheck(|t| t[0].gate(&t[1], &t[2]), &inputs, Default::default())?;
        gradgradcheck(|t| t[0].gate(&t[1], &t[2]), &inputs, Default::default())?;
        let [x, y, r] = inputs.map(|t| t.requires_grad().unwrap());
        let (z, expected) = (x.gate(&y, &r)?, composed(&x, &y, &r)?);
        assert_eq!(z.grad_fn(), Some("gate"), "one recorded operation");
        assert_close(&z, &Naive::of(&expected), 1e-14, "values");
        for create_graph in [false, true] {
            let got = grad(&[&z.square()?], &[&x, &y, &r], create_graph)?;
            let expected = grad(&[&expected.square()?], &[&x, &y, &r], false)?;
            for (got, expected) in got.iter().zip(&expected) {
                assert_close(got.as_ref().unwrap(), &Naive::of(expected.as_ref().unwrap()), 1e-12, "gradient");
            }
        }
    }
    Ok(())
}

#[test]
fn a_gate_takes_numbers_halves_and_integers() -> Result<()> {
    let x = Tensor::new([1.0f32, 2.0])?;
    assert_eq!(x.gate(4.0, 0.0)?.to_vec::<f32>()?, [2.5, 3.0]);
    assert_eq!(Tensor::new([1i64, 2])?.gate(&Tensor::new([3i64, 3])?, 0.0)?.to_vec::<f32>()?, [2.0, 2.5]);
    // More than a block, and a rest; with an operand that is no row.
    let make = || Tensor::randn([2100], DType::F32);
    let (x, y, r) = (make()?, make()?.flip(0)?, make()?);
    assert_close(&x.gate(&y, &r)?, &Naive::of(&composed(&x, &y, &r)?), 1e-6, "f32");
    for (dtype, tolerance) in [(DType::F16, 1e-3), (DType::BF16, 8e-3)] {
        let [x, y, r] = [&x, &y, &r].map(|t| t.to_dtype(dtype).unwrap().requires_grad().unwrap());
        let z = x.gate(&y, &r)?;
        assert_eq!(z.dtype(), dtype);
        let [wide_x, wide_y, wide_r] = [&x, &y, &r].map(|t| t.detach().to_dtype(DType::F64).unwrap());
        let wide = [wide_x, wide_y, wide_r].map(|t| t.requires_grad().unwrap());
        let exact = wide[0].gate(&wide[1], &wide[2])?;
        assert_close(&z, &Naive::of(&exact), tolerance, "halves");
        let (grads, expected) = (z.sum(..)?.backward()?, exact.sum(..)?.backward()?);
        for (t, wide) in [x, y, r].iter().zip(&wide) {
            assert_close(grads.get(t).unwrap(), &Naive::of(expected.get(wide).unwrap()), tolerance, "gradients");
        }
    }
    // Only what is tracked gets a gradient.
    let y = Tensor::new([1.0f32])?.requires_grad()?;
    assert_eq!(Tensor::new([2.0f32])?.gate(&y, 0.0)?.sum(..)?.backward()?.get(&y).unwrap().item::<f32>()?, 0.5);
    Ok(())
}

#[test]
fn a_shut_branch_that_is_not_finite_is_nan_as_in_the_formula() -> Result<()> {
    let inf = f64::INFINITY;
    let one = |x: f64, y: f64, r: f64| Tensor::new(x)?.gate(y, r)?.item::<f64>();
    assert!(one(1.0, inf, 800.0)?.is_nan(), "∞ · 0 of the branch that is shut");
    assert_eq!(one(1.0, inf, 0.0)?, inf);
    assert_eq!(one(1.0, 1e300, 800.0)?, 1.0);
    assert!(one(1.0, 2.0, f64::NAN)?.is_nan() && one(f64::NAN, 2.0, -800.0)?.is_nan());
    Ok(())
}

#[test]
fn bad_shapes_are_errors() -> Result<()> {
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32).unwrap();
    assert!(message(ones(&[2]).gate(ones(&[3]), 0.0)).contains("gate: lhs [2] and rhs [3] cannot broadcast"));
    assert!(message(ones(&[2]).gate(1.0, ones(&[3]))).contains("gate: lhs [2] and rhs [3] cannot broadcast"));
    Ok(())
}

fn mixture(experts: usize, top_k: Option<usize>) -> Result<MixtureOfExperts> {
    let experts = (0..experts).map(|_| Ok(Box::new(Linear::new(3, 2)?) as BoxedLayer)).collect::<Result<Vec<_>>>()?;
    let n = experts.len();
    MixtureOfExperts::new(experts, Linear::without_bias(3, n)?, top_k)
}

#[test]
fn layers_are_pytorchs() {
    let cases = load("gates");
    assert_eq!(cases.len(), 10);
    let linear = |out| Linear::new(3, out).unwrap();
    for c in &cases {
        match c.op.as_str() {
            "gate" => check(c, Gate::new(linear(2), linear(2), linear(c.arg("scores"))), |gate, x, _| {
                Ok(vec![gate.forward(&x[0])?, gate.openness(&x[0])?])
            }),
            "highway" => {
                let layers = c.arg("layers");
                let highway = match c.arg::<String>("activation").as_str() {
                    "tanh" => Highway::new(3, layers, Tanh),
                    _ => Highway::new(3, layers, Relu),
                };
                check(c, highway.unwrap(), |highway, x, _| Ok(vec![highway.forward(&x[0])?]));
            }
            _ => {
                let mut mixture = mixture(4, c.optional("top_k")).unwrap();
                mixture.renormalize = c.arg("renormalize");
                check(c, mixture, |mixture, x, _| {
                    let (y, gates) = mixture.forward_with_gates(&x[0])?;
                    assert_close(&mixture.forward(&x[0])?, &Naive::of(&y), 0.0, "without the gates");
                    Ok(vec![y, gates.weights, gates.load_balancing_loss])
                });
            }
        }
    }
}

#[test]
fn gradients_are_differences() -> Result<()> {
    random::manual_seed(5);
    let x = smooth(&mut Rng(2), &[2, 3, 3], -1.0, 1.0);
    let inputs = std::slice::from_ref(&x);
    let gate = || Ok(Gate::new(Linear::new(3, 2)?, Linear::new(3, 2)?, Linear::new(3, 1)?));
    check_gradients(gate, inputs, |gate, x| gate.forward(&x[0]))?;
    check_gradients(|| Highway::new(3, 2, Tanh), inputs, |highway, x| highway.forward(&x[0]))?;
    for top_k in [None, Some(1), Some(2), Some(3)] {
        check_gradients(
            || mixture(3, top_k),
            inputs,
            |mixture, x| {
                let (y, gates) = mixture.forward_with_gates(&x[0])?;
                y.square()?.sum(..)?.add(&gates.load_balancing_loss)
            },
        )?;
    }
    Ok(())
}

#[test]
fn a_highway_begins_as_a_road_past_its_layers() -> Result<()> {
    let highway = Highway::new(4, 10, Relu)?;
    let x = Tensor::randn([5, 4], DType::F32)?;
    let zero = highway.openness(&Tensor::zeros([1, 4], DType::F32)?)?;
    assert_close(&zero[0], &Naive { shape: vec![1, 4], data: vec![1.0 / (1.0 + 2f64.exp()); 4] }, 1e-6, "σ(−2)");
    assert_eq!(highway.openness(&x)?.len(), 10);
    // With shut gates it is the identity, and so is one of no layers.
    let mut shut = highway;
    for layer in &mut shut.layers {
        layer.gate.bias = Some(Tensor::full([4], -100.0, DType::F32)?);
    }
    assert_close(&shut.forward(&x)?, &Naive::of(&x), 1e-6, "shut");
    assert_close(&Highway::new(4, 0, Relu)?.forward(&x)?, &Naive::of(&x), 0.0, "no layers");
    assert!(message(Highway::new(0, 1, Relu)).contains("Highway: the width must not be 0"));
    assert!(message(shut.forward(&Tensor::ones([2, 3], DType::F32)?)).contains("linear"));
    Ok(())
}

/// An expert that says how many rows it was given, and multiplies by its number.
#[derive(Module)]
struct Counting {
    factor: f64,
    seen: Buffer,
}

impl Layer for Counting {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.seen.set(&self.seen.get().add(x.dims()[0] as f64)?);
        x.mul(self.factor)
    }
}

/// The scores are the input.
fn counting(n: usize, top_k: Option<usize>) -> Result<MixtureOfExperts> {
    let expert = |i| -> Result<BoxedLayer> {
        Ok(Box::new(Counting { factor: i as f64, seen: Buffer::new(Tensor::zeros((), DType::F64)?) }))
    };
    let experts = (0..n).map(expert).collect::<Result<_>>()?;
    MixtureOfExperts::new(experts, Sequential::new(), top_k)
}

fn seen(mixture: &MixtureOfExperts) -> Vec<f64> {
    mixture.named_buffers().iter().map(|(_, t)| t.item().unwrap()).collect()
}

#[test]
fn only_the_chosen_compute_and_ties_go_to_the_first() -> Result<()> {
    let x = Tensor::new([[0.0f64, 2.0, 1.0], [1.0, 1.0, 1.0], [0.0, 5.0, 5.0]])?;
    let mixture = counting(3, Some(1))?;
    let (y, gates) = mixture.forward_with_gates(&x)?;
    let hard = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    assert_eq!(gates.weights.to_vec::<f64>()?, hard);
    assert_eq!(y.to_vec::<f64>()?, [0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0]);
    assert_eq!(seen(&mixture), [1.0, 2.0, 0.0], "rows given to each");

    let mixture = counting(3, Some(2))?;
    let weights = mixture.forward_with_gates(&x)?.1.weights;
    let open = 1.0 / (1.0 + (-1f64).exp());
    let expected = vec![0.0, open, 1.0 - open, 0.5, 0.5, 0.0, 0.0, 0.5, 0.5];
    assert_close(&weights, &Naive { shape: vec![3, 3], data: expected }, 1e-15, "renormalised");
    assert_eq!(seen(&mixture), [1.0, 3.0, 2.0]);
    let dense = counting(3, None)?;
    dense.forward(&x)?;
    assert_eq!(seen(&dense), [3.0, 3.0, 3.0]);
    Ok(())
}

#[test]
fn who_is_chosen_learns_and_so_does_the_gate() -> Result<()> {
    let mixture = cast(mixture(3, Some(1))?, DType::F64);
    let x = Tensor::randn([1, 3], DType::F64)?;
    let (y, gates) = mixture.forward_with_gates(&x)?;
    let chosen = gates.weights.argmax(1)?.item::<i64>()?;
    let reached = |loss: &Tensor| -> Result<Vec<String>> {
        let grads = loss.backward()?;
        let moved = |p: &Tensor| grads.get(p).is_some_and(|g| g.ne(0.0).unwrap().any(..).unwrap().item().unwrap());
        Ok(mixture.named_parameters().into_iter().filter(|(_, p)| moved(p)).map(|(name, _)| name).collect())
    };
    let expert = ["weight", "bias"].map(|n| format!("experts.{chosen}.{n}"));
    assert_eq!(
        reached(&y.sum(..)?.add(&gates.load_balancing_loss)?)?,
        [&["gate.weight".to_string()], &expert[..]].concat()
    );
    // A weight that is 1 whatever the score tells the gate nothing; the softmax does.
    assert_eq!(reached(&mixture.forward(&x)?.sum(..)?)?, expert);
    let mut switch = mixture;
    switch.renormalize = false;
    let grads = switch.forward(&x)?.sum(..)?.backward()?;
    assert!(grads.get(&switch.parameters()[0]).unwrap().ne(0.0)?.any(..)?.item::<bool>()?);
    Ok(())
}

#[test]
fn the_balance_is_one_at_best_and_the_count_at_worst() -> Result<()> {
    let loss = |x: Tensor, top_k| counting(4, top_k)?.forward_with_gates(&x)?.1.load_balancing_loss.item::<f64>();
    let even = Tensor::eye(4, DType::F64)?.mul(50.0)?;
    let one = Tensor::new([[50.0f64, 0.0, 0.0, 0.0]])?.expand([4, 4])?;
    for top_k in [None, Some(1)] {
        assert!((loss(even.clone(), top_k)? - 1.0).abs() < 1e-9);
        assert!((loss(one.clone(), top_k)? - 4.0).abs() < 1e-9);
    }
    // Of no rows there is no loss, and the output has its width.
    for top_k in [None, Some(2)] {
        let mixture = mixture(4, top_k)?;
        let (y, gates) = mixture.forward_with_gates(&Tensor::zeros([0, 3], DType::F32)?)?;
        assert_eq!((y.dims(), gates.weights.dims()), (&[0, 2][..], &[0, 4][..]));
        assert_eq!(gates.load_balancing_loss.item::<f32>()?, 0.0);
    }
    Ok(())
}

#[test]
fn they_are_modules() -> Result<()> {
    let gate = Gate::new(Linear::new(3, 2)?, Sequential::new().push(Dropout::new(0.5)?), Linear::new(3, 1)?);
    let expected = "\
Gate(
  (first): Linear(in_features=3, out_features=2, bias=true)
  (second): Sequential(
    (0): Dropout(p=0.5)
  )
  (gate): Linear(in_features=3, out_features=1, bias=true)
)";
    assert_eq!(gate.describe().to_string(), expected);
    let expected = "\
MixtureOfExperts(
  top_k=Some(1), renormalize=true
  (gate): Linear(in_features=3, out_features=2, bias=false)
  (experts): ModuleList(
    (0): Linear(in_features=3, out_features=2, bias=true)
    (1): Linear(in_features=3, out_features=2, bias=true)
  )
)";
    let made = mixture(2, Some(1))?;
    assert_eq!(made.describe().to_string(), expected);
    let mut other = mixture(2, Some(1))?;
    other.load_state_dict(&made.state_dict())?;
    let x = Tensor::randn([4, 3], DType::F32)?;
    assert_eq!(made.forward(&x)?.to_vec::<f32>()?, other.forward(&x)?.to_vec::<f32>()?);
    let names: Vec<String> = Highway::new(2, 1, Relu)?.named_parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["transform.weight", "transform.bias", "gate.weight", "gate.bias"].map(|n| format!("layers.0.{n}"))
    );
    Ok(())
}

#[test]
fn bad_mixtures_are_errors() -> Result<()> {
    let make = |n, k| message(mixture(n, k));
    assert!(make(0, None).contains("MixtureOfExperts: a mixture needs at least one expert"));
    assert!(make(3, Some(0)).contains("top_k is 0, expected 1 to the 3 experts"));
    assert!(make(3, Some(4)).contains("top_k is 4, expected 1 to the 3 experts"));
    let expert = |out| -> Result<BoxedLayer> { Ok(Box::new(Linear::new(3, out)?)) };
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32).unwrap();
    let wrong_gate = MixtureOfExperts::new(vec![expert(2)?, expert(2)?], Linear::new(3, 3)?, None)?;
    let said = message(wrong_gate.forward(&ones(&[4, 3])));
    assert!(said.contains("made [4, 3] of input [4, 3], expected one score for each of 2 experts"), "{said}");
    for top_k in [None, Some(2)] {
        let experts = vec![expert(2)?, expert(4)?, expert(2)?];
        let gate = Linear::new(3, 3)?;
        let mut wrong = MixtureOfExperts::new(experts, gate, top_k)?;
        // The first two are chosen.
        wrong.visit_mut(&mut Path::default(), &mut |name, _, t| {
            if name == "gate.bias" {
                *t = Tensor::new([50.0f32, 40.0, 0.0])?;
            }
            Ok(())
        })?;
        let said = message(wrong.forward(&ones(&[5, 3])));
        assert!(said.contains("made [5, 4]") && said.contains("[5, 2]"), "{said}");
    }
    assert!(message(mixture(2, None)?.forward(&ones(&[4, 5]))).contains("linear"));
    Ok(())
}
