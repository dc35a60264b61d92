//! The library against PyTorch's numbers: values and gradients of every operation, every step of the optimizers, and
//! schedules. `reference/make.py` makes the numbers.

#[path = "common/pytorch_ops.rs"]
mod pytorch_ops;
#[path = "common/reference.rs"]
mod reference;

use pytorch_ops::{run, tensor};
use reference::{Case, close, load};
use rushlight::nn::init::{Gain, fans};
use rushlight::nn::{Linear, Module};
use rushlight::optim::{Adagrad, Adam, AdamW, Optimizer, ReduceOnPlateau, RmsProp, Schedule, Sgd};
use rushlight::{Gradients, Shape, Tensor};

/// Where the library differs from PyTorch on purpose: the operation, a part of the message, and why.
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("clamp", "grad", "at a bound the gradient passes, as it does in PyTorch with one bound"),
    ("sign", "output", "NaN propagates; PyTorch gives 0"),
    ("step", "output", "NaN propagates; PyTorch gives 0"),
    ("powf", "output", "C's pow: (-inf)^0.5 and (-0.0)^-0.5 are +inf"),
];

fn check(c: &Case) -> Result<(), String> {
    let leaf = |(i, r): (usize, &reference::RefTensor)| {
        let t = tensor(r);
        if matches!(c.grads.get(i), Some(Some(_))) { t.requires_grad().map_err(|e| e.to_string()) } else { Ok(t) }
    };
    let x: Vec<Tensor> = c.inputs.iter().enumerate().map(leaf).collect::<Result<_, _>>()?;
    let y = run(c, &x).map_err(|e| format!("error: {e}"))?.ok_or("no such operation in pytorch_ops.rs")?;
    for (i, (y, expected)) in y.iter().zip(&c.outputs).enumerate() {
        if y.dims() != expected.shape {
            return Err(format!("output {i} has shape {}, expected {:?}", y.shape(), expected.shape));
        }
        let values = y.to_f64_vec().map_err(|e| e.to_string())?;
        close(&values, &expected.data, 1e-10, 1e-12).map_err(|m| format!("output {i}: {m}"))?;
    }
    gradients(c, &x, &y)
}

/// The gradients of `Σ output · cotangent`.
fn gradients(c: &Case, x: &[Tensor], y: &[Tensor]) -> Result<(), String> {
    let total = || -> rushlight::Result<Option<Tensor>> {
        let mut total: Option<Tensor> = None;
        for (y, g) in y.iter().zip(&c.grad_output) {
            if let Some(g) = g {
                let part = y.mul(tensor(g))?.sum(..)?;
                total = Some(total.map_or(Ok(part.clone()), |t| t.add(&part))?);
            }
        }
        Ok(total)
    };
    let Some(total) = total().map_err(|e| e.to_string())? else { return Ok(()) };
    let grads = total.backward().map_err(|e| format!("backward: {e}"))?;
    for (i, (x, expected)) in x.iter().zip(&c.grads).enumerate() {
        let Some(expected) = expected else { continue };
        let zero = vec![0.0; expected.data.len()];
        let got = grads.get(x).map_or(Ok(zero), Tensor::to_f64_vec).map_err(|e| e.to_string())?;
        close(&got, &expected.data, 1e-9, 1e-11).map_err(|m| format!("grad {i}: {m}"))?;
    }
    Ok(())
}

/// Runs all cases of a file, and fails once with all that differ.
fn all(file: &str, at_least: usize) {
    let cases = load(file);
    assert!(cases.len() >= at_least, "{file}.json has {} cases", cases.len());
    let mut failed = vec![];
    for c in &cases {
        if let Err(message) = check(c) {
            let known = DIFFERENT.iter().any(|(op, part, _)| *op == c.op && message.starts_with(part));
            if !known {
                failed.push(format!("{}{}: {message}", if c.edge { "edge " } else { "" }, c.name()));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases of {file}.json differ:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

#[test]
fn elementwise() {
    all("elementwise", 100);
}

#[test]
fn reduce() {
    all("reduce", 100);
}

#[test]
fn matmul() {
    all("matmul", 29);
}

#[test]
fn index() {
    all("index", 57);
}

#[test]
fn view() {
    all("view", 20);
}

#[test]
fn softmax_and_pooling() {
    all("softmax_pool", 126);
}

#[test]
fn conv() {
    all("conv", 34);
}

#[test]
fn attention() {
    all("attention", 30);
}

#[test]
fn loss() {
    all("loss", 134);
}

#[test]
fn norm() {
    all("norm", 38);
}

fn optimizer(c: &Case) -> Optimizer {
    let settings = serde_json::Value::Object(c.args.clone());
    match c.op.as_str() {
        "sgd" => Optimizer::new(serde_json::from_value::<Sgd>(settings).unwrap()),
        "adam" => Optimizer::new(serde_json::from_value::<Adam>(settings).unwrap()),
        "adamw" => Optimizer::new(serde_json::from_value::<AdamW>(settings).unwrap()),
        "rmsprop" => Optimizer::new(serde_json::from_value::<RmsProp>(settings).unwrap()),
        "adagrad" => Optimizer::new(serde_json::from_value::<Adagrad>(settings).unwrap()),
        other => panic!("no optimizer {other}"),
    }
}

#[test]
fn every_step_of_the_optimizers() {
    let cases = load("optim");
    let mut steps = 0;
    for c in cases.iter().filter(|c| !c.op.starts_with("clip")) {
        let mut optimizer = optimizer(c);
        let mut model = Linear::without_bias(3, 2).unwrap();
        model.weight = tensor(c.start.as_ref().unwrap()).requires_grad().unwrap();
        for (i, (grad, expected)) in c.grads.iter().zip(&c.params).enumerate() {
            if let Some(&lr) = c.lrs.get(i) {
                optimizer.set_lr(lr);
            }
            // Through its own saved state after each step, so that a resumed run takes the same steps.
            let state = optimizer.state_dict().unwrap();
            optimizer.load_state_dict(&state).unwrap();
            let mut grads = Gradients::new();
            grads.insert(&model.weight, tensor(grad.as_ref().unwrap())).unwrap();
            optimizer.step(&mut model, &grads).unwrap();
            let values = model.weight.to_f64_vec().unwrap();
            close(&values, &expected.data, 1e-10, 1e-14).unwrap_or_else(|e| panic!("{} step {i}: {e}", c.name()));
            steps += 1;
        }
        assert_eq!(model.parameters().len(), 1);
    }
    assert!(steps >= 200, "{steps} steps");
}

#[test]
fn clipping() {
    for c in load("optim").iter().filter(|c| c.op.starts_with("clip")) {
        let leaves: Vec<Tensor> = c.inputs.iter().map(|i| tensor(i).requires_grad().unwrap()).collect();
        let mut grads = Gradients::new();
        leaves.iter().zip(&c.inputs).for_each(|(x, i)| grads.insert(x, tensor(i)).unwrap());
        if c.op == "clip_norm" {
            let norm = grads.clip_norm(c.arg("max_norm")).unwrap();
            close(&[norm], &[c.norm.unwrap()], 1e-10, 0.0).unwrap();
        } else {
            grads.clip_value(c.arg("max")).unwrap();
        }
        for (x, expected) in leaves.iter().zip(&c.outputs) {
            let got = grads.get(x).unwrap().to_f64_vec().unwrap();
            close(&got, &expected.data, 1e-10, 1e-14).unwrap_or_else(|e| panic!("{}: {e}", c.name()));
        }
    }
}

#[test]
fn schedules() {
    for c in load("schedule") {
        let by = |s: Schedule| (0..c.factors.len()).map(|i| s.factor(i)).collect::<Vec<f64>>();
        let got = match c.op.as_str() {
            "plateau" => {
                let mut plateau = ReduceOnPlateau {
                    factor: c.arg("factor"),
                    patience: c.arg("patience"),
                    threshold: c.arg("threshold"),
                    cooldown: c.arg("cooldown"),
                    min_lr: c.arg("min_lr"),
                    ..ReduceOnPlateau::default()
                };
                let mut lr = 1.0;
                let mut step = |loss: &f64| {
                    lr = plateau.step(*loss, lr);
                    lr
                };
                c.arg::<Vec<f64>>("losses").iter().map(&mut step).collect()
            }
            "cosine_annealing" => by(Schedule::Cosine { warmup: 0, total: c.arg("total"), end: c.arg("end") }),
            "linear_lr" => by(Schedule::Linear { warmup: 0, total: c.arg("total"), end: c.arg("end") }),
            name => {
                let mut settings = c.args.clone();
                settings.insert("name".into(), name.replace('_', "").into());
                by(serde_json::from_value(serde_json::Value::Object(settings))
                    .unwrap_or_else(|e| panic!("{name}: {e}")))
            }
        };
        close(&got, &c.factors, 1e-10, 1e-12).unwrap_or_else(|e| panic!("{}: {e}", c.name()));
    }
}

#[test]
fn initial_values() {
    let mut seen = 0;
    for c in load("init") {
        match c.op.as_str() {
            "fans" => {
                let (fan_in, fan_out) = fans(&Shape::from(c.arg::<Vec<usize>>("shape"))).unwrap();
                assert_eq!(
                    [fan_in as f64, fan_out as f64],
                    [c.outputs[0].data[0], c.outputs[1].data[0]],
                    "{}",
                    c.name()
                );
            }
            "gain" => {
                let gain = match c.arg::<String>("nonlinearity").as_str() {
                    "linear" => Gain::Linear,
                    "sigmoid" => Gain::Sigmoid,
                    "tanh" => Gain::Tanh,
                    "relu" => Gain::Relu,
                    "selu" => Gain::Selu,
                    _ => Gain::LeakyRelu(c.arg("slope")),
                };
                close(&[gain.value()], &c.outputs[0].data, 1e-12, 0.0).unwrap_or_else(|e| panic!("{}: {e}", c.name()));
            }
            _ => continue,
        }
        seen += 1;
    }
    assert!(seen > 5);
}
