//! What networks are made of besides, and what they are measured by.

use rushlight::loss::cross_entropy;
use rushlight::{Tensor, random};

use super::Topic;
use super::worked::Worked;

pub const TOPICS: &[Topic] = &[
    Topic {
        name: "linear",
        aliases: &["dense", "fully-connected", "matmul", "matrix-product"],
        short: "every output is a weighted sum of all inputs",
        what: "A product with a matrix of weights, and a bias. Both gradients are matrix products as well.",
        formula: &["y = x·wᵀ + b"],
        gradient: &["dx = dy·w", "dw = dyᵀ·x", "db = Σ dy over the batch"],
        relation: "Queries, keys and values of attention are linear in the input. A convolution is linear too, with weights \
                   that are shared by all windows.",
        examples: &[Worked {
            output: "linear(x, w, b)",
            f: |t| t[0].linear(&t[1], Some(&t[2])),
            inputs: &[
                ("x", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
                ("w", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, -1.0]),
                ("b", &[3], &[0.5, 0.0, 0.0]),
            ],
            dy: &[1.0; 6],
            same: &[("x·wᵀ + b", |t| t[0].matmul(&t[1].t()?)?.add(&t[2]))],
        }],
        call: "Tensor::linear(weight, bias), matmul, nn::Linear",
    },
    Topic {
        name: "gelu",
        aliases: &["gaussian-error-linear-unit"],
        short: "x times the chance that a normal number is below it",
        what: "A gate that x holds for itself: far above 0 it passes, far below it is shut. Transformers use it where \
               others use ReLU.",
        formula: &["y = x · Φ(x), Φ(x) = (1 + erf(x/√2)) / 2"],
        gradient: &["dx = dy · (Φ(x) + x · φ(x)), φ(x) = exp(−x²/2) / √(2π)"],
        relation: "ReLU is x · step(x), GELU is x · Φ(x), SiLU is x · σ(x): the gate is hard in the first and soft in the \
                   others.",
        examples: &[Worked {
            output: "gelu(x)",
            f: |t| t[0].gelu(),
            inputs: &[("x", &[5], &[-4.0, -1.0, 0.5, 1.0, 4.0])],
            dy: &[1.0; 5],
            same: &[("x · (1 + erf(x/√2)) / 2", |t| {
                t[0].mul(&t[0].mul(std::f64::consts::FRAC_1_SQRT_2)?.erf()?.add(1.0)?.mul(0.5)?)
            })],
        }],
        call: "Tensor::gelu(), nn::Gelu",
    },
    Topic {
        name: "layer-norm",
        aliases: &["layer-normalization", "norm"],
        short: "every row with mean 0 and variance 1",
        what: "The mean of a row is taken off and the rest divided by its standard deviation, so that what follows sees \
               numbers of one size. A weight and a bias may follow. A gradient that would only shift or stretch a row \
               vanishes.",
        formula: &["x̂ = (x − mean x) / √(var x + ε)", "y = w ∘ x̂ + b"],
        gradient: &["g = dy ∘ w", "dx = (g − mean g − x̂ · mean(g ∘ x̂)) / √(var x + ε)", "dw = Σ dy ∘ x̂, db = Σ dy"],
        relation: "Batch norm is the same over the batch. RMS norm leaves out the mean. As softmax, it is no map: every \
                   input of a row matters to every output.",
        examples: &[Worked {
            output: "layer-norm(x), ε = 1e-5",
            f: |t| t[0].layer_norm(4, None, None, 1e-5),
            inputs: &[("x", &[1, 4], &[1.0, 2.0, 3.0, 6.0])],
            dy: &[1.0, 0.0, 0.0, 0.0],
            same: &[("(x − mean x) / √(var x + ε)", |t| {
                let spread = t[0].var_keepdim(1, 0.0)?.add(1e-5)?.sqrt()?;
                t[0].sub(&t[0].mean_keepdim(1)?)?.div(&spread)
            })],
        }],
        call: "Tensor::layer_norm(shape, weight, bias, eps), nn::LayerNorm",
    },
    Topic {
        name: "dropout",
        aliases: &[],
        short: "some elements become 0, while training",
        what: "Each element becomes 0 with probability p, and the others grow by 1/(1 − p), so that the mean stays. A network \
               cannot lean on one element then. When it is used and not trained, nothing is dropped.",
        formula: &["y = x · m / (1 − p), m = 0 with probability p, else 1"],
        gradient: &["dx = dy · m / (1 − p), with the same m"],
        relation: "A hard gate that is thrown by chance: x · m with a mask that nobody learns.",
        examples: &[Worked {
            output: "dropout(x), p = 0.5",
            f: |t| {
                random::manual_seed(0);
                t[0].dropout(0.5)
            },
            inputs: &[("x", &[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
            dy: &[1.0; 6],
            same: &[],
        }],
        call: "Tensor::dropout(p), nn::Dropout",
    },
    Topic {
        name: "cross-entropy",
        aliases: &["nll", "negative-log-likelihood", "log-loss"],
        short: "how surprised the model is by the right class",
        what: "Minus the logarithm of the probability that the scores x give to the target class t; the mean over a batch. \
               Its gradient is what the model said minus what was true.",
        formula: &["y = −log softmax(x)ₜ = logsumexp(x) − xₜ"],
        gradient: &["dx = dy · (softmax(x) − one-hot(t))"],
        relation: "Minus log-softmax at the target. The gradient is the soft argmax minus the right one-hot. With two \
                   classes it is binary cross-entropy, and the softmax a sigmoid.",
        examples: &[Worked {
            output: "cross-entropy(x, 2)",
            f: |t| cross_entropy(&t[0], &Tensor::new([2i64])?),
            inputs: &[("x", &[1, 3], &[1.0, 3.0, 2.0])],
            dy: &[1.0],
            same: &[("−log-softmax(x) at 2", |t| t[0].log_softmax(1)?.select(1, 2)?.neg()?.sum(..))],
        }],
        call: "loss::cross_entropy(logits, target), loss::CrossEntropy for its options",
    },
];
