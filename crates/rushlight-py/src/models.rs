//! Files of tensors, and the models that others trained.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use rushlight::io::{TensorFile, save_safetensors};
use rushlight::nn::{KvCache, Module, StateDict};
use rushlight::random::Generator;
use rushlight::{DType, Tensor};
use rushlight_models::text::Sampling;
use rushlight_models::{Network, Pretrained, SentenceEncoder};

use crate::args::Many;
use crate::error::OrRaise;
use crate::ops::{Tensored, detached};
use crate::tensor::PyTensor;

#[pyfunction]
fn _save(py: Python<'_>, tensors: std::collections::BTreeMap<String, Py<PyTensor>>, path: String) -> PyResult<()> {
    let state: StateDict =
        tensors.into_iter().map(|(name, t)| Ok((name, t.get().value()?.detach()))).collect::<PyResult<_>>()?;
    py.detach(|| save_safetensors(path, &state, &Default::default())).or_raise()
}

#[pyfunction]
fn _load(py: Python<'_>, path: String) -> PyResult<std::collections::BTreeMap<String, PyTensor>> {
    let state = detached(py, || TensorFile::open(path)?.load())?;
    Ok(state.into_iter().map(|(name, t)| (name, t.into())).collect())
}

/// A network that others trained, with its tokenizer: GPT-2, Llama or BERT.
#[pyclass(name = "_Pretrained", module = "rushlight", frozen)]
struct PyPretrained(Pretrained);

#[pymethods]
impl PyPretrained {
    #[new]
    fn new(py: Python<'_>, path: String) -> PyResult<PyPretrained> {
        Ok(PyPretrained(detached(py, || Pretrained::load(path))?))
    }

    #[getter]
    fn architecture(&self) -> &'static str {
        self.0.network.architecture()
    }

    /// The tokens of a text that is to be continued.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<i64>> {
        py.detach(|| self.0.prompt(text)).or_raise()
    }

    /// The text of tokens.
    fn decode(&self, py: Python<'_>, ids: Many<i64>) -> PyResult<String> {
        py.detach(|| self.0.tokenizer().and_then(|t| t.decode(&ids.0))).or_raise()
    }

    /// `[batch, length]` of tokens to logits (BERT: to vectors).
    fn forward(&self, py: Python<'_>, tokens: Tensored) -> PyResult<PyTensor> {
        let out = detached(py, || match &self.0.network {
            Network::Bert(m) => m.forward(&tokens.0, None),
            Network::Gpt(m) => m.forward(&tokens.0),
            Network::Llama(m) => m.forward(&tokens.0),
        })?;
        Ok(out.into())
    }

    fn state_dict(&self) -> Vec<(String, PyTensor)> {
        let state = match &self.0.network {
            Network::Bert(m) => m.state_dict(),
            Network::Gpt(m) => m.state_dict(),
            Network::Llama(m) => m.state_dict(),
        };
        state.into_iter().map(|(name, t)| (name, t.into())).collect()
    }

    fn __repr__(&self) -> String {
        match &self.0.network {
            Network::Bert(m) => m.describe().to_string(),
            Network::Gpt(m) => m.describe().to_string(),
            Network::Llama(m) => m.describe().to_string(),
        }
    }

    /// The tokens that follow `tokens`; Ctrl-C ends it between two operations.
    #[pyo3(signature = (tokens, max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed))]
    fn generate(
        &self,
        py: Python<'_>,
        tokens: Many<i64>,
        max_new_tokens: usize,
        temperature: f64,
        top_k: Option<usize>,
        top_p: Option<f64>,
        min_p: Option<f64>,
        repetition_penalty: f64,
        seed: u64,
    ) -> PyResult<Vec<i64>> {
        let tokens = tokens.0;
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty };
        sampling.check().or_raise()?;
        if tokens.is_empty() {
            return Err(PyValueError::new_err("generate: the prompt has no tokens"));
        }
        let mut generator = Generator::new(seed);
        let mut cache: KvCache = match &self.0.network {
            Network::Gpt(m) => m.cache(),
            Network::Llama(m) => m.cache(m.max_positions().min(tokens.len().saturating_add(max_new_tokens))),
            Network::Bert(_) => return Err(PyTypeError::new_err("generate: BERT continues no text")),
        };
        let (mut all, mut new) = (tokens, vec![]);
        let mut feed = all.clone();
        for _ in 0..max_new_tokens {
            py.check_signals()?;
            let next = detached(py, || {
                rushlight::no_grad(|| {
                    let tokens = Tensor::from_vec(feed.clone(), [1, feed.len()])?;
                    let logits = match &self.0.network {
                        Network::Gpt(m) => m.next_logits(&tokens, &mut cache)?,
                        Network::Llama(m) => m.next_logits(&tokens, &mut cache)?,
                        Network::Bert(m) => m.forward(&tokens, None)?,
                    };
                    let logits = logits.to_dtype(DType::F32)?.reshape(-1)?.to_vec::<f32>()?;
                    sampling.choose(&logits, &all, &mut generator)
                })
            })?;
            if self.0.eos.contains(&next) {
                break;
            }
            new.push(next);
            all.push(next);
            feed = vec![next];
        }
        Ok(new)
    }
}

/// Vectors of sentences, from a folder of sentence-transformers.
#[pyclass(name = "SentenceEncoder", module = "rushlight.models", frozen)]
struct PySentenceEncoder(SentenceEncoder);

#[pymethods]
impl PySentenceEncoder {
    /// From a folder.
    #[staticmethod]
    fn from_pretrained(py: Python<'_>, folder: std::path::PathBuf) -> PyResult<PySentenceEncoder> {
        Ok(PySentenceEncoder(detached(py, || SentenceEncoder::from_pretrained(folder))?))
    }

    /// A row for each text, of length 1, so that products are cosines.
    fn embed(&self, py: Python<'_>, texts: Many<String>) -> PyResult<PyTensor> {
        Ok(detached(py, || rushlight::no_grad(|| self.0.embed(&texts.0)))?.into())
    }

    /// Numbers in a row.
    #[getter]
    fn width(&self) -> usize {
        self.0.width()
    }
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyPretrained>()?;
    m.add_class::<PySentenceEncoder>()?;
    m.add_function(wrap_pyfunction!(_save, m)?)?;
    m.add_function(wrap_pyfunction!(_load, m)?)
}
