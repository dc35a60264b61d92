//! Steps that nothing can be learned from: the loss or a gradient is no number.

use rushlight::nn::Module;
use rushlight::{Gradients, Tensor};

use crate::Outcome;

/// What is wrong with a step, or `None`. The norm of the gradients is looked at before they are used: one that is no
/// number would make the weights such.
pub fn find(model: &impl Module, loss: f64, norm: f64, grads: &Gradients) -> Outcome<Option<BadStep>> {
    if loss.is_finite() && norm.is_finite() {
        return Ok(None);
    }
    let parameters = model.named_parameters();
    let first = |value: &dyn Fn(&Tensor) -> Option<Tensor>| -> Outcome<Option<String>> {
        for (name, tensor) in &parameters {
            let Some(value) = value(tensor) else { continue };
            if !value.detach().to_vec::<f32>()?.iter().all(|x| x.is_finite()) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    };
    let weight = first(&|p| Some(p.clone()))?;
    let gradient = first(&|p| grads.get(p).cloned())?;
    Ok(Some(BadStep { loss, weight, gradient }))
}

/// A step that nothing can be learned from.
pub struct BadStep {
    loss: f64,
    /// The first weight that is no number: then no other step will be better.
    weight: Option<String>,
    /// The first weight whose gradient is no number.
    gradient: Option<String>,
}

impl BadStep {
    /// Whether the next one may be better.
    pub fn can_skip(&self) -> bool {
        self.weight.is_none()
    }
}

impl std::fmt::Display for BadStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the loss is {}", self.loss)?;
        match (&self.weight, &self.gradient) {
            (Some(name), _) => write!(f, ", and {name} the first weight that is not finite"),
            (None, Some(name)) => write!(f, ", and {name} the first whose gradient is not finite"),
            (None, None) if self.loss.is_finite() => write!(f, ", and the norm of all gradients is not finite"),
            (None, None) => write!(f, ", with every weight and gradient finite"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Config, Run, Task};
    use crate::train::Start;
    use crate::train::session::{Score, Test, Training, fit};
    use rushlight::nn::{Layer, Linear};

    /// Four steps of pulling the outputs to 0; in the second the batch is no number.
    struct Pull;

    impl Training for Pull {
        type Model = Linear;

        fn summary(&self) -> String {
            "four steps".to_string()
        }

        fn batches(&self, _: usize) -> usize {
            4
        }

        fn epoch(&self, _: usize, from: usize) -> Box<dyn Iterator<Item = rushlight::Result<Vec<Tensor>>> + '_> {
            let value = |i| if i == 1 { f32::NAN } else { 1.0 };
            Box::new((from..4).map(move |i| Ok(vec![Tensor::new([[value(i)]])?])))
        }

        fn score(&self, model: &Linear, batch: &[Tensor]) -> Outcome<Score> {
            Ok(Score { loss: model.forward(&batch[0])?.square()?.mean(..)?, right: 0, seen: 1 })
        }

        fn measure(&self, _: &mut Linear) -> Outcome<Test> {
            Ok(Test { loss: 0.0, accuracy: 0.0 })
        }
    }

    #[test]
    fn a_bad_step_stops_a_training_or_is_left_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let task = Task::Points { set: "xor".into(), count: 16, widths: vec![2, 2] };
        let version = env!("CARGO_PKG_VERSION").to_string();
        let classes = vec!["0".into(), "1".into()];
        let config = Config { version, task, epochs: 1, batch: 4, lr: 0.1, seed: 0, classes };
        let train = |name: &str, skip_bad_steps| {
            let run = Run::new(&dir.path().join(name), config.clone()).unwrap();
            let mut model = Linear::new(1, 1).unwrap();
            let said = fit(
                &run,
                &Pull,
                &mut model,
                Start { resume: false, skip_bad_steps, shard_optimizer: false, world: None },
            );
            (said.map_err(|e| e.to_string()), model, run)
        };
        let (said, ..) = train("stopped", false);
        let message = said.unwrap_err();
        let parts = ["the loss is NaN", "weight the first whose gradient", "at step 1", "checkpoint.safetensors"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");

        let (said, model, run) = train("skipped", true);
        assert!(said.unwrap().is_some() && model.weight.to_vec::<f32>().unwrap()[0].is_finite());
        assert_eq!(
            run.read_metrics().unwrap().iter().filter(|m| matches!(m, crate::run::Metric::Step { .. })).count(),
            3
        );

        // Weights that are no numbers are not left behind by going on.
        let mut model = Linear::new(1, 1).unwrap();
        model.bias = Some(Tensor::new([f32::INFINITY]).unwrap().requires_grad().unwrap());
        let loss = model.forward(&Tensor::new([[1f32]]).unwrap()).unwrap().sum(..).unwrap();
        let grads = loss.backward().unwrap();
        let bad = find(&model, f64::INFINITY, 1.0, &grads).unwrap().unwrap();
        assert!(!bad.can_skip() && bad.to_string().contains("bias the first weight that is not finite"), "{bad}");
        assert!(find(&model, 1.0, 1.0, &grads).unwrap().is_none());
    }
}
