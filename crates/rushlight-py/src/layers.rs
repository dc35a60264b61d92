//! Layers of several parts (recurrent, attention, Transformer), used as they are: their parameters are Python's, put into
//! the Rust layer before each call.

use std::sync::Mutex;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rushlight::nn::{
    AttentionMasks, DecoderMasks, Gru, Kind, Lstm, LstmState, Module, MultiHeadAttention, MultiHeadAttentionOptions,
    Nonlinearity, Path, RecurrentOptions, Rnn, TransformerDecoderLayer, TransformerEncoderLayer, TransformerOptions,
};
use rushlight::{Result, Tensor};

use crate::args::Many;
use crate::error::OrRaise;
use crate::ops::{Tensored, detached};
use crate::tensor::PyTensor;

enum Inner {
    Rnn(Rnn),
    Gru(Gru),
    Lstm(Lstm),
    Attention(MultiHeadAttention),
    Encoder(TransformerEncoderLayer),
    Decoder(TransformerDecoderLayer),
}

macro_rules! each {
    ($inner:expr, $x:ident => $body:expr) => {
        match $inner {
            Inner::Rnn($x) => $body,
            Inner::Gru($x) => $body,
            Inner::Lstm($x) => $body,
            Inner::Attention($x) => $body,
            Inner::Encoder($x) => $body,
            Inner::Decoder($x) => $body,
        }
    };
}

/// A layer of the Rust library.
#[pyclass(module = "rushlight", frozen)]
struct _Layer(Mutex<Inner>);

type Maybe = Option<Tensored>;

fn get(t: Maybe) -> Option<Tensor> {
    t.map(|t| t.0)
}

#[pymethods]
impl _Layer {
    #[new]
    fn new(kind: &str, input: usize, hidden: usize, settings: &Bound<'_, PyDict>) -> PyResult<_Layer> {
        let number = |key: &str| -> PyResult<Option<f64>> { settings.get_item(key)?.map(|v| v.extract()).transpose() };
        let flag = |key: &str, default: bool| -> PyResult<bool> {
            settings.get_item(key)?.map_or(Ok(default), |v| v.is_truthy())
        };
        let word = |key: &str| -> PyResult<Option<String>> { settings.get_item(key)?.map(|v| v.extract()).transpose() };
        let recurrent = RecurrentOptions {
            num_layers: number("num_layers")?.unwrap_or(1.0) as usize,
            bias: flag("bias", true)?,
            dropout: number("dropout")?.unwrap_or(0.0),
            bidirectional: flag("bidirectional", false)?,
        };
        let transformer = || -> PyResult<TransformerOptions> {
            use rushlight::nn::Activation;
            let activation = match word("activation")?.as_deref() {
                None | Some("relu") => Activation::Relu,
                Some("gelu") => Activation::Gelu,
                Some(other) => return Err(PyValueError::new_err(format!("activation is relu or gelu, not {other:?}"))),
            };
            Ok(TransformerOptions {
                dim_feedforward: number("dim_feedforward")?.map(|n| n as usize),
                dropout: number("dropout")?.unwrap_or(0.1),
                layer_norm_eps: number("layer_norm_eps")?.unwrap_or(1e-5),
                norm_first: flag("norm_first", false)?,
                bias: flag("bias", true)?,
                activation,
                ..Default::default()
            })
        };
        let inner = match kind {
            "rnn" => {
                let f = match word("nonlinearity")?.as_deref() {
                    None | Some("tanh") => Nonlinearity::Tanh,
                    Some("relu") => Nonlinearity::Relu,
                    Some(other) => {
                        return Err(PyValueError::new_err(format!("nonlinearity is tanh or relu, not {other:?}")));
                    }
                };
                Inner::Rnn(Rnn::new(input, hidden, f, &recurrent).or_raise()?)
            }
            "gru" => Inner::Gru(Gru::new(input, hidden, &recurrent).or_raise()?),
            "lstm" => Inner::Lstm(Lstm::new(input, hidden, &recurrent).or_raise()?),
            "attention" => {
                let options = MultiHeadAttentionOptions {
                    bias: flag("bias", true)?,
                    dropout: number("dropout")?.unwrap_or(0.0),
                    num_kv_heads: number("num_kv_heads")?.map(|n| n as usize),
                    ..Default::default()
                };
                Inner::Attention(MultiHeadAttention::new(input, hidden, &options).or_raise()?)
            }
            "encoder" => Inner::Encoder(TransformerEncoderLayer::new(input, hidden, &transformer()?).or_raise()?),
            "decoder" => Inner::Decoder(TransformerDecoderLayer::new(input, hidden, &transformer()?).or_raise()?),
            other => return Err(PyValueError::new_err(format!("no layer is named {other:?}"))),
        };
        Ok(_Layer(Mutex::new(inner)))
    }

    /// The parameters by name, as the layer was made.
    fn parameters(&self, py: Python<'_>) -> Vec<(String, PyTensor)> {
        // Without the GIL, for which a `forward` that holds the lock may wait.
        let named = py.detach(|| each!(&*self.lock(), x => x.named_parameters()));
        named.into_iter().map(|(name, t)| (name, PyTensor::from(t.detach()))).collect()
    }

    /// Runs it with these parameters (in the order of `parameters()`) and inputs.
    #[pyo3(signature = (params, training, x, *, a=None, b=None, attn_mask=None, key_padding_mask=None, memory_mask=None, memory_key_padding_mask=None, causal=false, weights=false, lengths=None))]
    fn forward(
        &self,
        py: Python<'_>,
        params: Many<Tensored>,
        training: bool,
        x: Tensored,
        a: Maybe,
        b: Maybe,
        attn_mask: Maybe,
        key_padding_mask: Maybe,
        memory_mask: Maybe,
        memory_key_padding_mask: Maybe,
        causal: bool,
        weights: bool,
        lengths: Option<Many<usize>>,
    ) -> PyResult<Vec<PyTensor>> {
        let (a, b, attn_mask, key_padding_mask) = (get(a), get(b), get(attn_mask), get(key_padding_mask));
        let (memory_mask, memory_key_padding_mask) = (get(memory_mask), get(memory_key_padding_mask));
        let out = detached(py, || {
            let mut inner = self.lock();
            let mut values = params.0.into_iter();
            each!(&mut *inner, l => {
                l.set_training(training);
                l.visit_mut(&mut Path::default(), &mut |_, kind, t| {
                    if kind == Kind::Parameter && let Some(value) = values.next() {
                        *t = value.0;
                    }
                    Ok(())
                })
            })?;
            let masks =
                AttentionMasks { key_padding_mask: key_padding_mask.clone(), attn_mask: attn_mask.clone(), causal };
            let x = &x.0;
            let needed = || rushlight::Error::invalid("forward", "a second input is missing");
            let forward = || -> Result<Vec<Tensor>> {
                Ok(match &*inner {
                    Inner::Rnn(l) => pair(match &lengths {
                        Some(Many(n)) => l.forward_padded(x, n, a.as_ref()),
                        None => l.forward(x, a.as_ref()),
                    })?,
                    Inner::Gru(l) => pair(match &lengths {
                        Some(Many(n)) => l.forward_padded(x, n, a.as_ref()),
                        None => l.forward(x, a.as_ref()),
                    })?,
                    Inner::Lstm(l) => {
                        let state = a.clone().zip(b.clone()).map(|(h, c)| LstmState { h, c });
                        let (y, s) = match &lengths {
                            Some(Many(n)) => l.forward_padded(x, n, state.as_ref()),
                            None => l.forward(x, state.as_ref()),
                        }?;
                        vec![y, s.h, s.c]
                    }
                    Inner::Attention(l) => {
                        let kv = a.as_ref().unwrap_or(x);
                        match weights {
                            true => pair(l.forward_with_weights(x, kv, &masks))?,
                            false => vec![l.forward(x, kv, &masks)?],
                        }
                    }
                    Inner::Encoder(l) => match weights {
                        true => pair(l.forward_with_weights(x, &masks))?,
                        false => vec![l.forward(x, &masks)?],
                    },
                    Inner::Decoder(l) => {
                        let masks = DecoderMasks {
                            tgt_mask: attn_mask,
                            tgt_key_padding_mask: key_padding_mask,
                            memory_mask,
                            memory_key_padding_mask,
                        };
                        vec![l.forward(x, a.as_ref().ok_or_else(needed)?, &masks)?]
                    }
                })
            };
            let out = forward();
            // The layer does not keep what belongs to Python, so that optimizers find their parameters alone.
            each!(&mut *inner, l => l.visit_mut(&mut Path::default(), &mut |_, _, t| {
                *t = Tensor::zeros(0, t.dtype())?;
                Ok(())
            }))?;
            out
        })?;
        Ok(out.into_iter().map(PyTensor::from).collect())
    }
}

impl _Layer {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn pair(out: Result<(Tensor, Tensor)>) -> Result<Vec<Tensor>> {
    out.map(|(a, b)| vec![a, b])
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<_Layer>()
}
