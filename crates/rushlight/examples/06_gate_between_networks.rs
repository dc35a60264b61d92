//! A gate between two networks learns which of them is useful, and the gradient flows to that one.
//!
//! The output is `first(a) · σ(r) + second(b) · (1 − σ(r))`. Whether the target is 1 depends on one of the inputs; the other
//! is noise. Networks and gate are trained together, once for each way round. The share of the gradient is that over the
//! steps since the last line.
//!
//! ```text
//! the first network sees what is useful
//! step   0  loss 0.69  to the first  60% of the gradient  gate 0.50 ██████████
//! step 100  loss 0.07  to the first  88% of the gradient  gate 0.88 █████████████████▌
//! step 200  loss 0.04  to the first  96% of the gradient  gate 0.92 ██████████████████▍
//! step 300  loss 0.03  to the first  97% of the gradient  gate 0.93 ██████████████████▋
//! the second network sees what is useful
//! step   0  loss 0.70  to the first  38% of the gradient  gate 0.50 ██████████
//! step 100  loss 0.07  to the first  12% of the gradient  gate 0.14 ██▊
//! step 200  loss 0.04  to the first   5% of the gradient  gate 0.09 █▉
//! step 300  loss 0.03  to the first   5% of the gradient  gate 0.08 █▋
//! ```

mod common;

use common::{BLUE, ORANGE, Picture, bar};
use rushlight::loss::{Reduction, binary_cross_entropy_with_logits};
use rushlight::nn::{Layer, Linear, Module, Sequential, Tanh};
use rushlight::optim::{Adam, Optimizer};
use rushlight::{DType, Gradients, Result, Tensor, random};

/// Two networks, each with an input of its own, and the score of the gate between them.
#[derive(Module)]
struct Gated {
    first: Sequential,
    second: Sequential,
    r: Tensor,
}

impl Gated {
    fn new() -> Result<Gated> {
        let small = || -> Result<Sequential> {
            Ok(Sequential::new().push(Linear::new(1, 16)?).push(Tanh).push(Linear::new(16, 1)?))
        };
        Ok(Gated { first: small()?, second: small()?, r: Tensor::zeros((), DType::F32)?.requires_grad()? })
    }

    /// `a, b: [N, 1]` to `[N, 1]`: first(a) · σ(r) + second(b) · (1 − σ(r))
    fn forward(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.first.forward(a)?.gate(&self.second.forward(b)?, &self.r)
    }
}

/// The length of all gradients of a network together.
fn size(grads: &Gradients, network: &Sequential) -> Result<f64> {
    let mut sum = 0.0;
    for w in network.parameters() {
        sum += grads.get(&w).map_or(Ok(0.0), |g| g.square()?.sum(..)?.item::<f64>())?;
    }
    Ok(sum.sqrt())
}

/// Trains from the start and returns how far the gate stood open for the first network, step by step.
fn train(a: &Tensor, b: &Tensor, target: &Tensor) -> Result<Vec<f64>> {
    let mut model = Gated::new()?;
    let mut optimizer = Optimizer::new(Adam { lr: 0.02, ..Adam::default() });
    let (mut opened, mut flow) = (vec![], (0.0, 0.0));
    for step in 0..=300 {
        let loss = binary_cross_entropy_with_logits(&model.forward(a, b)?, target, None, None, Reduction::Mean)?;
        let grads = loss.backward()?;
        let open = model.r.sigmoid()?.item::<f64>()?;
        flow = (flow.0 + size(&grads, &model.first)?, flow.1 + size(&grads, &model.second)?);
        if step % 100 == 0 {
            let (loss, bar) = (loss.item::<f64>()?, bar(open, 20));
            let share = 100.0 * flow.0 / (flow.0 + flow.1);
            println!(
                "step {step:>3}  loss {loss:.2}  to the first {share:>3.0}% of the gradient  gate {open:.2} {bar}"
            );
            flow = (0.0, 0.0);
        }
        opened.push(open);
        optimizer.step(&mut model, &grads)?;
    }
    Ok(opened)
}

fn main() -> Result<()> {
    random::manual_seed(0);
    // One input says what the target is, the other has nothing to do with it.
    let useful = Tensor::uniform([256, 1], -1.0, 1.0, DType::F32)?;
    let useless = Tensor::uniform([256, 1], -1.0, 1.0, DType::F32)?;
    let target = useful.abs()?.gt(0.5)?.to_dtype(DType::F32)?;

    println!("the first network sees what is useful");
    let first = train(&useful, &useless, &target)?;
    println!("the second network sees what is useful");
    let second = train(&useless, &useful, &target)?;
    let (opened, shut) = (first[300], second[300]);
    assert!(opened > 0.9 && shut < 0.1, "{opened} {shut}");

    let mut picture = Picture::new(560.0, 230.0);
    let points = |y: Vec<f64>| y.into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect::<Vec<_>>();
    picture.text(170.0, 28.0, "σ(r) over the steps; useful is");
    picture.text_in(BLUE, 315.0, 28.0, "the first");
    picture.text_in(ORANGE, 385.0, 28.0, "the second");
    picture.plot(
        (40.0, 45.0),
        (480.0, 150.0),
        (0.0, 300.0),
        (0.0, 1.0),
        &[(BLUE, points(first)), (ORANGE, points(second))],
    );
    for (i, label) in ["step 0", "150", "300"].iter().enumerate() {
        picture.text(40.0 + 240.0 * i as f64, 215.0, label);
    }
    picture.text(25.0, 50.0, "1");
    picture.text(25.0, 200.0, "0");
    picture.save()
}
