//! Layers in f64: with PyTorch's parameters against its numbers, and with any parameters under gradcheck.
#![allow(dead_code)] // each test file uses its part

use rushlight::nn::{Module, Path, StateDict, state_from_torch};
use rushlight::{DType, Result, Tensor, gradcheck};

use super::reference::{Case, RefTensor, close};

/// A recorded tensor as one of ours.
pub fn tensor(r: &RefTensor) -> Tensor {
    let dtype = if r.dtype == "bool" { DType::Bool } else { DType::F64 };
    Tensor::from_vec(r.data.clone(), r.shape.clone()).unwrap().to_dtype(dtype).unwrap()
}

/// The module with parameters of `dtype`.
pub fn cast<M: Module>(mut module: M, dtype: DType) -> M {
    let mut cast = |_: &str, _, t: &mut Tensor| {
        *t = t.detach().to_dtype(dtype)?.requires_grad()?;
        Ok(())
    };
    module.visit_mut(&mut Path::default(), &mut cast).unwrap();
    module
}

/// The module with these parameters, in order.
pub fn with_parameters<M: Module>(mut module: M, parameters: &[Tensor]) -> Result<M> {
    let mut next = parameters.iter();
    module.visit_mut(&mut Path::default(), &mut |_, _, t| {
        *t = next.next().unwrap().clone();
        Ok(())
    })?;
    assert!(next.next().is_none());
    Ok(module)
}

/// Central differences by the inputs and every parameter of what `make` makes.
pub fn check_gradients<M: Module>(
    make: impl Fn() -> Result<M>,
    inputs: &[Tensor],
    f: impl Fn(&M, &[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    // Biases that start as 0 and weights that start as 1 would hide a mistake.
    let start = |t: &Tensor| t.to_dtype(DType::F64)?.detach().add(&Tensor::randn(t.shape(), DType::F64)?.mul(0.3)?);
    let parameters = make()?.parameters().iter().map(start).collect::<Result<Vec<_>>>()?;
    gradcheck(
        |x| {
            let (inputs, parameters) = x.split_at(inputs.len());
            f(&with_parameters(make()?, parameters)?, inputs)
        },
        &[inputs, &parameters].concat(),
        Default::default(),
    )
}

/// A recorded layer: outputs and the gradients of inputs and parameters. `f` gets the inputs, and masks by name, bools
/// turned from PyTorch's "hidden" to "seen" except for padding.
pub fn check<M: Module>(
    c: &Case,
    module: M,
    f: impl Fn(&M, &[Tensor], &dyn Fn(&str) -> Option<Tensor>) -> Result<Vec<Tensor>>,
) {
    let (names, masks) = (c.arg::<Vec<String>>("names"), c.arg::<Vec<String>>("masks"));
    let count = c.inputs.len() - names.len() - masks.len();
    let by_name = |values: &mut dyn Iterator<Item = &RefTensor>| -> StateDict {
        state_from_torch(&names.iter().cloned().zip(values.map(tensor)).collect()).unwrap()
    };
    let mut module = cast(module, DType::F64);
    module.load_state_dict(&by_name(&mut c.inputs[count..].iter())).unwrap();
    let x: Vec<Tensor> = c.inputs[..count].iter().map(|x| tensor(x).requires_grad().unwrap()).collect();
    let mask = |name: &str| {
        let at = masks.iter().position(|m| m == name)?;
        let mask = tensor(&c.inputs[count + names.len() + at]);
        let seen = mask.dtype() == DType::Bool && !name.contains("padding");
        Some(if seen { mask.logical_not().unwrap() } else { mask })
    };
    let y = f(&module, &x, &mask).unwrap_or_else(|e| panic!("{}: {e}", c.name()));
    assert_eq!(y.len(), c.outputs.len(), "{}", c.name());
    let mut total = Tensor::zeros((), DType::F64).unwrap();
    for (i, (y, (expected, sent))) in y.iter().zip(c.outputs.iter().zip(&c.grad_output)).enumerate() {
        assert_eq!(y.dims(), expected.shape, "{}: output {i}", c.name());
        same(&y.to_f64_vec().unwrap(), &expected.data, c, &format!("output {i}"));
        if let Some(sent) = sent {
            total = total.add(y.mul(tensor(sent)).unwrap().sum(..).unwrap()).unwrap();
        }
    }
    let grads = total.backward().unwrap();
    let found = |t: &Tensor| grads.get(t).map_or(vec![0.0; t.numel()], |g| g.to_f64_vec().unwrap());
    for (i, x) in x.iter().enumerate() {
        same(&found(x), &c.grads[i].as_ref().unwrap().data, c, &format!("gradient of input {i}"));
    }
    let expected = by_name(&mut c.grads[count..].iter().flatten());
    assert_eq!(module.parameters().len(), expected.len());
    for (name, parameter) in module.named_parameters() {
        same(&found(&parameter), &expected[&name].to_f64_vec().unwrap(), c, &format!("gradient of {name}"));
    }
}

#[track_caller]
fn same(got: &[f64], expected: &[f64], c: &Case, what: &str) {
    close(got, expected, 1e-9, 1e-11).unwrap_or_else(|e| panic!("{}: {what}: {e}", c.name()));
}
