//! Checking gradients against central differences.

use crate::{DType, Error, Result, Tensor, grad, no_grad};

/// How [`gradcheck`] compares; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug)]
pub struct GradCheck {
    /// The step of the central difference.
    pub eps: f64,
    /// Absolute tolerance.
    pub atol: f64,
    /// Relative tolerance.
    pub rtol: f64,
    /// Adds uniform noise of this size to the inputs first: at a tie of `max` or at `relu(0)` the difference
    /// quotient has no single limit, and a little noise moves the inputs off it.
    pub perturb: f64,
}

impl Default for GradCheck {
    fn default() -> Self {
        GradCheck { eps: 1e-6, atol: 1e-5, rtol: 1e-3, perturb: 0.0 }
    }
}

/// Checks the gradients that `f` records against central differences, at `inputs` (f64), for every output element.
///
/// Each Jacobian entry is compared: `|analytic − numeric| ≤ atol + rtol·|numeric|`. PyTorch:
/// `torch.autograd.gradcheck`.
///
/// ```
/// # use rushlight::{DType, Tensor, gradcheck};
/// let x = Tensor::randn([2, 3], DType::F64)?;
/// gradcheck(|x| x[0].softmax(1), &[x], Default::default())?;
/// # Ok::<(), rushlight::Error>(())
/// ```
/// Errors: a gradient that differs (with the place and both values); inputs that are not f64; an error of `f`.
pub fn gradcheck(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], options: GradCheck) -> Result<()> {
    let inputs = prepare("gradcheck", inputs, options.perturb)?;
    let output = f(&inputs)?;
    if !output.dtype().is_float() {
        return Err(Error::dtype("gradcheck", output.dtype(), "expected a float output"));
    }
    let analytic = jacobian(&output, &inputs)?;
    compare(|x| f(x)?.to_f64_vec(), &inputs, output.numel(), &analytic, options, "gradient")
}

/// Checks second gradients: that the gradient of `f`, as a function of its inputs and of a random cotangent, passes
/// [`gradcheck`].
///
/// PyTorch: `torch.autograd.gradgradcheck`.
pub fn gradgradcheck(f: impl Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor], options: GradCheck) -> Result<()> {
    let mut inputs = prepare("gradgradcheck", inputs, options.perturb)?;
    // The cotangent is an input too: a rule that loses its gradient by `dy` is found out.
    let cotangent = no_grad(|| f(&inputs))?.randn_like()?.to_dtype(DType::F64)?.requires_grad()?;
    inputs.push(cotangent);
    // All first gradients in one flat tensor, as a function of the inputs.
    let first = |all: &[Tensor]| -> Result<Tensor> {
        let leaf = |t: &Tensor| if t.is_tracked() { Ok(t.clone()) } else { t.requires_grad() };
        let all: Vec<Tensor> = all.iter().map(leaf).collect::<Result<_>>()?;
        let (x, cotangent) = all.split_at(all.len() - 1);
        let y = f(x)?.mul(&cotangent[0])?.sum(..)?;
        let refs: Vec<&Tensor> = x.iter().collect();
        let grads = grad(&[&y], &refs, true)?;
        let flat = grads
            .into_iter()
            .zip(x)
            .map(|(g, x)| g.map_or_else(|| x.zeros_like(), Ok)?.reshape(-1))
            .collect::<Result<Vec<_>>>()?;
        Tensor::cat(&flat, 0)
    };
    let output = first(&inputs)?;
    let analytic = jacobian(&output, &inputs)?;
    compare(|x| first(x)?.to_f64_vec(), &inputs, output.numel(), &analytic, options, "second gradient")
}

/// Fresh tracked leaves with the values (and strides) of `inputs`.
fn prepare(op: &'static str, inputs: &[Tensor], perturb: f64) -> Result<Vec<Tensor>> {
    inputs
        .iter()
        .map(|x| {
            if x.dtype() != DType::F64 {
                return Err(Error::dtype(op, x.dtype(), "central differences need f64 inputs"));
            }
            let x = x.detach();
            let x = if perturb > 0.0 { x.add(&Tensor::uniform(x.shape(), -perturb, perturb, DType::F64)?)? } else { x };
            x.requires_grad()
        })
        .collect()
}

/// Row `i` holds the gradients of output element `i` with respect to all inputs, flattened.
fn jacobian(output: &Tensor, inputs: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let refs: Vec<&Tensor> = inputs.iter().collect();
    (0..output.numel())
        .map(|i| {
            if !output.is_tracked() {
                // A function that does not depend on its inputs has gradient zero.
                return Ok(vec![0.0; inputs.iter().map(Tensor::numel).sum()]);
            }
            let element = output.reshape(-1)?.select(0, i as i64)?;
            let grads = grad(&[&element], &refs, false)?;
            let mut row = vec![];
            for (g, x) in grads.iter().zip(inputs) {
                match g {
                    Some(g) => row.extend(g.to_vec::<f64>()?),
                    None => row.extend(std::iter::repeat_n(0.0, x.numel())),
                }
            }
            Ok(row)
        })
        .collect()
}

fn compare(
    f: impl Fn(&[Tensor]) -> Result<Vec<f64>>,
    inputs: &[Tensor],
    outputs: usize,
    analytic: &[Vec<f64>],
    options: GradCheck,
    what: &str,
) -> Result<()> {
    let mut column = 0;
    for (k, x) in inputs.iter().enumerate() {
        let values = x.to_vec::<f64>()?;
        for j in 0..values.len() {
            let at = |value: f64| -> Result<Vec<f64>> {
                let mut v = values.clone();
                v[j] = value;
                let mut moved: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
                moved[k] = Tensor::from_vec(v, x.shape())?;
                f(&moved)
            };
            let (up, down) = (at(values[j] + options.eps)?, at(values[j] - options.eps)?);
            if up.len() != outputs || down.len() != outputs {
                return Err(Error::gradient("gradcheck", "the output's shape depends on the input's values"));
            }
            for i in 0..outputs {
                let numeric = (up[i] - down[i]) / (2.0 * options.eps);
                let got = analytic[i][column + j];
                let close = (got - numeric).abs() <= options.atol + options.rtol * numeric.abs();
                let undefined = got.is_nan() && numeric.is_nan();
                if !close && !undefined {
                    let message = format!(
                        "{what} of output {i} by element {j} of input {k} is {got:.9e}, central difference {numeric:.9e}"
                    );
                    return Err(Error::gradient("gradcheck", message));
                }
            }
        }
        column += values.len();
    }
    Ok(())
}
