//! Softmax is the gate between many: over networks, and over the places of a memory.
//!
//! The output is `Σ softmax(r)ᵢ · xᵢ`. Over networks the scores r are learned; over a memory they are the products of a query
//! with the keys, so that what is read depends on what is asked. Its gradient reaches all xᵢ, each by its weight. In a
//! mixture of experts a layer makes the scores of the input: here two straight lines learn to be |x|, each on its side.
//!
//! ```text
//! networks, step 0: loss 0.716
//!   x        0.25 █████
//!   x²       0.25 █████
//!   sin 2x   0.25 █████
//!   relu x   0.25 █████
//! networks, step 100: loss 0.001
//!   x        0.01 ▎
//!   x²       0.01 ▏
//!   sin 2x   0.98 ███████████████████▌
//!   relu x   0.01 ▏
//! networks, step 200: loss 0.000
//!   x        0.01 ▏
//!   x²       0.01 ▏
//!   sin 2x   0.98 ███████████████████▋
//!   relu x   0.00 ▏
//! two experts that learned |x|
//!   x -1.0  y 1.0  weights 0.0 1.0
//!   x  1.0  y 1.0  weights 1.0 0.0
//! memory, query [-1, 0.5] reads 28.83
//!   right    0.00
//!   up       0.12 ██▍
//!   left     0.88 █████████████████▋
//!   down     0.00
//! the gradient of the values is the weights: true
//! memory, after the query has learned to read 40: 40.0
//!   right    0.00
//!   up       0.00
//!   left     0.00
//!   down     1.00 ████████████████████
//! ```

mod common;

use common::{BLUE, ORANGE, Picture, bar, holds};
use rushlight::loss::{Reduction, mse_loss};
use rushlight::nn::{BoxedLayer, Layer, Linear, MixtureOfExperts};
use rushlight::optim::{Adam, Optimizer};
use rushlight::{DType, Result, Tensor, random};

/// Prints the weights of a gate, and returns them for the picture.
fn show<'a>(names: &[&'a str], weights: &Tensor) -> Result<Vec<(&'a str, f64)>> {
    let weights = weights.to_f64_vec()?;
    for (name, weight) in names.iter().zip(&weights) {
        println!("{}", format!("  {name:<8} {weight:.2} {}", bar(*weight, 20)).trim_end());
    }
    Ok(names.iter().copied().zip(weights).collect())
}

fn main() -> Result<()> {
    let mut picture = Picture::new(660.0, 230.0);

    // Four networks (so simple that they have no weights); the target is one of them. The scores are learned.
    let x = Tensor::linspace(-2.0, 2.0, 41, DType::F64)?;
    let names = ["x", "x²", "sin 2x", "relu x"];
    let networks = Tensor::stack(&[x.clone(), x.square()?, x.mul(2.0)?.sin()?, x.relu()?], 0)?; // [4, 41]
    let target = x.mul(2.0)?.sin()?;
    let mut r = Tensor::zeros([4, 1], DType::F64)?.requires_grad()?;
    let mut optimizer = Optimizer::new(Adam { lr: 0.1, ..Adam::default() });
    for step in 0..=200 {
        let gates = r.softmax(0)?; // [4, 1]
        let loss = mse_loss(&gates.mul(&networks)?.sum(0)?, &target, Reduction::Mean)?;
        if step % 100 == 0 {
            println!("networks, step {step}: loss {:.3}", loss.item::<f64>()?);
            let bars = show(&names, &gates)?;
            if step == 200 {
                assert!(bars[2].1 > 0.97, "{bars:?}");
                picture.text(155.0, 28.0, "networks: learned weights");
                picture.bars((40.0, 60.0), (230.0, 120.0), &bars, 1.0, BLUE);
            }
        }
        optimizer.step(&mut r, &loss.backward()?)?;
    }

    // A mixture of experts: the scores are made of the input, so that each x finds its expert.
    random::manual_seed(0);
    let experts = vec![Box::new(Linear::new(1, 1)?) as BoxedLayer, Box::new(Linear::new(1, 1)?)];
    let mut mixture = MixtureOfExperts::new(experts, Linear::new(1, 2)?, None)?;
    let x = Tensor::linspace(-2.0, 2.0, 41, DType::F32)?.reshape([41, 1])?;
    let target = x.abs()?;
    let mut optimizer = Optimizer::new(Adam { lr: 0.05, ..Adam::default() });
    for _ in 0..600 {
        let loss = mse_loss(&mixture.forward(&x)?, &target, Reduction::Mean)?;
        optimizer.step(&mut mixture, &loss.backward()?)?;
    }
    println!("two experts that learned |x|");
    for x in [-1.0f32, 1.0] {
        let (y, gates) = mixture.forward_with_gates(&Tensor::new([[x]])?)?;
        let (y, weights) = (y.item::<f64>()?, gates.weights.to_f64_vec()?);
        println!("  x {x:>4.1}  y {y:.1}  weights {:.1} {:.1}", weights[0], weights[1]);
        assert!((y - 1.0).abs() < 0.05 && weights[0].max(weights[1]) > 0.95, "{y} {weights:?}");
    }

    // A memory: four keys, and a value beside each. The query is near the third key.
    let keys = Tensor::new([[4.0f64, 0.0], [0.0, 4.0], [-4.0, 0.0], [0.0, -4.0]])?; // [4, 2]
    let values = Tensor::new([[10.0f64], [20.0], [30.0], [40.0]])?.requires_grad()?; // [4, 1]
    let query = Tensor::new([[-1.0f64, 0.5]])?; // [1, 2]
    let gates = query.matmul(&keys.t()?)?.softmax(-1)?; // [1, 4]
    let read = gates.matmul(&values)?; // [1, 1]
    println!("memory, query [-1, 0.5] reads {:.2}", read.item::<f64>()?);
    let names = ["right", "up", "left", "down"];
    let bars = show(&names, &gates)?;
    picture.text(490.0, 28.0, "memory: the query looks left and a little up");
    picture.bars((375.0, 60.0), (230.0, 120.0), &bars, 1.0, ORANGE);

    // What was read is what learns: the gradient of each value is its weight.
    let dv = read.sum(..)?.backward()?.remove(&values).expect("the output depends on the values");
    holds(&dv, &gates.to_f64_vec()?)?;
    println!("the gradient of the values is the weights: true");

    // And the query learns where to look: to read 40 it turns down.
    let mut query = query.requires_grad()?;
    let mut optimizer = Optimizer::new(Adam { lr: 0.05, ..Adam::default() });
    let read = |query: &Tensor| query.matmul(&keys.t()?)?.softmax(-1)?.matmul(&values.detach());
    for _ in 0..100 {
        let loss = read(&query)?.sub(40.0)?.square()?.sum(..)?;
        optimizer.step(&mut query, &loss.backward()?)?;
    }
    let value = read(&query)?.item::<f64>()?;
    println!("memory, after the query has learned to read 40: {value:.1}");
    show(&names, &query.matmul(&keys.t()?)?.softmax(-1)?)?;
    assert!((value - 40.0).abs() < 0.05, "{value}");

    picture.save()
}
