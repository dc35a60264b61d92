//! A small example, computed when it is asked for: the output, the gradients by autodiff, and the slopes they must equal.

use rushlight::{Result, Tensor, grad};

use crate::Outcome;

/// A function of named inputs. It must say the same whenever it is asked.
pub type Function = fn(&[Tensor]) -> Result<Tensor>;

/// What is to be computed.
pub struct Worked {
    /// The output, as text.
    pub output: &'static str,
    pub f: Function,
    /// Names, shapes and elements.
    pub inputs: &'static [(&'static str, &'static [usize], &'static [f64])],
    /// The gradient of the output, from which those of the inputs are computed.
    pub dy: &'static [f64],
    /// Other ways to write the same function.
    pub same: &'static [(&'static str, Function)],
}

/// What came out.
pub struct Numbers {
    pub inputs: Vec<(&'static str, Tensor)>,
    pub y: Tensor,
    pub same: Vec<(&'static str, Tensor)>,
    pub dy: Tensor,
    /// The gradient of each input.
    pub gradients: Vec<Tensor>,
    /// How far the gradients are from central differences, at most.
    pub apart: f64,
}

impl Worked {
    pub fn compute(&self) -> Result<Numbers> {
        let inputs = self
            .inputs
            .iter()
            .map(|(_, shape, data)| Tensor::from_slice::<f64>(data, *shape)?.requires_grad())
            .collect::<Result<Vec<Tensor>>>()?;
        let y = (self.f)(&inputs)?;
        let dy = Tensor::from_slice::<f64>(self.dy, y.shape())?;
        let loss = |y: &Tensor| y.mul(&dy)?.sum(..);
        let leaves: Vec<&Tensor> = inputs.iter().collect();
        let gradients = grad(&[&loss(&y)?], &leaves, false)?;
        let gradients = gradients
            .into_iter()
            .zip(&inputs)
            .map(|(g, x)| g.map_or_else(|| x.zeros_like(), Ok))
            .collect::<Result<Vec<Tensor>>>()?;

        let (mut apart, eps) = (0f64, 1e-5);
        for (i, gradient) in gradients.iter().enumerate() {
            for (at, slope) in gradient.to_f64_vec()?.into_iter().enumerate() {
                let moved = |by: f64| -> Result<f64> {
                    let mut inputs: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
                    let mut data = inputs[i].to_f64_vec()?;
                    data[at] += by;
                    inputs[i] = Tensor::from_slice(&data, inputs[i].shape())?;
                    loss(&(self.f)(&inputs)?)?.item()
                };
                apart = apart.max((slope - (moved(eps)? - moved(-eps)?) / (2.0 * eps)).abs());
            }
        }
        let same = self.same.iter().map(|(name, f)| Ok((*name, f(&inputs)?))).collect::<Result<_>>()?;
        let inputs = self.inputs.iter().map(|(name, ..)| *name).zip(inputs).collect();
        Ok(Numbers { inputs, y, same, dy, gradients, apart })
    }

    pub fn print(&self) -> Outcome {
        let numbers = self.compute()?;
        let mut rows: Vec<(String, &Tensor)> = vec![];
        rows.extend(numbers.inputs.iter().map(|(name, x)| (name.to_string(), x)));
        rows.push((format!("y = {}", self.output), &numbers.y));
        rows.extend(numbers.same.iter().map(|(name, y)| (format!("  = {name}"), y)));
        rows.push(("dy".to_string(), &numbers.dy));
        rows.extend(numbers.inputs.iter().zip(&numbers.gradients).map(|((name, _), dx)| (format!("d{name}"), dx)));
        let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        for (label, tensor) in rows {
            let values = tensor.to_f64_vec()?;
            let columns = tensor.dims().last().copied().unwrap_or(1).max(1);
            for (i, row) in values.chunks(columns).enumerate() {
                // Adding 0 turns −0 into 0.
                let row: String = row.iter().map(|v| format!("{:>8.3}", (v * 1e3).round() / 1e3 + 0.0)).collect();
                say!("  {:<width$}{row}", if i == 0 { label.as_str() } else { "" });
            }
        }
        say!("  (central differences give the same gradients, to {:.0e})", numbers.apart.max(1e-12));
        Ok(())
    }
}
