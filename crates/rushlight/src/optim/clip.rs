//! Gradient clipping.

use crate::{Error, Gradients, Result, Tensor};

impl Gradients {
    /// The 2-norm of all gradients taken as one vector.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        // In the order of the leaves' ages, so that the sum is the same in every run.
        for grad in self.in_order() {
            total += grad.norm(2.0, ..)?.item::<f64>()?.powi(2);
        }
        Ok(total.sqrt())
    }

    /// Scales all gradients so that their common 2-norm is at most `max_norm`, and returns the norm before.
    ///
    /// PyTorch: `clip_grad_norm_` (with its 1e-6 in the denominator). Errors: `max_norm` below 0 or NaN.
    pub fn clip_norm(&mut self, max_norm: f64) -> Result<f64> {
        check("clip_norm", max_norm)?;
        let norm = self.norm()?;
        let scale = max_norm / (norm + 1e-6);
        if scale < 1.0 {
            self.scale(scale)?;
        }
        Ok(norm)
    }

    /// Cuts every gradient element to within ±`max`. PyTorch: `clip_grad_value_`.
    pub fn clip_value(&mut self, max: f64) -> Result<()> {
        check("clip_value", max)?;
        self.update(|g: &Tensor| g.clamp(-max, max))
    }
}

fn check(op: &'static str, bound: f64) -> Result<()> {
    if bound >= 0.0 { Ok(()) } else { Err(Error::invalid(op, format!("{bound} is no bound; expected 0 or more"))) }
}
