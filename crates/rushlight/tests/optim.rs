//! What an optimizer does besides its formula: groups, missing gradients, memory, states. The formulas are compared with
//! PyTorch's steps in `pytorch.rs`.

use rushlight::nn::{Layer, Linear, Module, Relu, Sequential};
use rushlight::optim::{Adagrad, Adam, AdamW, Algorithm, Group, Optimizer, RmsProp, Sgd, Shard};
use rushlight::{DType, Gradients, Result, Tensor, random};

fn model() -> Result<Sequential> {
    random::manual_seed(3);
    Ok(Sequential::new().push(Linear::new(2, 4)?).push(Relu).push(Linear::new(4, 1)?))
}

fn loss(model: &Sequential, rows: std::ops::Range<usize>) -> Result<Tensor> {
    let x = Tensor::arange(0.0, 16.0, 1.0, DType::F32)?.div(8.0)?.reshape([8, 2])?;
    let y = model.forward(&x.narrow(0, rows.start, rows.len())?)?;
    y.sub(1.0)?.square()?.sum(..)
}

fn values(model: &impl Module) -> Result<Vec<Vec<f32>>> {
    model.parameters().iter().map(Tensor::to_vec).collect()
}

#[test]
fn groups_have_settings_of_their_own() -> Result<()> {
    let mut model = model()?;
    let before = values(&model)?;
    let group = |names: &[&str], lr_scale, weight_decay| Group {
        names: names.iter().map(|n| n.to_string()).collect(),
        lr_scale,
        weight_decay,
    };
    let mut optimizer = Optimizer::new(Sgd { lr: 0.5, weight_decay: 0.25, ..Sgd::default() })
        .with_group(group(&["0.*"], Some(0.0), None))
        .with_group(group(&["*.bias"], None, Some(0.0)));
    // Gradients of zero leave the decay alone to move a weight.
    let mut grads = Gradients::new();
    for p in model.parameters() {
        grads.insert(&p, p.zeros_like()?)?;
    }
    optimizer.step(&mut model, &grads)?;
    let after = values(&model)?;
    assert_eq!((&after[0], &after[1], &after[3]), (&before[0], &before[1], &before[3]));
    let decayed: Vec<f32> = before[2].iter().map(|w| w - 0.5 * 0.25 * w).collect();
    assert_eq!(after[2], decayed);
    Ok(())
}

#[test]
fn a_missing_gradient_is_named_and_nothing_moves() -> Result<()> {
    let mut model = model()?;
    let before = values(&model)?;
    let mut grads = loss(&model, 0..8)?.backward()?;
    grads.remove(&model.parameters()[3]);
    let mut optimizer = Optimizer::new(Adam::default());
    let message = optimizer.step(&mut model, &grads).unwrap_err().to_string();
    assert!(message.contains("no gradient for 2.bias") && message.contains("allow_missing"), "{message}");
    assert_eq!(values(&model)?, before);
    let mut optimizer = optimizer.allow_missing(true);
    optimizer.step(&mut model, &grads)?;
    assert!(values(&model)?[0] != before[0] && values(&model)?[3] == before[3]);
    // A frozen parameter needs none.
    model.set_requires_grad(false)?;
    Optimizer::new(Sgd::default()).step(&mut model, &Gradients::new())
}

#[test]
fn a_value_that_somebody_holds_is_left_alone() -> Result<()> {
    let mut model = model()?;
    let held = model.state_dict();
    let before = held["0.weight"].to_vec::<f32>()?;
    let grads = loss(&model, 0..8)?.backward()?;
    Optimizer::new(Sgd { lr: 0.1, ..Sgd::default() }).step(&mut model, &grads)?;
    assert_eq!(held["0.weight"].to_vec::<f32>()?, before);
    assert_ne!(values(&model)?[0], before);
    Ok(())
}

#[test]
fn gradients_of_parts_add_up_to_that_of_the_whole() -> Result<()> {
    let (mut a, mut b) = (model()?, model()?);
    let mut parts = loss(&a, 0..3)?.backward()?;
    parts.accumulate(loss(&a, 3..8)?.backward()?)?;
    let whole = loss(&b, 0..8)?.backward()?;
    for (model, grads) in [(&mut a, parts), (&mut b, whole)] {
        Optimizer::new(Sgd { lr: 0.01, ..Sgd::default() }).step(model, &grads)?;
    }
    for (a, b) in values(&a)?.concat().iter().zip(values(&b)?.concat()) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }
    Ok(())
}

#[test]
fn a_saved_state_goes_on_to_the_same_bits() -> Result<()> {
    let algorithms: [Algorithm; 6] = [
        Sgd { momentum: 0.9, nesterov: true, ..Sgd::default() }.into(),
        Adam { amsgrad: true, ..Adam::default() }.into(),
        AdamW::default().into(),
        RmsProp { centered: true, momentum: 0.5, ..RmsProp::default() }.into(),
        Adagrad { lr_decay: 0.1, ..Adagrad::default() }.into(),
        Sgd::default().into(),
    ];
    for algorithm in algorithms {
        let mut model = model()?;
        let mut optimizer = Optimizer::new(algorithm);
        let run = |model: &mut Sequential, optimizer: &mut Optimizer| -> Result<()> {
            for _ in 0..3 {
                let grads = loss(model, 0..8)?.backward()?;
                optimizer.step(model, &grads)?;
            }
            Ok(())
        };
        run(&mut model, &mut optimizer)?;
        let (weights, state) = (model.state_dict(), optimizer.state_dict()?);
        run(&mut model, &mut optimizer)?;
        let expected = values(&model)?;
        let (mut again, mut optimizer) = (self::model()?, Optimizer::new(algorithm));
        again.load_state_dict(&weights)?;
        optimizer.load_state_dict(&state)?;
        run(&mut again, &mut optimizer)?;
        assert_eq!(values(&again)?, expected, "{algorithm:?}");
        // And a state of something else is refused.
        let mut bad = state.clone();
        bad.insert("0.weight.momentous".into(), Tensor::zeros((), DType::F32)?);
        let message = optimizer.load_state_dict(&bad).unwrap_err().to_string();
        assert!(message.contains("0.weight.momentous"), "{message}");
    }
    Ok(())
}

#[test]
fn shards_together_update_as_one_optimizer_does() -> Result<()> {
    for algorithm in [Algorithm::from(AdamW::default()), Sgd { momentum: 0.9, ..Sgd::default() }.into()] {
        let mut whole = model()?;
        let mut optimizer = Optimizer::new(algorithm);
        let mut parts = (0..3).map(|_| model()).collect::<Result<Vec<_>>>()?;
        let shards = [0, 1, 2].map(|i| Shard::new(i, 3).unwrap());
        let mut optimizers = shards.map(|shard| Optimizer::new(algorithm).with_shard(shard));
        for step in 0..4 {
            let grads = loss(&whole, 0..8)?.backward()?;
            optimizer.step(&mut whole, &grads)?;
            // Each updates its part of every parameter, and they give each other what they have.
            let mut updated = vec![];
            for (model, optimizer) in parts.iter_mut().zip(&mut optimizers) {
                optimizer.step(model, &loss(model, 0..8)?.backward()?)?;
                updated.push(values(model)?);
            }
            let mut state = parts[0].state_dict();
            for (i, (_, p)) in whole.named_parameters().iter().enumerate() {
                let joined: Vec<f32> =
                    (0..3).flat_map(|r| updated[r][i][shards[r].range(p.numel())].to_vec()).collect();
                let name = &whole.named_parameters()[i].0;
                state.insert(name.clone(), Tensor::from_vec(joined, p.dims().to_vec())?);
            }
            parts.iter_mut().try_for_each(|model| model.load_state_dict(&state))?;
            assert_eq!(values(&parts[1])?, values(&whole)?, "step {step}");
            // A state is as long as its part; a saved whole one is cut to it.
            let saved = optimizer.state_dict()?;
            let before = optimizers[1].state_dict()?;
            optimizers[1] = Optimizer::new(algorithm).with_shard(shards[1]);
            optimizers[1].load_state_dict(&saved)?;
            for (name, state) in optimizers[1].state_dict()? {
                assert_eq!(state.to_f64_vec()?, before[&name].to_f64_vec()?, "{name}");
                let n = saved[&name].numel();
                assert!(name.ends_with(".step") || state.numel() == shards[1].range(n).len(), "{name}");
            }
        }
    }
    assert!(Shard::new(3, 3).is_err() && Shard::new(0, 0).is_err());
    Ok(())
}
