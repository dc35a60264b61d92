//! The library's optimizers over a list of Python's parameters.

use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rushlight::nn::{Description, Kind, Module, Path, StateDict, Visitor, VisitorMut};
use rushlight::optim::{Adagrad, Adam, AdamW, Algorithm, Optimizer, RmsProp, Sgd};
use rushlight::{Gradients, Result, Tensor};

use crate::args::Many;
use crate::error::OrRaise;
use crate::tensor::PyTensor;

/// Parameters named by their place.
struct Params(Vec<Tensor>);

impl Module for Params {
    fn visit(&self, path: &mut Path, f: &mut Visitor<'_>) {
        self.0
            .iter()
            .enumerate()
            .for_each(|(i, t)| path.enter(&i.to_string(), |path| f(path.name(), Kind::Parameter, t)));
    }

    fn visit_mut(&mut self, path: &mut Path, f: &mut VisitorMut<'_>) -> Result<()> {
        let mut all = self.0.iter_mut().enumerate();
        all.try_for_each(|(i, t)| path.enter(&i.to_string(), |path| f(path.name(), Kind::Parameter, t)))
    }

    fn set_training(&mut self, _: bool) {}

    fn describe(&self) -> Description {
        Description::hidden()
    }
}

/// One algorithm with its state for one group of parameters.
#[pyclass(module = "rushlight", frozen)]
struct _Optimizer(Mutex<Optimizer>);

#[pymethods]
impl _Optimizer {
    #[new]
    fn new(name: &str, settings: &Bound<'_, PyDict>) -> PyResult<_Optimizer> {
        let number = |key: &str| -> PyResult<f64> {
            let value = settings.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("no setting {key}")))?;
            value.extract()
        };
        let flag = |key: &str| Ok::<_, PyErr>(settings.get_item(key)?.is_some_and(|v| v.is_truthy().unwrap_or(false)));
        let betas =
            || -> PyResult<(f64, f64)> { settings.get_item("betas")?.map_or(Ok((0.9, 0.999)), |v| v.extract()) };
        let (lr, weight_decay) = (number("lr")?, number("weight_decay")?);
        let algorithm: Algorithm = match name {
            "sgd" => Sgd {
                lr,
                weight_decay,
                momentum: number("momentum")?,
                dampening: number("dampening")?,
                nesterov: flag("nesterov")?,
            }
            .into(),
            "adam" => Adam { lr, weight_decay, betas: betas()?, eps: number("eps")?, amsgrad: flag("amsgrad")? }.into(),
            "adamw" => {
                AdamW { lr, weight_decay, betas: betas()?, eps: number("eps")?, amsgrad: flag("amsgrad")? }.into()
            }
            "rmsprop" => RmsProp {
                lr,
                weight_decay,
                alpha: number("alpha")?,
                eps: number("eps")?,
                momentum: number("momentum")?,
                centered: flag("centered")?,
            }
            .into(),
            "adagrad" => Adagrad {
                lr,
                weight_decay,
                lr_decay: number("lr_decay")?,
                initial_accumulator_value: number("initial_accumulator_value")?,
                eps: number("eps")?,
            }
            .into(),
            other => return Err(PyValueError::new_err(format!("no optimizer is named {other:?}"))),
        };
        Ok(_Optimizer(Mutex::new(Optimizer::new(algorithm).allow_missing(true))))
    }

    /// One update of every parameter that has a gradient.
    fn step(&self, py: Python<'_>, params: Many<Py<PyTensor>>, lr: f64) -> PyResult<()> {
        let params = params.0;
        let mut gradients = Gradients::new();
        for p in params.iter().map(Py::get) {
            if let Some(grad) = p.leaf().and_then(|l| l.grad(py)) {
                gradients.insert(&p.value()?, grad.get().value()?.detach()).or_raise()?;
            }
        }
        // Out of their places, so that they can be updated in their own memory; after all that may fail.
        let mut model = Params(params.iter().map(|p| p.get().take()).collect::<PyResult<_>>()?);
        let result = py.detach(|| {
            let mut optimizer = self.0.lock().unwrap_or_else(|e| e.into_inner());
            optimizer.set_lr(lr);
            optimizer.step(&mut model, &gradients)
        });
        for (p, value) in params.iter().zip(model.0) {
            p.get().put(value);
        }
        result.or_raise()
    }

    fn state_dict(&self) -> PyResult<Vec<(String, PyTensor)>> {
        let state = self.0.lock().unwrap_or_else(|e| e.into_inner()).state_dict().or_raise()?;
        Ok(state.into_iter().map(|(name, t)| (name, t.into())).collect())
    }

    fn load_state_dict(&self, state: Many<(String, Py<PyTensor>)>) -> PyResult<()> {
        let state: StateDict =
            state.0.into_iter().map(|(name, t)| Ok((name, t.get().value()?.detach()))).collect::<PyResult<_>>()?;
        self.0.lock().unwrap_or_else(|e| e.into_inner()).load_state_dict(&state).or_raise()
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<_Optimizer>()
}
